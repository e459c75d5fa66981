"""Trainings: the rules against independent computations, resuming, seeds, failures, and what is refused."""

import json
import resource
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import pack, write_images
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.networks.networks import Network
from transfer_study.training.finetune import _train_grid, fine_tune, point_name, train_point
from transfer_study.training.protocol import (
    evaluation_steps,
    hyperparameter_grid,
    steps_to_90_percent_of_maximum_odds,
    training_protocol,
)
from transfer_study.training.result import read_training, results_table, select

SIDE = 32


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(name="test_resnet", **options):
    "A function that builds a tiny network with random weights."
    import timm

    return partial(timm.create_model, name, pretrained_cfg_overlay={"input_size": (3, SIDE, SIDE)}, **options)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return image_folder(write_images(tmp_path_factory.mktemp("squares") / "squares", train=12, test=6))


@pytest.fixture
def short():
    return training_protocol("scratch", steps=6, batch_size=8, n_evaluations=3)


def weights_of(result) -> dict:
    return {name: tensor.numpy() for name, tensor in result.model.state_dict().items()}


def equal_weights(first, second) -> bool:
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------- the protocol


def test_defaults_are_the_protocol_page():
    finetune, scratch = training_protocol("finetune"), training_protocol("scratch")
    assert (finetune.steps, finetune.batch_size, finetune.momentum, scratch.steps) == (20_000, 256, 0.9, 40_000)
    grid = hyperparameter_grid(finetune)
    assert np.allclose(sorted(grid["learning_rate"].unique()), 10.0 ** np.arange(-4, -0.9, 0.5))
    assert np.allclose(sorted(grid["weight_decay"].unique()), [0, *10.0 ** np.arange(-6, -2.9, 0.5)])
    grid = hyperparameter_grid(scratch)
    assert np.allclose(sorted(grid["learning_rate"].unique()), 10.0 ** np.arange(-3, 0.1, 0.5))
    assert np.allclose(sorted(grid["weight_decay"].unique()), 10.0 ** np.arange(-5, -1.4, 0.5))
    assert len({point_name(*point) for point in grid.itertuples(index=False)}) == 56


@pytest.mark.parametrize("changes, words", [
    ({"learning_rate_max": 0}, "learning_rate_max = 0: expected number above 0"),
    ({"weight_decay_max": 1.5}, "weight_decay_max = 1.5"),
    ({"weight_decay_min": 0.01}, "weight_decay_min 0.01 is above weight_decay_max 0.001"),
    ({"step": 3}, "did you mean steps?"),
    ({"precision": "float16"}, "precision = \"float16\""),
    ({"n_weight_decays": 0, "no_weight_decay": False}, "empty grid"),
])  # fmt: skip
def test_a_key_out_of_range_is_named(changes, words):
    with pytest.raises(UserError) as error:
        training_protocol("finetune", **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "rate, decay, words",
    [(0, 0, "learning rate 0"), (float("nan"), 0, "learning rate nan"), (0.1, -1, "weight decay -1"), (0.1, 1, "weight decay 1")],
)
def test_a_grid_point_out_of_range_is_refused(squares, short, rate, decay, words):
    with pytest.raises(UserError, match=words):
        train_point(network(), squares, short, rate, decay, device="cpu")


def test_evaluations_are_even_on_a_log_scale():
    steps = evaluation_steps(20_000, 20)
    gaps = np.diff(np.log(steps[steps > 20]))
    assert np.ptp(gaps) < 0.05 and steps[0] == 1 and steps[-1] == 20_000
    assert evaluation_steps(50, 1).tolist() == [50]


def test_odds_by_hand():
    history = pd.DataFrame({"step": [1, 2, 4, 8], "score": [0.2, 0.6, 0.58, 0.5]})  # odds 0.25, 1.5, 1.38, 1
    assert steps_to_90_percent_of_maximum_odds(history) == 2
    assert steps_to_90_percent_of_maximum_odds(history.assign(score=[0.5, 0.59, 0.6, 0.5])) == 2  # 1.44 ≥ 0.9 × 1.5
    assert steps_to_90_percent_of_maximum_odds(history[::-1].assign(score=[0.5, 0.6, 0.58, 0.2])) == 2  # in any order


