"A folder of drawn scenes that holds copies."

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer_study.images.drawn import drawn_arrays, drawn_dataset

SCENES = drawn_dataset("scenes", n_train_per_class=3, n_test_per_class=2, size=64)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    "Scenes in two classes; the test images hold copies of two training images (mirrored, cropped) and one of a test image."
    pixels = drawn_arrays(SCENES, np.arange(20))[0]
    for k in range(12):
        save(tmp_path / "set" / "train" / "ab"[k % 2] / f"{k:02d}.png", pixels[k])
    for k in range(12, 16):
        save(tmp_path / "set" / "test" / "ab"[k % 2] / f"{k:02d}.png", pixels[k])
    save(tmp_path / "set" / "test" / "a" / "mirrored_03.png", pixels[3][:, ::-1])
    save(tmp_path / "set" / "test" / "b" / "cropped_07.png", pixels[7][6:62, 4:60])
    save(tmp_path / "set" / "test" / "b" / "again_12.png", pixels[12])
    return tmp_path / "set"
