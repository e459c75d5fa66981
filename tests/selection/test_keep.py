"""The classifier behind a run's score has that score."""

import json
import shutil

import pandas as pd
import pytest

from tests.conftest import write_images
from transfer_study import load_classifier
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.selection.keep import find_run, keep_classifier
from transfer_study.selection.record import read_record
from transfer_study.study.study import Study


def scores(results: pd.DataFrame) -> dict:
    return {(row.network, row.dataset): row.score for row in results.itertuples()}


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("dataset", ["squares", "packed"])
def test_the_command_line_predicts_the_test_folder_with_the_reported_accuracy(finished, command, tmp_path, network, dataset):
    folder, results = finished
    code, out, _ = command(
        "keep", folder / "runs" / "tiny", network, dataset, "--out", tmp_path / "c", "--device", "cpu", "--json"
    )
    kept, reported = json.loads(out), scores(results)[network, dataset]
    assert (
        code == 0 and kept["accuracy"] == kept["reported"] == reported and kept["interval"][0] <= reported <= kept["interval"][1]
    )
    images = {"squares": folder / "squares" / "test", "packed": folder / "more" / "test"}[dataset]
    code, out, _ = command("predict", tmp_path / "c", images, "--device", "cpu", "--score", "--json")
    assert code == 0 and json.loads(out)["score"]["accuracy"] == reported == json.loads(out)["score"]["expected"]


def test_every_prediction_of_the_run_is_repeated(finished, tmp_path):
    from transfer_study.results import read_predictions

    folder, results = finished
    kept = keep_classifier(folder / "runs" / "tiny", "test_resnet", "packed.tar", tmp_path / "c", device="cpu", bundle=True)
    stored, names = read_predictions(folder / "runs" / "tiny" / kept.run.run_id), load_classifier(kept.path).class_names
    table = load_classifier(kept.path).predict(folder / "packed.tar")
    table = table.assign(image=table["image"].str.removeprefix("packed/")).set_index("image").loc[stored["image"]]
    assert list(table["label"]) == [names[label] for label in stored["y_pred"]]
    assert kept.path == tmp_path / "c" and str(kept).endswith("test images), as the run reported")


def test_without_the_features_it_computes_them_again(finished, tmp_path):
    folder, _ = finished
    runs = shutil.copytree(folder / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns(".features"))
    kept = keep_classifier(runs / "tiny", "test_resnet", "squares", device="cpu")
    assert kept.accuracy == kept.reported and kept.path == runs / "tiny" / "classifiers" / "test_resnet-squares"
    with pytest.raises(UserError, match="exists already"):
        keep_classifier(runs / "tiny", "test_resnet", "squares", device="cpu")
    assert len(Study.from_runs(runs / "tiny").results(runs)) == 4  # the new folder is no run


def test_sizes_seeds_and_copies(weights, finished, tmp_path):
    folder, _ = finished
    (tmp_path / "study.toml").write_text(f"""
        name = "more"
        datasets = ["{folder / "squares"}"]
        seeds = [3, 4]
        [[networks]]
        name = "test_resnet"
        weights = "{weights / "test_resnet.safetensors"}"
        source_accuracy = 0.5
        [protocols.linear]
        n_train_per_class = [4, 8]
        n_l2 = 3
        n_augmentations = 1
    """)
    results = Study.from_file(tmp_path / "study.toml").run(
        tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False
    )
    for (seed, size), rows in results.groupby(["seed", "n_train_per_class"]):
        kept = keep_classifier(
            tmp_path / "runs" / "more",
            "test_resnet",
            "squares",
            tmp_path / f"{seed}-{size}",
            device="cpu",
            seed=seed,
            n_train_per_class=size,
        )
        assert kept.accuracy == kept.reported == rows["score"].iloc[0] and load_classifier(kept.path).record.n_train == 2 * size
    run, _ = find_run(tmp_path / "runs" / "more", "test_resnet", "squares", device="cpu")
    assert run.seed == 3 and run.parameters["n_train_per_class"] == 8
    with pytest.raises(UserError, match="no run of 'test_resnet' on 'squares' with setting 'default', seed 9"):
        find_run(tmp_path / "runs" / "more", "test_resnet", "squares", device="cpu", seed=9)


