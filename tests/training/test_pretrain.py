"""Source training: each setting does what it says and nothing else, and the weights file is what it claims to be."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open

from tests.conftest import write_images
from tests.training.common import StopsAt, Watch, equal, protocol, trained
from transfer_study.core import UserError, digest
from transfer_study.images.datasets import image_folder
from transfer_study.networks.weights import read_weights
from transfer_study.training.pretrain import (
    pretrain,
    read_pretraining,
    source_folder,
)


@pytest.mark.parametrize("setting, ema_decay", [("default", None), ("all", None), ("label_smoothing", 0.8)])
def test_the_weights_give_the_recorded_accuracy_again(networks, digits, tmp_path, setting, ema_decay):
    "Loaded like any network's, through the package's own extraction of features, and the stored classifier."
    import torch

    from transfer_study.features.extraction import extract_features
    from transfer_study.networks.networks import build_network

    given = protocol(steps=40, batch_size=32, ema_decay=ema_decay)
    result = pretrain(networks["resnet"], digits, given, setting, directory=tmp_path / "run", device="cpu")
    model = build_network(replace(networks["resnet"], weights=result.weights))
    [features] = extract_features([model], digits)
    test = (digits.images["split"] == "test").to_numpy()[features.rows]
    scores = model.fc(torch.from_numpy(np.array(features.X[test]))).detach()
    labels = torch.from_numpy(digits.targets[features.rows[test]])
    assert result.source_accuracy == pytest.approx(float((scores.argmax(1) == labels).double().mean()), abs=1e-12)
    assert result.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)), rel=1e-3)  # plain, unsmoothed
    assert result.source_accuracy > 0.2 and result.source_accuracy == result.history["score"].iloc[-1]


def test_the_file_says_what_it_is(networks, digits, tmp_path):
    given = protocol()
    result = pretrain(networks["small"], digits, given, "dropout", seed=5, directory=tmp_path / "run", device="cpu")
    assert result.weights == tmp_path / "run" / "weights.safetensors"
    with safe_open(result.weights, "np") as file:
        metadata = file.metadata()
    assert metadata == {
        "architecture": "tiny:small", "setting": "dropout", "seed": "5", "dataset": digits.fingerprint, "format": "pt",
        "protocol": digest(given.model_dump()), "source_accuracy": repr(result.source_accuracy),
    }  # fmt: skip
    names = {"weights.safetensors", "specification.json", "result.json", "evaluations.csv"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names and list(tmp_path.iterdir()) == [tmp_path / "run"]

RECIPES = {
    "plain": {},
    "everything": {"ema_decay": 0.9, "mixup": 0.2, "cutmix": 1.0, "randaugment": "rand-m9-mstd0.5", "warmup_steps": 2},
}


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("stop, every", [(5, 2), (6, 3)])  # between evaluations, after the last step
def test_a_killed_training_resumes_to_the_same_weights(networks, digits, tmp_path, recipe, stop, every):
    "With dropout and mixed images, so that every random state matters, and with averages, which a checkpoint has to hold."
    arguments = networks["resnet"], digits, protocol(**RECIPES[recipe]), "all"
    whole = pretrain(*arguments, device="cpu")
    options = {"device": "cpu", "directory": tmp_path / "run", "checkpoint_every": every}
    with pytest.raises(KeyboardInterrupt):
        pretrain(*arguments, **options, callbacks=[StopsAt(stop)])
    assert not (tmp_path / "run").exists() and (tmp_path / ".run.partial" / "checkpoint.pt").is_file()
    steps = []
    resumed = pretrain(*arguments, **options, progress=steps.append)
    stored = {name: tensor.numpy() for name, tensor in read_weights(resumed.weights)[0].items()}
    assert equal(stored, {name: tensor.numpy() for name, tensor in whole.model.state_dict().items()})
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)
    assert sum(steps) == 6 and steps[0] > 1 and not (tmp_path / ".run.partial").exists()


def test_the_seed_decides_and_the_callers_randomness_is_left_alone(networks, digits):
    import torch

    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    given = protocol(**RECIPES["everything"])
    first = trained(networks["resnet"], digits, given, "all", seed=3)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    np.random.seed(2)
    assert equal(first, trained(networks["resnet"], digits, given, "all", seed=3))
    assert not equal(first, trained(networks["resnet"], digits, given, "all", seed=4))

TOGETHER = """
import sys
from pathlib import Path

import torch
from transfer_study.images.drawn import drawn_dataset
from transfer_study.networks.networks import Network
from transfer_study.training.pretrain import PretrainingProtocol, pretrain

