"""Whatever is public has a docstring and is shown at work on some page."""

import ast
import functools
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "transfer_study"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.stem not in ("__init__", "_modidx"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@functools.cache
def examples() -> tuple[str, str]:
    "Code that pages run and do not export, definitions left out; and everything else that a reader sees."
    code, text = [], []
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code":
                text.append(source)
            elif not re.match(r"#\| (export|default_exp)", source):
                # An import shows nothing; what is used after it does.
                code.append(re.sub(r"^(from \S+ import (\([^)]*\)|.*)|import .*)$", "", source, flags=re.M))
    return "\n".join(code), "\n".join(text)


def public(path: Path) -> dict[str, ast.AST]:
    "Functions and classes of a module's `__all__`."
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [node for node in tree.body if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"]
    names = ast.literal_eval(lists[0].value) if lists else []
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name: defined[name] for name in names if name in defined}


def returned() -> set[str]:
    "Classes whose objects a public function that is shown gives back: the reader sees them there."
    code, found = examples()[0], set()
    for path in MODULES:
        for name, node in public(path).items():
            if isinstance(node, ast.FunctionDef) and node.returns and re.search(rf"\b{name}\b", code):
                found |= set(re.findall(r"\w+", ast.unparse(node.returns)))
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_everything_public_has_a_docstring(path):
    assert [name for name, node in public(path).items() if not ast.get_docstring(node)] == []


def unseen() -> set[str]:
    "Names, as module.name, that no page uses."
    code, text = examples()
    given_back = returned()
    return {
        f"{dotted(path)}.{name}" for path in MODULES for name, node in public(path).items()
        if not re.search(rf"\b{name}\b", code)
        and not (dotted(path) == "cli.main" and f"transfer-study {name}" in text)
        and not (isinstance(node, ast.ClassDef) and name in given_back)
    }  # fmt: skip


def test_everything_public_is_shown_at_work():
    assert sorted(unseen()) == [], "use them in a cell of their page, or of any other"
