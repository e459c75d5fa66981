"""`decode = "fast"`: JPEGs much larger than the input at a reduced scale, in a cache of their own."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.features.conftest import build
from transfer_study.core import UserError
from transfer_study.features.extraction import extract_features, feature_key
from transfer_study.features.loading import load_batches, network_view
from transfer_study.images.datasets import image_folder
from transfer_study.images.decoding import BadImage, decode, reduced_scale


def jpeg(width: int, height: int, exif: int = 1, mode: str = "RGB") -> bytes:
    "A smooth photograph, whose upper left is bright."
    coarse = np.random.default_rng(0).integers(0, 200, (6, 8, 3), dtype=np.uint8)
    coarse[:3, :4] = 250
    image, tags = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode), Image.Exif()
    tags[274] = exif
    image.save(buffer := io.BytesIO(), "jpeg", quality=95, exif=tags)
    return buffer.getvalue()


@pytest.fixture
def photographs(tmp_path):
    "Eight JPEG files of 800 × 600 pixels and, in each split, a PNG and a small JPEG."
    for split in ("train", "test"):
        for label in "ab":
            folder = tmp_path / "photographs" / split / label
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.jpg").write_bytes(jpeg(800, 600, exif=1 + 5 * i))
            Image.open(io.BytesIO(jpeg(800, 600))).save(folder / "2.png")
            (folder / "3.jpg").write_bytes(jpeg(200, 150))
    return image_folder(tmp_path / "photographs")


@pytest.mark.parametrize(
    ("size", "least", "scale"),
    [
        ((4000, 3000), 512, 4), ((4000, 3000), 376, 4), ((4000, 3000), 375, 8), ((3000, 4000), 512, 4),
        ((1023, 5000), 512, 1), ((1024, 1024), 512, 2), ((300, 200), 512, 1),
    ],
)
def test_the_scale_keeps_the_pixels_that_are_needed(size, least, scale):
    data = jpeg(*size)
    assert reduced_scale(data, least) == scale
    reduced = decode(data, scale=scale)
    assert min(reduced.size) >= min(least, min(size)) and np.abs(np.array(reduced.size) * scale - size).max() < scale


def test_only_jpegs_are_reduced_and_damage_is_reported_as_ever():
    Image.new("RGB", (4000, 3000)).save(buffer := io.BytesIO(), "png")
    assert reduced_scale(buffer.getvalue(), 100) == reduced_scale(b"", 100) == reduced_scale(b"\xff\xd8\xff broken", 100) == 1
    data = jpeg(2000, 1500)
    with pytest.raises(BadImage, match="truncated"):
        decode(data[: len(data) // 2], scale=4)
    with pytest.raises(BadImage, match="more than 100"):
        decode(data, max_pixels=100, scale=8)  # the limit holds for the stored size


@pytest.mark.parametrize("exif", [1, 3, 6, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_image_is_the_whole_one_made_smaller(exif, mode):
    data = jpeg(1600, 1200, exif, mode)
    whole, reduced = decode(data), decode(data, scale=4)
    assert reduced.size == tuple(side // 4 for side in whole.size) and reduced.mode == "RGB"
    small = (np.asarray(image.resize((80, 80), Image.Resampling.BOX), dtype=float) for image in (whole, reduced))
    assert np.abs(np.subtract(*small)).max() < 12


def test_only_large_jpegs_change_and_every_network_gets_the_scale_that_it_needs(photographs):
    views = [network_view(build(name))[0] for name in ("test_resnet", "test_efficientnet")]
    together, alone = (list(load_batches(photographs, np.arange(16), some, decode="fast")) for some in (views, views[:1]))
    assert np.array_equal(together[0].images[0], alone[0].images[0])  # whatever else is in the pass
    full = list(load_batches(photographs, np.arange(16), views))[0].images[0].numpy()
    fast, names = together[0].images[0].numpy(), photographs.images["name"]
    changed = {name for name, a, b in zip(names, full, fast, strict=True) if not np.array_equal(a, b)}
    assert changed == {name for name in names if name.endswith(("0.jpg", "1.jpg"))}
    assert np.abs(full.astype(int) - fast).mean() < 3


def test_the_option_has_a_cache_of_its_own_and_no_random_crops(photographs, tmp_path):
    model = build("test_resnet")
    (full,), (fast,) = (extract_features([model], photographs, tmp_path / "cache", decode=value) for value in ("full", "fast"))
    rows = photographs.images["name"].str.endswith(("0.jpg", "1.jpg")).to_numpy()
    different = (full.X != fast.X).any(axis=1)
    assert different[rows].all() and not different[~rows].any() and len(list((tmp_path / "cache").iterdir())) == 2
    assert feature_key(model, photographs) == feature_key(model, photographs, decode="full", backend="torch")
    keys = {feature_key(model, photographs, **options) for options in ({}, {"decode": "fast"}, {"backend": "openvino"})}
    assert len(keys) == 3
    for name, value in {"decode": "half", "backend": "auto"}.items():
        with pytest.raises(UserError, match=f"{name} '{value}': expected one of"):
            feature_key(model, photographs, **{name: value})
    with pytest.raises(UserError, match="random crops need the whole image"):
        feature_key(model, photographs, decode="fast", n_augmentations=1)
