"""`import transfer_study as ts`: the names a user needs, loaded on first use."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import transfer_study as ts

ROOT = Path(__file__).resolve().parent.parent
INIT = Path(ts.__file__)


def in_new_process(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("name", ts.__all__)
def test_a_name_is_the_object_of_its_module(name):
    value = getattr(ts, name)
    assert value.__name__ == name and value.__doc__
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert getattr(ts, name) is value


def test_dir_lists_the_face():
    assert set(dir(ts)) == {*ts.__all__, "__version__"}
    assert 18 <= len(ts.__all__) <= 26


def test_type_checkers_see_the_same_names():
    (block,) = [node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If)]
    imported = {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}
    assert set(imported) == set(ts.__all__)
    for name, (module, original) in imported.items():
        assert name == original and getattr(importlib.import_module(module), name) is getattr(ts, name)


def test_import_loads_nothing_heavy():
    code = "import sys, json; old = set(sys.modules); import transfer_study; print(json.dumps(sorted(set(sys.modules) - old)))"
    loaded = json.loads(in_new_process(code).stdout)
    assert {name.split(".")[0] for name in loaded} & {"torch", "pandas", "numpy", "altair", "scipy", "pydantic"} == set()
    assert [name for name in loaded if name.startswith("transfer_study.")] == []


def test_a_sub_package_resolves_without_its_own_import():
    done = in_new_process("import transfer_study as ts; print(ts.statistics.__name__, ts.figures.__name__, ts.core.__name__)")
    assert done.stdout.split() == ["transfer_study.statistics", "transfer_study.figures", "transfer_study.core"], done.stderr


def test_a_name_of_the_face_keeps_its_object_when_a_module_of_that_name_is_imported():
    done = in_new_process(
        "import transfer_study as ts; headline = ts.headline\n"
        "import transfer_study.figures.headline, transfer_study.statistics.analysis\n"
        "assert callable(ts.headline) and ts.headline is headline and ts.statistics.analysis.analyze is ts.analyze"
    )
    assert done.returncode == 0, done.stderr


NEAR = {"analyse": "analyze", "openDataset": "open_dataset", "network": "Network", "statistcs": "statistics"}


@pytest.mark.parametrize(("misspelt", "meant"), NEAR.items())
def test_an_unknown_name_gets_a_suggestion(misspelt, meant):
    with pytest.raises(AttributeError) as caught:
        getattr(ts, misspelt)
    assert str(caught.value) == f"module 'transfer_study' has no attribute {misspelt!r}. Did you mean: {meant!r}?"


def test_python_adds_no_second_suggestion():
    done = in_new_process("import transfer_study as ts; ts.analyse")
    assert done.stderr.count("Did you mean") == 1 and "'analyze'" in done.stderr


def test_an_unknown_name_without_a_near_one():
    with pytest.raises(AttributeError, match="lists the names"):
        ts.zzzzzz  # noqa: B018
    assert not hasattr(ts, "__wrapped__")
    assert "ImportError: cannot import name 'zzzzzz'" in in_new_process("from transfer_study import zzzzzz").stderr


def test_an_export_keeps_the_face(tmp_path):
    "nbdev_export writes the version into this file and nothing else."
    update_version = pytest.importorskip("nbdev.config").update_version
    before = INIT.read_text()
    (tmp_path / "__init__.py").write_text(before.replace(f'"{ts.__version__}"', '"0.0.0"'))
    update_version(tmp_path)
    after = (tmp_path / "__init__.py").read_text()
    assert f'__version__ = "{ts.__version__}"' in after and after.count("__version__ =") == 1
    assert [a for a, b in zip(after.splitlines(), before.splitlines(), strict=True) if a != b and "__version__ =" not in a] == []
