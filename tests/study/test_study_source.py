"""Networks that the study trains itself: on a source, under several settings, before everything else."""

import pandas as pd
import pytest

from tests.conftest import write_images
from transfer_study.core import UserError
from transfer_study.results import read_results
from transfer_study.study.execute import FailedRuns
from transfer_study.study.study import Study

HERE = {"device": "cpu", "processes": 1, "n_workers": 0, "progress": False}
TINY = "steps = 2\nbatch_size = 8\nn_evaluations = 2\n"
STUDY = f"""
name = "tiny"
datasets = ["squares"]
[source]
dataset = "source"
{TINY}
[[networks]]
name = "test_resnet"
settings = ["default", "label_smoothing"]
[[networks]]
name = "test_efficientnet"
[protocols.linear]
[protocols.finetune]
{TINY}n_learning_rates = 1
n_weight_decays = 0
[protocols.scratch]
{TINY}n_learning_rates = 1
n_weight_decays = 1
"""
SECOND = 'name = "test_efficientnet"'


@pytest.fixture
def source_study(tmp_path):
    write_images(tmp_path / "squares")
    write_images(tmp_path / "source", train=8, test=5, classes=("dark", "grey", "light"))
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_source_networks_come_first_and_say_their_accuracy(source_study, tmp_path):
    results = Study.from_file(source_study).run(tmp_path / "runs", **HERE)
    counts = results.groupby(["network", "setting", "protocol"]).size()
    assert set(counts) == {1} and len(counts) == 3 * 2 + 2, "scratch runs for the default setting only"
    assert results["source_accuracy"].notna().all() and set(results["source_accuracy"] * 15 % 1) == {0.0}
    assert results.groupby(["network", "setting"])["source_accuracy"].nunique().eq(1).all()
    again = Study.from_file(source_study).run(tmp_path / "again", **HERE | {"processes": 2})
    pd.testing.assert_frame_equal(results, again)
    assert len({result["run_id"] for result in read_results(tmp_path / "runs")}) == len(results)


def test_another_source_is_another_run(source_study, tmp_path):
    before = Study.from_file(source_study).plan(tmp_path / "runs")
    source_study.write_text(STUDY.replace("steps = 2", "steps = 3", 1))
    after = Study.from_file(source_study).plan(tmp_path / "runs")
    same = before["run_id"].isin(after["run_id"])
    assert same[before["protocol"] == "scratch"].all() and not same[before["protocol"] != "scratch"].any()


def test_a_source_training_that_fails_stops_only_its_network(source_study, tmp_path):
    (tmp_path / "runs").mkdir()
    study = Study.from_file(source_study)
    (task,) = [task for task in study.tasks(tmp_path / "runs", "cpu").tasks if "label_smoothing) on the source" in task.label]
    (tmp_path / "runs" / ".pretrained").mkdir()
    task.output.parent.write_text("in the way")
    with pytest.raises(FailedRuns, match="1 failed; 3 that depend on them were not run"):
        study.run(tmp_path / "runs", **HERE)
    assert set(study.results(tmp_path / "runs")["setting"]) == {"default"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label_smoothing", "smoothing", r"networks\[1\]: unknown source-training setting 'smoothing'; known: default, label"),
        ("steps = 2", "step = 2", r"source\.step: unknown key; did you mean steps\?"),
        ('dataset = "source"', "", r"source\.dataset: missing"),
        ('dataset = "source"', 'dataset = "absent"', r"unknown dataset 'absent'|no such folder"),
        (SECOND, f"{SECOND}\nsource_accuracy = 0.5", r"networks\[2\]\.source_accuracy: the study measures it"),
        (SECOND, f'{SECOND}\nsettings = ["default", "default"]', r"networks\[2\]\.settings = .*: expected each name once"),
        ("settings =", 'weights = "w.safetensors"\nsettings =', r"networks\[1\]\.settings: the network has weights"),
        (f'[source]\ndataset = "source"\n{TINY}', "", r"networks\[1\]\.settings: no source dataset to train on; add \[source\]"),
    ],
)
def test_impossible_sources_are_said_before_anything_runs(source_study, tmp_path, old, new, message):
    assert old in STUDY
    source_study.write_text(STUDY.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        Study.from_file(source_study).run(tmp_path / "runs", **HERE)
    assert not (tmp_path / "runs").exists()
