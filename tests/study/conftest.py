"""One small study for the tests of this room: fixed features, fine-tuning on two grid points, random weights on one."""

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from tests.conftest import write_study
from transfer_study.study.study import Study

HERE = {"device": "cpu", "processes": 1, "n_workers": 0, "progress": False}
RUN = [sys.executable, "-c", "from transfer_study.cli.main import main; main()"]
TINY = "steps = 2\nbatch_size = 8\nn_evaluations = 2\nlearning_rate_min = 0.01\n"
FINETUNE = f"[protocols.finetune]\n{TINY}n_learning_rates = 2\nn_weight_decays = 0\n"
SCRATCH = f"[protocols.scratch]\n{TINY}n_learning_rates = 1\nn_weight_decays = 1\n"
N_TASKS = {"extract": 1, "fit": 2, "grid": 4, "refit": 4}


def add_trainings(study_file: Path) -> Path:
    "Two networks on one dataset: 2 + 2 + 2 runs."
    text = study_file.read_text().rsplit("[[networks]]", 1)[0].replace('"squares", "packed.tar"', '"squares"')
    study_file.write_text(f"{text}\n[protocols.linear]\n{FINETUNE}{SCRATCH}")
    return study_file


@pytest.fixture
def training_study(study_file):
    return add_trainings(study_file)


class Finished(NamedTuple):
    "That study, its results table, the directory of its runs, and the events as JSON."

    study: Study
    results: pd.DataFrame
    runs: Path
    events: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory, weights):
    "The study after a run without any trouble; tests that change its runs copy them."
    folder, stderr = tmp_path_factory.mktemp("finished"), io.StringIO()
    study = Study.from_file(add_trainings(write_study(folder, weights)))
    with redirect_stderr(stderr):
        results = study.run(folder / "runs", **HERE | {"progress": "json"})
    return Finished(study, results, folder / "runs", stderr.getvalue())