# ---------------------------------------------------------------- the optimisation, against PyTorch alone


@pytest.mark.parametrize("decay_normalization", [True, False])
def test_the_steps_are_pytorchs(squares, decay_normalization):
    "The same crops through a loop without fastai give the same weights: schedule, momentum, weight decay and its exceptions."
    import torch

    from transfer_study.training.batches import cut_crops, training_batch
    from transfer_study.training.learner import build_model, input_configuration, stage_images

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


def test_a_multilabel_loss_ignores_difficult_entries():
    import torch
    from sklearn.metrics import log_loss

    from transfer_study.training.callbacks import multilabel_loss

    random = np.random.default_rng(0)
    scores, targets = random.normal(size=(9, 4)), random.integers(-1, 2, (9, 4))
    counted = targets >= 0
    expected = log_loss(targets[counted], 1 / (1 + np.exp(-scores[counted])))
    assert float(multilabel_loss(torch.tensor(scores), torch.tensor(targets))) == pytest.approx(expected)


def test_multilabel_training(squares):
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    label = squares.images["label"].to_numpy()
    matrix = pd.DataFrame({"dim": label == 0, "bright": label == 1, "any": random.random(len(label)) < 0.5}).astype(int)
    matrix.loc[random.random(len(label)) < 0.2, "any"] = -1
    dataset = replace(squares, label_matrix=matrix, metric="map_11_point")
    result = train_point(
        network(), dataset, training_protocol("scratch", steps=4, batch_size=8, n_evaluations=2), 0.05, 0, device="cpu"
    )
    assert result.predictions["score"].shape == result.predictions["y_true"].shape == (result.details["n_scored"], 3)
    assert result.status == "finished" and 0 < result.score <= 1
    exact = [average_precision_score(result.predictions["y_true"][:, k], result.predictions["score"][:, k]) for k in (0, 1)]
    assert abs(np.mean(exact) - result.score) < 0.4  # the same rankings; 11 points are coarse


# ---------------------------------------------------------------- seeds and resuming


def test_the_same_seed_gives_the_same_to_the_bit(squares, short):
    import torch

    torch.manual_seed(7)
    first = train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=1, device="cpu")
    torch.manual_seed(8)
    before = torch.get_rng_state()
    second = train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=1, device="cpu")
    assert equal_weights(first, second) and first.history.equals(second.history)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's own draws go on undisturbed
    assert not equal_weights(first, train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=2, device="cpu"))


class StopsAt:
    "A callback that ends the process's training as a kill would, between two steps."

    def __new__(cls, step):
        from fastai.callback.core import Callback

        class Stop(Callback):
            order = 100

            def after_batch(self):
                if self.training and self.train_iter == step:
                    raise KeyboardInterrupt("killed")

        return Stop()


@pytest.mark.parametrize("stop, every", [(5, 2), (4, 1), (6, 3)])  # between evaluations, at one, after the last step
def test_a_killed_training_resumes_to_the_same_weights(squares, short, tmp_path, stop, every):
    "With dropout, so that the random state matters, and momentum, so that the optimiser's does."
    arguments = (network(drop_rate=0.3), squares, short, 0.05, 1e-3)
    whole = train_point(*arguments, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, device="cpu", directory=tmp_path / "run", checkpoint_every=every, callbacks=[StopsAt(stop)])
    assert not (tmp_path / "run").exists() and (tmp_path / ".run.partial" / "checkpoint.pt").is_file()
    resumed = train_point(*arguments, device="cpu", directory=tmp_path / "run", checkpoint_every=every)
    assert equal_weights(whole, resumed) and resumed.score == whole.score
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)
    assert not (tmp_path / ".run.partial").exists()


def test_a_training_killed_after_its_last_step_lacks_nothing(squares, short, tmp_path):
    "Killed between the last checkpoint and the writing of the result."
    from fastai.callback.core import Callback

    class Stop(Callback):
        order = 100

        def after_fit(self):
            raise KeyboardInterrupt("killed")

    arguments, options = (network(), squares, short, 0.05, 1e-3), {"device": "cpu", "checkpoint_every": 3}
    whole = train_point(*arguments, **options)
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, directory=tmp_path / "run", callbacks=[Stop()], **options)
    resumed = train_point(*arguments, directory=tmp_path / "run", **options)
    assert equal_weights(whole, resumed) and np.array_equal(whole.predictions["y_pred"], resumed.predictions["y_pred"])
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)


