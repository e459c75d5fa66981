"""ImageNet accuracies: measured in every layout, continued after an interruption, and taken by studies before published ones."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from tests.study.conftest import HERE
from transfer_study.core import UserError
from transfer_study.networks.imagenet import imagenet_classes, imagenet_images
from transfer_study.networks.measured import all_measured, keep_measured, measured_folder, measured_top1, why_not_kept
from transfer_study.networks.networks import Network, build_network
from transfer_study.results import merged_results
from transfer_study.study import measure
from transfer_study.study.measure import measure_heads, measure_probe
from transfer_study.study.report import study_sections
from transfer_study.study.study import Study

LABELS = [0, 0, 0, 7, 999]  # of the five validation images; the network below takes each for a tench, class 0


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def validation(tmp_path):
    "Five images in class folders, and the same flat, with the files of the development kit above them."
    classes, flat = tmp_path / "val", tmp_path / "flat"
    flat.mkdir()
    for i, label in enumerate(LABELS, start=1):
        (classes / imagenet_classes()[label]).mkdir(parents=True, exist_ok=True)
        for folder in (classes / imagenet_classes()[label], flat):
            Image.new("RGB", (70, 50), (40 * i, 0, 0)).save(folder / f"ILSVRC2012_val_{i:08d}.JPEG")
    kit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    numbers = {0: 449, 7: 3, 999: 1}  # in an order of its own, as in the kit
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{numbers[label]}\n" for label in LABELS))
    synsets = [(number, imagenet_classes()[label]) for label, number in numbers.items()]
    savemat(kit / "meta.mat", {"synsets": np.array(synsets, dtype=[("ILSVRC2012_ID", int), ("WNID", object)])})
    return tmp_path


def constant(path: Path, outputs: int = 1000, highest: int = 0) -> Network:
    "A network that gives every image the same class; its weights are 0 but for one bias."
    model = timm.create_model("test_resnet", num_classes=outputs)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.fc.bias.data[highest] = 1
    save_file(model.state_dict(), path)
    return Network("constant", "test_resnet", path)


@pytest.mark.parametrize("layout", ["val", "flat"])
def test_a_known_network_in_both_layouts(validation, layout):
    network, images = constant(validation / "tench.safetensors"), imagenet_images(validation / layout)
    (measured,) = measure_heads([network], images, "cpu", "float32")
    assert (measured.top1, measured.n_images, measured.n_classes, measured.by) == (0.6, 5, 3, "head")
    assert all_measured().empty, "three classes are not ImageNet"


def test_the_root_of_imagenet_leads_to_its_validation_images_and_another_table_is_one_line(validation):
    with pytest.raises(UserError, match=f"; give {validation / 'val'}$"):
        imagenet_images(validation)
    (validation / "flat" / "LOC_val_solution.csv").write_text("name,label\na,b\n")
    with pytest.raises(UserError, match="not Kaggle's table of labels .*; expected the columns ImageId and PredictionString$"):
        imagenet_images(validation / "flat")


@pytest.fixture
def all_classes(tmp_path):
    "One image of each class."
    for wnid in imagenet_classes():
        (tmp_path / "whole" / wnid).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "whole" / wnid / "0.png")
    return tmp_path / "whole"


def test_only_all_classes_are_kept_and_fewer_images_never_replace_more(validation, all_classes, command):
    network = constant(validation / "tench.safetensors")
    (measured,) = measure_heads([network], imagenet_images(all_classes), "cpu", "float32")
    assert measured.top1 == 0.001 and measured_top1(measured.digest) == measured
    name = f"test_resnet={network.weights}"
    code, out, err = command("networks", "--measure", validation / "val", name, "--device", "cpu", "--json")
    assert code == 0 and json.loads(out)[0]["top1"] == 0.6
    assert "not kept: images of 3 of ImageNet's 1,000 classes do not give its top-1 accuracy" in err
    keep_measured(replace(measured, n_images=999, top1=0.9))
    assert measured_top1(measured.digest) == measured
    assert "0.0010, measured on 1,000 images" in why_not_kept(replace(measured, n_images=999))
    path = measured_folder() / f"{measured.digest}.json"
    path.write_text(json.dumps(vars(replace(measured, n_classes=10))))
    assert measured_top1(measured.digest) is None, "as earlier versions kept it"
    path.write_bytes(b"\0" * 100)
    keep_measured(measured)
    assert measured_top1(measured.digest) == measured


def test_layouts_agree_on_each_image(validation):
    images = [imagenet_images(validation / layout).images for layout in ("val", "flat")]
    names = [dict(zip(table["file"].str.rpartition("/")[2], table["label"], strict=True)) for table in images]
    assert names[0] == names[1] and sorted(names[0].values()) == sorted(LABELS)


def test_kaggles_labels(validation, tmp_path):
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    rows = [(f"ILSVRC2012_val_{i:08d}", f"{imagenet_classes()[label]} 1 2 3 4") for i, label in enumerate(LABELS, start=1)]
    pd.DataFrame(rows, columns=["ImageId", "PredictionString"]).to_csv(tmp_path / "LOC_val_solution.csv", index=False)
    assert imagenet_images(validation / "flat").images["label"].tolist() == LABELS


def test_1001_outputs_have_a_background_class_in_front(validation):
    code = "import timm\ndef network():\n    return timm.create_model('test_resnet', num_classes=1001)\n"
    (validation / "background_models.py").write_text(code)
    constant(validation / "background.safetensors", outputs=1001, highest=1)  # output 1 is ImageNet's class 0
    network = Network("b", "background_models:network", validation / "background.safetensors", directory=validation)
    assert measure_heads([network], imagenet_images(validation / "val"), "cpu", "float32")[0].top1 == 0.6


def test_scores_may_be_returned_among_other_tensors(validation):
    code = """
