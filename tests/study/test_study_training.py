"""Studies that train: fine-tuning and random weights from a study file, in one process and in several."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.study.conftest import FINETUNE, HERE, N_TASKS, SCRATCH
from transfer_study.core import UserError
from transfer_study.results import read_curves, read_histories, read_results
from transfer_study.study.plan import Refit
from transfer_study.study.runs import run_training
from transfer_study.study.study import Study
from transfer_study.training.run import read_training


def test_trainings_end_in_the_results_table(finished):
    _, results, runs, _ = finished
    assert results["protocol"].value_counts().to_dict() == {"linear": 2, "finetune": 2, "scratch": 2}
    assert set(results["n_test"]) == {8} and results["score"].between(0, 1).all()
    histories = read_histories(runs)
    last = histories.groupby("run_id")["score"].last()
    scores = results.set_index("run_id")["score"]
    assert set(histories["protocol"]) == {"finetune", "scratch"} and last.equals(scores.loc[last.index].rename("score"))
    curves = read_curves(runs, "finetune")
    assert len(curves) == 4 and curves.groupby("run_id")["chosen"].sum().eq(1).all()
    best = curves.groupby("run_id")["validation_score"].max()
    assert curves[curves["chosen"]].set_index("run_id")["validation_score"].sort_index().equals(best.sort_index())
    trainings = [result for result in read_results(runs) if result["protocol"] != "linear"]
    assert all(result["steps"] == 2 and (result["n_train"], result["n_val"]) == (16, 4) for result in trainings)
    assert all(result["provenance"]["versions"]["torch"] and result["provenance"]["cpu_capability"] for result in trainings)


def test_a_single_grid_point_is_trained_once(finished):
    trainings = sorted(path.name.partition("-")[0] for path in (finished.runs / ".training").glob("??/[!.]*"))
    assert len(trainings) == 2 * 2 + 2 + 2 and trainings.count("refit") == 4


def test_trainings_are_spread_and_those_of_an_earlier_version_stay_where_they_are(training_study, tmp_path):
    folder = tmp_path / ".training"

    def trainings() -> dict[str, str]:
        plan = Study.from_file(training_study).tasks(tmp_path, "cpu")
        paths = [task.output for task in plan.tasks if task.kind == "grid"]
        paths += [payload.training for payload in plan.payloads.values() if isinstance(payload, Refit)]
        return {path.name: path.relative_to(folder).as_posix() for path in paths}

    spread = trainings()
    assert len(spread) == 8 and all(path == f"{name.removeprefix('refit-')[:2]}/{name}" for name, path in spread.items())
    done, begun, *others = sorted(spread)
    (folder / done).mkdir(parents=True)
    (folder / f".{begun}.partial").mkdir()
    (folder / spread[others[0]]).mkdir(parents=True)
    assert trainings() == spread | {done: done, begun: begun}


def test_two_processes_give_the_table_of_one(finished, training_study, tmp_path):
    _, one, runs, _ = finished
    two = Study.from_file(training_study).run(tmp_path / "two", **HERE | {"processes": 2})
    pd.testing.assert_frame_equal(one, two)
    for row in one.itertuples():
        first, second = (np.load(out / "tiny" / row.run_id / "predictions.npz") for out in (runs, tmp_path / "two"))
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


def test_few_images_per_class(training_study, tmp_path):
    text, header = training_study.read_text(), "[protocols.finetune]"
    training_study.write_text(text.replace(header, f'{header}\nn_train_per_class = [4, "all"]'))
    results = Study.from_file(training_study).run(tmp_path / "runs", **HERE)
    few = results.query("protocol == 'finetune' and n_train_per_class == 4")
    assert len(few) == 2 and len(results) == 8
    by_id = {result["run_id"]: result for result in read_results(tmp_path / "runs")}
    assert {(by_id[run_id]["n_train"], by_id[run_id]["n_val"]) for run_id in few["run_id"]} == {(6, 2)}


def test_scratch_does_not_depend_on_the_weights(training_study, tmp_path):
    before = Study.from_file(training_study).plan(tmp_path / "runs")
    training_study.write_text(training_study.read_text().replace("test_resnet.safetensors", "other.safetensors"))
    weights = next(line.split('"')[1] for line in training_study.read_text().splitlines() if "other.safetensors" in line)
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(9)
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    after = Study.from_file(training_study).plan(tmp_path / "runs")
    same = before["run_id"].isin(after["run_id"])
    scratch, changed = before["protocol"] == "scratch", before["network"] == "test_resnet"
    assert same[scratch].all() and not same[changed & ~scratch].any() and same[~changed].all()


def test_a_training_that_diverges_is_a_failed_run(finished):
    study, _, runs, _ = finished
    run = next(run for run in study.tasks(runs, "cpu").runs if run.protocol == "scratch")
    (final,) = (read_training(path) for path in (runs / ".training").glob(f"??/refit-{run.run_id}"))
    assert run_training(run, [], final)[0]["score"] == final.score
    with pytest.raises(UserError, match="the final training failed: loss nan; lower learning_rate_max"):
        run_training(run, [], replace(final, status="failed", reason="loss nan", score=None))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 2", "steps = 0", r"protocols\.finetune\.steps = 0: expected whole number from 1"),
        ("steps = 2", "step = 2", r"protocols\.finetune\.step: unknown key; did you mean steps\?"),
        ("steps = 2", 'steps = "two"', r'protocols\.finetune\.steps = "two": expected whole number from 1'),
        ("n_weight_decays = 0", "n_weight_decays = 0\nno_weight_decay = false", r"an empty grid"),
        ("steps = 2", "learning_rate_max = 0.001", r"learning_rate_min 0.01 is above learning_rate_max 0.001"),
        ("steps = 2", "n_train_per_class = [1]", r"leaves no validation image for choosing a grid point"),
        ("steps = 2", "n_train_per_class = [11]", r"class 'bright' has only 10 images"),
    ],
)
def test_mistakes_are_said_before_anything_runs(training_study, tmp_path, old, new, message):
    training_study.write_text(training_study.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        Study.from_file(training_study).run(tmp_path / "runs", **HERE)
    assert not (tmp_path / "runs").exists()


def test_everything_is_shown_to_machines(finished):
    events = [json.loads(line) for line in finished.events.splitlines() if line.startswith("{")]
    kinds = pd.DataFrame(events).query("event == 'finished'")["kind"].value_counts().to_dict()
    assert kinds == N_TASKS
    assert events[-1]["runs_done"] == 6 and events[-1]["tasks_left"] == 0


def test_images_that_trainings_leave_out_are_listed(training_study, tmp_path):
    for name in ("train/dim/3.png", "test/bright/1.png"):
        (tmp_path / "squares" / name).write_bytes(b"")
    head, network, _ = training_study.read_text().split("[[networks]]")
    training = FINETUNE.replace("n_learning_rates = 2", "n_learning_rates = 1") + SCRATCH
    training_study.write_text(f'on_bad_image = "skip"\n{head}[[networks]]{network}\n{training}')
    results = Study.from_file(training_study).run(tmp_path / "runs", **HERE)
    assert results["protocol"].tolist() == ["finetune", "scratch"] and set(results["n_test"]) == {7}
    for result in read_results(tmp_path / "runs"):
        assert sorted(bad["name"] for bad in result["skipped_images"]) == ["test/bright/1.png", "train/dim/3.png"]
        assert all(bad["reason"] for bad in result["skipped_images"])
