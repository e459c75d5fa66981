"""The image cache: preparation of images, one copy on disk, and failures while it is written."""

import os
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_images
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.training.image_cache import CentralCrop, WholeImage, cached_images, largest_side


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
        with pytest.raises(UserError, match="image cache .*: could not be written .*free some space"):
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


@pytest.mark.parametrize("file", ["pixels.npy", "rows.npy", "sizes.npy", "bad_images.csv"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "lost"])
def test_a_damaged_cache_is_found_and_made_again(squares, tmp_path, file, damage):
    before = np.array(cached_images(squares, np.arange(18), WholeImage(20), tmp_path).pixels)
    (path,) = tmp_path.glob(f"*/{file}")
    data = path.read_bytes()
    changed = {"flipped": data[:-3] + bytes([data[-3] ^ 4]) + data[-2:], "cut": data[:-2], "lost": b""}[damage]
    path.unlink() if damage == "lost" else path.write_bytes(changed)
    again = cached_images(squares, np.arange(18), WholeImage(20), tmp_path)
    assert np.array_equal(again.pixels, before) and again.rows.tolist() == list(range(18)) and (again.sizes == 40).all()
    assert len(list(tmp_path.iterdir())) == 1
