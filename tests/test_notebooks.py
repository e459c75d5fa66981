"""Notebooks are the source and the pages: what makes one unreadable is found here."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users|work|var/folders)/")


def text_of(output: dict) -> str:
    data = output.get("data", {})
    return "".join(output.get("text", "")) + "".join("".join(v) for k, v in data.items() if k.startswith("text/"))


def long_functions(source: str) -> list[str]:
    "Functions and methods of more than 40 lines in a cell; a class may be as long as its idea."
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node.name for node in functions if node.end_lineno - node.lineno + 1 > 40]


def test_a_long_function_is_found_and_a_long_class_is_allowed():
    body = "\n".join(f"    a{i} = {i}" for i in range(40))
    assert long_functions(f"class Long:\n{body}") == [] and long_functions(f"def long():\n{body}") == ["long"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "nbs")))
def notebook(request):
    cells = json.loads(request.param.read_text())["cells"]
    return request.param, [(cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])) for cell in cells]


def test_a_page_is_of_readable_size(notebook):
    path, cells = notebook
    assert path.stat().st_size <= 300 * 1024
    assert len(cells) <= 80
    exported = [source for kind, source, _ in cells if kind == "code" and source.startswith("#| export")]
    assert [name for source in exported for name in long_functions(source)] == []


def test_directives_stand_first(notebook):
    _, cells = notebook
    late = [source for kind, source, _ in cells if kind == "code" and "\n#| export" in source]
    assert not late


def test_stored_outputs_are_clean(notebook):
    _, cells = notebook
    for _, source, outputs in cells:
        for output in outputs:
            assert output["output_type"] != "error", source
            assert output.get("name") != "stderr", f"a message on stderr below: {source}"
            assert not MACHINE_PATH.search(text_of(output)), f"a machine's path below: {source}"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"a progress bar below: {source}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT / "nbs")))
def test_a_page_opens_without_a_question(path):
    "JupyterLab asks for a kernel where a notebook names none, and complains of widgets that it was saved with."
    metadata = json.loads(path.read_text())["metadata"]
    assert metadata.get("kernelspec", {}).get("name") == "python3" and "widgets" not in metadata


def test_a_page_begins_with_title_and_subtitle_and_nothing_else(notebook):
    "nbdev makes them the page's front matter and deletes whatever else stands in their cell."
    _, cells = notebook
    kind, source, _ = cells[0]
    assert kind == "markdown" and re.fullmatch(r"# [^\n]+\n\n> [^\n]+", source.strip()), source


def test_most_shown_cells_show_something(notebook):
    _, cells = notebook
    hidden = ("#| export", "#| default_exp", "#| hide")
    shown = [
        (source, outputs) for kind, source, outputs in cells
        if kind == "code" and source and not source.startswith(hidden) and not source.startswith(("import ", "from ", "assert "))
    ]  # fmt: skip
    assert sum(not outputs for _, outputs in shown) <= 0.6 * max(1, len(shown))


def test_pages_start_programs_by_the_interpreter_that_runs_them(notebook):
    "Whoever opens a page in an environment that is not activated has no `transfer-study` on the PATH."
    _, cells = notebook
    by_name = re.compile(r"[\[(]\"(?:transfer-study|python3?)\"")
    assert not [source for kind, source, _ in cells if kind == "code" and by_name.search(source)]
