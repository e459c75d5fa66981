"""The twelve official datasets: opened wherever they lie, counted, and refused where a file is missing."""

import io
import pickle
import shutil

import pandas as pd
import pytest
from PIL import Image

from tests import layouts
from transfer_study.core import UserError, data_path
from transfer_study.images.datasets import image_folder
from transfer_study.images.official import LAYOUTS, READERS, count_mismatch, known_datasets, official_dataset, official_folder

COUNTS = {  # classes, train, val, test of the small datasets of layouts.py
    "food101": (2, 5, 0, 3), "cifar10": (10, 50, 0, 10), "cifar100": (100, 300, 0, 100), "birdsnap": (2, 6, 0, 4),
    "sun397": (3, 9, 0, 6), "stanford_cars": (3, 6, 0, 3), "fgvc_aircraft": (3, 6, 3, 6), "voc2007": (2, 3, 2, 3),
    "dtd": (3, 9, 3, 6), "oxford_pets": (3, 9, 0, 6), "caltech101": (3, 90, 0, 12), "oxford_flowers": (3, 3, 3, 9),
}  # fmt: skip


def labels_by_name(dataset) -> dict:
    return dict(zip(dataset.images["name"], dataset.images["class"], strict=True))


def test_all_twelve_have_a_layout():
    assert list(LAYOUTS) == list(READERS) == known_datasets()["name"].tolist() == list(COUNTS) == list(layouts.ALL)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_splits_metric_and_mismatch(tmp_path, name):
    layouts.ALL[name](tmp_path)
    dataset = official_dataset(name, tmp_path)
    assert tuple(dataset.counts.values()) == COUNTS[name]
    assert dataset.name == name and not dataset.missing
    official = known_datasets().set_index("name").loc[name]
    assert dataset.metric == official["metric"]
    assert (dataset.counts["val"] > 0) == (official["validation"] == "official val")
    assert not dataset.images["name"].duplicated().any()
    if dataset.label_matrix is None:
        assert sorted(dataset.images["label"].unique()) == list(range(COUNTS[name][0]))
    line = count_mismatch(dataset)
    assert line.startswith(f"{name}: ") and f"{COUNTS[name][3]:,} test images found, {official['test']:,} expected" in line
    assert "\n" not in line


@pytest.mark.parametrize("name", COUNTS)
def test_every_image_is_a_file_that_decodes_and_travels_to_another_process(tmp_path, name):
    layouts.ALL[name](tmp_path)
    dataset = official_dataset(name, tmp_path)
    elsewhere = pickle.loads(pickle.dumps(dataset))
    for i in range(0, len(dataset.images), 7):
        assert Image.open(io.BytesIO(dataset.read(i))).size in ((6, 5), (32, 32))
        assert elsewhere.read(i) == dataset.read(i)


@pytest.mark.parametrize("name", COUNTS)
def test_a_dataset_is_the_same_wherever_it_lies(tmp_path, name):
    layouts.ALL[name](tmp_path / "here")
    first = official_dataset(name, tmp_path / "here")
    (tmp_path / "there").mkdir()
    shutil.move(tmp_path / "here", tmp_path / "there" / name)  # below a folder of its name
    second = official_dataset(name, tmp_path / "there")
    assert first.fingerprint == second.fingerprint and first.images.equals(second.images)


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_there_says_what_belongs_there(tmp_path, name):
    with pytest.raises(UserError, match=f"dataset '{name}': not found below .*; expected .*/"):
        official_dataset(name, tmp_path)


