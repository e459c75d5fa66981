"""What leaves the package: tables that compute nothing, and graphs that predict the same."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from transfer_study import load_classifier
from transfer_study.core import UserError
from transfer_study.images.drawn import drawn_dataset
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.penultimate import penultimate_features
from transfer_study.selection.classifier import save_classifier
from transfer_study.selection.export import export_onnx, folder_labels, safe_cell, split_of, write_predictions_csv


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-2.png", "@SUM(A1).png", "\tx.png", "\rx.png", "＝1.png"])
def test_no_cell_begins_like_a_formula(name, tmp_path):
    table = pd.DataFrame(
        {
            "image": [name, 'a,b\n"c".png'],
            "label": ["=cmd", "b"],
            "probability": [0.5, 0.25],
            "second_label": "",
            "flag": "",
            "reason": "",
        }
    )
    with open(write_predictions_csv(table, tmp_path / "p.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["image"] == f"'{name}" and rows[0]["label"] == "'=cmd" and rows[1]["image"] == 'a,b\n"c".png'
    assert [float(row["probability"]) for row in rows] == [0.5, 0.25]


def test_a_name_that_is_not_unicode_is_written():
    assert safe_cell("caf\udce9.png") == "caf\\udce9.png"


def test_files_with_such_names_go_through_the_command_line(saved, tmp_path, command):
    (tmp_path / "new").mkdir()
    for name in ("=1+1.png", "-x.png"):
        Image.new("RGB", (40, 40), "gray").save(tmp_path / "new" / name)
    (tmp_path / "new" / "@broken.png").write_bytes(b"")
    code, out, err = command("predict", saved, tmp_path / "new", "--out", tmp_path / "deep" / "p.csv", "--device", "cpu")
    rows = pd.read_csv(tmp_path / "deep" / "p.csv", keep_default_na=False)
    assert code == 0 and out == "" and rows["image"].tolist() == ["'-x.png", "'=1+1.png", "'@broken.png"]
    assert list(rows.columns) == ["image", "label", "probability", "second_label", "flag", "reason"]
    assert (
        rows["flag"].iloc[2] == "broken" and "not decoded: '@broken.png (empty file)" in err and "1 that cannot be decoded" in err
    )


def test_predictions_are_printed_or_given_as_json(saved, finished, command):
    images = finished[0] / "squares" / "test"
    code, out, err = command("predict", saved, images, "--device", "cpu")
    assert code == 0 and "bright/0.png" in out and out.count("\n") == 9 and "8 images: " in err
    rows = json.loads(command("predict", saved, images, "--device", "cpu", "--json")[1])["predictions"]
    assert len(rows) == 8 and set(rows[0]) == {"image", "label", "probability", "second_label", "flag", "reason"}


def test_a_folder_of_no_class_is_one_line(saved, finished, command, tmp_path):
    (tmp_path / "new" / "dark").mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (40, 40)).save(tmp_path / "new" / "dark" / f"{i}.png")
    arguments = ("predict", saved, tmp_path / "new", "--score", "--device", "cpu", "--out", tmp_path / "p.csv")
    code, out, err = command(*arguments)
    assert code == 2 and out == "" and "dark/0.png (such images: 2): not in a folder named like one of the 2 classes" in err
    assert "but in dark/; to score predictions, sort the images into <class>/<image>, and move those of other" in err
    assert err.count("\n") == 1  # nothing was predicted yet
    for path in (tmp_path / "new" / "dark").rename(tmp_path / "new" / "dim").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    code, _, err = command(*arguments)
    assert code == 2 and err.endswith("--score: no image can be decoded, so there is no accuracy\n")
    assert "image file is truncated" in (tmp_path / "p.csv").read_text()
    with pytest.raises(UserError, match="not in a folder"):
        folder_labels(pd.DataFrame({"image": ["dim"]}), ("bright", "dim"))  # a file of that name is no folder
    with pytest.raises(UserError, match=r"Dim/0.png \(such images: 2\).* but in Dim/, whose class is 'dim', dark/; to"):
        folder_labels(pd.DataFrame({"image": ["Dim/0.png", "new/dark/1.png", "bright/1.png"]}), ("bright", "dim"))


def test_of_several_folders_named_like_classes_those_that_differ_count():
    classes, images = ("new", "old", "test"), ["test/new/0.png", "test/old/0.png", "test/test/0.png"]
    assert folder_labels(pd.DataFrame({"image": images}), classes).tolist() == ["new", "old", "test"]
    with pytest.raises(UserError, match="old/new/0.png: several of its folders are named like classes"):
        folder_labels(pd.DataFrame({"image": ["old/new/0.png", "new/old/0.png"]}), classes)


def test_a_folder_of_another_system_is_the_class_of_the_same_letters():
    images = pd.DataFrame({"image": ["A\u0308pfel/0.png", "Birnen/0.png"]})
    for classes in (("\u00c4pfel", "Birnen"), ("A\u0308pfel", "Birnen")):
        assert folder_labels(images, classes).tolist() == list(classes)
        assert folder_labels(images.replace("A\u0308", "\u00c4", regex=True), classes).tolist() == list(classes)


@pytest.mark.parametrize("images", ["nowhere", "empty"])
def test_no_images_are_one_line(saved, command, tmp_path, images):
    (tmp_path / "empty").mkdir()
    code, _, err = command("predict", saved, tmp_path / images, "--device", "cpu")
    assert code == 2 and err.count("\n") == 1 and str(tmp_path / images) in err


def plain_network() -> torch.nn.Module:
    "Without timm's forward_head: the input of the last linear layer is its features."
    torch.manual_seed(3)
    layers = [
        torch.nn.Conv2d(3, 8, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 5),
    ]
    return torch.nn.Sequential(*layers)


def headless_network() -> torch.nn.Module:
    "Without a classifier: its output is its features."
    return plain_network()[:-1]


def beside_network():
    "Its features are the input of its last linear layer, after which it does more, and returns other tensors, too."

    class Beside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = plain_network()
            self.pretrained_cfg = {"input_size": (3, 160, 160)}

        def forward(self, images):
            logits = self.network(images)
            return {"images": images, "log_probabilities": logits.log_softmax(1)}

    return Beside()


@pytest.mark.parametrize("kind", ["test_resnet", "test_vit", "plain", "headless", "beside"])
def test_the_graph_predicts_as_the_classifier_does(fitted, tmp_path, kind):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    own = {"plain": plain_network, "headless": headless_network, "beside": beside_network}
    if build := own.get(kind):
        (tmp_path / "nets.py").write_text(f"from tests.selection.test_export import {build.__name__}  # noqa: F401\n")
        save_file(build().state_dict(), tmp_path / "w.safetensors")
        network = Network(kind, f"nets:{build.__name__}", tmp_path / "w.safetensors", directory=tmp_path)
    else:
        torch.manual_seed(2)
        save_file(timm.create_model(kind).state_dict(), tmp_path / "w.safetensors")
        network = Network(kind, kind, tmp_path / "w.safetensors")
    model = build_network(network)
    with torch.no_grad():
        n_features = penultimate_features(model, torch.zeros(2, 3, 160, 160)).shape[1]
    head = np.random.default_rng(0).normal(size=(2, n_features)) / np.sqrt(n_features), np.array([0.1, -0.1])
    path = save_classifier(
        tmp_path / "c", **fitted.arguments | {"network": network, "head": head, "training_features": None}, temperature=0.7
    )
    classifier = load_classifier(path, code=tmp_path)
    test = split_of(fitted.dataset, "test")
    check = export_onnx(classifier, path / "model.onnx", test)
    assert check.n_images == len(test.images) == 8 and check.n_different == 0 and check.largest_difference < 1e-4
    assert "same top-1 on 8 of 8" in str(check)
    session = onnxruntime.InferenceSession(path / "model.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == ["bright", "dim"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    (one,) = session.run(None, {"images": np.zeros((1, *session.get_inputs()[0].shape[1:]), np.uint8)})
    assert one.shape == (1, 2) and one.sum() == pytest.approx(1, abs=1e-6)


def test_a_part_of_a_dataset_has_its_own_rows_labels_and_fingerprint():
    digits = drawn_dataset("digits", n_train_per_class=2, n_test_per_class=1)
    several = replace(digits, label_matrix=pd.get_dummies(digits.images["class"], dtype=int))
    test, train = split_of(several, "test"), split_of(several, "train")
    rows = np.flatnonzero(digits.images["split"] == "test")
    assert len({several.fingerprint, test.fingerprint, train.fingerprint}) == 3
    assert test.read(3) == digits.read(rows[3]) and test.targets.tolist() == several.targets[rows].tolist()


def test_a_missing_extra_is_said_before_anything_is_written(finished, command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = ("keep", finished[0] / "runs" / "tiny", "test_resnet", "squares", "--out", tmp_path / "c", "--export", "onnx")
    code, _, err = command(*arguments)
    assert code == 2 and "--export onnx: onnx is not installed" in err and not (tmp_path / "c").exists()


def test_keep_exports(finished, command, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    folder, _ = finished
    arguments = (
        "keep",
        folder / "runs" / "tiny",
        "test_resnet",
        "squares",
        "--out",
        tmp_path / "c",
        "--device",
        "cpu",
        "--export",
        "onnx",
    )
    code, out, err = command(*arguments)
    assert code == 0 and out.strip() == str(tmp_path / "c") and "same top-1 on 8 of 8 images in onnxruntime" in err
    assert (tmp_path / "c" / "model.onnx").stat().st_size > 100_000 and load_classifier(tmp_path / "c")