def test_another_metric_than_an_accuracy(weights, finished, tmp_path):
    folder, _ = finished
    for metric in ("f1", "roc_auc", "balanced"):
        (tmp_path / "study.toml").write_text(f"""
            name = "{metric}"
            [[datasets]]
            name = "noise"
            folder = "{folder / "squares"}"
            metric = "{metric}"
            [[networks]]
            name = "test_efficientnet"
            weights = "{weights / "test_efficientnet.safetensors"}"
            source_accuracy = 0.5
            [protocols.linear]
            n_l2 = 3
        """)
        study = Study.from_file(tmp_path / "study.toml")
        results = study.run(tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False)
        kept = keep_classifier(tmp_path / "runs" / metric, "test_efficientnet", "noise", device="cpu")
        assert kept.score == kept.reported == results["score"][0] and "as the run reported" in str(kept)
        assert kept.metric == ("mean_per_class" if metric == "balanced" else "top1") == load_classifier(kept.path).record.metric


def test_groups_of_the_study_are_those_of_the_classifier(weights, finished, tmp_path):
    "Three images of a patient are one observation: validation, calibration, interval and flag leave patients out, not images."
    folder, _ = finished
    kept = {}
    for name, groups in {"grouped": 'groups = "(dim|bright)/[012]"', "single": ""}.items():
        (tmp_path / f"{name}.toml").write_text(f"""
            name = "{name}"
            [[datasets]]
            folder = "{folder / "squares"}"
            {groups}
            [[networks]]
            name = "test_resnet"
            weights = "{weights / "test_resnet.safetensors"}"
            source_accuracy = 0.5
            [protocols.linear]
            n_l2 = 3
        """)
        study = Study.from_file(tmp_path / f"{name}.toml")
        study.run(tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False)
        kept[name] = keep_classifier(tmp_path / "runs" / name, "test_resnet", "squares", device="cpu")
    records = {name: read_record(one.path) for name, one in kept.items()}
    assert {name: record.held_out for name, record in records.items()} == {"grouped": "groups", "single": "images"}
    assert kept["grouped"].run.run_id != kept["single"].run.run_id
    cards = {name: (one.path / "README.md").read_text() for name, one in kept.items()}
    assert {name: "each taken alone" in card for name, card in cards.items()} == {"grouped": False, "single": True}
    assert "draw of the test images, in groups that belong together; it does not" in cards["grouped"]
    width = {name: one.interval[1] - one.interval[0] for name, one in kept.items()}
    assert width["grouped"] > width["single"]


def test_images_that_have_changed_are_no_basis(finished, tmp_path, weights):
    folder, _ = finished
    shutil.copytree(folder / "squares", tmp_path / "squares")
    (tmp_path / "study.toml").write_text(f"""
        name = "one"
        datasets = ["squares"]
        [[networks]]
        name = "test_resnet"
        weights = "{weights / "test_resnet.safetensors"}"
        source_accuracy = 0.5
    """)
    Study.from_file(tmp_path / "study.toml").run(tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    (tmp_path / "squares" / "train" / "dim" / "0.png").unlink()
    with pytest.raises(UserError, match="have changed since"):
        keep_classifier(tmp_path / "runs" / "one", "test_resnet", "squares", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test_resnett", "squares"), "study tiny: unknown network 'test_resnett'"),
        (("test_resnet", "circles"), "study tiny: unknown dataset 'circles'"),
        (("test_resnet", "squares", "--seed", 5), "transfer-study results"),
    ],
)
def test_unknown_names_are_one_line(finished, command, arguments, message):
    code, out, err = command("keep", finished[0] / "runs" / "tiny", *arguments, "--device", "cpu")
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_a_folder_without_a_study(tmp_path, command):
    code, _, err = command("keep", tmp_path, "a", "b")
    assert code == 2 and "no study.json" in err and err.count("\n") == 1
    (tmp_path / "classifier").mkdir()
    (tmp_path / "recommendation.json").write_text("{}")
    with pytest.raises(UserError, match=f"written by recommend, and its classifier lies in {tmp_path}/classifier; keep takes"):
        find_run(tmp_path, "a", "b")


