"""Images to predict: what counts as one, in which order, under which name."""

import io
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import pack, write_images
from transfer_study.core import UserError
from transfer_study.images.decoding import BadImage, decode
from transfer_study.images.unlabelled import unlabelled_images


def test_a_folder_and_its_tar_hold_the_same_images(tmp_path):
    root = write_images(tmp_path / "a", train=2, test=1)
    (root / ".ipynb_checkpoints").mkdir()
    (root / ".ipynb_checkpoints" / "x.png").write_bytes(b"")
    (root / "notes.txt").write_text("")
    folder = unlabelled_images(root)
    (root / ".ipynb_checkpoints" / "x.png").unlink()
    tar = unlabelled_images(pack(root, tmp_path / "a.tar"))
    assert (
        folder.images["name"].tolist() == tar.images["name"].tolist() == sorted(folder.images["name"]) and len(folder.images) == 6
    )
    assert all(folder.read(i) == tar.read(i) for i in range(6)) and set(folder.images["split"]) == {"test"}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "LA"])
def test_images_in_memory_are_decoded_to_the_same_pixels(mode, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    decoded = decode(unlabelled_images([image]).read(0))
    if mode in ("CMYK",):
        assert np.array_equal(np.asarray(decoded), np.asarray(image.convert("RGB")))
    else:
        image.save(buffer := io.BytesIO(), "png")
        assert np.array_equal(np.asarray(decoded), np.asarray(decode(buffer.getvalue())))


def test_a_list_keeps_its_order_and_can_be_sent_to_other_processes(tmp_path):
    for name in ("b.png", "a.png"):
        Image.new("RGB", (4, 4), "red" if name == "a.png" else "blue").save(tmp_path / name)
    dataset = pickle.loads(
        pickle.dumps(unlabelled_images([tmp_path / "b.png", str(tmp_path / "a.png"), np.zeros((3, 3), np.uint8)]))
    )
    assert [decode(dataset.read(i)).getpixel((0, 0)) for i in range(3)] == [(0, 0, 255), (255, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "an empty list"), (["nowhere.png"], "no such file"), ([3], "expected a path, a PIL image or an array"),
        ([np.zeros((3, 3, 3))], "float64; expected"), ("nowhere", "no such file or folder"),
        (None, "images: NoneType; expected a folder or file"), ({"image": "a.png"}, "images: dict; expected"),
        (b"x", "images: bytes.*BytesIO"), ([b"x"], r"images\[0\]: bytes.*BytesIO"),
        (pd.DataFrame({"image": ["a.png"]}), "images: DataFrame.*give the column of files"),
        ([np.zeros((0, 0, 3), np.uint8)], r"an array \(0, 0, 3\) of uint8; expected"),
        (Path("https://example.com/a.jpg"), "an address, not a folder or file; download it"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_said_in_one_line(images, message):
    with pytest.raises(UserError, match=message):
        unlabelled_images(images).read(0)


def test_one_array_is_one_image_and_a_stack_is_several():
    one, stack, greys = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8, 8, 3), np.uint8), np.zeros((5, 8, 9), np.uint8)
    for images, n in ((one, 1), (one[..., 0], 1), (stack, 4), (greys, 5)):
        dataset = unlabelled_images(images)
        assert len(dataset.images) == n and decode(dataset.read(n - 1)).size[1] == 8
    for wrong in (np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 1), np.uint8)):  # channels first; one channel
        with pytest.raises(UserError, match="expected .height, width, 3. uint8"):
            unlabelled_images([wrong])
    assert repr(unlabelled_images(one)) == "ImageDataset(images: 1 test)"


def test_values_without_a_known_range_are_refused_in_memory_as_in_a_file():
    image = Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32))
    with pytest.raises(BadImage, match="32 bits have no known range"):
        decode(unlabelled_images(image).read(0))


def test_the_home_of_the_user_is_found(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(unlabelled_images("~").images) == 1
    assert decode(unlabelled_images(["~/a.png"]).read(0)).size == (4, 4)


def test_a_folder_or_file_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no image in 1 files"):
        unlabelled_images(tmp_path)
    with pytest.raises(UserError, match="a list, not images; expected a folder, tar, zip or image file"):
        unlabelled_images(tmp_path / "notes.txt")


def test_what_is_left_out_is_noted_and_contents_decide(tmp_path):
    write_images(tmp_path / "a", train=1, test=1)
    (tmp_path / "a/film.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    assert unlabelled_images(tmp_path / "a").notes == ("left out: not images: 1 (film.mp4)",)
    (tmp_path / "a/train/dim/0.png").rename(tmp_path / "photo")
    assert unlabelled_images(tmp_path / "photo").images["name"].tolist() == ["photo"]
