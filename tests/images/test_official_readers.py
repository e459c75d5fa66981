"""The annotation files of the twelve datasets, written small in their real formats and read back."""

import io
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from tests import layouts
from transfer_study.core import UserError
from transfer_study.images.layout import SPLITS
from transfer_study.images.official import official_dataset
from transfer_study.images.splits import split_images


def labels_by_name(dataset) -> dict:
    return dict(zip(dataset.images["name"], dataset.images["class"], strict=True))


# torchvision reads these layouts rightly: an independent reading of the same files


def torchvision_labels(name, root):
    from torchvision import datasets as tv

    if name == "food101":
        parts = {split: tv.Food101(root, split) for split in ("train", "test")}
    elif name == "dtd":
        parts = {split: tv.DTD(root, split) for split in SPLITS}
    elif name == "fgvc_aircraft":
        parts = {split: tv.FGVCAircraft(root, split) for split in SPLITS}
    elif name == "oxford_pets":
        parts = {"train": tv.OxfordIIITPet(root, "trainval"), "test": tv.OxfordIIITPet(root, "test")}
    else:
        parts = {split: tv.StanfordCars(root, split) for split in ("train", "test")}
    return {
        (split, Image.open(io.BytesIO(image.read_bytes())).getpixel((0, 0)), image.name): label
        for split, part in parts.items()
        for image, label in torchvision_samples(part)
    }


def torchvision_samples(part):
    from pathlib import Path

    files = getattr(part, "_image_files", None) or getattr(part, "_images", None)
    pairs = part._samples if files is None else zip(files, part._labels, strict=True)
    return [(Path(file), label) for file, label in pairs]


@pytest.mark.parametrize("name", ["food101", "dtd", "fgvc_aircraft", "oxford_pets", "stanford_cars"])
def test_labels_are_torchvisions(tmp_path, name):
    folder = layouts.ALL[name](tmp_path)
    dataset = official_dataset(name, tmp_path)
    if name == "dtd":  # torchvision expects the archive's folder in one of its own
        shutil.move(folder, tmp_path / "outer")
        (tmp_path / "dtd").mkdir()
        shutil.move(tmp_path / "outer", tmp_path / "dtd/dtd")
        assert official_dataset(name, tmp_path).fingerprint == dataset.fingerprint
        dataset = official_dataset(name, tmp_path)
    ours = {
        (row.split, Image.open(io.BytesIO(dataset.read(i))).getpixel((0, 0)), row.name.rpartition("/")[2]): row.label
        for i, row in enumerate(dataset.images.rename_axis(None).itertuples(index=False, name="Row"))
    }
    assert ours == torchvision_labels(name, tmp_path)


# each layout's own traps


def test_food101_reads_text_and_json_alike(tmp_path):
    folder = layouts.food101(tmp_path)
    before = official_dataset("food101", tmp_path)
    layouts.remove(folder, "meta/train.txt", "meta/test.txt")
    after = official_dataset("food101", tmp_path)
    assert before.fingerprint == after.fingerprint and before.classes == ["apple_pie", "waffles"]


def test_flowers_labels_are_the_annotations(tmp_path):
    folder = layouts.oxford_flowers(tmp_path)
    dataset = official_dataset("oxford_flowers", tmp_path)
    labels = loadmat(folder / "imagelabels.mat")["labels"][0]
    names = dict(pd.read_csv(layouts.Path(__file__).parents[2] / "data/oxford_flowers_classes.csv").itertuples(index=False))
    assert labels_by_name(dataset) == {f"jpg/image_{i:05d}.jpg": names[label] for i, label in enumerate(labels, 1)}
    assert dataset.classes == ["pink primrose", "passion flower", "blackberry lily"]  # labels 1, 77, 102
    assert dataset.images.query("split == 'val'")["name"].tolist() == [f"jpg/image_{i:05d}.jpg" for i in (2, 7, 12)]


def test_flowers_names_are_torchvisions():
    from torchvision.datasets import Flowers102

    table = pd.read_csv(layouts.Path(__file__).parents[2] / "data/oxford_flowers_classes.csv")
    assert table["class"].tolist() == list(Flowers102.classes) and table["label"].tolist() == list(range(1, 103))


