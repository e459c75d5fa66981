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
from tests.training.test_finetune import StopsAt
from transfer_study.core import UserError, digest
from transfer_study.images.datasets import image_folder
from transfer_study.images.drawn import drawn_dataset
from transfer_study.networks.networks import Network, read_weights
from transfer_study.training.pretrain import (
    SETTINGS,
    PretrainingProtocol,
    n_warmup_steps,
    pretrain,
    read_pretraining,
    source_folder,
)

OWN = """
import timm
from torch import nn

def resnet():
    return timm.create_model("test_resnet", num_classes=10, pretrained_cfg_overlay={"input_size": (3, 32, 32), "crop_pct": 0.9})

def mambaout():
    return timm.create_model("test_mambaout", num_classes=10, pretrained_cfg_overlay={"input_size": (3, 32, 32)})

def small():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.Softplus(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10),
    )
    model.pretrained_cfg = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    return model
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    "Three tiny networks of ten classes, for images of 32 pixels."
    folder = tmp_path_factory.mktemp("own")
    (folder / "tiny.py").write_text(OWN)
    return {name: Network(name, f"tiny:{name}", directory=folder) for name in ("resnet", "mambaout", "small")}


@pytest.fixture(scope="module")
def digits():
    return drawn_dataset("digits", n_train_per_class=8, n_test_per_class=6)


def protocol(**changes) -> PretrainingProtocol:
    return PretrainingProtocol(**{"steps": 6, "batch_size": 16, "n_evaluations": 3, "flip": False} | changes)


def trained(network, dataset, given=None, setting="default", **options) -> dict:
    "The weights after a training, by name."
    state = pretrain(network, dataset, given or protocol(), setting, device="cpu", **options).model.state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def first_loss(*arguments) -> float:
    return pretrain(*arguments, device="cpu").history["train_loss"].iloc[0]


class Watch:
    "A callback of fastai's that gives itself to `look` after each loss in training."

    def __new__(cls, look):
        from fastai.callback.core import Callback

        class Looks(Callback):
            order, run_valid = 100, False

            def after_loss(self):
                look(self)

        return Looks()


# ---------------------------------------------------------------- each setting


def test_the_settings_are_the_papers():
    assert list(SETTINGS) == ["default", "label_smoothing", "dropout", "auxiliary_head", "no_batchnorm_scale", "all"]
    assert SETTINGS["default"] == () and set(SETTINGS["all"]) == set(list(SETTINGS)[1:5])
    recipe = PretrainingProtocol()
    assert (recipe.label_smoothing, recipe.dropout, recipe.auxiliary_weight) == (0.1, 0.2, 0.4)


def test_a_setting_changes_what_it_names_and_nothing_else(networks, digits):
    "The amounts of changes that a setting does not name play no part."
    amounts, short = {"label_smoothing": 0.5, "dropout": 0.7, "auxiliary_weight": 3.0}, {"steps": 2, "n_evaluations": 1}

    def weights(setting, **changes):
        return trained(networks["small"], digits, protocol(**short, **changes), setting)

    plain = weights("default")
    assert equal(plain, weights("default", **amounts))
    for key, setting in zip(amounts, ("label_smoothing", "dropout", "auxiliary_head"), strict=True):
        changed = weights(setting)
        assert not equal(plain, changed) and not equal(changed, weights(setting, **{key: amounts[key]})), setting
    assert not equal(plain, weights("no_batchnorm_scale"))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_scales_of_batch_norm_stay_exactly_one(networks, digits, tmp_path, ema_decay):
    import torch

    given = protocol(learning_rate=0.5, weight_decay=0.1, ema_decay=ema_decay)
    result = pretrain(networks["resnet"], digits, given, "no_batchnorm_scale", directory=tmp_path / "run", device="cpu")
    norms = [name for name, module in result.model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    stored = read_weights(result.weights)
    assert len(norms) > 5 and all((stored[f"{name}.weight"] == 1).all() for name in norms)
    assert all((stored[f"{name}.bias"] != 0).any() for name in norms)  # only the scale is fixed
    free = trained(networks["resnet"], digits, given)
    assert any((free[f"{name}.weight"] != 1).any() for name in norms)


def test_a_smoothed_loss_is_the_one_computed_by_hand(networks, digits):
    seen = []
    watch = Watch(lambda callback: seen.append((callback.pred.detach().double().numpy(), callback.y.numpy())))
    result = pretrain(networks["resnet"], digits, protocol(steps=1), "label_smoothing", device="cpu", callbacks=[watch])
    [(scores, labels)] = seen
    log_probability = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = np.full(scores.shape, 0.1 / 10)
    target[np.arange(len(labels)), labels] += 0.9
    assert result.history["train_loss"].iloc[0] == pytest.approx(-(target * log_probability).sum(axis=1).mean(), rel=1e-5)


def test_the_auxiliary_loss_counts_as_weighted(networks, digits):
    "0.4 by default; its value is that of ten classes about which nothing is known yet."
    given = {weight: protocol(steps=1, auxiliary_weight=weight) for weight in (0.0, 0.2)}
    losses = {weight: first_loss(networks["small"], digits, given[weight], "auxiliary_head") for weight in given}
    auxiliary = (losses[0.2] - losses[0.0]) / 0.2
    assert auxiliary == pytest.approx(np.log(10), rel=0.1)
    assert first_loss(networks["small"], digits, protocol(steps=1)) == pytest.approx(losses[0.0], rel=1e-6)
    by_default = first_loss(networks["small"], digits, protocol(steps=1), "auxiliary_head")
    assert by_default == pytest.approx(losses[0.0] + 0.4 * auxiliary, rel=1e-5)


def test_the_auxiliary_head_trains_and_is_not_stored(networks, digits, tmp_path):
    seen = []
    watch = Watch(lambda callback: seen.append(callback.model.auxiliary_head[0].weight.detach().clone().numpy()))
    options = {"directory": tmp_path / "run", "device": "cpu", "callbacks": [watch]}
    result = pretrain(networks["resnet"], digits, protocol(), "auxiliary_head", **options)
    assert len(seen) == 6 and (seen[0] != seen[-1]).any()
    assert set(read_weights(result.weights)) == set(trained(networks["resnet"], digits))


def test_dropout_is_before_the_classifier_and_in_training_only(networks):
    "Softplus is never 0, so that what is 0 was dropped. The network's own dropout of 0.5 is off."
    import torch

    from transfer_study.networks.architectures import build_architecture
    from transfer_study.training.settings import apply_changes

    def features(changes, training):
        torch.manual_seed(0)
        model = apply_changes(build_architecture("tiny:small", networks["small"].directory), changes, 10, 0.2).train(training)
        model[-1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        seen = []
        model(torch.ones(200, 3, 32, 32) + torch.arange(200).view(-1, 1, 1, 1))
        return seen[0]

    without, dropped = features((), True), features(("dropout",), True)
    assert (without != 0).all() and float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.015)
    assert torch.allclose(dropped[dropped != 0], without[dropped != 0] / 0.8)
    assert torch.equal(features((), False), features(("dropout",), False))


def test_all_settings_work_on_networks_of_every_library():
    import torch

    from transfer_study.networks.architectures import build_architecture
    from transfer_study.training.settings import apply_changes, plain_weights

    for name in ("mobilenetv2_100", "efficientnet_b0", "torchvision:resnet18", "torchvision:googlenet", "pytorchcv:resnet10"):
        model = build_architecture(name)
        before = set(model.state_dict())
        model = apply_changes(model, SETTINGS["all"], 1000, 0.2).train()
        model(torch.randn(2, 3, 224, 224))
        assert model.auxiliary_head.taken().shape == (2, 1000), name
        assert set(plain_weights(model)) == before


# ---------------------------------------------------------------- the weights file


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
    assert result.source_accuracy > 0.3 and result.source_accuracy == result.history["score"].iloc[-1]


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


# ---------------------------------------------------------------- seeds, resuming, what is there already


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
    stored = {name: tensor.numpy() for name, tensor in read_weights(resumed.weights).items()}
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
    stored, expected = read_weights(together.weights), alone.model.state_dict()
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


# ---------------------------------------------------------------- the recipe


def test_warm_up_and_cosine(networks, digits):
    given = protocol(steps=12, warmup_steps=4, n_evaluations=12, learning_rate=0.4)
    history = pretrain(networks["small"], digits, given, device="cpu").history
    expected = [0.1, 0.2, 0.3, 0.4, *(0.2 * (1 + np.cos(np.pi * np.arange(8) / 8)))]
    rates = dict(zip(history["step"], history["learning_rate"], strict=True))
    assert rates == pytest.approx({step: expected[step - 1] for step in rates})


def test_weight_decay_is_the_factor_in_the_loss(networks, digits):
    "One step of plain SGD: the weight shrinks by learning rate times weight decay, and batch norm does not."
    kept, decayed = (
        trained(networks["small"], digits, protocol(steps=1, momentum=0, learning_rate=0.01, warmup_steps=0, weight_decay=decay))
        for decay in (0.0, 0.5)
    )
    start = trained(networks["small"], digits, protocol(steps=1, momentum=0, learning_rate=1e-12, warmup_steps=0, weight_decay=0))
    assert np.allclose(kept["3.weight"] - decayed["3.weight"], 0.01 * 0.5 * start["3.weight"], atol=1e-7)
    assert np.array_equal(kept["1.weight"], decayed["1.weight"]) and np.array_equal(kept["4.bias"], decayed["4.bias"])


def test_averaged_weights_are_evaluated_and_kept(networks, digits):
    "The last weight is timm's average of those after each step, computed here by hand."
    weights = []

    def after_step(callback):
        weights.append(callback.model[-1].weight.detach().clone().double().numpy())  # before the step that follows

    given = protocol(steps=5, ema_decay=0.6, n_evaluations=1)
    averaged = trained(networks["small"], digits, given, callbacks=[Watch(after_step)])["9.weight"]
    last = trained(networks["small"], digits, given.model_copy(update={"ema_decay": None}))["9.weight"]
    average = weights[0]
    for step, weight in enumerate([*weights[1:], last], 1):
        decay = 0.0 if step <= 1 else min(0.6, 1 - step ** (-2 / 3))
        average = decay * average + (1 - decay) * weight
    assert np.allclose(averaged, average, atol=1e-6) and not np.allclose(averaged, last, atol=1e-4)


def test_mixed_targets_sum_to_one(networks, digits):
    seen = []
    given = protocol(mixup=0.8, cutmix=1.0)
    pretrain(networks["small"], digits, given, device="cpu", callbacks=[Watch(lambda callback: seen.append(callback.y.numpy()))])
    targets = np.stack(seen)
    assert targets.shape == (6, 16, 10) and np.allclose(targets.sum(axis=2), 1) and ((targets > 0) & (targets < 1)).any()


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


# ---------------------------------------------------------------- sources, and what is refused


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
    ("mambaout", "no_batchnorm_scale", {}, "network 'mambaout': no_batchnorm_scale does nothing for MambaOut: it has"),
    ("mambaout", "all", {}, "no batch norm"),
    ("resnet", "labelsmoothing", {}, "did you mean label_smoothing?"),
    ("resnet", "default", {"mixup": 0.2, "batch_size": 15}, "15 are odd; take an even batch_size"),
    ("resnet", "default", {"randaugment": "rand-m9-z3"}, "expected such as rand-m9"),
    ("resnet", "default", {"randaugment": "strong"}, "expected such as rand-m9"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(networks, digits, name, setting, changes, words):
    with pytest.raises(UserError) as error:
        pretrain(networks[name], digits, protocol(**changes), setting, device="cpu")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_no_auxiliary_head_where_nothing_is_halved(digits):
    with pytest.raises(UserError, match="network 'vit': auxiliary_head needs a feature map .* leave this setting out"):
        pretrain(Network("vit", "test_vit"), digits, protocol(), "auxiliary_head", device="cpu")


def test_a_multilabel_source_is_refused(networks, digits):
    matrix = pd.DataFrame(np.eye(10, dtype=int)[digits.targets], columns=list("abcdefghij"))
    with pytest.raises(UserError, match="several classes"):
        pretrain(networks["small"], replace(digits, label_matrix=matrix), protocol(), device="cpu")


def test_warm_up_has_to_end():
    with pytest.raises(ValueError, match="warmup_steps 10 leaves nothing of 10 steps"):
        PretrainingProtocol(steps=10, warmup_steps=10)
    assert [n_warmup_steps(PretrainingProtocol(steps=steps)) for steps in (1, 450_000)] == [0, 25_000]


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
