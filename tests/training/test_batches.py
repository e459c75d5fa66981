"""Batches: random crops, the order of the images, parts of a batch."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from transfer_study.training.batches import (
    EvaluationBatches,
    TrainingBatches,
    batch_indices,
    crop_maps,
    cut_crops,
    prefetch,
    random_crops,
    training_batch,
)
from transfer_study.training.image_cache import CachedImages, WholeImage


def test_crops_are_distributed_as_torchvisions():
    "Areas, ratios and positions of 20,000 boxes each: the largest gap between the distributions is that of chance."
    import torch
    from scipy.stats import ks_2samp
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(3, 3000, 4000)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)], float
    )  # top, left, height, width
    ours = random_crops(np.full((4000, 2), (4000, 3000)), np.random.default_rng(0)) * [4000, 3000, 4000, 3000]
    for first, second in (
        (ours[:, 1], theirs[:, 0]),
        (ours[:, 0], theirs[:, 1]),
        (ours[:, 3], theirs[:, 2]),
        (ours[:, 2], theirs[:, 3]),
    ):
        assert ks_2samp(first, second).pvalue > 0.001


def test_a_crop_of_a_squeezed_photograph_is_one_of_the_photograph():
    "A smooth photograph of 120 × 80: a crop by way of the square is the photograph's own crop, nearly to the grey level."
    import torch
    from torchvision.transforms.functional import resized_crop

    x, y = np.meshgrid(np.linspace(0, 3, 120), np.linspace(0, 2, 80))
    pixels = (127 + 60 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)).astype(np.uint8)
    square = torch.from_numpy(np.asarray(WholeImage(90)(Image.fromarray(pixels))).copy())[None]
    box = np.array([[30 / 120, 20 / 80, 48 / 120, 36 / 80]])
    ours = cut_crops(square, torch.from_numpy(crop_maps(box, np.array([False]))), 32)
    theirs = resized_crop(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), 20, 30, 36, 48, [32, 32], antialias=False)
    assert float((ours - theirs).abs().max()) < 3


@pytest.mark.parametrize("n, batch_size", [(7, 3), (10, 10), (5, 2), (256, 100)])
def test_every_image_once_an_epoch(n, batch_size):
    n_epochs = 6
    seen = np.concatenate([batch_indices(n, batch_size, step, seed=4) for step in range(-(-n * n_epochs // batch_size))])
    epochs = seen[: n * n_epochs].reshape(n_epochs, n)
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1 and not np.array_equal(seen[:n], batch_indices(n, n, 0, seed=5))


def small_images(n=10):
    import pandas as pd

    pixels = np.random.default_rng(0).integers(0, 256, (n, 12, 12, 3), np.uint8)
    return CachedImages(pixels, np.arange(n), np.full((n, 2), 12), pd.DataFrame())


def test_batches_are_functions_of_the_step():
    import torch

    first, second = (TrainingBatches(small_images(), np.arange(10), np.arange(10), 4, [3, 8]) for _ in range(2))
    passed = [batch for _ in range(2) for batch in first]
    second.step = 5
    for batch, again in zip(passed[5:], second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert first.step == second.step == 8 and len(first) == 0 and list(first) == []


def test_half_of_the_crops_are_flipped_or_none():
    counts = Counter()
    for flip in (True, False):
        batches = TrainingBatches(small_images(), np.arange(10), np.arange(10), 10, [40], flip=flip)
        signs = np.concatenate([training_batch(batches, step)[0][1][:, 0, 0].numpy() for step in range(40)])
        counts[flip] = int((signs < 0).sum())
    assert 150 < counts[True] < 250 and counts[False] == 0


def test_parts_are_the_batch():
    import torch

    whole = TrainingBatches(small_images(), np.arange(10), np.arange(10), 7, [2])
    split = TrainingBatches(small_images(), np.arange(10), np.arange(10), 7, [2], n_parts=3)
    assert (len(whole), len(split)) == (2, 6)
    [batch], parts = training_batch(whole, 1), training_batch(split, 1)
    assert [len(part[2]) for part in parts] == [3, 2, 2]
    assert all(torch.equal(torch.cat([part[k] for part in parts]), batch[k]) for k in range(3))


def test_evaluation_sees_every_image_in_order():
    import torch

    images = small_images()
    batches = list(EvaluationBatches(images, np.array([1, 4, 9]), np.array([0, 1, 0]), 2))
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.from_numpy(images.pixels[[1, 4, 9]]))
    assert torch.cat([y for _, y in batches]).tolist() == [0, 1, 0]


def test_an_error_in_the_thread_comes_out():
    def make(i):
        if i == 3:
            raise OSError("the file is gone")
        return i, os.getpid()

    seen = []
    with pytest.raises(OSError, match="the file is gone"):
        for i, _ in prefetch(make, range(9)):
            seen.append(i)
    assert seen == [0, 1, 2]
