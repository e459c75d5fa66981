"The comparison of pages with what they store fails for a wrong number, a stale output and a changed text, and for nothing else."

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def check_pages():
    specification = importlib.util.spec_from_file_location("check_pages", ROOT / "tools" / "check_pages.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def text(value: str) -> list:
    return [{"output_type": "execute_result", "data": {"text/plain": [value]}, "metadata": {}}]


def picture(*labels: str, x: float = 1.0) -> list:
    marks = "".join(f'<text x="{x}">{label}</text>' for label in labels)
    svg = f'<svg><style>.a {{ fill: red }}</style><path d="M{x},2L3,{x}"/>{marks}</svg>'
    return [{"output_type": "display_data", "data": {"image/svg+xml": [svg]}, "metadata": {}}]


@pytest.mark.parametrize(
    "stored, found, allowed",
    [
        ("score 0.918", "score 0.919", 0),  # the last digit, as ever
        ("slope 1.5061306275007935", "slope 1.5061306275007795", 0),  # all digits of a float: those that rounding decides
        ("score 0.918", "score 0.935", 0.05),
        ("{'run': '6842bf8f5dfe37bc', 'score': 0.5}", "{'run': '98bd0bdd3d84ab4d', 'score': 0.52}", 0.05),
    ],
)
def test_what_another_processor_may_show(check_pages, stored, found, allowed):
    assert check_pages.compare(text(stored), text(found), allowed) is None


@pytest.mark.parametrize(
    "stored, found, allowed, said",
    [
        ("score 0.918", "score 0.935", 0, "0.918 is now 0.935"),  # a wrong number
        ("score 0.918", "score 0.835", 0.05, "0.918 is now 0.835"),  # further than the cell allows
        ("3 networks", "4 networks", 0, "3 is now 4"),
        ("it helps, by 0.20", "it harms, by 0.21", 0.05, "it harms"),  # words count in every cell
        ("run 6842bf8f5dfe37bc", "run 98bd0bdd3d84ab4d", 0, "is now"),  # an id that no training touches
        ("a b", "a b 3", 0.05, "is now"),
    ],
)
def test_what_is_a_difference(check_pages, stored, found, allowed, said):
    assert said in check_pages.compare(text(stored), text(found), allowed)


def test_a_chart_that_depends_on_a_training_is_compared_by_its_words(check_pages):
    stored, moved = picture("accuracy", "0.9"), picture("accuracy", "0.8", "0.9", x=250.0)
    assert check_pages.compare(stored, moved, 0.05) is None
    assert check_pages.compare(stored, moved) is not None
    assert "loss" in check_pages.compare(stored, picture("loss", "0.9"), 0.05)


def page(path: Path, shown: str) -> Path:
    "A notebook whose one cell shows 0.5, and stores `shown`."
    cell = nbformat.v4.new_code_cell("#| tolerance: 0.01\n0.5", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": shown}, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_a_stale_output_ends_the_check_with_exit_code_1(tmp_path):
    folder = ROOT / "build" / tmp_path.name  # within the repository, whose settings count
    folder.mkdir(parents=True)
    pages = [page(folder / f"{name}.ipynb", shown) for name, shown in {"close": "0.505", "far": "0.52", "text": "half"}.items()]
    try:
        command = [sys.executable, "-W", "ignore", ROOT / "tools/check_pages.py", *pages]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = [line.split(":")[0].split("/")[-1] for line in done.stderr.splitlines() if "below '#| tolerance: 0.01'" in line]
    assert wrong == ["far.ipynb", "text.ipynb"] and "close.ipynb: as stored" in done.stdout