def test_a_study_whose_folder_was_moved_goes_on(weights, tmp_path, finished):
    "Where its images moved with it; runs alone say that the folder is gone, and the study file repeats nothing."
    before = tmp_path / "before"
    shutil.copytree(finished[0] / "squares", before / "squares")
    shutil.copy(weights / "test_resnet.safetensors", before / "w.safetensors")
    network = 'name = "small"\narchitecture = "test_resnet"\nweights = "w.safetensors"\nsource_accuracy = 0.5\n'
    text = f'name = "moved"\ndatasets = ["squares"]\n[[networks]]\n{network}[protocols.linear]\nn_l2 = 3\nn_augmentations = 1\n'
    (before / "study.toml").write_text(text)
    options = {"device": "cpu", "processes": 1, "n_workers": 0, "progress": False}
    first = Study.from_file(before / "study.toml").run(before / "runs", **options)
    after = before.rename(tmp_path / "after")
    assert (
        keep_classifier(after / "runs" / "moved", "small", "squares", tmp_path / "kept", device="cpu").accuracy
        == first["score"].iloc[0]
    )
    alone = shutil.copytree(after / "runs", tmp_path / "alone")
    with pytest.raises(UserError, match="^study moved: the folder .*before, from which it was run, is not there any "):
        keep_classifier(alone / "moved", "small", "squares", device="cpu")
    again = Study.from_file(after / "study.toml").run(after / "runs", **options)
    assert again["run_id"].tolist() == first["run_id"].tolist()
    assert keep_classifier(after / "runs" / "moved", "small", "squares", device="cpu").accuracy == first["score"].iloc[0]


def test_parts_leave_the_whole_study(finished):
    folder, _ = finished
    study = Study.from_runs(folder / "runs" / "tiny")
    assert study.file == Study.from_file(folder / "study.toml").file and study.directory == folder.resolve()


def test_real_images(real, tmp_path, command):
    (tmp_path / "mobilenets.py").write_bytes((real / "mobilenets.py").read_bytes())
    (tmp_path / "study.toml").write_text(f"""
        name = "flowers"
        datasets = ["{real}/images/flowers5.tar"]
        [[networks]]
        name = "mobilenetv1_025"
        architecture = "mobilenets:mobilenetv1_025"
        weights = "{real}/weights/mobilenetv1_025_128_tfq.safetensors"
        source_accuracy = 0.395
        [protocols.linear]
        n_l2 = 5
    """)
    results = Study.from_file(tmp_path / "study.toml").run(tmp_path / "runs", device="cpu", processes=1, progress=False)
    code, out, _ = command("keep", tmp_path / "runs" / "flowers", "mobilenetv1_025", "flowers5", "--device", "cpu")
    classifier = load_classifier(out.strip(), code=tmp_path)
    flowers = image_folder(real / "images" / "flowers5.tar")
    table, test = classifier.predict(flowers), (flowers.images["split"] == "test").to_numpy()
    assert code == 0 and (table["label"] == flowers.images["class"])[test].mean() == results["score"][0]
    assert (table["flag"][test] == "unlike").mean() < 0.06  # 1 % is expected of 250 images
    clothing = classifier.predict(image_folder(real / "images" / "clothing.tar"))
    assert (clothing["flag"] == "unlike").mean() > 0.5


def test_a_classifier_says_of_which_classes_it_was_not_tested(command, weights, tmp_path):
    "The images of a class are one group, so none of them is a test image."
    photos = shutil.copytree(write_images(tmp_path / "squares", train=4, test=0) / "train", tmp_path / "photos")
    (tmp_path / "g.csv").write_text("image,group\n" + "".join(f"dim/{path.name},one\n" for path in (photos / "dim").iterdir()))
    lines = ['name = "tiny"', 'datasets = [{ folder = "photos", test_share = 0.25, groups = "g.csv" }]']
    lines += ["protocols.linear.n_l2 = 3", "[[networks]]", 'name = "test_resnet"', "source_accuracy = 0.5"]
    lines += [f'weights = "{weights / "test_resnet"}.safetensors"']
    (tmp_path / "s.toml").write_text("\n".join(lines))
    Study.from_file(tmp_path / "s.toml").run(tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    code, out, err = command("keep", tmp_path / "runs/tiny", "test_resnet", "photos", "--device", "cpu", "--json")
    (limit,) = json.loads(out)["limits"]
    assert code == 0 and limit.startswith("no test image of 1 of 2 classes (first: 'dim' with 4 images)") and limit in err
    assert f"Note: {limit}." in (tmp_path / "runs/tiny/classifiers/test_resnet-photos/README.md").read_text()
