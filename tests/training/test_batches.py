"""What a training sees: cached pixels, random crops, the order of the images."""

import os
import resource
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_images
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.training.batches import (
    EvaluationBatches,
    TrainingBatches,
    ahead,
    crop_maps,
    cut_crops,
    random_crops,
    step_images,
    training_batch,
)
from transfer_study.training.image_cache import CachedImages, CentralCrop, WholeImage, cached_images, largest_side


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return image_folder(write_images(tmp_path_factory.mktemp("squares") / "squares", train=6, test=3))


def test_the_central_crop_is_torchvisions():
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    random = np.random.default_rng(0)
    for shape in ((51, 90), (90, 51), (64, 64), (33, 200)):
        image = Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8))
        expected = Compose([Resize(48, InterpolationMode.BILINEAR), CenterCrop(42)])(image)
        assert np.array_equal(np.asarray(CentralCrop(48, 42, "bilinear")(image)), np.asarray(expected))


def test_a_cache_is_made_once_and_mapped(squares, tmp_path):
    made = []
    for _ in range(2):
        cache = cached_images(squares, np.arange(18), WholeImage(20), tmp_path, progress=made.append)
    assert sum(made) == 18 and isinstance(cache.pixels, np.memmap) and not cache.pixels.flags.writeable
    i = 5
    expected = Image.open(squares.root / squares.images.loc[i, "file"]).resize((20, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(cache.pixels[i], np.asarray(expected))
    for other in (WholeImage(21), WholeImage(20, "bilinear"), CentralCrop(22, 20)):
        cached_images(squares, np.arange(18), other, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    memory = cached_images(squares, np.arange(18), WholeImage(20))
    assert np.array_equal(memory.pixels, cache.pixels) and np.array_equal(memory.sizes, cache.sizes)


def test_worker_processes_give_the_same(squares):
    alone, together = (cached_images(squares, np.arange(18), WholeImage(20), n_workers=n) for n in (0, 2))
    assert np.array_equal(alone.pixels, together.pixels)


def test_another_image_is_another_cache(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    first = cached_images(image_folder(folder), np.arange(10), WholeImage(16), tmp_path / "cache")
    Image.new("RGB", (9, 9), "red").save(folder / "test" / "dim" / "0.png")
    second = cached_images(image_folder(folder), np.arange(10), WholeImage(16), tmp_path / "cache")
    assert not np.array_equal(first.pixels, second.pixels) and len(list((tmp_path / "cache").iterdir())) == 2


def test_an_interrupted_cache_leaves_nothing(squares, tmp_path):
    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images(squares, np.arange(18), WholeImage(20), tmp_path, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_larger_than_the_disk_is_refused_at_once(squares, tmp_path):
    read = []
    with pytest.raises(UserError, match="needs .* GiB, .* GiB are free"):
        cached_images(squares, np.arange(18), WholeImage(10**7), tmp_path, progress=read.append)
    assert read == [] and list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line(squares, tmp_path):
    "A limit on the size of files makes the operating system refuse the write in its middle."
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="image cache .*: could not be written .*make room"):
            cached_images(squares, np.arange(18), WholeImage(20), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_gone_is_named(tmp_path):
    dataset = image_folder(write_images(tmp_path / "squares", train=3, test=2))
    (tmp_path / "squares" / dataset.images["name"][4]).unlink()
    for n_workers in (0, 1):
        with pytest.raises(UserError, match=f"{dataset.images['name'][4]} cannot be read .*No such file"):
            cached_images(dataset, np.arange(10), WholeImage(20), tmp_path / "cache", n_workers=n_workers, on_bad_image="skip")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_lost_process_is_one_line(squares, tmp_path):
    parent = os.getpid()

    def reader(i):
        if i == 9 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return (squares.root / squares.images.loc[i, "file"]).read_bytes()

    with pytest.raises(UserError, match="a process that decodes images died .*run again"):
        cached_images(replace(squares, reader=reader), np.arange(18), WholeImage(20), tmp_path, n_workers=2)
    assert list(tmp_path.iterdir()) == []


def test_the_search_for_a_large_photograph_ends_with_it(squares):
    read = []

    def reader(i):
        read.append(i)
        return (squares.root / squares.images.loc[i, "file"]).read_bytes()

    spied = replace(squares, reader=reader)
    assert largest_side(spied, np.arange(18), at_most=40) == 40 and len(read) == 1
    assert largest_side(spied, np.arange(18), at_most=41) == 40 and len(read) == 19


def test_headers_are_read_once_for_the_same_contents(tmp_path):
    folder, read = write_images(tmp_path / "squares"), []
    Image.new("RGB", (90, 60)).save(folder / "train" / "bright" / "0.png")
    dataset = image_folder(folder)

    def reader(i):
        read.append(i)
        return (folder / dataset.images.loc[i, "file"]).read_bytes()

    spied = replace(dataset, reader=reader)
    large = int(np.flatnonzero(dataset.images["name"] == "train/bright/0.png")[0])
    some = np.delete(np.arange(20), large)
    assert [largest_side(spied, rows, 100) for rows in (np.arange(20), some, np.arange(20))] == [90, 40, 90]
    assert len(read) == 39 and largest_side(replace(spied, fingerprint="other"), some, 100) == 40 and len(read) == 58


def test_small_images_stay_small(squares):
    assert largest_side(squares, np.arange(18), at_most=100) == 40 and largest_side(squares, np.arange(18), at_most=30) == 30
    with pytest.raises(KeyError):
        cached_images(squares, np.arange(4), WholeImage(8)).positions(np.array([2, 9]))


# ---------------------------------------------------------------- crops


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


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("n, batch_size", [(7, 3), (10, 10), (5, 2), (256, 100)])
def test_every_image_once_an_epoch(n, batch_size):
    n_epochs = 6
    seen = np.concatenate([step_images(n, batch_size, step, seed=4) for step in range(-(-n * n_epochs // batch_size))])
    epochs = seen[: n * n_epochs].reshape(n_epochs, n)
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1 and not np.array_equal(seen[:n], step_images(n, n, 0, seed=5))


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


def test_half_of_the_crops_are_mirrored_or_none():
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
        for i, _ in ahead(make, range(9)):
            seen.append(i)
    assert seen == [0, 1, 2]