def test_a_finished_training_is_read_not_repeated(squares, short, tmp_path):
    first = train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    second = train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    assert second.model is None and second.seconds == first.seconds and second.score == first.score
    assert second.history["score"].tolist() == first.history["score"].tolist()
    assert all(np.array_equal(first.predictions[name], second.predictions[name]) for name in ("y_true", "y_pred", "image"))
    predicted = second.predictions
    assert second.score == (predicted["y_true"] == predicted["y_pred"]).mean()


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_configuration_is_refused_by_name(squares, short, tmp_path, finished):
    callbacks = [] if finished else [StopsAt(5)]
    try:
        train_point(
            network(), squares, short, 0.05, 0, directory=tmp_path / "run", checkpoint_every=2, device="cpu", callbacks=callbacks
        )
    except KeyboardInterrupt:
        assert not finished
    changed = short.model_copy(update={"momentum": 0.8})
    with pytest.raises(UserError, match="momentum was 0.9 and is now 0.8"):
        train_point(network(), squares, changed, 0.05, 0, directory=tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match="network was '.*' and is now"):
        train_point(network("test_efficientnet"), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")


def full_disk_at(step, size):
    "A callback from whose step on the operating system refuses to write more than `size` bytes into a file."
    from fastai.callback.core import Callback

    class Full(Callback):
        def after_batch(self):
            if self.training and self.train_iter == step:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return Full()


@pytest.fixture
def room_again():
    "What a test took away of the room for files comes back."
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("step, size, words", [
    (4, 10_000, "checkpoint .*could not be written .*the one before it is intact"),
    (5, 100, "the result could not be written .*start again to go on from there"),
])  # fmt: skip
def test_a_full_disk_leaves_the_checkpoint_before(squares, short, tmp_path, room_again, step, size, words):
    "In the middle of a checkpoint, and when the result is written."
    arguments, options = (network(), squares, short, 0.05, 0), {"directory": tmp_path / "run", "device": "cpu"}
    every = 2 if step == 4 else 4
    with pytest.raises(UserError, match=words):
        train_point(*arguments, **options, checkpoint_every=every, callbacks=[full_disk_at(step, size)])
    room_again()
    assert [path.name for path in tmp_path.iterdir()] == [".run.partial"]
    assert [path.name for path in (tmp_path / ".run.partial").iterdir()] == ["checkpoint.pt"]
    resumed = train_point(*arguments, **options)
    assert equal_weights(resumed, train_point(*arguments, device="cpu"))


# ---------------------------------------------------------------- few images a class


def test_a_subset_is_the_one_that_fixed_features_see(squares):
    "Rows by the rule of few_shot over the images that can be decoded; smaller subsets inside larger ones."
    from transfer_study.images.datasets import split_images, training_subset
    from transfer_study.training.learner import stage_rows

    protocol, split = training_protocol("scratch"), split_images(squares, seed=3)
    expected = training_subset(squares.targets, split, 5, seed=3)
    training, scored = stage_rows(squares, protocol, 3, "select", 5)
    assert np.array_equal(training, np.flatnonzero(expected == "train"))
    assert np.array_equal(scored, np.flatnonzero(expected == "val"))
    refit, test = stage_rows(squares, protocol, 3, "refit", 5)
    assert set(refit) == {*training, *scored} and np.array_equal(test, np.flatnonzero(squares.images["split"] == "test"))
    fewer, other = (set(stage_rows(squares, protocol, seed, "refit", n)[0]) for seed, n in ((3, 2), (4, 5)))
    assert fewer < set(refit) != other
    usable = np.setdiff1d(np.arange(len(split)), refit[:1])
    without = training_subset(squares.targets[usable], split[usable], 5, seed=3)
    again, _ = stage_rows(squares, protocol, 3, "refit", 5, undecodable=refit[:1])
    assert np.array_equal(again, usable[np.isin(without, ("train", "val"))]) and refit[0] not in again


def test_training_on_few_images_a_class(squares, short, tmp_path):
    result = train_point(network(), squares, short, 0.05, 0, n_train_per_class=5, directory=tmp_path / "run", device="cpu")
    assert (result.details["n_train"], result.details["n_scored"], result.details["n_train_per_class"]) == (8, 2, 5)
    with pytest.raises(UserError, match="n_train_per_class was 5 and is now None"):
        train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    one_point = short.model_copy(update={"n_learning_rates": 1, "n_weight_decays": 1})
    tuned = fine_tune(network(), squares, one_point, n_train_per_class=3, device="cpu")
    assert tuned.final.details["n_train"] == 6 and tuned.selected.details["n_train"] == 4
    with pytest.raises(UserError, match="class 0 has only 12 images"):
        train_point(network(), squares, short, 0.05, 0, n_train_per_class=13, device="cpu")
    with pytest.raises(UserError, match="no image left to score in the stage 'select' with n_train_per_class 1"):
        train_point(network(), squares, short, 0.05, 0, n_train_per_class=1, device="cpu")
    labels = pd.DataFrame({"dim": squares.targets == 0, "bright": squares.targets == 1}).astype(int)
    several = replace(squares, label_matrix=labels, metric="map_11_point")
    with pytest.raises(UserError, match="an image shows several classes"):
        train_point(network(), several, short, 0.05, 0, n_train_per_class=3, device="cpu")


# ---------------------------------------------------------------- memory, precision, failures


def limited(n):
    "A network whose device has memory for `n` training images."
    import torch

    class Limited(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.pretrained_cfg, self.largest = network()(), {"input_size": (3, SIDE, SIDE)}, 0

        def reset_classifier(self, n_classes):
            self.inner.reset_classifier(n_classes)

        def get_classifier(self):
            return self.inner.get_classifier()

        def forward(self, x):
            if len(x) > n:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(x)

    return Limited


def test_out_of_memory_splits_the_batch_and_says_so(squares, short):
    result = train_point(limited(2), squares, short, 0.05, 0, device="cpu")
    assert result.status == "finished" and result.details["n_parts"] == 4 and result.details["batch_size"] == 8
    assert result.notes[-1] == "out of memory: each batch of 8 in 4 parts, whose gradients are added up"
    assert result.history["step"].tolist() == evaluation_steps(6, 3).tolist()
    with pytest.raises(UserError, match="not even a batch of one image"):
        train_point(limited(0), squares, short, 0.05, 0, device="cpu")


def test_a_split_batch_is_still_on_record_after_an_interruption(squares, short, tmp_path):
    arguments, options = (limited(4), squares, short, 0.05, 0), {"directory": tmp_path / "run", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, **options, checkpoint_every=1, callbacks=[StopsAt(7)])  # in the middle of step 4
    resumed = train_point(*arguments, **options)
    assert resumed.notes == train_point(*arguments, device="cpu").notes and "8 in 2 parts" in resumed.notes[0]
    assert equal_weights(resumed, train_point(*arguments, device="cpu"))


def test_parts_of_a_batch_give_the_gradient_of_the_batch(squares):
    "Without batch norm, which sees parts, four parts train as the whole does."
    protocol = training_protocol("scratch", steps=4, batch_size=8, n_evaluations=2)

    def run(memory):
        def build():
            model = limited(memory)()
            model.inner = network("test_mambaout")()
            return model

        return train_point(build, squares, protocol, 0.01, 1e-3, device="cpu")

    whole, parts = run(100), run(2)
    assert parts.details["n_parts"] == 4
    for name, tensor in weights_of(whole).items():
        assert np.allclose(weights_of(parts)[name], tensor, atol=1e-5), name


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


@pytest.mark.parametrize("n_parts", [1, 2])
def test_the_step_at_which_the_loss_is_no_number_is_named(squares, short, n_parts):
    def explodes():
        model, seen = limited(8 // n_parts)(), []

        def from_the_third_step(module, inputs, output):
            seen.extend([1] * len(output) if module.training else [])
            return output * float("inf") if len(seen) > 2 * 8 else output

        model.register_forward_hook(from_the_third_step)
        return model

    failed = train_point(explodes, squares, short, 0.05, 0, device="cpu")
    assert failed.status == "failed" and failed.reason in ("the loss became nan at step 3", "the loss became inf at step 3")
    assert failed.history["step"].tolist() == [1, 2] and failed.details["n_parts"] == n_parts


def test_a_loss_that_is_no_number_fails_one_training_only(squares, tmp_path):
    protocol = training_protocol(
        "scratch", steps=8, batch_size=8, n_evaluations=2, n_learning_rates=2, learning_rate_max=10.0,
        n_weight_decays=0, no_weight_decay=True,
    )  # fmt: skip
    tuned = fine_tune(network("test_mambaout"), squares, protocol, directory=tmp_path, device="cpu")
    assert [result.status for result in tuned.grid] == ["finished", "failed"]
    assert tuned.grid[1].reason.startswith("the loss became") and tuned.grid[1].score is None
    assert tuned.selected.learning_rate == 1e-3 and tuned.final.status == "finished"
    failed = read_training(tmp_path / point_name(10.0, 0.0))
    assert failed.status == "failed" and failed.reason == tuned.grid[1].reason
    with pytest.raises(UserError, match="none of 1 grid points finished; the first: the loss became"):
        select([failed])
    assert "nan" in results_table(tuned.grid)["reason"][1] or "inf" in results_table(tuned.grid)["reason"][1]


# ---------------------------------------------------------------- the whole procedure


def test_the_test_images_are_seen_once_and_only_at_the_end(squares, short, tmp_path):
    "Stages, rows and the choice; a grid point's training never reads a test image."
    read = []

    def reader(i):
        read.append(squares.images.loc[i, "split"])
        return (squares.root / squares.images.loc[i, "file"]).read_bytes()

    spied = replace(squares, reader=reader)
    train_point(network(), spied, short, 0.05, 0, device="cpu")
    assert set(read) == {"train"}
    protocol = short.model_copy(update={"n_learning_rates": 2, "n_weight_decays": 1})
    tuned = fine_tune(network(), spied, protocol, device="cpu")
    assert len(tuned.grid) == 2 and {result.stage for result in tuned.grid} == {"select"} and tuned.final.stage == "refit"
    assert tuned.final.details["n_train"] == 24 and tuned.final.details["n_scored"] == 12
    assert all(name.startswith("test/") for name in tuned.final.predictions["image"])
    assert (tuned.final.learning_rate, tuned.final.weight_decay) == (tuned.selected.learning_rate, tuned.selected.weight_decay)
    with pytest.raises(UserError, match="test images cannot take part"):
        select([tuned.final])


def test_an_extended_grid_keeps_the_points_that_are_finished(squares, short, tmp_path):
    trained = []

    def extend(n):
        protocol = short.model_copy(update={"n_learning_rates": n, "learning_rate_max": 0.1, "n_weight_decays": 1})
        trained.clear()
        return fine_tune(network(), squares, protocol, directory=tmp_path, device="cpu", progress=trained.append)

    first, second = extend(2), extend(3)
    assert len(second.grid) == 3 and [result.model is None for result in trained[:3]] == [True, False, True]
    assert [second.grid[i].score for i in (0, 2)] == [result.score for result in first.grid]


def test_successive_halving_trains_few_points_to_the_end(squares, tmp_path):
    "Four points for a quarter of the steps, two for a half, one for all; a point that fails among them."
    grid = {"n_learning_rates": 4, "learning_rate_max": 10.0, "n_weight_decays": 1}
    protocol = training_protocol("scratch", steps=8, batch_size=8, n_evaluations=1, **grid)
    arguments, options = (network("test_mambaout"), squares, protocol), {"directory": tmp_path, "device": "cpu"}
    tuned = fine_tune(*arguments, halving_factor=2, **options)
    table = results_table(tuned.grid)
    assert table["steps"].tolist() == [2] * 4 + [4] * 2 + [8] and tuned.selected.details["steps"] == 8
    for steps, n_kept in ((2, 2), (4, 1)):
        rung = table[table["steps"] == steps].fillna({"score": -1, "loss": np.inf})
        best = rung.sort_values(["score", "loss"], ascending=[False, True])["learning_rate"][:n_kept]
        assert set(table.loc[table["steps"] == 2 * steps, "learning_rate"]) == set(best)
    chosen = tuned.selected.learning_rate
    assert {path.name for path in tmp_path.iterdir()} >= {point_name(1e-3, 1e-5, 2), point_name(chosen, 1e-5)}
    again = fine_tune(*arguments, halving_factor=2, **options)
    assert again.final.model is None and results_table(again.grid).equals(table) and again.halving_factor == 2
    whole = train_point(*arguments, chosen, 1e-5, device="cpu")
    assert whole.score == tuned.selected.score  # the discarding changed nothing about the point itself


def test_halving_keeps_the_best_scores_and_among_equals_the_smaller_loss(squares, short):
    result = train_point(network(), squares, short, 0.05, 0, device="cpu")
    outcomes = {1e-3: (0.5, 0.1), 1e-2: (0.9, 0.6), 1e-1: (0.9, 0.5), 1.0: (0.7, 0.05)}  # score, loss
    protocol = training_protocol("scratch", steps=8, n_learning_rates=4, n_weight_decays=1)

    def train(rate, decay, steps):
        score, loss = outcomes[min(outcomes, key=lambda known: abs(known - rate))]
        return replace(result, learning_rate=rate, score=score, loss=loss, details={"steps": steps})

    table = results_table(_train_grid(train, protocol, 2))
    kept = [sorted(table.loc[table["steps"] == steps, "learning_rate"].round(6)) for steps in (2, 4, 8)]
    assert kept == [[1e-3, 1e-2, 1e-1, 1.0], [1e-2, 1e-1], [1e-1]]
    with pytest.raises(UserError, match="halving_factor 1: expected a whole number of at least 2"):
        _train_grid(train, protocol, 1)


def test_official_validation_images_are_used(tmp_path, short):
    dataset = image_folder(write_images(tmp_path / "squares", train=8, test=4, val=5))
    result = train_point(network(), dataset, short, 0.05, 0, device="cpu")
    assert (result.details["n_train"], result.details["n_scored"]) == (16, 10)
    assert all(name.startswith("val/") for name in result.predictions["image"])


def test_a_class_missing_in_validation_is_noted(tmp_path, short):
    folder = write_images(tmp_path / "squares", train=8, test=4, val=5)
    for path in (folder / "val" / "dim").iterdir():
        path.unlink()
    (folder / "val" / "dim").rmdir()
    result = train_point(network(), image_folder(folder), short, 0.05, 0, device="cpu")
    assert result.notes == ["no scored image shows dim: the score says nothing about them"]


def test_fewer_images_than_a_batch(squares):
    result = train_point(network(), squares, training_protocol("scratch", steps=3, n_evaluations=1), 0.05, 0, device="cpu")
    assert result.details["batch_size"] == result.details["n_train"] == 20 and result.details["steps_per_epoch"] == 1
    assert result.notes == ["20 training images, fewer than a batch of 256: each batch holds all of them once"]


def test_a_damaged_image_is_named_or_skipped(tmp_path, short):
    folder = write_images(tmp_path / "squares")
    (folder / "train" / "dim" / "3.png").write_bytes(b"not an image")
    dataset = image_folder(folder)
    with pytest.raises(UserError, match="train/dim/3.png cannot be decoded"):
        train_point(network(), dataset, short, 0.05, 0, device="cpu")
    result = train_point(network(), dataset, short, 0.05, 0, device="cpu", on_bad_image="skip")
    assert result.notes == ["images that could not be decoded and were left out: 1"]
    assert result.details["n_train"] + result.details["n_scored"] == 19
    assert [bad["name"] for bad in result.details["skipped_images"]] == ["train/dim/3.png"]


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


@pytest.mark.parametrize("build", ["mobilenet_v3_small", "googlenet", "efficientnet", "linear"])
def test_any_networks_classifier_is_replaced(squares, build):
    "torchvision's, one with auxiliary classifiers, pytorchcv-like nesting, and timm's; each trains a step."
    import torch
    import torchvision

    from transfer_study.training.callbacks import ClassScores, replace_classifier

    builders = {
        "mobilenet_v3_small": torchvision.models.mobilenet_v3_small, "efficientnet": network("test_efficientnet"),
        "googlenet": partial(torchvision.models.googlenet, init_weights=False),
        "linear": lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Sequential(torch.nn.Linear(12288, 9, bias=False))),
    }  # fmt: skip
    model = replace_classifier(builders[build](), 5).train()
    callback, holder = ClassScores(), type("Learner", (), {})()
    callback.learn, holder.pred = holder, model(torch.zeros(2, 3, 64, 64))
    callback.after_pred()
    assert holder.pred.shape == (2, 5)
    with pytest.raises(UserError, match="no linear layer"):
        replace_classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)), 5)


