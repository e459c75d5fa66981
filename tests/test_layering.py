"""Data flows one way, and what reads results never waits for torch."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {path.stem.split("_", 1)[1]: int(path.stem.split("_")[0]) for path in (ROOT / "nbs" / "api").glob("*.ipynb")}


def imported(module: str) -> set[str]:
    "Modules of this package that `module` imports anywhere in its text."
    tree = ast.parse((ROOT / "transfer_study" / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").startswith("transfer_study.")):
            found.add((node.module or "").removeprefix("transfer_study."))
    return found & set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_lower_numbers_only(module):
    wrong = {other for other in imported(module) if MODULES[other] >= MODULES[module]}
    assert not wrong, f"{module} ({MODULES[module]}) imports {wrong}"


def private(module: str) -> set[str]:
    "Underscored names of other modules of this package that `module` imports, or reaches through the module."
    tree = ast.parse((ROOT / "transfer_study" / f"{module}.py").read_text())
    names, modules = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "transfer_study"):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.startswith("transfer_study.")}
    modules |= set(names) & set(MODULES)
    reached = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in modules}
    return {name for name in {*names.values(), *reached} if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_is_private_stays_in_its_module(module):
    assert private(module) == set(), "give it a public name, or move it to the module that needs it"


def test_every_module_has_its_notebook():
    modules = {path.stem for path in (ROOT / "transfer_study").glob("*.py")} - {"__init__", "_modidx"}
    assert modules == set(MODULES)


HEAVY = ("torch", "torchvision", "timm", "fastai", "ray")
LIGHT = [
    "import transfer_study",
    "import transfer_study.cli",
    "import transfer_study.results, transfer_study.study_file",
    "import transfer_study.statistics, transfer_study.figures, transfer_study.report",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_nothing_heavy_is_imported(statement):
    code = f"{statement}; import sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert loaded == []


def test_help_imports_neither_torch_nor_pandas():
    code = (
        "import sys; from transfer_study.cli import main\n"
        "sys.argv = ['transfer-study', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'fastai', 'timm', 'pandas', 'altair'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "analyze" in done.stdout and done.stderr.strip() == "[]"
