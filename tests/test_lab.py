"""What a reader sees who steps through cells: bars that go, objects in words, short errors, interactive charts, no warnings."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import NETWORKS, write_images

ROOT = Path(__file__).resolve().parent.parent
CELLS = {
    "start": """
import threading
from pathlib import Path
import numpy as np
from transfer_study import progress_bars
from transfer_study.classifiers.logistic import LogisticPath
from transfer_study.study.study import Study
from transfer_study.figures.theme import enable
enable()
study = Study.from_file("study.toml")""",
    "study": "study",
    "run": """
results = study.run("runs", device="cpu", processes=1)
results[["network", "dataset"]]""",
    "plan": 'study.tasks("runs", "cpu")',
    "path": "LogisticPath([0.1, 1.0]).fit(np.eye(4), np.arange(4) % 2)",
    "bar": """
seen = threading.Event()
with progress_bars.temporary_display(lambda: seen.set() or "<b>half</b>"):
    seen.wait(60)
seen.is_set()""",
    "error": 'study.results("nowhere")',
    "fault": "1 / 0",
    "charts": """
import altair as alt
from IPython.display import display
chart = alt.Chart(alt.InlineData([{"a": 1}])).mark_point().encode(x="a:Q").properties(description="One point.")
display(chart, chart)""",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, weights):
    "What each cell shows, in a kernel such as `make lab` starts."
    folder = tmp_path_factory.mktemp("lab")
    write_images(folder / "squares")
    lines = ['name = "lab"', 'datasets = ["squares"]', "[protocols.knn]"]
    for name in NETWORKS:
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"']
    (folder / "study.toml").write_text("\n".join(lines))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip()) for source in CELLS.values()])
    environment = os.environ | {"TRANSFER_STUDY_CHARTS": "interactive", "PYTHONPATH": str(ROOT)}
    options = {"kernel_name": "python3", "allow_errors": True, "timeout": 300, "resources": {"metadata": {"path": folder}}}
    NotebookClient(notebook, **options).execute(env=environment)
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def shown(outputs: list, kind: str) -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_nothing_is_said_that_a_reader_can_do_nothing_about(outputs):
    for name, cell in outputs.items():
        assert [output["text"] for output in cell if output["output_type"] == "stream"] == [], name
        assert shown(cell, "application/vnd.jupyter.widget-view+json") == [], f"{name}: a widget, lost when the notebook is saved"
        errors = [output["traceback"] for output in cell if output["output_type"] == "error"]
        assert name in ("error", "fault") or errors == [], name


def test_a_study_runs_and_leaves_only_its_results(outputs):
    *displays, result = outputs["run"]
    assert "test_resnet" in result["data"]["text/plain"]
    assert all(output["data"] == {} for output in displays)


def test_a_bar_is_shown_and_goes(outputs):
    display, result = outputs["bar"]
    assert result["data"]["text/plain"] == "True" and display["output_type"] == "display_data" and display["data"] == {}


def test_objects_say_what_matters(outputs):
    (study,), (plan,) = shown(outputs["study"], "text/html"), shown(outputs["plan"], "text/html")
    assert "lab" in study and "test_resnet, test_efficientnet, test_mambaout" in study and "squares" in study
    assert "3 runs" in plan and re.findall(r"<td>(\w+)</td>", plan)[-4:] == ["fit", "knn", "3", "3"]
    (words,) = shown(outputs["plan"], "text/plain")
    assert words == "Plan(3 runs; 0 of 4 tasks left)"
    (path,) = shown(outputs["path"], "text/plain")
    assert path == "LogisticPath(2 values of λ from 0.1 to 1; fitted to 4 features and 2 classes, converged)"


def test_a_users_error_is_its_line_and_its_message(outputs):
    (error,) = outputs["error"]
    message = "UserError: nowhere/lab: no such directory of runs; check the path, or make it with `transfer-study run STUDY`"
    assert error["traceback"] == ['line 1: study.results("nowhere")', message]


def test_a_fault_of_ours_keeps_its_traceback(outputs):
    (fault,) = outputs["fault"]
    assert "Traceback" in "".join(fault["traceback"])


def test_charts_of_several_notebooks_are_drawn_in_one_window(outputs, chromium, tmp_path):
    "JupyterLab shows all open notebooks on one page: the script of the second must not stop at what that of the first declared."
    first, second = shown(outputs["charts"], "text/html")
    other = re.sub("transfer-study-[0-9a-f]+", "transfer-study-0", first)  # as another notebook's first chart
    picture = re.sub("transfer-study-[0-9a-f]+", "transfer-study-1", re.sub("<script.*", "", second, flags=re.DOTALL))
    page = tmp_path / "window.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{first}{second}{other}{picture}", encoding="utf-8")
    document, console = chromium(page.as_uri())
    assert console == []
    assert len(re.findall(r'<div id="transfer-study-[^>]*class="vega-embed', document)) == 3
    assert len(re.findall(r'<img alt="One point." src="data:image/svg', document)) == 1  # the one without a script