import timm

class Beside(timm.models.resnet.ResNet):
    def forward(self, x):
        features = self.forward_features(x)
        return {"features": features, "logits": self.forward_head(features)}

def network():
    model = timm.create_model("test_resnet")
    model.__class__ = Beside
    return model
"""
    (validation / "beside_models.py").write_text(code)
    weights = constant(validation / "tench.safetensors").weights
    network = Network("b", "beside_models:network", weights, directory=validation)
    assert measure_heads([network], imagenet_images(validation / "val"), "cpu", "float32")[0].top1 == 0.6


def test_an_interrupted_measurement_continues(validation, monkeypatch):
    monkeypatch.setattr(measure, "SHARD", 2)
    network, images, seen = constant(validation / "tench.safetensors"), imagenet_images(validation / "val"), []

    def interrupt(n):
        seen.append(n)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_heads([network], images, "cpu", "float32", progress=interrupt)
    parts = sorted((measured_folder() / "parts").glob("*/*.npy"))
    assert len(parts) == 2
    np.save(parts[0], np.array([False, False]))  # so that it shows whether they are counted again
    assert measure_heads([network], images, "cpu", "float32")[0].top1 == 0.2
    assert not list((measured_folder() / "parts").iterdir())


def test_without_a_classifier_for_imagenet_a_probe_is_needed(validation):
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), validation / "seven.safetensors")
    network, images = Network("seven", "test_resnet", validation / "seven.safetensors"), imagenet_images(validation / "val")
    with pytest.raises(UserError, match="no classifier for ImageNet's 1,000 classes; with --train"):
        measure_heads([network], images, "cpu")
    code = "import timm\ndef network():\n    return timm.create_model('test_resnet', num_classes=0)\n"
    (validation / "headless_models.py").write_text(code)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), validation / "headless.safetensors")
    headless = Network("h", "headless_models:network", validation / "headless.safetensors", directory=validation)
    with pytest.raises(UserError, match="no classifier.*; with --train"):
        measure_heads([headless], images, "cpu")


def test_a_probe_learns_from_the_training_folder_and_is_scored_on_the_validation_images(validation):
    for label in (0, 7, 999):
        for i in range(4):
            folder = validation / "train" / imagenet_classes()[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (30 * i, 0, 80 * (label > 0))).save(folder / f"{i}.JPEG")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), validation / "seven.safetensors")
    network = Network("seven", "test_resnet", validation / "seven.safetensors")
    images, train = (imagenet_images(validation / name) for name in ("val", "train"))
    measured = measure_probe(network, images, train, "cpu", "float32", l2=np.array([1e-2, 1.0]))
    assert measured.by == "probe" and measured.top1 == 0.6, "all images have class 0's colour"
    (validation / "train" / imagenet_classes()[7]).rename(validation / "train" / imagenet_classes()[8])
    with pytest.raises(UserError, match=f"no training image of {imagenet_classes()[7]}"):
        measure_probe(network, images, imagenet_images(validation / "train"), "cpu")


def test_weights_of_another_number_of_classes_have_one_digest(validation):
    from transfer_study.networks.networks import network_digest

    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), validation / "seven.safetensors")
    network = Network("seven", "test_resnet", validation / "seven.safetensors")
    assert network_digest(build_network(network)) == network_digest(build_network(network))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val" / "dogs").mkdir(), "'dogs' is no WordNet id"),
        (lambda root: (root / "val" / imagenet_classes()[7]).rename(root / "val" / "n00000001"), "n00000001 is not one of"),
    ],
)
def test_folders_that_are_not_imagenet(validation, change, message):
    change(validation)
    with pytest.raises(UserError, match=message):
        imagenet_images(validation / "val")


def test_flat_images_without_labels(validation):
    (validation / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("449\n")
    with pytest.raises(UserError, match="00000002.JPEG has no label"):
        imagenet_images(validation / "flat")
    (validation / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match="not the labels of the ILSVRC 2012 development kit"):
        imagenet_images(validation / "flat")
    with pytest.raises(UserError, match="no such folder"):
        imagenet_images(validation / "absent")


def test_a_study_takes_the_measured_value_and_says_whose_it_is(study_file, all_classes, tmp_path, command):
    "Two networks say nothing of their accuracy, and one of the two is measured after the first run; no run is repeated."
    lines = study_file.read_text().splitlines()
    kept = [line for line in lines if line not in ("source_accuracy = 0.5", "source_accuracy = 0.6")]
    study_file.write_text("\n".join(kept))
    run_ids = [run.run_id for run in Study.from_file(study_file).tasks(tmp_path / "runs", "cpu").runs]
    code, out, err = command("networks", "--measure", all_classes, study_file, "--device", "cpu", "--json")
    assert code == 0, err
    measured = {Path(row["network"]).stem: row["top1"] for row in json.loads(out)}
    study = Study.from_file(study_file)
    plan = study.tasks(tmp_path / "runs", "cpu")
    assert [run.run_id for run in plan.runs] == run_ids
    origins = {network.network.name: network.source_accuracy_from for network in plan.networks}
    assert origins["test_mambaout"] == "stated in the study file"
    assert origins["test_resnet"].startswith("measured on 1,000 images of 1,000 classes")
    results = study.run(tmp_path / "runs", **HERE)
    values = results.drop_duplicates("network").set_index("network")["source_accuracy"]
    assert values["test_mambaout"] == 0.7 and values["test_resnet"] == measured["test_resnet"]
    sections = dict(study_sections(tmp_path / "runs" / "tiny"))
    assert set(sections["Source accuracies"][0]["from"]) == set(origins.values())
    assert merged_results([tmp_path / "runs"], provenance=True)["source_accuracy_from"].notna().all()
    code, _, err = command("plan", study_file, "--out", tmp_path / "runs", "--device", "cpu")
    assert code == 0 and "source accuracy measured on 1,000 images of 1,000 classes" in err
    assert "stated in the study file: test_mambaout 0.7000" in err


def test_the_command_says_what_is_wrong(validation, command):
    for arguments, message in {
        ("resnet50",): "only with --measure",
        ("--measure", str(validation / "val")): "needs the names of networks",
        ("--measure", str(validation / "val"), "resnet5O"): "did you mean .*resnet50",
        ("--measure", str(validation / "val"), "resnet50=absent.pth"): "absent.pth: no such file",
        ("--measure", str(validation / "val"), "resnet5O", "resnet50=absent.pth"): "(?s)did you mean .*absent.pth: no such file",
    }.items():
        code, _, err = command("networks", *arguments)
        assert code == 2 and re.search(message, err), err