def test_flowers_counted_from_0_are_refused(tmp_path):
    layouts.oxford_flowers(tmp_path, first=0)
    with pytest.raises(UserError, match="labels start at 0, the official ones at 1"):
        official_dataset("oxford_flowers", tmp_path)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"trnid": [0, 6, 11], "valid": [2], "tstid": [3, 8, 13]}, "start at 0"),
        ({"trnid": [1, 6, 11], "valid": [2], "tstid": [3, 8, 99]}, "labels from 3 to 99 found, 1 to 15 expected"),
        ({"trnid": [1, 6, 11], "valid": [2], "tstid": [1, 8, 13]}, "in train and test"),
        ({"trnid": [1, 6, 11], "tstid": [3, 8, 13]}, "no variable 'valid'; found: trnid, tstid"),
        ({"trnid": [1.5, 6, 11], "valid": [2], "tstid": [3, 8, 13]}, "whole numbers"),
    ],
)
def test_flowers_sets_are_checked(tmp_path, sets, message):
    folder = layouts.oxford_flowers(tmp_path)
    savemat(folder / "setid.mat", {name: np.array([ids]) for name, ids in sets.items()})
    with pytest.raises(UserError, match=message):
        official_dataset("oxford_flowers", tmp_path)


def test_a_damaged_mat_file_is_named(tmp_path):
    folder = layouts.oxford_flowers(tmp_path)
    (folder / "imagelabels.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match="imagelabels.mat: not a readable MATLAB file"):
        official_dataset("oxford_flowers", tmp_path)


def test_cars_in_both_layouts_have_the_same_labels(tmp_path):
    layouts.stanford_cars(tmp_path / "first")
    layouts.stanford_cars_later(tmp_path / "later")
    first, later = (official_dataset("stanford_cars", tmp_path / which) for which in ("first", "later"))
    labels = [[d.images["label"][d.images["split"] == split].tolist() for split in ("train", "test")] for d in (first, later)]
    assert labels[0] == labels[1] == [[2, 0, 1, 1, 2, 0], [1, 2, 0]]
    assert first.classes == later.classes == layouts.CARS


def test_the_later_cars_layout_is_read_where_both_exist(tmp_path):
    layouts.stanford_cars(tmp_path)
    layouts.stanford_cars_later(tmp_path)
    assert official_dataset("stanford_cars", tmp_path).images["file"].str.startswith("car_ims/").all()


def test_cars_without_test_labels_or_counted_from_0(tmp_path):
    folder = layouts.stanford_cars(tmp_path)
    nested = folder / "cars_train_"
    shutil.move(folder / "cars_train", nested)
    shutil.move(nested, folder / "cars_train" / "cars_train")  # as some copies nest it
    assert official_dataset("stanford_cars", tmp_path).counts["train"] == 6
    labelled = (folder / "cars_test_annos_withlabels.mat").read_bytes()
    shutil.copy(folder / "devkit/cars_test_annos.mat", folder / "cars_test_annos_withlabels.mat")
    with pytest.raises(UserError, match="contains no labels; use cars_test_annos_withlabels.mat"):
        official_dataset("stanford_cars", tmp_path)
    (folder / "cars_test_annos_withlabels.mat").write_bytes(labelled)
    annotations = layouts.structs(**{"class": [0, 1, 2], "fname": ["00001.jpg", "00002.jpg", "00003.jpg"]})
    savemat(folder / "devkit/cars_train_annos.mat", {"annotations": annotations})
    with pytest.raises(UserError, match="labels start at 0"):
        official_dataset("stanford_cars", tmp_path)


def test_birdsnap_tables_must_agree(tmp_path):
    folder = layouts.birdsnap(tmp_path)
    names = (folder / "test_images.txt").read_text()
    layouts.text(folder / "test_images.txt", *names.splitlines(), "nowhere/1.jpg")
    with pytest.raises(UserError, match="test_images.txt names 1 images that images.txt does not, first: nowhere/1.jpg"):
        official_dataset("birdsnap", tmp_path)
    (folder / "test_images.txt").write_text(names)
    layouts.text(folder / "species.txt", "id\tcommon", "1\tAcadian Flycatcher")
    with pytest.raises(UserError, match="species 2 is not in species.txt"):
        official_dataset("birdsnap", tmp_path)
    layouts.text(folder / "species.txt", "number\tname", "1\tAcadian Flycatcher")
    with pytest.raises(UserError, match="no column 'id' in its first line; found: number, name"):
        official_dataset("birdsnap", tmp_path)


@pytest.mark.parametrize("partitions", ["", "Partitions", "../Partitions"])
def test_sun397_is_its_first_partition(tmp_path, partitions):
    layouts.sun397(tmp_path, partitions)
    dataset = official_dataset("sun397", tmp_path)
    assert dataset.classes == ["a/abbey", "a/apartment_building/outdoor", "z/zoo"]
    numbers = dataset.images["name"].str.extract(r"(\d)\.jpg$")[0].astype(int)
    assert set(numbers[dataset.images["split"] == "train"]) == {0, 1, 2}
    assert set(numbers[dataset.images["split"] == "test"]) == {3, 4}


def test_sun397_partitions_that_overlap_or_name_strangers_are_refused(tmp_path):
    folder = layouts.sun397(tmp_path)
    layouts.text(folder / "Testing_01.txt", "/a/abbey/sun_a0.jpg", "/z/zoo/sun_z3.jpg")
    with pytest.raises(UserError, match=r"'a/abbey/sun_a0.jpg' is in train and test \(such images: 1\)"):
        official_dataset("sun397", tmp_path)
    layouts.text(folder / "Testing_01.txt", "/q/quay/sun_1.jpg")
    with pytest.raises(UserError, match="class 'q/quay' is not among the 3 listed classes"):
        official_dataset("sun397", tmp_path)


def test_aircraft_variants_keep_their_order_and_spaces(tmp_path):
    folder = layouts.fgvc_aircraft(tmp_path)
    assert official_dataset("fgvc_aircraft", tmp_path).classes == ["A300B4", "Boeing 717", "F-16A/B"]
    layouts.text(folder / "data/images_variant_test.txt", "0000003 Concorde")
    with pytest.raises(UserError, match="class 'Concorde' is not among the 3 listed classes"):
        official_dataset("fgvc_aircraft", tmp_path)
    layouts.text(folder / "data/images_variant_test.txt", "0000003")
    with pytest.raises(UserError, match="2 fields expected in each line, found '0000003'"):
        official_dataset("fgvc_aircraft", tmp_path)


def test_pets_labels_and_file_names_must_agree(tmp_path):
    folder = layouts.oxford_pets(tmp_path)
    assert official_dataset("oxford_pets", tmp_path).classes == ["Abyssinian", "american_pit_bull", "Bengal"]  # by label
    lines = (folder / "annotations/test.txt").read_text()
    (folder / "annotations/test.txt").write_text(lines.replace("Bengal_3 3", "Bengal_3 1"))
    with pytest.raises(UserError, match="do not agree with the breeds"):
        official_dataset("oxford_pets", tmp_path)
    (folder / "annotations/test.txt").write_text(lines.replace("Abyssinian_3 1", "Abyssinian_3 0"))
    with pytest.raises(UserError, match="labels start at 0"):
        official_dataset("oxford_pets", tmp_path)
    (folder / "annotations/test.txt").write_text(lines.replace("Abyssinian_3 1", "Abyssinian_3 one"))
    with pytest.raises(UserError, match="should be the label"):
        official_dataset("oxford_pets", tmp_path)


def test_caltech_draws_30_of_each_class_the_same_way_every_time(tmp_path):
    layouts.caltech101(tmp_path)
    (tmp_path / "caltech101/101_ObjectCategories/.ipynb_checkpoints").mkdir()  # of a program, no class
    first, second = official_dataset("caltech101", tmp_path), official_dataset("caltech101", tmp_path)
    assert (first.images["split"] == second.images["split"]).all()
    table = pd.crosstab(first.images["class"], first.images["split"])
    assert (table["train"] == 30).all() and table["test"].tolist() == [3, 4, 5]
    test = first.images.query("split == 'test'").groupby("class")["name"].apply(lambda n: tuple(n.str[-8:]))
    assert len(set(test)) == 3  # a draw of its own in each class
    assert "BACKGROUND_Google" in first.classes


def test_caltech_with_too_few_images_is_refused(tmp_path):
    layouts.caltech101(tmp_path, n=30)
    with pytest.raises(UserError, match="30 images in .*BACKGROUND_Google; more than 30 expected"):
        official_dataset("caltech101", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_images_keep_every_pixel_and_their_label(tmp_path, name):
    folder = layouts.ALL[name](tmp_path)
    dataset = official_dataset(name, tmp_path)
    fine = "fine_" if name == "cifar100" else ""
    key, names_key, meta = f"{fine}labels", f"{fine}label_names", "meta" if fine else "batches.meta"
    names = pickle.loads((folder / meta).read_bytes(), encoding="latin1")[names_key]
    for i in range(0, len(dataset.images), 11):
        row = dataset.images.loc[i]
        batch = pickle.loads((folder / row["file"]).read_bytes(), encoding="latin1")
        j = batch["filenames"].index(row["name"].split("/")[1])
        expected = batch["data"][j].reshape(3, 32, 32).transpose(1, 2, 0)
        image = Image.open(io.BytesIO(dataset.read(i)))
        assert image.mode == "RGB" and (np.asarray(image) == expected).all()
        assert row["class"] == names[batch[key][j]] and row["label"] == batch[key][j]
    assert dataset.classes == names


def test_cifar_arrays_are_not_sent_to_other_processes(tmp_path):
    layouts.cifar10(tmp_path)
    dataset = official_dataset("cifar10", tmp_path)
    dataset.read(0)
    assert len(pickle.dumps(dataset.reader)) < 2000 < dataset.reader.pixels.nbytes


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_cifar_pickle_that_runs_something_is_refused(tmp_path):
    folder = layouts.cifar10(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Trap(tmp_path / "ran"), "labels": [], "filenames": []}))
    with pytest.raises(UserError, match=r"data_batch_2: not a pickle of arrays \(it would call .*open"):
        official_dataset("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((10, 3000), np.uint8)}, "do not match"),
        ({"labels": [0] * 9}, "do not match"),
        ({"labels": [10] * 10}, "labels from 0 to 9 expected"),
        ({"data": None}, "pixels of type object, expected uint8"),
        ({"data": np.zeros((10, 3072))}, "pixels of type float64, expected uint8"),
    ],
)
def test_a_cifar_batch_is_checked(tmp_path, change, message):
    folder = layouts.cifar10(tmp_path)
    batch = layouts.cifar_batch(10, 3, labels=list(range(10))) | change
    (folder / "data_batch_4").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(UserError, match=message):
        official_dataset("cifar10", tmp_path)