ESSENTIAL = [
    ("food101", ("meta/test.txt", "meta/test.json"), "test.txt is missing; .* the dataset's official archive food-101.tar.gz$"),
    ("cifar10", ("data_batch_3",), "data_batch_3 is missing"),
    ("cifar10", ("batches.meta",), "batches.meta is missing"),
    ("cifar100", ("test",), "test is missing"),
    ("birdsnap", ("test_images.txt",), "test_images.txt is missing"),
    ("birdsnap", ("species.txt",), "species.txt is missing; it is part of the dataset's official archive$"),
    ("birdsnap", ("images",), "none of its 6 train images exists; the first is expected at .*images"),
    ("sun397", ("Training_01.txt",), "Training_01.txt is missing; it is part of the dataset's official archive Partitions.zip"),
    ("sun397", ("ClassName.txt",), "ClassName.txt is missing; .* archives SUN397.tar.gz or Partitions.zip"),
    ("stanford_cars", ("cars_test_annos_withlabels.mat",), "is missing; it is part of .* files, beside cars_train.tgz, "),
    ("stanford_cars", ("cars_test",), "none of its 3 test images exists; the first is expected at .*cars_test/00001.jpg"),
    ("fgvc_aircraft", ("data/images_variant_val.txt",), "images_variant_val.txt is missing"),
    ("fgvc_aircraft", ("data/variants.txt",), "variants.txt is missing"),
    ("voc2007", ("ImageSets/Main/test.txt",), "Main/test.txt is missing; it is part of .* VOCtest_06-Nov-2007.tar"),
    ("voc2007", ("ImageSets/Main/val.txt",), "Main/val.txt is missing; .* VOCtrainval_06-Nov-2007.tar"),
    ("dtd", ("labels/val1.txt",), "val1.txt is missing"),
    ("oxford_pets", ("annotations/test.txt",), "test.txt is missing; .* archive annotations.tar.gz"),
    ("oxford_flowers", ("setid.mat",), "setid.mat is missing; .* official files, beside 102flowers.tgz, imagelabels.mat"),
    ("oxford_flowers", ("jpg",), "none of its"),
]


@pytest.mark.parametrize(("name", "files", "message"), ESSENTIAL, ids=[f"{n}-{f[0]}" for n, f, _ in ESSENTIAL])
def test_a_missing_file_is_named(tmp_path, name, files, message):
    layouts.remove(layouts.ALL[name](tmp_path), *files)
    with pytest.raises(UserError, match=message):
        official_dataset(name, tmp_path)


def test_archives_that_messages_name_are_those_that_are_downloaded():
    addresses = pd.read_csv(data_path("downloads.csv")).set_index("name")["url"]
    for name, layout in LAYOUTS.items():
        for _, archive in layout.archives:
            assert any(address.endswith(f"/{archive}") for address in addresses[[name]])


def test_birdsnap_counts_what_is_gone(tmp_path):
    gone = ("Acadian_Flycatcher/14.jpg", "Annas_Hummingbird/20.jpg", "Annas_Hummingbird/23.jpg")
    layouts.birdsnap(tmp_path, gone)
    dataset = official_dataset("birdsnap", tmp_path)
    assert dataset.missing == tuple(f"images/{path}" for path in gone)
    assert dataset.counts == {"classes": 2, "train": 5, "val": 0, "test": 2}
    line = count_mismatch(dataset)
    assert "2 test images found, 2,443 expected" in line
    assert line.endswith("3 files missing, first: images/Acadian_Flycatcher/14.jpg")
    assert dataset.classes == ["Acadian Flycatcher", "Anna's Hummingbird"]


@pytest.mark.parametrize("n_test", [1855, 1851])
def test_birdsnap_copies_that_lost_images_are_known(n_test):
    from transfer_study.images.datasets import ImageDataset

    images = pd.DataFrame({"split": ["train"] * 500 + ["test"] * n_test, "class": "x", "label": 0})
    dataset = ImageDataset("birdsnap", layouts.Path(), images, "")
    assert f"{n_test:,} test images found, 2,443 expected; a copy that lost images" in count_mismatch(dataset)


def test_sun397_in_another_split_is_reported(tmp_path):
    folder = layouts.sun397(tmp_path)
    for split, numbers in {"train": range(4), "test": range(4, 7)}.items():
        for path in folder.rglob("sun_*.jpg"):
            if int(path.stem[-1]) in numbers:
                target = tmp_path / "sun397" / split / path.parent.relative_to(folder).as_posix().replace("/", "_") / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    line = count_mismatch(image_folder(tmp_path / "sun397"))
    assert "12 training images found, 19,850 expected; 9 test images found, 19,850 expected" in line


def test_an_annotation_that_points_outside_is_refused(tmp_path):
    folder = layouts.dtd(tmp_path)
    layouts.text(folder / "labels/test1.txt", "banded/../../../secret.jpg")
    (tmp_path / "secret.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="outside the dataset's folder"):
        official_dataset("dtd", tmp_path)


def test_an_unknown_name_is_no_layout(tmp_path):
    with pytest.raises(UserError, match="did you mean dtd"):
        official_folder("dt", tmp_path)
