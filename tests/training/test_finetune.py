"""Trainings: the rules against independent computations, resuming, seeds, failures, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import pack, write_images
from tests.training.common import network
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.networks.networks import Network
from transfer_study.training.finetune import _train_grid, fine_tune, point_name, train_point
from transfer_study.training.protocol import (
    training_protocol,
)
from transfer_study.training.result import read_training, results_table, select


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


def test_training_learns(tmp_path):
    "Bright against dim squares, far apart: nearly every test image is right."
    random = np.random.default_rng(0)

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