def test_a_cifar_batch_that_is_cut_short_is_named(tmp_path):
    folder = layouts.cifar10(tmp_path)
    whole = (folder / "data_batch_1").read_bytes()
    (folder / "data_batch_1").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="data_batch_1: not a pickle of arrays"):
        official_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("source", [{"annotations": False}, {"class_files": False}, {}])
def test_voc_labels_are_the_objects_and_difficult_ones_stand_apart(tmp_path, source):
    layouts.voc2007(tmp_path, **source)
    dataset = official_dataset("voc2007", tmp_path)
    names = [f"JPEGImages/{image}.jpg" for images in layouts.VOC.values() for image in images]
    by_name = dict(zip(dataset.images["name"], dataset.targets.tolist(), strict=True))
    assert dataset.classes == ["car", "chair"]
    assert [by_name[name] for name in names] == layouts.VOC_TARGETS
    assert split_images(dataset).tolist() == dataset.images["split"].tolist()


def test_voc_files_that_are_damaged_are_named(tmp_path):
    folder = layouts.voc2007(tmp_path)
    path = folder / "ImageSets/Main/car_test.txt"
    lines = path.read_text()
    for bad, message in [("000001  2\n" + lines[11:], "image 000001 has label 2"), (lines[11:], "image 000001 has label None")]:
        path.write_text(bad)
        with pytest.raises(UserError, match=f"car_test.txt: {message}; expected 1, 0 or -1"):
            official_dataset("voc2007", tmp_path)
    layouts.remove(folder, *(f"ImageSets/Main/{label}_test.txt" for label in ("car", "chair")))
    (folder / "Annotations/000002.xml").write_text("<annotation><object>")
    with pytest.raises(UserError, match="000002.xml: not XML"):
        official_dataset("voc2007", tmp_path)
    layouts.remove(folder, "Annotations/000002.xml")
    with pytest.raises(UserError, match="000002.xml is missing"):
        official_dataset("voc2007", tmp_path)


def test_a_class_file_of_one_voc_class_missing_from_a_split_is_refused(tmp_path):
    folder = layouts.voc2007(tmp_path)
    layouts.remove(folder, "ImageSets/Main/car_test.txt")
    with pytest.raises(UserError, match="car_test.txt is missing"):
        official_dataset("voc2007", tmp_path)
