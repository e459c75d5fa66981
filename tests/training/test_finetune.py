"""Fine-tuning: multi-label data, the grid and its choice, damaged images, and that trainings learn."""

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
from transfer_study.training.finetune import train_point
from transfer_study.training.protocol import hyperparameter_grid, training_protocol
from transfer_study.training.run import best_training, read_training


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


def train_grid(build, dataset, protocol, directory=None) -> list:
    "A training for each point of the grid."
    points = hyperparameter_grid(protocol).itertuples(index=False)
    return [
        train_point(build, dataset, protocol, rate, decay, directory=directory and directory / f"{rate:g}", device="cpu")
        for rate, decay in points
    ]


def test_a_non_finite_loss_fails_one_training_only(squares, tmp_path):
    protocol = training_protocol(
        "scratch", steps=8, batch_size=8, n_evaluations=2, n_learning_rates=2, learning_rate_max=10.0,
        n_weight_decays=0, no_weight_decay=True,
    )  # fmt: skip
    grid = train_grid(network("test_mambaout"), squares, protocol, tmp_path)
    assert [result.status for result in grid] == ["finished", "failed"]
    assert grid[1].reason.startswith(("the loss became nan", "the loss became inf")) and grid[1].score is None
    assert best_training(grid).learning_rate == 1e-3
    failed = read_training(tmp_path / "10")
    assert failed.status == "failed" and failed.reason == grid[1].reason
    with pytest.raises(UserError, match="none of 1 grid points finished; the first: the loss became"):
        best_training([failed])


def test_only_the_final_training_reads_test_images(squares, short):
    "Stages, rows and the choice; the training of a grid point never reads a test image."
    read = []

    def reader(i):
        read.append(squares.images.loc[i, "split"])
        return (squares.root / squares.images.loc[i, "file"]).read_bytes()

    spied = replace(squares, reader=reader)
    grid = train_grid(network(), spied, short.model_copy(update={"n_learning_rates": 2, "n_weight_decays": 1}))
    assert set(read) == {"train"} and {result.stage for result in grid} == {"select"} and len(grid) == 2
    best = best_training(grid)
    final = train_point(network(), spied, short, best.learning_rate, best.weight_decay, stage="refit", device="cpu")
    assert set(read) == {"train", "test"} and final.details["n_train"] == 24 and final.details["n_scored"] == 12
    assert all(name.startswith("test/") for name in final.predictions["image"])
    with pytest.raises(UserError, match="test images cannot take part"):
        best_training([final])


def test_a_finished_point_remains_valid_in_a_larger_grid(squares, short, tmp_path):
    grids = [short.model_copy(update={"n_learning_rates": n, "learning_rate_max": 0.1, "n_weight_decays": 1}) for n in (2, 3)]
    first, second = (train_grid(network(), squares, protocol, tmp_path) for protocol in grids)
    assert [result.model is None for result in second] == [True, False, True]
    assert [second[i].score for i in (0, 2)] == [result.score for result in first]


def test_a_damaged_image_is_named_or_skipped(tmp_path, short):
    folder = write_images(tmp_path / "squares")
    (folder / "train" / "dim" / "3.png").write_bytes(b"not an image")
    dataset = image_folder(folder)
    with pytest.raises(UserError, match="train/dim/3.png cannot be decoded"):
        train_point(network(), dataset, short, 0.05, 0, device="cpu")
    result = train_point(network(), dataset, short, 0.05, 0, device="cpu", on_bad_image="skip")
    assert result.notes == ["images omitted because they could not be decoded: 1"]
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
