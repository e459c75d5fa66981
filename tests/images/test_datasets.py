"""Datasets: a folder and a tar are the same, splits never overlap, and what spoils a score is refused."""

import hashlib
import os
import pickle
import tarfile

import numpy as np
import pandas as pd
import pytest

from tests.conftest import pack, png_bytes, write_images
from transfer_study.core import UserError, digest
from transfer_study.images.datasets import image_folder, listed_dataset
from transfer_study.images.splits import split_images


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
        (spoil_single_image, "class 'green' has one training image .*; expected at least two"),
        (spoil_empty_class, "train/green contains no image"),
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
    for name in ("packed.tar", "packed"):  # as browsers name it
        (tmp_path / name).write_bytes((tmp_path / "packed.tar.gz").read_bytes())
    messages = {
        "cut.tar": "truncated|not a readable tar", "text.tar": "not a readable tar",
        "packed.tar.gz": "a compressed tar, .* unpack it",
        "packed.tar": r"a compressed tar, .* \(tar -xf\)", "packed": "a compressed tar,",
    }  # fmt: skip
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            image_folder(tmp_path / name)


def test_fingerprints_are_what_they_were(tmp_path):
    "Results are kept under them: names, sizes and contents, as JSON, hashed."
    folder = write_images(tmp_path / "squares", train=2, test=1)
    rows = [
        [name, len(data := (folder / name).read_bytes()), hashlib.sha256(data).hexdigest()]
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    ]
    assert image_folder(folder).fingerprint == digest(rows)


@pytest.fixture
def listing(tmp_path):
    "A folder of squares, and the list that says the same."
    folder = write_images(tmp_path / "squares", train=3, test=2)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    parts = [file.split("/") for file in files]
    return folder, pd.DataFrame({"file": files, "split": [p[0] for p in parts], "class": [p[1] for p in parts]})


def test_a_list_and_folders_give_the_same_images_labels_and_splits(listing):
    folder, table = listing
    listed, folders = listed_dataset("squares", folder, table.sample(frac=1, random_state=0)), image_folder(folder)
    for column in ("split", "class", "label", "name", "file", "size"):
        assert (listed.images[column] == folders.images[column]).all()
    assert [listed.read(i) for i in range(10)] == [folders.read(i) for i in range(10)]


def test_a_lists_fingerprint_sees_split_label_and_contents(listing):
    folder, table = listing
    prints = [listed_dataset("squares", folder, table).fingerprint]
    for column, value in {"split": "test", "class": "bright"}.items():
        changed = table.assign(**{column: table[column].where(table.index != 9, value)})
        prints.append(listed_dataset("squares", folder, changed).fingerprint)
    (folder / table["file"][0]).write_bytes(png_bytes())
    prints.append(listed_dataset("squares", folder, table).fingerprint)
    matrix = pd.DataFrame({label: table["class"] == label for label in ("bright", "dim")}).astype(int)
    for difficult in (0, -1):
        changed = matrix.assign(dim=matrix["dim"].mask(table.index == 0, difficult))
        prints.append(listed_dataset("squares", folder, table, label_matrix=changed).fingerprint)
    assert len(set(prints)) == len(prints)


def test_given_labels_order_the_classes_without_gaps(listing):
    folder, table = listing
    dataset = listed_dataset("squares", folder, table.assign(label=table["class"].map({"dim": 3, "bright": 8})))
    assert dataset.classes == ["dim", "bright"] and set(dataset.images["label"]) == {0, 1}


def test_missing_files_are_counted_and_their_labels_leave_with_them(listing):
    folder, table = listing
    matrix = pd.DataFrame({"row": range(10), "any": 1}).assign(row=lambda df: df["row"] % 2)
    for gone in ("test/bright/1.png", "train/dim/0.png"):
        (folder / gone).unlink()
    dataset = listed_dataset("squares", folder, table, label_matrix=matrix)
    assert dataset.missing == ("test/bright/1.png", "train/dim/0.png")
    kept = [i for i, file in enumerate(table["file"]) if file not in dataset.missing]
    assert dataset.targets.tolist() == matrix.iloc[kept].to_numpy().tolist()
    assert [dataset.images["name"][i] for i in range(8)] == table["file"].iloc[kept].tolist()


def test_lists_that_spoil_a_score_are_refused(listing):
    folder, table = listing
    twice = pd.concat([table, table[4:5]])
    (folder.parent / "secret.png").write_bytes(b"x")
    for bad, message in [
        (pd.concat([table, table[4:5].assign(split="test")]), r"'train/bright/0.png' is in train and test \(such images: 1\)"),
        (twice, "listed twice in train"),
        (table.assign(file=table["file"].replace("test/dim/0.png", "../secret.png")), "outside the dataset's folder"),
        (table.assign(file=table["file"].replace("test/dim/0.png", "/etc/passwd")), "outside the dataset's folder"),
        (table.assign(file="elsewhere/" + table["file"]), "none of its 4 test images exists; the first is expected at"),
        (table[table["split"] == "train"], "no images in test"),
    ]:
        with pytest.raises(UserError, match=message):
            listed_dataset("squares", folder, bad)


@pytest.mark.parametrize(("value", "message"), [(2, "labels must be 1"), (0, "no test image shows class 'a'")])
def test_a_label_matrix_is_checked(listing, value, message):
    folder, table = listing
    matrix = pd.DataFrame({"a": (table["split"] == "test").astype(int) * value, "b": 1})
    matrix.loc[table.index[-1], "a"] = 1
    with pytest.raises(UserError, match=message):
        listed_dataset("squares", folder, table, label_matrix=matrix)


def test_multi_label_validation_is_a_fifth_where_none_is_given(listing):
    folder, table = listing
    dataset = listed_dataset("squares", folder, table, label_matrix=pd.DataFrame({"a": [1] * 10, "b": [1, 0] * 5}))
    split = split_images(dataset, 3)
    assert [(split == name).sum() for name in ("train", "val", "test")] == [5, 1, 4]


def test_a_dataset_travels_to_another_process(listing):
    folder, table = listing
    dataset = listed_dataset("squares", folder, table)
    assert pickle.loads(pickle.dumps(dataset)).read(3) == dataset.read(3)
