"""Predictions of a run: one pair of functions, from the images of a multi-label study to the paired test."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from tests.conftest import NETWORKS
from transfer_study.classifiers.metrics import mean_average_precision_11_point
from transfer_study.core import UserError
from transfer_study.duplicates.scores import scores_without
from transfer_study.duplicates.search import find_overlap
from transfer_study.images.catalog import open_dataset
from transfer_study.results import complete_runs, prediction_arrays, read_predictions, write_predictions
from transfer_study.statistics.paired_tests import compare_runs
from transfer_study.study.study import Study
from transfer_study.training.run import read_training

DIFFICULT = "test_01"  # shows a difficult bright object only
TRAINING = "steps = 2\nbatch_size = 8\nn_evaluations = 1\nlearning_rate_min = 0.01\nn_learning_rates = 2\nn_weight_decays = 0\n"


def write_image(folder, name, pixels, labels):
    "An image and its annotation; all objects of the image called DIFFICULT are difficult."
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / f"JPEGImages/{name}.jpg")
    difficult = f"<difficult>{int(name == DIFFICULT)}</difficult>"
    objects = "".join(f"<object><name>{label}</name>{difficult}</object>" for label in labels)
    (folder / f"Annotations/{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>")


def write_voc(root):
    "Noisy images in the layout of VOC 2007; each shows one class, the other, both or neither. test_00 is also a training image."
    random, folder = np.random.default_rng(0), root / "VOCdevkit/VOC2007"
    for directory in ("JPEGImages", "ImageSets/Main", "Annotations"):
        (folder / directory).mkdir(parents=True)
    for split, n in {"train": 12, "val": 6, "test": 16}.items():
        names = [f"{split}_{i:02}" for i in range(n)]
        for i, name in enumerate(names):
            bright, red = (i + 1) % 2, i // 2 % 2
            pixels = random.normal(110 + 30 * bright, 50, (40, 40, 3)) + np.array([40 * red, 0, 0])
            labels = ["bright"] * (bright or name == DIFFICULT) + ["red"] * red
            write_image(folder, name, pixels, labels)
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    shutil.copy(folder / "JPEGImages/train_00.jpg", folder / "JPEGImages/test_00.jpg")


@pytest.fixture(scope="module")
def voc(tmp_path_factory, weights):
    "Dataset, results and runs of a study of two networks on several labels per image: features and classifier, and fine-tuning."
    folder = tmp_path_factory.mktemp("voc")
    write_voc(folder / "data" / "voc2007")
    lines = ['name = "labels"', 'datasets = ["voc2007"]', "[protocols.linear]", "[protocols.knn]"]
    lines += ["[protocols.finetune]", TRAINING]
    for name, accuracy in list(NETWORKS.items())[:2]:
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"']
        lines += [f"source_accuracy = {accuracy}"]
    (folder / "study.toml").write_text("\n".join(lines))
    study = Study.from_file(folder / "study.toml", folder / "data")
    results = study.run(folder / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    return open_dataset("voc2007", root=folder / "data"), results, folder / "runs"


def test_runs_keep_a_confidence_for_each_class(voc):
    dataset, results, runs = voc
    assert set(results["metric"]) == {"map_11_point"} and len(results) == 6
    y_true = pd.DataFrame(dataset.targets, index=dataset.images["name"])
    for directory, result in complete_runs(runs / "labels"):
        predictions = read_predictions(directory)
        assert set(predictions) == {"image", "y_true", "score"} and predictions["score"].shape == (16, 2)
        assert np.array_equal(predictions["y_true"], y_true.loc[predictions["image"]])
        assert (predictions["y_true"] == -1).sum() == 1
        assert mean_average_precision_11_point(predictions["y_true"], predictions["score"]) == pytest.approx(result["score"])


@pytest.mark.parametrize("protocol", ["linear", "knn", "finetune"])
def test_runs_are_compared_by_a_permutation_test(voc, protocol):
    _, results, runs = voc
    table = compare_runs(runs, "voc2007", protocol)
    score = results[results["protocol"] == protocol].set_index("network")["score"]
    (row,) = table.itertuples()
    assert row.difference == pytest.approx(score[row.network_b] - score[row.network_a])
    assert row.n_test == 16 and 0 < row.p_value <= 1


def test_scores_without_the_copied_image(voc):
    dataset, results, runs = voc
    pairs = find_overlap(dataset, dataset).pairs
    table = scores_without(runs, pairs, "voc2007", n_permutations=20).set_index("run_id")
    assert set(table["n_removed"]) == {1} and set(table["n_test"]) == {16}
    assert np.allclose(table["score"], results.set_index("run_id").loc[table.index, "score"])
    for directory, result in complete_runs(runs / "labels"):
        predictions = read_predictions(directory)
        kept = ~np.char.endswith(predictions["image"], "test_00.jpg")
        expected = mean_average_precision_11_point(predictions["y_true"][kept], predictions["score"][kept])
        assert table.loc[result["run_id"], "score_without"] == pytest.approx(expected)


def test_trainings_name_their_predictions_as_runs_do(voc):
    trainings = [read_training(path) for path in (voc[2] / ".training").glob("??/[!.]*")]
    assert {training.stage for training in trainings} == {"select", "refit"}
    for training in trainings:
        assert set(training.predictions) == {"image", "y_true", "score"}
        counted = training.predictions["y_true"][:, 1] >= 0
        exact = average_precision_score(training.predictions["y_true"][counted, 1], training.predictions["score"][counted, 1])
        assert 0 < exact <= 1


def test_the_predictions_of_earlier_versions_are_read(voc, tmp_path):
    _, _, runs = voc
    for directory, result in complete_runs(runs / "labels"):
        old, predictions = tmp_path / "labels" / result["run_id"], read_predictions(directory)
        old.mkdir(parents=True)
        (old / "result.json").write_text((directory / "result.json").read_text())
        predictions["y_pred"] = predictions.pop("score")
        np.savez(old / "predictions.npz", **predictions)
    pd.testing.assert_frame_equal(compare_runs(tmp_path, "voc2007"), compare_runs(runs, "voc2007"))


def test_one_label_per_image_is_a_predicted_label(tmp_path):
    predictions = prediction_arrays(np.array(["a.png", "b.png"]), np.array([0, 1]), np.array([1, 1]))
    write_predictions(predictions, tmp_path)
    assert {name: values.tolist() for name, values in read_predictions(tmp_path).items()} == {
        "image": ["a.png", "b.png"], "y_true": [0, 1], "y_pred": [1, 1],
    }  # fmt: skip


def test_a_run_without_predictions_is_named(tmp_path):
    with pytest.raises(UserError, match=r"predictions\.npz: no such file; the run kept no predictions"):
        read_predictions(tmp_path)
