"""The optimisation against PyTorch alone, precision, clipping, and which images train."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_images
from tests.training.common import SIDE, network, weights_of
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.networks.networks import Network
from transfer_study.networks.penultimate import input_configuration
from transfer_study.training.finetune import train_point
from transfer_study.training.protocol import (
    training_protocol,
)


@pytest.mark.parametrize("decay_normalization", [True, False])
def test_the_steps_are_pytorchs(squares, decay_normalization):
    "The same crops through a loop without fastai give the same weights: schedule, momentum, weight decay and its exceptions."
    import torch

    from transfer_study.training.batches import cut_crops, training_batch
    from transfer_study.training.learner import build_model, stage_images

    changes = {"channels_last": False, "decay_normalization": decay_normalization}
    protocol = training_protocol("scratch", steps=5, batch_size=8, n_evaluations=2, **changes)
    rate, weight_decay = 0.02, 1e-2
    ours = train_point(network(), squares, protocol, rate, weight_decay, seed=3, device="cpu")
    with torch.random.fork_rng():
        model = build_model(network(), 2, seed=3).train()
    configuration = input_configuration(model)
    mean, std = (torch.tensor(configuration[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    batches = stage_images(squares, configuration, protocol, seed=3).training_batches(8, [5], seed=3)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = min(10 / (len(batches.positions) / 8), 0.1)
    spared = {id(parameter) for norm in norms for parameter in norm.parameters() if not decay_normalization}
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = rate * (1 + np.cos(np.pi * step / 5)) / 2
        [(images, maps, targets)] = training_batch(batches, step)
        loss = torch.nn.functional.cross_entropy(model((cut_crops(images, maps, SIDE).contiguous() / 255 - mean) / std), targets)
        penalty = sum((p**2).sum() for p in model.parameters() if id(p) not in spared)
        optimizer.zero_grad()
        (loss + weight_decay / rate / 2 * penalty).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        assert np.allclose(weights_of(ours)[name], tensor.numpy(), atol=2e-5, rtol=1e-4), name


def test_a_subset_is_the_one_that_fixed_features_see(squares):
    "Rows by the rule of few_shot over the images that can be decoded; smaller subsets inside larger ones."
    from transfer_study.images.splits import split_images, training_subset
    from transfer_study.training.learner import stage_rows

    split = split_images(squares, seed=3)
    expected = training_subset(squares.targets, split, 5, seed=3)
    training, scored = stage_rows(squares, 3, "select", n_train_per_class=5)
    assert np.array_equal(training, np.flatnonzero(expected == "train"))
    assert np.array_equal(scored, np.flatnonzero(expected == "val"))
    refit, test = stage_rows(squares, 3, "refit", n_train_per_class=5)
    assert set(refit) == {*training, *scored} and np.array_equal(test, np.flatnonzero(squares.images["split"] == "test"))
    fewer, other = (set(stage_rows(squares, seed, "refit", n_train_per_class=n)[0]) for seed, n in ((3, 2), (4, 5)))
    assert fewer < set(refit) != other
    usable = np.setdiff1d(np.arange(len(split)), refit[:1])
    without = training_subset(squares.targets[usable], split[usable], 5, seed=3)
    again, _ = stage_rows(squares, 3, "refit", n_train_per_class=5, undecodable=refit[:1])
    assert np.array_equal(again, usable[np.isin(without, ("train", "val"))]) and refit[0] not in again


def test_training_on_few_images_a_class(squares, short, tmp_path):
    result = train_point(network(), squares, short, 0.05, 0, n_train_per_class=5, directory=tmp_path / "run", device="cpu")
    assert (result.details["n_train"], result.details["n_scored"], result.details["n_train_per_class"]) == (8, 2, 5)
    with pytest.raises(UserError, match="n_train_per_class was 5 and is now None"):
        train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    options = {"n_train_per_class": 3, "device": "cpu"}
    stages = [train_point(network(), squares, short, 0.05, 0, stage=stage, **options) for stage in ("select", "refit")]
    assert [result.details["n_train"] for result in stages] == [4, 6]
    with pytest.raises(UserError, match="class 0 has only 12 images"):
        train_point(network(), squares, short, 0.05, 0, n_train_per_class=13, device="cpu")
    with pytest.raises(UserError, match="no image left to score in the stage 'select' with n_train_per_class 1"):
        train_point(network(), squares, short, 0.05, 0, n_train_per_class=1, device="cpu")
    labels = pd.DataFrame({"dim": squares.targets == 0, "bright": squares.targets == 1}).astype(int)
    several = replace(squares, label_matrix=labels, metric="map_11_point")
    with pytest.raises(UserError, match="an image shows several classes"):
        train_point(network(), several, short, 0.05, 0, n_train_per_class=3, device="cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_where_it_should_be(squares, short, precision):
    import torch

    seen = []

    def watched():
        model = network()()
        model.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        return model

    result = train_point(watched, squares, short.model_copy(update={"precision": precision}), 0.05, 0, device="cpu")
    assert set(seen) == {getattr(torch, precision)} and result.details["precision"] == precision
    assert {tensor.dtype for tensor in result.model.parameters()} == {torch.float32}
    assert "forward" not in vars(result.model)


def test_gradients_are_clipped_when_asked(squares):
    "One step from the same weights: the clipped one is as long as the learning rate times the limit allows."
    protocol = training_protocol("scratch", steps=1, batch_size=8, momentum=0.0)
    start = weights_of(train_point(network(), squares, protocol, 1e-9, 0, device="cpu"))

    def length(result):
        moved = {
            name: tensor for name, tensor in weights_of(result).items() if "running" not in name and "num_batches" not in name
        }
        return np.sqrt(sum(((tensor - start[name]) ** 2).sum() for name, tensor in moved.items()))

    free = length(train_point(network(), squares, protocol, 1.0, 0, device="cpu"))
    clipped = length(train_point(network(), squares, protocol.model_copy(update={"gradient_clip": 0.1}), 1.0, 0, device="cpu"))
    assert free > 0.2 and clipped == pytest.approx(0.1, rel=0.01)


def test_official_validation_images_are_used(tmp_path, short):
    dataset = image_folder(write_images(tmp_path / "squares", train=8, test=4, val=5))
    result = train_point(network(), dataset, short, 0.05, 0, device="cpu")
    assert (result.details["n_train"], result.details["n_scored"]) == (16, 10)
    assert all(name.startswith("val/") for name in result.predictions["image"])


def test_pretrained_weights_are_kept_but_the_classifier(squares, short, weights):
    import torch
    from safetensors.torch import load_file

    from transfer_study.training.learner import build_model

    entry = Network("test_resnet", "test_resnet", weights / "test_resnet.safetensors")
    with torch.random.fork_rng():
        model = build_model(entry, 2)
    stored = load_file(entry.weights)
    same = {
        name
        for name, tensor in model.state_dict().items()
        if torch.equal(stored[name], tensor)
        if stored[name].shape == tensor.shape
    }
    assert set(stored) - same == {"fc.weight", "fc.bias"}


def freeze_all_but_the_head(model):
    model.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    return model


@pytest.mark.parametrize(
    "prepare",
    [
        lambda m: m.requires_grad_(False),
        freeze_all_but_the_head,
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.double(),
    ],
)
def test_frozen_networks_and_those_of_another_precision_are_trained_as_a_whole(squares, prepare):
    "The same result as of the network with these weights in float32; the network that was given is not changed."
    import copy

    import torch

    protocol = training_protocol("finetune", steps=6, batch_size=8, n_evaluations=2)
    given = prepare(network()())
    before = copy.deepcopy(given)
    plain = network()()
    plain.load_state_dict(given.state_dict())
    results = [train_point(model, squares, protocol, 0.1, 1e-6, device="cpu") for model in (given, plain)]
    first, second = (result.model.state_dict() for result in results)
    assert results[0].loss == results[1].loss and all(torch.equal(first[name], tensor) for name, tensor in second.items())
    assert all(
        a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(a, b)
        for a, b in zip(given.parameters(), before.parameters(), strict=True)
    )


def test_all_tensors_are_trained_and_what_a_library_fixes_in_a_tower_stays_fixed():
    import torch

    from transfer_study.networks.towers import as_network
    from transfer_study.training.learner import trainable_network

    frozen = trainable_network(network()().requires_grad_(False).double())
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in frozen.parameters())
    tower = as_network(torch.nn.Linear(3, 2).requires_grad_(False).half(), lambda tower, images: tower(images), 2, {})
    assert not any(parameter.requires_grad for parameter in trainable_network(tower).parameters())
    assert all(parameter.dtype == torch.float32 for parameter in tower.parameters())
