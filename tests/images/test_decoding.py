"""Decoding: every image upright and whole, or named."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin, features

from tests.conftest import png_bytes, tiff_of_bands
from transfer_study.images.decoding import BadImage, decode, image_format, image_size, is_narrow


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


def test_a_tiff_of_five_bands_is_not_said_to_be_damaged(recwarn):
    numbers = {256: 4, 257: 4, 258: 146, 259: 1, 262: 1, 273: 156, 277: 5, 278: 4, 279: 80}
    entries = b"".join(struct.pack("<HHII", tag, 3, 5 if tag == 258 else 1, n) for tag, n in numbers.items())
    data = (b"II*\0\x08\0\0\0\x09\0" + entries).ljust(146, b"\0") + struct.pack("<5H", *[8] * 5) + bytes(80)
    with pytest.raises(BadImage, match="a TIFF file of 5 bands, a kind that Pillow does not read; save three of them in"):
        decode(data)
    assert not recwarn.list


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


def test_a_decompression_bomb_is_refused_unless_it_is_allowed():
    data = encoded(Image.new("L", (12, 12)), "png")
    with pytest.raises(BadImage, match="(?i)bomb; max_pixels = 144 in a study file allows it, or reduce it"):
        decode(data, max_pixels=143)
    assert decode(data, max_pixels=144).size == (12, 12)


def test_a_large_photograph_neither_warns_nor_needs_pillows_limit(monkeypatch):
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 100
    )  # a tenth of what this image has, and less than half, which is an error for Pillow
    data = encoded(Image.new("L", (40, 30), 128), "png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, max_pixels=1200).crop((0, 0, 40, 30)).size == (40, 30)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_values_keep_the_range_of_their_content(bits, kind):
    values = np.linspace(0, 255, 64).astype(np.uint16).reshape(8, 8)
    stored = Image.fromarray(values << (bits - 8))
    assert np.array_equal(np.asarray(decode(encoded(stored, kind)))[..., 0], values)


@pytest.mark.parametrize(("low", "high", "narrow"), [
    (51_241, 52_181, True), (0, 4_096, True), (100, 115, True), (51_241, 51_241, False), (0, 65_535, False), (0, 4_095, False),
    (5_000, 14_000, False),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["png", "tiff", "ppm", "jpeg2000"])
def test_greys_of_which_decoding_leaves_few_levels_are_known(low, high, narrow, kind):
    data = encoded(Image.fromarray(np.linspace(low, high, 64).astype(np.uint16).reshape(8, 8)), kind)
    levels = int(np.ptp(np.asarray(decode(data)))) + 1
    assert is_narrow(Image.open(io.BytesIO(data))) == narrow == (1 < levels < 32), "as `decode` has it"


def test_a_picture_of_eight_bits_is_never_narrow():
    assert not is_narrow(Image.open(io.BytesIO(encoded(Image.linear_gradient("L").point(lambda value: value // 32), "png"))))


def png16(values: np.ndarray) -> bytes:
    "A PNG file of 16-bit colours, (height, width, 3 or 4) uint16, which Pillow cannot write."

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, n = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[n], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [12, 16])
def test_colours_of_12_bits_in_16_keep_their_range(bits):
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint16)
    values[0, 0] = 255
    assert np.array_equal(np.asarray(decode(png16(values << (bits - 8)))), values)
    opaque = np.concatenate([values << (bits - 8), np.full((6, 5, 1), 65535, np.uint16)], axis=2)
    assert np.array_equal(np.asarray(decode(png16(opaque))), values)
    bands = np.concatenate([values << (bits - 8), np.full((6, 5, 1), 40_000, np.uint16)], axis=2)
    assert np.array_equal(np.asarray(decode(tiff_of_bands(bands))), values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "Git LFS.*git lfs pull"),
        (b"  <!DOCTYPE html><html>404</html>", "a web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
        (b"P5 is a road", "ValueError"),
    ],
)
def test_a_file_that_is_something_else_says_what(data, message):
    with pytest.raises(BadImage, match=message):
        decode(data)


def test_a_damaged_heic_file_is_no_reason_to_install_what_is_installed(monkeypatch):
    data = b"\0\0\0\x18ftypheic" + bytes(100)
    with pytest.raises(BadImage, match="pip install pillow-heif"):
        decode(data)

    def damaged(stream, name):
        raise SyntaxError("not a HEIF file")

    monkeypatch.setitem(Image.OPEN, "HEIF", (damaged, None))
    with pytest.raises(BadImage, match="a damaged HEIF file"):
        decode(data)


def test_of_a_tiff_that_pillow_does_not_open_the_bands_are_counted_and_pillow_logs_nothing(tmp_path):
    "A program of its own, because pytest takes what is logged."
    (tmp_path / "bands.tif").write_bytes(tiff_of_bands(np.zeros((8, 8, 13), np.uint16)))
    code = "import sys; from transfer_study.images.decoding import decode; decode(open(sys.argv[1], 'rb').read())"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "bands.tif"], capture_output=True, text=True)
    assert "BadImage: a TIFF file of 13 bands, a kind that Pillow does not read; save three" in done.stderr.splitlines()[-1]
    assert done.stderr.startswith("Traceback") and not done.stdout
    with pytest.raises(BadImage, match="a TIFF file that is damaged, or of a kind that Pillow does not read"):
        decode(tiff_of_bands(np.zeros((8, 8, 13), np.uint16))[:60])


def test_every_format_is_known_by_its_first_bytes():
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "JPEG2000"):
        assert image_format(encoded(Image.new("RGB", (4, 4)), kind)) == kind
    if features.check("avif"):
        assert image_format(encoded(Image.new("RGB", (4, 4)), "AVIF")) == "AVIF"
    assert image_format(b"\0\0\0\x18ftypheic\0\0\0\0") == "HEIF" and image_format(b"BMW") is image_format(b"") is None


def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph():
    for tag, value in ((254, 1), (50706, b"\1\4\0\0")):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[tag] = value
        data = encoded(Image.new("RGB", (16, 12)), "tiff", tiffinfo=info)
        with pytest.raises(BadImage, match="a raw file of a camera"):
            decode(data)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[254] = 2  # a page of several
    assert decode(encoded(Image.new("RGB", (16, 12)), "tiff", tiffinfo=info)).size == (16, 12)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(("kind", "head", "n_bytes", "n"), [
    (b"zTXt", b"history\0\0", 2_000_000, 1), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0", 2_000_000, 1),
    (b"iCCP", b"profile\0\0", 2_000_000, 1), (b"zTXt", b"a\0\0", 1_040_000, 200), (b"zTXt", b"a\0\0", 100_000_000, 100),
])  # fmt: skip
@pytest.mark.parametrize("behind", [False, True])
def test_large_texts_in_a_png_file_are_no_reason_to_refuse_its_pixels(kind, head, n_bytes, n, behind):
    "Notes of image editors; a hundred bombs are not unpacked."
    image, exif = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)), Image.Exif()
    exif[274] = 6  # stored on its side
    image.save(buffer := io.BytesIO(), "png", exif=exif)
    plain, place = buffer.getvalue(), buffer.getvalue().index(b"IEND") - 4 if behind else 33
    data = plain[:place] + chunk(kind, head + zlib.compress(b" " * n_bytes)) * n + plain[place:]
    with pytest.raises(ValueError, match="MAX_TEXT"):
        Image.open(io.BytesIO(data)).load()
    assert decode(data).size == (4, 6) and decode(data).tobytes() == decode(plain).tobytes()
    assert image_size(data) == (6, 4)
    with pytest.raises(BadImage, match="(?i)truncated|damaged"):
        decode(data[: len(data) // 2] if not behind else data[: place - 20])
