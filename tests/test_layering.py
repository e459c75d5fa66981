"""Data flows one way, and what reads results never waits for torch."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, API = ROOT / "transfer_study", ROOT / "nbs" / "api"
# Rooms in the order in which they may import; a module at the top of the package is a room of its own.
ORDER = (
    "core", "options", "progress_bars", "fingerprints", "tables", "images", "networks", "source_accuracy", "results",
    "small_networks", "features", "classifiers", "training", "statistics", "figures", "study", "duplicates", "selection", "cli",
)  # fmt: skip
NOTEBOOKS = [path for path in API.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]


def name_of(notebook: Path) -> str:
    "The module that a notebook exports, without the package's name: `images.hub`."
    return ".".join([*notebook.relative_to(API).parent.parts, notebook.stem.split("_", 1)[1]])


MODULES = {name_of(path): int(path.stem.split("_")[0]) for path in NOTEBOOKS}


def place(module: str) -> tuple[int, int]:
    "Where a module stands: its room in the order, its number within the room."
    return ORDER.index(module.split(".")[0]), MODULES[module]


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


def origin(node: ast.ImportFrom, module: str) -> str | None:
    "What is imported from, as a name within this package; None where it is another package."
    parts = (node.module or "").split(".") if node.module else []
    if node.level:
        package = ["transfer_study", *module.split(".")[:-1]]
        parts = package[: len(package) - node.level + 1] + parts
    return ".".join(parts[1:]) if parts[:1] == ["transfer_study"] else None


def imported(module: str) -> set[str]:
    "Modules of this package that `module` imports anywhere in its text."
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (source := origin(node, module)) is not None:
            found |= {source, *(f"{source}.{alias.name}".strip(".") for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("transfer_study.") for alias in node.names}
    return found & set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_rooms_above_and_lower_numbers_only(module):
    wrong = {other for other in imported(module) if place(other) >= place(module)}
    assert not wrong, f"{module} imports {wrong}"


def private(module: str) -> set[str]:
    "Underscored names of other modules of this package that `module` imports, or reaches through the module."
    names, modules = {}, set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (source := origin(node, module)) is not None:
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
            modules |= {a.asname or a.name for a in node.names if f"{source}.{a.name}".strip(".") in MODULES}
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.startswith("transfer_study.")}
    reached = {n.attr for n in ast.walk(tree(module)) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in modules}
    return {name for name in {*names.values(), *reached} if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_is_private_stays_in_its_module(module):
    assert private(module) == set(), "give it a public name, or move it to the module that needs it"


def test_contributors_read_the_same_order_and_names_of_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("| room | what is in it |\n")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.M)) == ORDER
    named = re.findall(r"`((?:nbs|tests|tools|data|benchmarks)/[\w./-]+)`", text)
    assert len(named) > 10 and [name for name in named if not (ROOT / name).exists()] == []
    notebooks = re.findall(r"`(\d\d_\w+\.ipynb)`", text)  # of the folder that the sentence is about
    assert notebooks and {*notebooks} <= {path.name for path in NOTEBOOKS}


def test_every_module_has_its_notebook():
    files = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    modules = {".".join(path.parts) for path in files if path.name not in ("__init__", "__main__", "_modidx")}
    assert modules == set(MODULES)


def test_numbers_of_a_folder_are_unique_and_every_folder_is_packaged():
    assert len({(path.parent, path.stem.split("_")[0]) for path in NOTEBOOKS}) == len(NOTEBOOKS)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {module.split(".")[0] for module in MODULES if "." in module}
    assert {f"transfer_study.{folder}" for folder in folders} <= set(packages)


HEAVY = ("torch", "torchvision", "timm", "fastai", "ray")
LIGHT = [
    "transfer_study", "transfer_study.cli.main", "transfer_study.results", "transfer_study.study.file",
    *(f"transfer_study.{module}" for module in sorted(MODULES) if module.startswith(("statistics.", "figures."))),
]  # fmt: skip
IMPORT_ALL = """
import importlib, json, sys
for module in {modules}:
    importlib.import_module(module)
    if loaded := sorted(set({heavy}) & set(sys.modules)):
        sys.exit(f"{{module}} imports {{', '.join(loaded)}}")
"""


def test_nothing_heavy_is_imported():
    "In one process: what the modules together do not import, none of them does."
    code = IMPORT_ALL.format(modules=LIGHT, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_torch_nor_pandas():
    code = (
        "import sys; from transfer_study.cli.main import main\n"
        "sys.argv = ['transfer-study', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'fastai', 'timm', 'pandas', 'altair'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "analyze" in done.stdout and done.stderr.strip() == "[]"
