"Hashes, patterns and alignments against independent computations."

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dct

from tests.duplicates.conftest import SCENES
from transfer_study.duplicates.alignment import align, pattern, perceptual_hashes, thumbnail, thumbnails
from transfer_study.images.datasets import image_folder
from transfer_study.images.drawn import drawn_arrays, drawn_dataset


@pytest.fixture(scope="module")
def T():
    return np.stack([thumbnail(Image.fromarray(pixels)) for pixels in drawn_arrays(SCENES)[0]])


def test_hash_is_the_sign_of_low_cosine_coefficients_against_their_median(T):
    image = T[0].astype(float)
    low = dct(dct(image, axis=0, norm="ortho"), axis=1, norm="ortho")[:16, :16]
    low[0, 0] = 0
    assert np.array_equal(perceptual_hashes(T)[0][0].reshape(16, 16) > 0, low > np.median(low))


def test_hash_of_the_mirror_image_needs_no_mirror(T):
    assert (perceptual_hashes(T)[1] == perceptual_hashes(T[:, :, ::-1])[0]).mean() > 0.999


def test_hashes_do_not_depend_on_blocks(T):
    many = np.tile(T, (5000 // len(T) + 1, 1, 1))
    assert np.array_equal(perceptual_hashes(many)[0][-len(T) :], perceptual_hashes(T)[0])


def test_the_pattern_of_a_box_is_that_of_its_pixels(T):
    box = T[:, 8:24, 4:28]  # the box as an image of its own, enlarged by repetition
    enlarged = np.repeat(np.repeat(box, 4, axis=1), 8, axis=2).reshape(len(T), 32, 2, 32, 6).mean(axis=(2, 4))
    assert np.allclose(pattern(T, (0.25, 0.125, 0.5, 0.75), side=8), pattern(enlarged, side=8), atol=1e-4)
    light = np.ptp(pattern(np.full((1, 32, 32), 200.0), (0.037, 0.1, 0.913, 0.8)))
    assert light < 1e-4, "averages of one colour are that colour, wherever the box lies"


def test_pattern_knows_neither_brightness_nor_contrast(T):
    assert np.allclose((pattern(T) * pattern(T * 0.4 + 60.0)).sum(axis=1), 1, atol=1e-4)


def test_bad_images_are_listed_and_the_others_go_on(folder):
    (folder / "train" / "a" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    dataset, done = image_folder(folder), []
    T, contents, bad = thumbnails(dataset, np.arange(len(dataset.images)), done.append)
    assert bad["image"].tolist() == ["train/a/00.png"] and bad["reason"].iloc[0]
    assert len(T) == len(contents) == len(dataset.images) - 1 and sum(done) == len(dataset.images)
    assert list(contents.index) == dataset.images.index[dataset.images["name"] != "train/a/00.png"].tolist()


def test_alignment_finds_the_part_that_was_cut_out():
    pixels, random = drawn_arrays(drawn_dataset("scenes", 1, 2, 2, size=128))[0], np.random.default_rng(0)
    for image in pixels[:12]:
        height, width = random.integers(103, 115, 2)
        top, left = random.integers(0, 128 - height), random.integers(0, 128 - width)
        part = image[top : top + height, left : left + width]
        whole, part = (thumbnail(Image.fromarray(pixels)) for pixels in (image, part))
        found = align(np.stack([whole, part]), np.stack([part, whole]))
        assert np.allclose(found["similarity"], found["similarity"][0], atol=0.02) and found["similarity"].min() > 0.94
        assert np.allclose(found["shared_area"], height * width / 128**2, atol=0.07)


def test_alignment_says_what_is_mirrored_and_ignores_light(T):
    dark = np.stack([
        thumbnail(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(0.6)) for pixels in drawn_arrays(SCENES)[0]
    ])  # fmt: skip
    found = align(T, dark[:, :, ::-1])
    assert found["similarity"].min() > 0.99 and found["mirrored"].mean() > 0.9 and np.allclose(found["shared_area"], 1)


def test_alignment_of_nothing():
    found = align(np.zeros((0, 32, 32), np.uint8), np.zeros((0, 32, 32), np.uint8))
    assert len(found) == 0 and list(found) == ["similarity", "mirrored", "shared_area"]
