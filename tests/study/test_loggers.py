"""Loggers of trainings: curves while a study runs, and nothing else about it changes."""

from importlib.util import find_spec
from typing import get_args

import pandas as pd
import pytest

from tests.study.conftest import HERE
from transfer_study.core import UserError
from transfer_study.study.file import LoggerName
from transfer_study.study.study import Study, clean
from transfer_study.training.callbacks import LOGGERS

PACKAGES = [name for name in get_args(LoggerName) if name != "csv"]


def test_csv_logs_every_training_and_changes_no_run(training_study, finished, tmp_path):
    training_study.write_text(f'{training_study.read_text()}\n[logging]\nloggers = ["csv"]\n')
    results = Study.from_file(training_study).run(tmp_path / "runs", **HERE)
    pd.testing.assert_frame_equal(results, finished.results)
    logs = sorted((tmp_path / "runs" / "tiny" / ".logs" / "csv").glob("*.csv"))
    n_rows = {path.name.rpartition("-")[0]: len(pd.read_csv(path)) for path in logs}
    assert len(n_rows) == 2 * 2 + 2 + 2, "two grid points and two final trainings of each network"
    assert n_rows["test_resnet_on_squares_finetune"] == n_rows["test_resnet_on_squares_scratch"] == 2
    assert sorted(n_rows.values()) == [1] * 4 + [2] * 4, "a grid point is evaluated once"
    clean(tmp_path / "runs")
    assert all(path.is_file() for path in logs)


def test_the_logged_scores_are_those_of_the_history(training_study, tmp_path):
    results = Study.from_file(training_study).run(tmp_path / "runs", **HERE, loggers=["csv", "csv"])
    for row in results[results["protocol"] != "linear"].itertuples():
        (path,) = (tmp_path / "runs" / "tiny" / ".logs" / "csv").glob(f"*-{row.run_id[:8]}.csv")
        history = pd.read_csv(tmp_path / "runs" / "tiny" / row.run_id / "history.csv")
        assert pd.read_csv(path)["top1"].to_numpy() == pytest.approx(history["score"].to_numpy())


def test_every_logger_of_a_study_is_one_of_the_trainings():
    assert set(get_args(LoggerName)) == set(LOGGERS) - {"progress"}
    assert all(LOGGERS[name][-1] == name for name in PACKAGES), "the package has the logger's name"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_one_line_before_anything_runs(command, training_study, tmp_path, name):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    arguments = ("run", training_study, "--out", tmp_path / "runs", "--device", "cpu")
    code, out, err = command(*arguments, "--log", "csv", "--log", name)
    assert code == 2 and out == "" and err == f"transfer-study: logger '{name}': {name} is not installed; pip install {name}\n"
    training_study.write_text(f'{training_study.read_text()}\n[logging]\nloggers = ["{name}"]\n')
    assert command(*arguments)[::2] == (code, err) and not (tmp_path / "runs").exists()


def test_tensorboard_writes_a_directory_for_each_training(command, training_study, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ("--out", tmp_path / "runs", "--device", "cpu", "--processes", 1, "--log", "tensorboard")
    code, _, err = command("run", training_study, *options)
    directory = tmp_path / "runs" / "tiny" / ".logs" / "tensorboard"
    assert code == 0 and f"logs: tensorboard --logdir {directory}" in err and len(list(directory.iterdir())) == 8
    (final,) = directory.glob("test_resnet_on_squares_finetune-*")
    events = EventAccumulator(str(final)).Reload()
    assert {"train_loss", "lr", "valid_loss", "top1"} <= set(events.Tags()["scalars"]) and len(events.Scalars("lr")) == 2


def test_an_unknown_logger_is_named(command, training_study, tmp_path):
    code, _, err = command("run", training_study, "--out", tmp_path / "runs", "--log", "tensorbord")
    assert code == 2 and "unknown logger 'tensorbord'; did you mean tensorboard?" in err
    training_study.write_text(f'{training_study.read_text()}\n[logging]\nloggers = ["tensorbord"]\n')
    with pytest.raises(UserError, match=r'logging\.loggers\[1\] = "tensorbord"'):
        Study.from_file(training_study)