def test_fastais_callbacks_write_beside_the_result(squares, short, tmp_path, capsys):
    from fastai.callback.progress import CSVLogger

    train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu", callbacks=[CSVLogger()])
    table = pd.read_csv(tmp_path / "run" / "history.csv")
    kept = read_training(tmp_path / "run")
    assert np.allclose(table["top1"], kept.history["score"]) and np.allclose(table["valid_loss"], kept.history["loss"])
    assert capsys.readouterr().out == ""
    specification = json.loads((tmp_path / "run" / "specification.json").read_text())
    assert specification["momentum"] == 0.9 and specification["dataset"] == squares.fingerprint


def test_loggers_by_name(squares, short, tmp_path):
    "The CSV file of a resumed training holds every evaluation; a logger whose package is missing says which."
    import importlib.util

    from fastai.callback.core import Callback

    from transfer_study.training.callbacks import LOGGERS, logging_callback

    options = {"directory": tmp_path / "run", "device": "cpu", "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train_point(network(), squares, short, 0.05, 0, **options, callbacks=[logging_callback("csv"), StopsAt(5)])
    result = train_point(network(), squares, short, 0.05, 0, **options, callbacks=[logging_callback("csv")])
    logged = pd.read_csv(tmp_path / "run" / "history.csv")
    assert set(logged["top1"].drop_duplicates()) >= {f"{score}" for score in result.history["score"]} and len(logged) == 4
    for name, (*_, package) in LOGGERS.items():
        if importlib.util.find_spec(package):
            assert isinstance(logging_callback(name), Callback)
        else:
            with pytest.raises(UserError, match=f"'{name}': {package} is not installed; pip install {package}"):
                logging_callback(name)
    with pytest.raises(UserError, match="did you mean wandb"):
        logging_callback("wadb")


def test_training_learns(tmp_path):
    "Bright against dim squares, far apart: nearly every test image is right."
    random = np.random.default_rng(0)
    from PIL import Image

    for split, n in {"train": 20, "test": 15}.items():
        for label, brightness in {"dim": 60, "bright": 190}.items():
            (Path(tmp_path) / "shades" / split / label).mkdir(parents=True)
            for i in range(n):
                pixels = random.normal(brightness, 40, (40, 40, 3)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(tmp_path / "shades" / split / label / f"{i}.png")
    dataset = image_folder(pack(tmp_path / "shades", tmp_path / "shades.tar"))
    protocol = training_protocol("scratch", steps=40, batch_size=16, n_evaluations=4)
    result = train_point(network(), dataset, protocol, 0.1, 1e-4, stage="refit", device="cpu")
    assert result.score > 0.95 and result.history["train_loss"].iloc[-1] < 0.3


def test_real_weights_beat_random_ones(real, tmp_path):
    "Five kinds of flowers, an ImageNet MobileNet, a few steps: fine-tuned far above scratch."
    entry = Network(
        "mobilenetv1_025", "mobilenets:mobilenetv1_025", real / "weights" / "mobilenetv1_025_128_tfq.safetensors", directory=real
    )
    dataset = image_folder(real / "images" / "flowers5.tar")
    from transfer_study.networks.networks import build_network

    model = build_network(entry)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    protocol = training_protocol("finetune", steps=25, batch_size=32, n_evaluations=1)
    options = {"stage": "refit", "device": "cpu", "cache": tmp_path}
    tuned = train_point(entry, dataset, protocol, 0.03, 1e-5, **options)
    scratch = train_point(model, dataset, protocol, 0.03, 1e-5, **options)
    assert tuned.score > 0.6 and tuned.score > scratch.score + 0.2
