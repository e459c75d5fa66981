"""Datasets: a folder and a tar are the same, splits never overlap, and what spoils a score is refused."""

import os
import tarfile

import numpy as np
import pytest
from conftest import pack, png_bytes, write_images

from transfer_study.core import UserError
from transfer_study.datasets import image_folder, open_dataset, split_images


def test_folder_and_tar_are_the_same_dataset(tmp_path):
    folder = write_images(tmp_path / "squares")
    plain, packed = image_folder(folder), image_folder(pack(folder, tmp_path / "squares.tar", prefix="deep/squares/"))
    assert plain.fingerprint == packed.fingerprint and plain.classes == packed.classes == ["bright", "dim"]
    assert [plain.read(i) for i in range(len(plain.images))] == [packed.read(i) for i in range(len(packed.images))]


def test_fingerprint_sees_contents_names_and_split(tmp_path):
    folder = write_images(tmp_path / "squares")
    before = image_folder(folder).fingerprint
    os.rename(folder / "train/dim/0.png", folder / "train/dim/zero.png")
    renamed = image_folder(folder).fingerprint
    (folder / "train/dim/zero.png").write_bytes(png_bytes())
    assert len({before, renamed, image_folder(folder).fingerprint}) == 3


def test_labels_are_the_folders_in_alphabetical_order(tmp_path):
    dataset = image_folder(write_images(tmp_path / "squares", classes=("b", "c", "a")))
    assert (dataset.images["class"] == np.array(["a", "b", "c"])[dataset.images["label"]]).all()
    assert dataset.counts == {"classes": 3, "train": 30, "val": 0, "test": 12}


def test_validation_is_a_stratified_fifth_by_seed(tmp_path):
    dataset = image_folder(write_images(tmp_path / "squares", train=20))
    splits = [split_images(dataset, seed) for seed in (0, 0, 1)]
    assert (splits[0] == splits[1]).all() and (splits[0] != splits[2]).any()
    for split in splits:
        for label in (0, 1):
            of_class = split[dataset.images["label"] == label]
            assert [int((of_class == name).sum()) for name in ("train", "val", "test")] == [16, 4, 4]
        assert ((split == "test") == (dataset.images["split"] == "test")).all()


def test_two_images_of_a_class_give_one_each_to_train_and_validation(tmp_path):
    dataset = image_folder(write_images(tmp_path / "squares", train=2))
    split = split_images(dataset)
    assert all(sorted(split[(dataset.images["label"] == k) & (split != "test")]) == ["train", "val"] for k in (0, 1))


def test_a_given_validation_split_is_used_as_it_is(tmp_path):
    dataset = image_folder(write_images(tmp_path / "squares", train=1, val=2))
    assert (split_images(dataset, 7) == dataset.images["split"]).all()


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    folder = write_images(tmp_path / "squares")
    before = image_folder(folder).fingerprint
    for name in ("train/dim/.DS_Store", "train/dim/._0.png", "train/dim/notes.txt", "README.md"):
        (folder / name).write_text("x")
    assert image_folder(folder).fingerprint == before
    assert image_folder(pack(folder, tmp_path / "squares.tar")).fingerprint == before


def spoil_class_in_test_only(folder):
    (folder / "test/green").mkdir()
    (folder / "test/green/0.png").write_bytes(png_bytes())


def spoil_single_image(folder):
    (folder / "train/green").mkdir()
    (folder / "train/green/0.png").write_bytes(png_bytes())


def spoil_empty_class(folder):
    (folder / "train/green").mkdir()


def spoil_no_test(folder):
    for path in sorted((folder / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "test").rmdir()


def spoil_one_class(folder):
    for split in ("train", "test"):
        for path in (folder / split / "dim").iterdir():
            path.unlink()
        (folder / split / "dim").rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_class_in_test_only, "class 'green' is in test but not in train"),
        (spoil_single_image, "class 'green' has one training image; expected at least two"),
        (spoil_empty_class, "train/green holds no image"),
        (spoil_no_test, "no images in test/"),
        (spoil_one_class, "only one class, 'bright'"),
    ],
)
def test_what_spoils_a_score_is_refused(tmp_path, spoil, message):
    folder = write_images(tmp_path / "squares")
    spoil(folder)
    with pytest.raises(UserError, match=message):
        image_folder(folder)


def test_an_empty_folder_and_another_layout_say_what_was_found(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected train/<class>/<image>.*found: nothing|found: \S*"):
        image_folder(tmp_path / "empty")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "0.png").write_bytes(png_bytes())
    with pytest.raises(UserError, match=r"found: 0\.png"):
        image_folder(tmp_path / "flat")


def test_damaged_and_compressed_tars(tmp_path):
    tar = pack(write_images(tmp_path / "squares"), tmp_path / "squares.tar")
    (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[: -20 * 1024])
    (tmp_path / "text.tar").write_text("not a tar")
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "squares", "squares")
    messages = {"cut.tar": "truncated|not a readable tar", "text.tar": "not a readable tar", "packed.tar.gz": "decompress"}
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            image_folder(tmp_path / name)


def test_references(tmp_path, monkeypatch):
    write_images(tmp_path / "squares")
    write_images(tmp_path / "root" / "dtd")
    assert open_dataset("folder:squares", tmp_path).name == open_dataset("squares", tmp_path).name == "squares"
    monkeypatch.setenv("TRANSFER_STUDY_DATA", str(tmp_path / "root"))
    assert open_dataset("dtd").name == "dtd"
    assert open_dataset("dtd", root=tmp_path / "root").metric == "top1"
    with pytest.raises(UserError, match="several classes each"):
        open_dataset("voc2007", root=tmp_path / "root")
    with pytest.raises(UserError, match="did you mean cifar10"):
        open_dataset("cifar01", tmp_path)
    with pytest.raises(UserError, match=r"expected cifar10/train/<class>/"):
        open_dataset("cifar10")
    with pytest.raises(UserError, match="no such folder or tar"):
        open_dataset("images/absent.tar", tmp_path)
