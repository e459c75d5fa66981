"""Decoding: every image upright and whole, or named."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import png_bytes
from transfer_study.images.decoding import BadImage, decode


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


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_every_orientation_comes_out_upright(turn, kind):
    pixels = np.repeat(np.repeat(np.array([[250, 160, 90], [10, 60, 200]], np.uint8), 16, 0), 16, 1)
    exif = Image.Exif()
    exif[274] = turn
    data = encoded(Image.fromarray(pixels).convert("RGB"), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(np.asarray(decode(data)), np.asarray(expected))
    assert decode(data).size == ((48, 32) if turn < 5 else (32, 48))


def test_damaged_exif_loses_no_image():
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(Image.new("RGB", (6, 4)), "jpeg", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    assert decode(data[:at] + b"\xff" * 8 + data[at + 8 :]).size == (6, 4)


def test_adobe_inks_and_plain_inks_give_red():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind in ("jpeg", "tiff"):
        assert np.abs(np.asarray(decode(encoded(red, kind))).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_what_is_transparent_lies_on_white(mode):
    if mode in ("P", "RGB", "L"):
        data = encoded(Image.new(mode, (4, 4), 0), "png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    else:
        image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
        data = encoded(image.convert("LA") if mode == "LA" else image, "png")
    assert (np.asarray(decode(data)) == 255).all()


def test_an_opaque_alpha_channel_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode(encoded(Image.fromarray(pixels).convert("RGBA"), "png"))), pixels)


def test_pixels_of_unknown_range_are_refused():
    for values in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32)):
        with pytest.raises(BadImage, match="32 bits"):
            decode(encoded(Image.fromarray(values), "tiff"))


def test_the_suffix_plays_no_role_but_the_format_does():
    assert decode(encoded(Image.new("RGB", (4, 4), "red"), "bmp")).size == (4, 4)
    with pytest.raises(BadImage, match="unknown format"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


def test_a_strip_is_refused():
    with pytest.raises(BadImage, match="200 times"):
        decode(encoded(Image.new("L", (1, 201)), "png"))


def test_threads_decode_as_one_does():
    from concurrent.futures import ThreadPoolExecutor

    data = [encoded(Image.effect_noise((40 + i, 30), 90), "jpeg") for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(decode, data))
    assert all(np.array_equal(np.asarray(image), np.asarray(decode(one))) for image, one in zip(together, data, strict=True))


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImage, match="(?i)bomb"):
        decode(encoded(Image.new("L", (12, 12)), "png"))
