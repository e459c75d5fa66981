"""Decoding and features: every image upright and whole, or named."""

import io

import numpy as np
import pytest
import timm
import torch
from conftest import png_bytes, write_images
from PIL import Image

from transfer_study.core import UserError
from transfer_study.datasets import image_folder
from transfer_study.features import compute_features, extract_features
from transfer_study.images import BadImage, decode
from transfer_study.networks import input_transform, penultimate_features


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = decode(encoded(Image.new("RGB", (9, 5), "white").convert(mode), "tiff" if mode == "CMYK" else "png"))
    assert image.mode == "RGB" and image.size == (9, 5) and np.asarray(image).min() > 250


def test_sixteen_bits_keep_their_brightness():
    grey = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    assert (np.asarray(decode(encoded(grey, "png"))) == 0x80).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(data))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("data", [b"", b"text", png_bytes()[:40], encoded(Image.effect_noise((50, 50), 90), "jpeg")[:500]])
def test_what_cannot_be_decoded_has_a_reason(data):
    with pytest.raises(BadImage, match="."):
        decode(data)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImage, match="(?i)bomb"):
        decode(encoded(Image.new("L", (12, 12)), "png"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet").eval()


def test_features_are_those_of_each_image_alone(tmp_path, model):
    dataset = image_folder(write_images(tmp_path / "squares", train=5))
    features = compute_features(model, dataset, batch_size=4, n_workers=2)
    transform = input_transform(model)
    with torch.no_grad():
        alone = [penultimate_features(model, transform(decode(dataset.read(i)))[None])[0].numpy() for i in features.rows]
    assert np.array_equal(features.rows, np.arange(len(dataset.images)))
    assert np.allclose(features.X, alone, atol=1e-5)


def test_cache_is_read_and_follows_weights_and_data(tmp_path, model):
    dataset, seen = image_folder(write_images(tmp_path / "squares", train=3)), []
    options = {"cache": tmp_path / "cache", "n_workers": 0, "progress": seen.append}
    first = extract_features(model, dataset, **options)
    computed = len(seen)
    assert np.array_equal(extract_features(model, dataset, **options).X, first.X) and len(seen) == computed
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    assert not np.array_equal(extract_features(model, dataset, **options).X, first.X)
    assert len(seen) == 2 * computed


def test_an_interrupted_extraction_leaves_no_cache(tmp_path, model):
    dataset = image_folder(write_images(tmp_path / "squares", train=3))

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(model, dataset, cache=tmp_path / "cache", n_workers=0, progress=interrupt)
    assert not list(tmp_path.glob("cache/*"))


def test_bad_images_are_an_error_or_skipped_and_listed(tmp_path, model):
    folder = write_images(tmp_path / "squares", train=3)
    for name in ("train/dim/1.png", "test/bright/2.png"):
        (folder / name).write_bytes(b"")
    dataset, cache = image_folder(folder), tmp_path / "cache"
    with pytest.raises(UserError, match=r"test/bright/2\.png cannot be decoded \(empty file\) and 1 more"):
        extract_features(model, dataset, cache, n_workers=0)
    features = extract_features(model, dataset, cache, on_bad_image="skip", n_workers=0)
    assert len(features.X) == len(dataset.images) - 2
    assert features.bad["name"].tolist() == ["test/bright/2.png", "train/dim/1.png"]
    with pytest.raises(UserError, match="cannot be decoded"):
        extract_features(model, dataset, cache, n_workers=0)