torch.set_num_threads(1)
network = Network("together", "tiny:mambaout", directory=Path(sys.argv[1]))
given = PretrainingProtocol(steps=4, batch_size=16, n_evaluations=2, flip=False, ema_decay=0.5)
digits = drawn_dataset("digits", n_train_per_class=8, n_test_per_class=6)
options = {"directory": Path(sys.argv[2]), "device": "cpu", "checkpoint_every": 2}
pretrain(network, digits, given, "auxiliary_head", **options)
print("process", torch.distributed.get_rank(), "of", torch.distributed.get_world_size())
"""


def test_two_processes_train_as_one_does(networks, digits, tmp_path):
    "Without batch norm and dropout, the gradients of two halves of a batch are those of the batch."
    pytest.importorskip("accelerate")
    folder = networks["mambaout"].directory
    (tmp_path / "together.py").write_text(TOGETHER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", tmp_path / "together.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, folder, tmp_path / "run"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"process {rank} of 2" in done.stdout for rank in (0, 1))
    together = read_pretraining(tmp_path / "run")
    given = protocol(steps=4, n_evaluations=2, ema_decay=0.5)
    alone = pretrain(networks["mambaout"], digits, given, "auxiliary_head", device="cpu")
    (stored, _), expected = read_weights(together.weights), alone.model.state_dict()
    assert stored.keys() == expected.keys() and together.details["batch_size"] == 16
    assert all(np.allclose(stored[name].numpy(), expected[name].numpy(), atol=1e-5) for name in stored)
    assert np.allclose(together.history["loss"], alone.history["loss"], rtol=1e-4) and not (tmp_path / ".run.partial").exists()


def test_a_finished_training_is_read(networks, digits, tmp_path):
    first, second = (pretrain(networks["small"], digits, protocol(), directory=tmp_path / "run", device="cpu") for _ in range(2))
    for again in (second, read_pretraining(tmp_path / "run")):
        assert again.model is None and (again.weights, again.seconds) == (first.weights, first.seconds)
        assert again.source_accuracy == first.source_accuracy and np.allclose(again.history, first.history)
    with pytest.raises(UserError, match="setting was 'default' and is now 'dropout'"):
        pretrain(networks["small"], digits, protocol(), "dropout", directory=tmp_path / "run", device="cpu")


def test_all_images_that_are_not_test_train_and_test_images_do_not(networks, tmp_path):
    folder = write_images(tmp_path / "squares", train=6, test=4, val=5)
    dataset, read, phase = image_folder(folder), [], []

    def reader(i):
        read.append(dataset.images.loc[i, "split"])
        return (dataset.root / dataset.images.loc[i, "file"]).read_bytes()

    given = protocol(batch_size=64)
    result = pretrain(networks["small"], replace(dataset, reader=reader), given, device="cpu", callbacks=[Watch(phase.append)])
    assert (result.details["n_train"], result.details["n_scored"]) == (22, 8) and set(read) == {"train", "val", "test"}
    assert phase[0].learn.dls.train.batch_size == 22


def test_imagenet_in_class_folders(tmp_path, networks):
    "Without test/, the official validation images are what accuracy is measured on, and none of them trains."
    folder = write_images(tmp_path / "imagenet", train=6, test=1, val=4)
    for path in (folder / "test").rglob("*.png"):
        path.unlink()
    for path in [*(folder / "test").iterdir(), folder / "test"]:
        path.rmdir()
    dataset = source_folder(folder)
    assert dataset.counts == {"classes": 2, "train": 12, "val": 0, "test": 8} and dataset.name == "imagenet"
    assert (dataset.images["name"].str.startswith("val/") == (dataset.images["split"] == "test")).all()
    result = pretrain(networks["small"], dataset, protocol(batch_size=4), device="cpu")
    assert (result.details["n_train"], result.details["n_scored"]) == (12, 8)
    ordinary = source_folder(write_images(tmp_path / "squares", val=2))
    assert ordinary.counts == image_folder(tmp_path / "squares").counts and ordinary.counts["val"] == 4


@pytest.mark.parametrize("name, setting, changes, words", [
    ("mambaout", "no_batchnorm_scale", {}, "network 'mambaout': no_batchnorm_scale has no effect on MambaOut: it has"),
    ("mambaout", "all", {}, "no batch norm"),
    ("resnet", "labelsmoothing", {}, "did you mean label_smoothing?"),
    ("resnet", "default", {"mixup": 0.2, "batch_size": 15}, "15 is odd; choose an even batch_size"),
    ("resnet", "default", {"randaugment": "rand-m9-z3"}, "expected, for example, rand-m9"),
    ("resnet", "default", {"randaugment": "strong"}, "expected, for example, rand-m9"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(networks, digits, name, setting, changes, words):
    with pytest.raises(UserError) as error:
        pretrain(networks[name], digits, protocol(**changes), setting, device="cpu")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_multilabel_source_is_refused(networks, digits):
    matrix = pd.DataFrame(np.eye(10, dtype=int)[digits.targets], columns=list("abcdefghij"))
    with pytest.raises(UserError, match="is multi-label"):
        pretrain(networks["small"], replace(digits, label_matrix=matrix), protocol(), device="cpu")


def test_a_loss_that_is_no_number_fails_with_its_reason(networks, digits, tmp_path):
    options = {"directory": tmp_path / "run", "device": "cpu"}
    given = protocol(steps=30, learning_rate=10, weight_decay=0.9, warmup_steps=0)
    for _ in range(2):  # trained, then read
        result = pretrain(networks["mambaout"], digits, given, **options)
        assert (result.status, result.source_accuracy, result.weights) == ("failed", None, None)
        assert result.reason.startswith("the loss became")
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert json.loads((tmp_path / "run" / "specification.json").read_text())["learning_rate"] == 10


def test_a_damaged_image_is_named(networks, tmp_path):
    folder = write_images(tmp_path / "squares")
    (folder / "train" / "dim" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match="dim/0.png"):
        pretrain(networks["small"], image_folder(folder), protocol(), device="cpu")
    assert Image.open(folder / "train" / "dim" / "1.png").size == (40, 40)
    result = pretrain(networks["small"], image_folder(folder), protocol(), device="cpu", on_bad_image="skip")
    assert any("could not be decoded" in note for note in result.notes)
