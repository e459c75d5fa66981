"""Damaged images: files of every format that is read, cut short and with flipped bits, always the same for a seed."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

KINDS = {
    "JPEG": {"quality": 90}, "progressive JPEG": {"quality": 90, "progressive": True}, "PNG": {}, "WEBP": {"quality": 80},
    "GIF": {}, "BMP": {}, "PPM": {}, "TIFF": {}, "deflated TIFF": {"compression": "tiff_adobe_deflate"}, "JPEG2000": {},
}  # fmt: skip


def whole_files(seed: int = 0) -> dict[str, bytes]:
    "One image of noise on a gradient in every format."
    random = np.random.default_rng(seed)
    pixels = (np.linspace(0, 200, 96)[:, None, None] + random.integers(0, 56, (96, 80, 3))).astype(np.uint8)
    image, files = Image.fromarray(pixels), {}
    for kind, options in (KINDS | ({"AVIF": {}} if features.check("avif") else {})).items():
        image.save(buffer := io.BytesIO(), kind.split()[-1], **options)
        files[kind] = buffer.getvalue()
    Image.fromarray(pixels[..., 0].astype(np.uint16) << 8).save(buffer := io.BytesIO(), "PNG")
    return files | {"16-bit PNG": buffer.getvalue()}


def damaged_files(n: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    "`n` damaged files in turn of every format: cut short, with flipped bits all over, or only in the header."
    random, files = np.random.default_rng(seed), list(whole_files(seed).items())
    for i in range(n):
        kind, data = files[i % len(files)]
        damage = ("cut", "bits", "header")[i // len(files) % 3]
        if damage == "cut":
            yield f"{kind}, cut", data[: random.integers(0, len(data))]
            continue
        changed = bytearray(data)
        for place in random.integers(0, min(len(data), 64 if damage == "header" else len(data)), random.integers(1, 9)):
            changed[place] ^= 1 << random.integers(0, 8)
        yield f"{kind}, {damage}", bytes(changed)
