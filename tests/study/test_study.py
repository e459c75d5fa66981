"""Studies from file to table: nothing repeated, nothing half-written, every mistake said before anything runs."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import transfer_study.features.loading
import transfer_study.study.execute
from tests.conftest import png_bytes, write_study
from transfer_study.classifiers.metrics import top1_accuracy
from transfer_study.core import UserError
from transfer_study.results import read_results, unplanned_runs
from transfer_study.study.execute import FailedRuns
from transfer_study.study.study import Study, dataset_counts, skipped_images

OPTIONS = {"device": "cpu", "processes": 1, "n_workers": 0, "progress": False}


def runs_of(out: Path) -> dict[str, int]:
    "Every run's directory, and when it was made."
    return {path.name: path.stat().st_mtime_ns for path in (out / "tiny").iterdir() if path.is_dir()}


class Undisturbed(NamedTuple):
    "The study after a run without any trouble; tests that change its runs copy them."

    study: Study
    results: pd.DataFrame
    runs: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("undisturbed")
    study = Study.from_file(write_study(folder, weights))
    return Undisturbed(study, study.run(folder / "runs", **OPTIONS), folder / "runs")


def test_a_study_from_file_to_table(undisturbed):
    results = undisturbed.results
    assert len(results) == 6 and results["score"].between(0, 1).all()
    assert set(results["n_test"]) == {8, 12} and set(results["metric"]) == {"top1"}
    assert results.groupby("network")["source_accuracy"].first().to_dict() == pytest.approx(
        {"test_resnet": 0.5, "test_efficientnet": 0.6, "test_mambaout": 0.7}
    )


def test_a_run_keeps_what_its_score_was_made_from(undisturbed):
    for row in undisturbed.results.itertuples():
        directory = undisturbed.runs / "tiny" / row.run_id
        predictions, curve = np.load(directory / "predictions.npz"), pd.read_csv(directory / "curve.csv")
        assert top1_accuracy(predictions["y_true"], predictions["y_pred"]) == row.score
        assert len(predictions["image"]) == row.n_test and all(name.startswith("test/") for name in predictions["image"])
        result = json.loads((directory / "result.json").read_text())
        tied = curve.loc[curve["validation_score"] == curve["validation_score"].max(), "l2"].to_list()
        assert len(curve) == 45 and result["l2"] == tied[(len(tied) - 1) // 2]


def test_a_second_run_repeats_nothing_and_two_computations_agree(undisturbed, study_file, tmp_path):
    made = runs_of(undisturbed.runs)
    pd.testing.assert_frame_equal(undisturbed.results, undisturbed.study.run(undisturbed.runs, **OPTIONS))
    assert runs_of(undisturbed.runs) == made
    pd.testing.assert_frame_equal(undisturbed.results, Study.from_file(study_file).run(tmp_path / "again", **OPTIONS))


def test_a_changed_protocol_or_image_is_another_run(study_file, tmp_path):
    before = set(Study.from_file(study_file).plan(tmp_path / "runs")["run_id"])
    text = study_file.read_text()
    study_file.write_text(text + "\n[protocols.linear]\nn_l2 = 5\n")
    fewer = set(Study.from_file(study_file).plan(tmp_path / "runs")["run_id"])
    assert not before & fewer
    study_file.write_text(text)
    (tmp_path / "squares" / "train" / "dim" / "0.png").write_bytes(png_bytes())
    assert len(before & set(Study.from_file(study_file).plan(tmp_path / "runs")["run_id"])) == 3


def test_one_pass_over_the_images_serves_every_network_and_protocol(study_file, tmp_path, monkeypatch):
    real, decoded = transfer_study.features.loading.decode, []
    monkeypatch.setattr(transfer_study.features.loading, "decode", lambda *given: decoded.append(given) or real(*given))
    study_file.write_text(study_file.read_text() + '\n[protocols.linear]\n[protocols.knn]\nn_train_per_class = [4, "all"]\n')
    results = Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert len(results) == 3 * 2 * 3 and len(decoded) == 28 + 32


def test_protocols_on_few_images(study_file, tmp_path):
    extra = '\n[protocols.linear]\nn_train_per_class = [4, "all"]\n[protocols.knn]\nn_train_per_class = [4]\n'
    study_file.write_text("seeds = [0, 1]\n" + study_file.read_text() + extra)
    study = Study.from_file(study_file)
    results = study.run(tmp_path / "runs", **OPTIONS)
    assert results.groupby(["protocol", "n_train_per_class"], dropna=False).size().to_dict() == {
        ("knn", 4): 12, ("linear", 4): 12, ("linear", pd.NA): 12
    }  # fmt: skip
    by_id = {result["run_id"]: result for result in read_results(tmp_path / "runs")}
    for row in results.itertuples():
        size = (by_id[row.run_id]["n_train"], by_id[row.run_id]["n_val"])
        assert size == ((16, 4) if row.n_train_per_class is pd.NA else (6, 2))
    assert set(dataset_counts(tmp_path / "runs")["n_train"]) == {16}
    few = results[results["n_train_per_class"].notna() & (results["protocol"] == "linear")]
    assert few.groupby(["network", "dataset"])["score"].nunique().max() == 2, "two seeds should draw different images"


def test_more_images_per_class_than_there_are(study_file, tmp_path):
    study_file.write_text(study_file.read_text() + "\n[protocols.linear]\nn_train_per_class = [11]\n")
    with pytest.raises(UserError, match="dataset squares: n_train_per_class 11: class 'bright' has only 10 images"):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("protocol", ["linear", "knn", "finetune"])
def test_few_images_of_groups_are_refused_before_anything_is_computed(study_file, tmp_path, protocol):
    text = study_file.read_text().replace('"squares", "packed.tar"', '{ folder = "squares", groups = "/([0-9])" }')
    study_file.write_text(f"{text}\n[protocols.{protocol}]\nn_train_per_class = [4]\n")
    for attempt in ("plan", "run"):
        with pytest.raises(UserError, match="dataset squares: n_train_per_class 4 draws single images, not groups"):
            getattr(Study.from_file(study_file), attempt)(tmp_path / "runs", **(OPTIONS if attempt == "run" else {}))
    assert not (tmp_path / "runs").exists()


def test_augmented_copies_make_another_run(undisturbed, study_file, tmp_path):
    study_file.write_text(study_file.read_text() + "\n[protocols.linear]\nn_augmentations = 2\n")
    study = Study.from_file(study_file).part(datasets=["squares"])
    augmented = study.run(tmp_path / "runs", **OPTIONS)
    plain = undisturbed.results.query("dataset == 'squares'")
    assert not set(plain["run_id"]) & set(augmented["run_id"])
    assert plain["n_test"].tolist() == augmented["n_test"].tolist()
    assert {(result["n_train"], result["n_val"]) for result in read_results(tmp_path / "runs")} == {(16, 4)}
    pd.testing.assert_frame_equal(augmented, study.run(tmp_path / "again", **OPTIONS))


def test_an_edited_study_reports_its_own_runs_only(undisturbed, study_file, tmp_path):
    shutil.copytree(undisturbed.runs, tmp_path / "runs")
    study_file.write_text(study_file.read_text().replace("source_accuracy = 0.5", "source_accuracy = 0.55"))
    results = Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert len(results) == 6 and 0.5 not in set(results["source_accuracy"])


class Stop(BaseException):
    "The process dies here."


@pytest.mark.parametrize("dies_at", [1, 2, 4])
def test_interrupted_between_and_within_runs(study_file, tmp_path, monkeypatch, dies_at):
    real, calls = transfer_study.study.execute.run_protocol, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == dies_at:
            raise Stop
        return real(*arguments)

    monkeypatch.setattr(transfer_study.study.execute, "run_protocol", dying)
    with pytest.raises(Stop):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    finished = runs_of(tmp_path / "runs")
    assert len(finished) == dies_at - 1
    results = Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert len(results) == 6 and len(calls) == 6 + 1
    assert finished.items() <= runs_of(tmp_path / "runs").items()


def run_in_two_processes(file: Path, out: Path) -> None:
    Study.from_file(file).run(out, **OPTIONS | {"processes": 2, "n_workers": 1})


def test_killed_and_started_again(study_file, undisturbed, start_process, tmp_path):
    "A real kill -9 while the study runs; what was finished stays, what was half-written does not count."
    out = tmp_path / "runs"
    process, *_ = start_process(partial(run_in_two_processes, study_file, out))
    while process.is_alive() and not list(out.glob("tiny/[!.]*/result.json")):
        process.join(0.01)
    assert process.is_alive(), "the study was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    finished = {name: made for name, made in runs_of(out).items() if not name.startswith(".")}
    assert 1 <= len(finished) < 6
    results = Study.from_file(study_file).run(out, **OPTIONS)
    assert len(results) == 6 and finished.items() <= runs_of(out).items()
    pd.testing.assert_frame_equal(results, undisturbed.results)


def test_skipped_images_are_counted_and_listed(study_file, tmp_path):
    for name in ("train/dim/3.png", "test/bright/1.png"):
        (tmp_path / "squares" / name).write_bytes(b"damaged")
    with pytest.raises(FailedRuns, match=r"squares: test/bright/1\.png cannot be decoded"):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    study_file.write_text('on_bad_image = "skip"\n' + study_file.read_text())
    results = Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert set(results.loc[results["dataset"] == "squares", "n_test"]) == {7}
    skipped = skipped_images(tmp_path / "runs")
    assert skipped["name"].tolist() == ["test/bright/1.png", "train/dim/3.png"] and set(skipped["dataset"]) == {"squares"}
    counts = dataset_counts(tmp_path / "runs").set_index("dataset")
    assert counts.loc["squares", ["n_train", "n_val", "n_test"]].sum() == 20 + 8 - 2


def test_a_class_whose_training_images_are_all_bad_is_an_error(study_file, tmp_path):
    for path in (tmp_path / "squares" / "train" / "dim").iterdir():
        path.write_bytes(b"")
    study_file.write_text('on_bad_image = "skip"\n' + study_file.read_text())
    with pytest.raises(FailedRuns, match="no decodable training image left of class 'dim'"):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weights =", "weigths =", r"networks\[1\]\.weigths: unknown key; did you mean weights\?"),
        ('name = "tiny"', "", r"name: missing"),
        ('["squares", "packed.tar"]', "[]", r"datasets = .*not empty"),
        ("source_accuracy = 0.5\n", "source_accuracy = 50\n", r"source_accuracy = 50: .*below 1"),
        ('"squares", "packed.tar"', '"squares", "squares"', r"dataset 'squares' is listed more than once"),
        ('"squares", "packed.tar"', '"squares", "./squares/"', r"dataset 'squares' is listed more than once"),
        ('"squares", "packed.tar"', r'"C:\Users\squares"', r"line \d+: a backslash in double quotes; write / between folders"),
        ('"squares", "packed.tar"', r'"D:\images\squares"', r"line \d+: a backslash in double quotes; write / between folders"),
        ('"squares", "packed.tar"', '"squares", "sqares"', r"unknown dataset 'sqares'"),
        ('"squares", "packed.tar"', '"squares", "folder:sqares"', r"no such folder, tar or zip"),
        ('name = "test_resnet"', 'name = "test_resnett"', r"unknown network 'test_resnett'; did you mean test_resnet"),
        ("test_resnet.safetensors", "absent.safetensors", r"absent\.safetensors: no such file"),
        ("test_resnet.safetensors", "test_mambaout.safetensors", r"not of this architecture: .* is missing"),
        ('name = "tiny"', 'name = "tiny', r"not TOML"),
        ('name = "tiny"', 'name =\u00a0"tiny"', r"line \d+: no-break space \(U\+00A0\) stands there"),
        ('name = "tiny"', 'name = "tiny"\n\u200bseeds = [0]', r"line \d+: zero width space \(U\+200B\) stands there"),
        ('name = "tiny"', 'name = "../tiny"', r'name = "\.\./tiny"'),
        ('name = "tiny"', 'name = "tiny"\nprotocols.linear.n_train_per_class = [5, 5]', r'whole numbers from 1, or "all"'),
        ('name = "tiny"', 'name = "tiny"\nprotocols.linear.n_train_per_class = [1]', r"leaves no validation image"),
        ('name = "tiny"', 'name = "tiny"\nprotocols.knn.n_neighbors = [0]', r"protocols\.knn\.n_neighbors\[1\] = 0"),
        ('name = "tiny"', 'name = "tiny"\nprotocols.kn = {}', r"protocols\.kn: unknown key; did you mean knn"),
        ('name = "tiny"', 'name = "tiny"\nfeatures.precision = "half"', r'features\.precision = "half"'),
    ],
)
def test_mistakes_in_a_study_are_said_before_anything_runs(study_file, tmp_path, old, new, message):
    text = study_file.read_text()
    assert old in text
    study_file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert not (tmp_path / "runs").exists()


def test_mistakes_in_datasets_and_in_networks_are_said_together(study_file, tmp_path):
    text = study_file.read_text().replace('"squares", "packed.tar"', '"sqares", "folder:packd"')
    text = text.replace('name = "test_resnet"', 'name = "test_resnett"')
    study_file.write_text(text)
    with pytest.raises(UserError) as caught:
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and ["datasets[1]" in lines[0], "datasets[2]" in lines[1], "networks[1]" in lines[2]] == [True] * 3


def test_every_dataset_that_is_too_small_is_named_before_networks_are_fetched(study_file, tmp_path):
    text = study_file.read_text().replace('name = "test_resnet"', 'name = "test_resnett"')
    study_file.write_text(text + "\n[protocols.linear]\nn_train_per_class = [11]\n")
    with pytest.raises(UserError) as caught:
        Study.from_file(study_file).plan(tmp_path / "runs")
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == ["datasets[1]", "datasets[2]", "networks[1]"]


def test_paths_that_start_from_the_current_directory_are_recognized(study_file, tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    moved = study_file.rename(tmp_path / "studies" / "study.toml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        Study.from_file("studies/study.toml").plan("runs")
    advice = str(caught.value).splitlines()[-1]
    assert "squares (and 1 more) lies in the current one; move the study file here, or write ../squares" in advice
    moved.write_text(moved.read_text().replace('"squares", "packed.tar"', '"../squares", "../packed.tar"'))
    assert len(Study.from_file("studies/study.toml").plan("runs")) == 6


def test_a_reference_has_the_name_and_the_metric_of_its_table(study_file, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "squares", tmp_path / "other" / "squares")
    (tmp_path / "other" / "squares" / "train" / "dim" / "0.png").write_bytes(png_bytes())
    text = study_file.read_text()
    study_file.write_text(text.replace('"squares", "packed.tar"', '"squares", "other/squares"'))
    with pytest.raises(UserError, match=r'datasets\[2\]: .* give it another name: \{ reference = "other/squares", name = "…" \}'):
        Study.from_file(study_file).plan(tmp_path / "runs")
    table = '{ reference = "other/squares", name = "more", metric = "mean_per_class" }'
    study_file.write_text(text.replace('"packed.tar"', table))
    datasets = Study.from_file(study_file).tasks(tmp_path / "runs").datasets
    assert [(dataset.name, dataset.metric) for dataset in datasets] == [("squares", "top1"), ("more", "mean_per_class")]


def test_what_a_changed_study_leaves_out_is_counted_and_a_part_of_it_is_not_mixed(undisturbed, study_file, tmp_path):
    shutil.copytree(undisturbed.runs, tmp_path / "runs")
    assert unplanned_runs([tmp_path / "runs"]) == []
    study_file.write_text(study_file.read_text() + "\n[protocols.linear]\nn_l2 = 5\n")
    study = Study.from_file(study_file)
    study.part(networks=["test_resnet"]).run(tmp_path / "runs", **OPTIONS)
    with pytest.raises(UserError, match="if the study was changed, run it again without --networks"):
        study.analyze(tmp_path / "runs", n_bootstrap=100)
    study.run(tmp_path / "runs", **OPTIONS)
    assert study.analyze(tmp_path / "runs", n_bootstrap=100).rows["dataset"].nunique() == 2
    (line,) = unplanned_runs([tmp_path / "runs"])
    assert "6 finished runs of another study file, or of this one before it, its images or its weights were changed" in line


def test_parts_of_a_study_add_up_to_it(undisturbed, study_file, tmp_path):
    study = Study.from_file(study_file)
    first = study.part(datasets=["squares"]).run(tmp_path / "parts", **OPTIONS)
    both = study.part(datasets=["packed.tar"]).run(tmp_path / "parts", **OPTIONS)
    assert len(first) == 3 and len(both) == 6
    pd.testing.assert_frame_equal(both, undisturbed.results)
    pd.testing.assert_frame_equal(both, study.run(tmp_path / "parts", **OPTIONS))


def test_names_and_paths_as_python_has_them(undisturbed, tmp_path, monkeypatch):
    study, networks = undisturbed.study, [entry.name for entry in undisturbed.study.file.networks]
    for given in (networks[0], [networks[0]], (name for name in networks[:1]), np.array(networks[:1]), pd.Series(networks[:1])):
        assert [entry.name for entry in study.part(networks=given).file.networks] == networks[:1]
    assert [entry.name for entry in study.part(networks=f"{networks[0]}, {networks[1]}").file.networks] == networks[:2]
    assert study.part(None, datasets="squares", protocols=None).file.datasets[0].reference == "squares"
    with pytest.raises(UserError, match="unknown network '5'; known: "):
        study.part(networks=[5])
    monkeypatch.setenv("HOME", str(undisturbed.runs.parent))
    monkeypatch.chdir(tmp_path)
    assert len(study.run("~/runs", **OPTIONS)) == len(study.results("~/runs")) == study.plan("~/runs", "cpu")["done"].sum() == 6
    assert not Path("~").exists()
    for call in (study.plan, study.results, Study.from_file, Study.from_runs):
        with pytest.raises(UserError, match="^None: expected the path of a file or folder"):
            call(None)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("squares/train", "results would lie in .*squares/train, among the folders"),
        ("runs/tiny", "holds the runs of one study; give .*runs, as --out"),
    ],
)
def test_runs_do_not_lie_in_a_split_or_in_the_runs_of_a_study(study_file, undisturbed, tmp_path, out, message):
    shutil.copytree(undisturbed.runs / "tiny", tmp_path / "runs" / "tiny")
    with pytest.raises(UserError, match=message):
        Study.from_file(study_file).run(tmp_path / out, **OPTIONS)


def test_damaged_results_are_said_before_anything_is_computed(study_file, undisturbed, tmp_path):
    runs = shutil.copytree(undisturbed.runs / "tiny", tmp_path / "runs" / "tiny")
    first, second, third = sorted(undisturbed.results["run_id"])[:3]
    for name in (first, second):
        (runs / name / "result.json").write_text("{")
    shutil.rmtree(runs / third)
    with pytest.raises(UserError, match=rf"(?s){first}.result.json: damaged; .*{second}.result.json: damaged"):
        Study.from_file(study_file).run(tmp_path / "runs", **OPTIONS)
    assert not (runs / third).exists() and not (tmp_path / "runs" / ".features").exists()


def test_a_study_that_was_copied_with_its_images_is_that_of_the_copy(study_file, tmp_path):
    Study.from_file(study_file).part(datasets="squares").run(study_file.parent / "runs", **OPTIONS)
    copy = shutil.copytree(study_file.parent, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("elsewhere"))
    assert Study.from_runs(copy / "runs" / "tiny").directory.resolve() == copy
    shutil.rmtree(copy / "squares")  # the runs without all images: those of the first place
    assert Study.from_runs(copy / "runs" / "tiny").directory == study_file.parent.resolve()
