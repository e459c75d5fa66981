"""Datasets described by a table: named splits and columns, CSV files, torchvision, drawn test images."""

import gzip
import json
import pickle
import re
import tomllib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import pack, write_images
from transfer_study.classifiers.knn import knn_probe
from transfer_study.core import UserError
from transfer_study.images.catalog import open_dataset
from transfer_study.images.datasets import listed_dataset
from transfer_study.images.keys import DatasetEntry, dataset_entry
from transfer_study.images.splits import draw_test_images, split_images, used_split
from transfer_study.images.unlabelled import unlabelled_images
from transfer_study.selection.images import open_images
from transfer_study.study.file import read_study_file, study_part


@pytest.fixture
def plants(tmp_path):
    "Twenty images of two classes, and a CSV file that lists them without a split."
    (tmp_path / "pictures").mkdir()
    lines = ["image,label"]
    for i in range(20):
        Image.new("RGB", (6, 6), (10 * i, 0, 90)).save(tmp_path / f"pictures/{i}.png")
        lines.append(f"pictures/{i}.png,{'moss' if i < 10 else 'fern'}")
    (tmp_path / "plants.csv").write_text("\n".join(lines))
    return tmp_path


def with_column(folder, column, values):
    lines = (folder / "plants.csv").read_text().splitlines()
    rows = [f"{lines[0]},{column}", *(f"{line},{value}" for line, value in zip(lines[1:], values, strict=True))]
    (folder / "plants.csv").write_text("\n".join(rows))


def test_a_csv_file_without_splits_gets_stratified_test_images(plants):
    dataset = open_dataset({"csv": "plants.csv", "test_share": 0.2, "metric": "f1"}, plants)
    assert (dataset.name, dataset.metric, dataset.classes) == ("plants", "f1", ["fern", "moss"])
    assert dataset.images.groupby(["split", "class"]).size().tolist() == [2, 2, 8, 8]
    again = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    other = open_dataset({"csv": "plants.csv", "test_share": 0.2, "seed": 1}, plants)
    assert again.fingerprint == dataset.fingerprint != other.fingerprint


def test_splits_of_a_csv_file_are_translated(plants):
    with_column(plants, "split", ["Train", "Train", "Valid", "Train", "held"] * 4)
    with pytest.raises(UserError, match="unknown split 'held'; expected train, val, test"):
        open_dataset({"csv": "plants.csv"}, plants)
    dataset = open_dataset({"csv": "plants.csv", "splits": {"train": "Train", "test": "held"}}, plants)
    assert dataset.counts == {"classes": 2, "train": 12, "val": 0, "test": 4}
    assert dataset.notes == ("dataset plants: left out: 4 rows of split 'Valid'",)
    with pytest.raises(UserError, match="no split 'final'; found: Train, Valid, held"):
        open_dataset({"csv": "plants.csv", "splits": {"train": "Train", "test": "final"}}, plants)


def test_a_column_of_splits_is_found_or_asked_for(plants):
    with_column(plants, "Split", ["Train", "test"] * 10)
    listed = open_dataset({"csv": "plants.csv"}, plants)
    assert listed.counts == {"classes": 2, "train": 10, "val": 0, "test": 10} and listed.notes == ()
    text = (plants / "plants.csv").read_text()
    (plants / "subset.csv").write_text(text.replace("Split", "subset"))
    found = open_dataset({"csv": "subset.csv"}, plants)
    assert found.fingerprint == listed.fingerprint
    assert found.notes == ("dataset subset: the splits are those of the column 'subset': 10 Train, 10 test",)
    with pytest.raises(UserError, match="has test images already; remove test_share"):
        open_dataset({"csv": "subset.csv", "test_share": 0.2}, plants)
    flags = ("is_test", "0", "1"), ("Is_Train", "True", "False"), ("is_training", "1", "0")
    for column, train, test in (*flags, ("is_training_image", "1", "0"), ("Is_Test_Set", "0.0", "1.0")):
        (plants / "flag.csv").write_text(text.replace("Train", train).replace("test", test).replace("Split", column))
        assert open_dataset({"csv": "flag.csv"}, plants).fingerprint == listed.fingerprint, column
    (plants / "valid.csv").write_text(text.replace("Split", "is_valid").replace("Train", "0").replace("test", "1"))
    validated = open_dataset({"csv": "valid.csv", "test_share": 0.2}, plants)
    assert validated.counts == {"classes": 2, "train": 8, "val": 10, "test": 2}
    (plants / "size.csv").write_text(text.replace("Split", "width").replace("Train", "6").replace("test", "6"))
    assert open_dataset({"csv": "size.csv", "test_share": 0.2}, plants).notes == ("dataset size: columns not used: width",)


def write_patients(folder):
    "Forty images of two classes: two of each patient."
    for i in range(40):
        path = folder / f"scans/{'moss' if i < 20 else 'fern'}/p{i // 2}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (5 * i, 0, 90)).save(path)
    return folder


def test_images_of_a_group_stay_together_wherever_images_are_drawn(tmp_path):
    "As with `recommend --groups`; without the key, patients are on both sides."
    keys = {"folder": "scans", "test_share": 0.25}
    plain = open_dataset(keys, write_patients(tmp_path))
    patients = plain.images["name"].str.extract(r"(p\d+)_")[0]
    assert set(patients[plain.images["split"] == "test"]) & set(patients[plain.images["split"] == "train"])
    for groups, message in (("(moss|fern)", "every class has one image only"), ("zzz", "groups 'zzz': matches no image name")):
        with pytest.raises(UserError, match=rf"^dataset scans: {re.escape(message)}"):
            open_dataset(keys | {"groups": groups}, tmp_path)
    rows = [f"{name},{name.split('/')[0]} {i % 2}" for i, name in enumerate(plain.images["name"])]
    (tmp_path / "halves.csv").write_text("\n".join(["image,group", *rows]))
    with pytest.raises(UserError, match="^dataset scans: every class has one image only, or only images that belong together"):
        split_images(open_dataset(keys | {"groups": "halves.csv"}, tmp_path))
    grouped = open_dataset(keys | {"groups": r"(p\d+)_"}, tmp_path)
    assert grouped.counts == {"classes": 2, "train": 30, "val": 0, "test": 10}
    for seed in range(3):
        split = split_images(grouped, seed)
        assert pd.Series(split).groupby(patients).nunique().max() == 1 and (split == "val").sum() == 6
    assert grouped.notes == ("dataset scans: 20 groups; 0 images belong to none",)
    rows = [f"{name.rpartition('/')[2]},{patient}" for name, patient in zip(plain.images["name"], patients, strict=True)]
    (tmp_path / "patients.csv").write_text("\n".join(["image,group", *rows]))
    listed = open_dataset(keys | {"groups": "patients.csv"}, tmp_path)
    assert listed.fingerprint == grouped.fingerprint != plain.fingerprint


@pytest.mark.parametrize("columns", [("image", "label"), ("picture", "species")])
def test_groups_may_be_a_column_of_the_list(plants, columns):
    "As with the same groups in a table; the column is then no label, and not one that is not used."
    with_column(plants, "patient", [f"p{i // 3}" if i else "" for i in range(20)])
    text = (plants / "plants.csv").read_text().replace("image,label", ",".join(columns))
    (plants / "list.csv").write_text(text)
    rows = [line.split(",") for line in text.splitlines()[1:]]
    (plants / "groups.csv").write_text("\n".join(["image,group", *(f"{image},{group}" for image, _, group in rows)]))
    keys = {"csv": "list.csv", "test_share": 0.2}
    table = open_dataset(keys | {"groups": "groups.csv", "image": columns[0], "label": columns[1]}, plants)
    column = open_dataset(keys | {"groups": "patient"}, plants)
    assert column.fingerprint == table.fingerprint and column.notes[-1] == "dataset list: 7 groups; 1 images belong to none"
    assert column.images["group_name"].dropna().nunique() == 7 and not any("not used" in note for note in column.notes)
    lines = [f"{line},{'b' if i % 3 else 'a'}" for i, line in enumerate(text.splitlines()[1:])]
    (plants / "list.csv").write_text("\n".join([f"{','.join(columns)},patient,part", *lines, "pictures/4.png,moss,p9,c"]))
    keys = {"csv": "list.csv", "split": "part", "splits": {"train": "b", "test": "a"}, "groups": "patient"}
    given = open_dataset(keys, plants).images  # the last line is of a part that is not used
    assert given.set_index("file").loc["pictures/4.png", "group_name"] == "p1" and "p9" not in set(given["group_name"])


@pytest.fixture
def several(plants):
    "Twenty images, two of each plant, of which three plants show the rare label, and no plant shows both of the others."
    labels = ["|".join(["a" if i < 10 else "b"] + ["rare"] * (i // 2 in (0, 4, 7))) for i in range(20)]
    lines = (f"pictures/{i}.png,{labels[i]},p{i // 2}" for i in range(20))
    (plants / "several.csv").write_text("\n".join(["image,label,plant", *lines]))
    return plants


@pytest.mark.parametrize("keys", [{}, {"groups": "plant"}], ids=["images", "groups"])
@pytest.mark.parametrize("seed", range(12))
def test_drawn_splits_show_each_of_several_labels(several, seed, keys):
    "Of a seed whose first draw does, it is the split."
    dataset = open_dataset({"csv": "several.csv", "test_share": 0.2, "seed": seed} | keys, several)
    split, shown = dataset.images["split"].to_numpy(), dataset.label_matrix == 1
    assert all(shown[split == part].any().all() for part in ("train", "test")) and 4 <= (split == "test").sum() <= 8
    if not keys:
        first = set(np.random.default_rng([seed, 0]).permutation(20)[:4])
        rows = {int(name.rpartition("/")[2][:-4]) for name in dataset.images["name"][split == "test"]}
        of_first = shown[[int(name.rpartition("/")[2][:-4]) in first for name in dataset.images["name"]]]
        assert (rows == first) == bool(of_first.any().all() and shown[split == "train"].any().all())
    for validation_seed in range(6):
        assert shown[split_images(dataset, validation_seed, 0.5) == "train"].any().all()


def test_a_recommendation_needs_one_label_whatever_a_draw_would_show(several):
    (several / "once.csv").write_text((several / "several.csv").read_text().replace("3.png,a,", "3.png,a|once,", 1))
    given = (several / "once.csv").read_text().splitlines()
    lines = [f"{line},{'test' if i % 4 == 0 else 'train'}" for i, line in enumerate(given[1:])]
    (several / "given.csv").write_text("\n".join([f"{given[0]},split", *lines]))
    for name in ("once.csv", "given.csv"):
        with pytest.raises(UserError, match="several labels each; a recommendation needs one label per image; a study "):
            open_images(several / name)
    with pytest.raises(UserError, match="no test image shows class 'once'"):
        open_dataset(str(several / "given.csv"))


def test_a_label_that_no_draw_can_show_on_both_sides_is_refused(several):
    (several / "once.csv").write_text((several / "several.csv").read_text().replace("3.png,a,", "3.png,a|once,", 1))
    for keys in ({}, {"groups": "plant"}):
        with pytest.raises(UserError, match=r"no (train|test) image shows class 'once' .*; add images of it, or leave the"):
            open_dataset({"csv": "once.csv", "test_share": 0.2} | keys, several)


@pytest.mark.parametrize(("header", "cells", "message"), [
    (",split", ["val", "test"], "no training images, found: test, val; call their split train, or in a study file name it"),
    (",split", ["train", "", "test", "test"], "5 of 20 rows have no split; complete or remove them"),
    (",split", ["A", "B"], "unknown splits 'A', 'B'; expected train, val, test"),
    ("", None, "no line below the header .image, label.; expected one for each image"),
])  # fmt: skip
def test_splits_of_a_list_that_are_none_are_all_named(plants, header, cells, message):
    lines = (plants / "plants.csv").read_text().splitlines()
    rows = [f"{line},{cells[i % len(cells)]}" for i, line in enumerate(lines[1:])] if cells else []
    (plants / "list.csv").write_text("\n".join([lines[0] + header, *rows]) + "\n")
    for opened in (lambda: open_dataset(str(plants / "list.csv")), lambda: open_images(plants / "list.csv")):
        with pytest.raises(UserError, match=message):
            opened()


def test_files_of_another_suffix_are_named(plants):
    (plants / "list.csv").write_text((plants / "plants.csv").read_text().replace(".png", ".jpg"))
    with pytest.raises(UserError, match="0.jpg; 0.png is there, so the suffix is another"):
        open_dataset({"csv": "list.csv", "test_share": 0.2}, plants)


@pytest.mark.parametrize("start", [
    "pictures/", "{}/pictures/", "/home/me/pictures/", "C:\\me\\pictures\\", "pictures\\", "/data/upload/", "http://a.org/b/",
])  # fmt: skip
@pytest.mark.parametrize("absent", [0, 3])
def test_a_missing_image_is_counted_however_the_paths_are_written(plants, start, absent):
    "Also where it is the first of the list; a file outside of the folder is missing too."
    text = (plants / "plants.csv").read_text().replace("pictures/", start.format(plants))
    (plants / "list.csv").write_text(text + "\n/elsewhere/20.png,fern")
    (plants / f"pictures/{absent}.png").unlink()
    dataset = open_dataset({"csv": "list.csv", "test_share": 0.2}, plants)
    assert len(dataset.missing) == 2 and dataset.missing[0].endswith(f"{absent}.png") and len(dataset.images) == 19
    assert f"2 of 21 listed images do not exist and are left out (first: {dataset.missing[0]})" in dataset.notes[-1]


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_images_of_a_listed_folder_are_not_those_of_another_one(plants, suffix):
    "Kaggle's folders train and test have the same names, and one image of train is missing."
    (plants / "pictures").rename(plants / "train")
    (plants / "test").mkdir()
    for i in range(20):
        (plants / f"test/{i}.png").write_bytes((plants / f"train/{19 - i}.png").read_bytes())
    (plants / "train/5.png").unlink()
    text = (plants / "plants.csv").read_text().replace("pictures/", "train/").replace(".png", suffix)
    (plants / "list.csv").write_text(text)
    dataset = open_dataset({"csv": "list.csv", "test_share": 0.2}, plants)
    assert dataset.missing == (f"train/5{suffix}",) and dataset.images["file"].str.startswith("train/").all()
    (plants / "list.csv").write_text(text.replace("train/", "C:\\data\\train\\"))
    missing = open_dataset({"csv": "list.csv", "test_share": 0.2}, plants).missing
    assert missing == ("train/5.png" if suffix else "C:\\data\\train\\5",)


def test_pixels_in_cells_are_named_before_the_names_of_splits(tmp_path):
    rows = [f"{i % 2},{' '.join(['70'] * 100)},{'Training' if i < 6 else 'PublicTest'}" for i in range(8)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    with pytest.raises(UserError, match=r"pixels in cells are not read \(columns of numbers: pixels\)"):
        open_dataset({"csv": "fer2013.csv"}, tmp_path)


def test_groups_of_given_test_images_are_said_and_mistakes_are_one_line(tmp_path):
    dataset = open_dataset({"folder": "scans", "test_share": 0.25}, write_patients(tmp_path))
    table = dataset.images[["file", "class", "split"]].set_axis(["image", "label", "split"], axis=1)
    table.assign(image="scans/" + table["image"]).to_csv(tmp_path / "scans.csv", index=False)
    given = open_dataset({"csv": "scans.csv", "groups": r"(p\d+)_"}, tmp_path)
    assert "groups are in training and test: the accuracy is not that of new groups" in given.notes[-1]
    assert given.images["split"].tolist() == open_dataset({"csv": "scans.csv"}, tmp_path).images["split"].tolist()
    with pytest.raises(UserError, match="groups 'zzz': matches no image name"):
        open_dataset({"csv": "scans.csv", "groups": "zzz"}, tmp_path)
    with pytest.raises(UserError, match="n_train_per_class 4 draws single images, not groups"):
        used_split(given, np.arange(40), n_train_per_class=4)
    with pytest.raises(UserError, match="groups: has no meaning for hf"):
        open_dataset({"hf": "scans", "groups": "a"}, tmp_path)


def test_lists_of_labels_with_another_sign_are_said(plants):
    text = (plants / "plants.csv").read_text()
    for i in (1, 2, 3, 15, 16, 17):
        text = re.sub(f"/{i}.png,.*", f'/{i}.png,"{"moss, wet" if i < 10 else "Fern, royal"}"', text)
    (plants / "plants.csv").write_text(text)
    dataset = open_dataset({"csv": "plants.csv", "test_share": 0.25}, plants)
    message = "labels with , or ; are one label each, such as 'moss, wet'; if they are several labels of an image, "
    message += "write | between them"
    assert dataset.notes == (f"dataset plants: {message}",) and len(dataset.classes) == 4


def test_of_two_columns_of_splits_one_is_named(plants):
    with_column(plants, "phase", ["train", "test"] * 10)
    with_column(plants, "subset", ["test", "train"] * 10)
    with pytest.raises(UserError, match="the columns 'phase' and 'subset' hold splits; call the right one split, or in"):
        open_dataset({"csv": "plants.csv"}, plants)
    chosen = open_dataset({"csv": "plants.csv", "split": "phase"}, plants)
    assert chosen.images.groupby("split")["file"].first()["test"] == "pictures/1.png"
    assert chosen.notes == ("dataset plants: columns not used: subset",)


def test_splits_of_other_names_are_proposed_in_a_line_that_works(plants):
    "As FER2013 and WILDS name them; without a word, PublicTest would be training images of a recommendation."
    text = (plants / "plants.csv").read_text()
    with_column(plants, "Usage", ["Training", "Training", "PublicTest", "Training", "PrivateTest"] * 4)
    proposed = 'splits = { train = "Training", val = "PublicTest", test = "PrivateTest" }'
    line = re.escape(f'in a study file write split = "Usage", {proposed}; elsewhere call the column split')
    for opened in (lambda: open_dataset({"csv": "plants.csv"}, plants), lambda: open_images(plants / "plants.csv")):
        with pytest.raises(UserError, match=line):
            opened()
    with pytest.raises(UserError, match=re.escape(f"'PublicTest'; expected train, val, test, or in a study file {proposed}")):
        open_dataset({"csv": "plants.csv", "split": "Usage"}, plants)
    keys = tomllib.loads(f'csv = "plants.csv"\nsplit = "Usage"\n{proposed}')
    assert open_dataset(keys, plants).counts == {"classes": 2, "train": 12, "val": 4, "test": 4}
    assert open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants).notes == ("dataset plants: columns not used: Usage",)
    (plants / "plants.csv").write_text(text)
    with_column(plants, "split", ["train", "train", "test", "id_val", "id_test"] * 4)
    with pytest.raises(UserError, match='splits = { train = "train", val = "id_val", test = "test" }'):
        open_dataset({"csv": "plants.csv"}, plants)


def test_numbers_that_nearly_all_differ_are_no_classes(plants):
    rows = [line.split(",")[0] for line in (plants / "plants.csv").read_text().splitlines()[1:]]
    (plants / "mos.csv").write_text("\n".join(["image,MOS", *(f"{row},{1 + i / 7:.2f}" for i, row in enumerate(rows))]))
    drawn = {"csv": "mos.csv", "test_share": 0.2}
    for opened in (lambda: open_dataset(drawn, plants), lambda: open_images(plants / "mos.csv")):
        with pytest.raises(UserError, match=r"20 labels for 20 images \(column MOS\): numbers, not classes; write a class"):
            opened()
    (plants / "mos.csv").write_text("\n".join(["image,stars", *(f"{row},{i % 4 / 2}" for i, row in enumerate(rows))]))
    assert len(open_dataset({"csv": "mos.csv", "test_share": 0.2}, plants).classes) == 4, "half stars are classes"
    (plants / "mos.csv").write_text("\n".join(["image,text", *(f"{row},plant {i}" for i, row in enumerate(rows))]))
    with pytest.raises(UserError, match="no test image can be drawn, because no class has an image to spare"):
        open_dataset({"csv": "mos.csv", "test_share": 0.2}, plants)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("coco.json", '{"info": {}, "images": [{}], "annotations": [{}]}', "lists images, annotations; labels in JSON"),
        ("coco.json", '{\n "images": [{"id": 0}]\n}', "JSON or XML files are not read: export"),
        ("mura.csv", "train/p01/study1_a/,1\ntrain/p02/study1_a/,1", "no header, its first line is 'train/p01/"),
        ("ids.csv", "img_001,cat\nimg_002,dog\nimg_003,cat", "no header, its first line is 'img_001,cat'"),
        ("paths.csv", "pictures/0.png\npictures/1.png", "one column only, labels are missing"),
        ("paths.csv", "image,label\npictures/0.png\npictures/1.png", "one column only, labels are missing|has 1 cells"),
    ],
)  # fmt: skip
def test_lists_that_miss_labels_or_a_header_are_one_line(plants, name, text, message):
    (plants / name).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        open_dataset({"csv": name, "test_share": 0.2}, plants)
    assert "\n" not in str(error.value) and "no column" not in str(error.value)


def test_splits_may_be_numbers(plants):
    with_column(plants, "split", [0, 0, 1, 2, 0] * 4)
    for text in ("{ train = 0, val = 1, test = 2 }", '{ train = "0", val = "1", test = "2" }'):
        (plants / "study.toml").write_text(
            f'name = "x"\n[[networks]]\nname = "resnet50"\n[[datasets]]\ncsv = "plants.csv"\nsplits = {text}\n[protocols.linear]'
        )
        (entry,) = read_study_file(plants / "study.toml").datasets
        for given in (entry, tomllib.loads(f'csv = "plants.csv"\nsplits = {text}')):
            assert open_dataset(given, plants).counts == {"classes": 2, "train": 12, "val": 4, "test": 4}


def test_a_column_called_label_in_any_case_holds_the_labels(plants):
    "As in EuroSAT's lists, whose numbers of rows have no name."
    lines = (plants / "plants.csv").read_text().splitlines()
    rows = [f"{i},{line},{line.rpartition(',')[2]}" for i, line in enumerate(lines[1:])]
    as_usual = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    for header in (",Image, LABEL,ClassName", ",Filename,Label,ClassName"):
        (plants / "plants.csv").write_text("\n".join([header, *rows]))
        dataset = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
        assert dataset.fingerprint == as_usual.fingerprint
        assert "the labels are those of the column 'L" in dataset.notes[0]
        assert dataset.notes[1].endswith("columns not used: one without a name, ClassName")
    (plants / "plants.csv").write_text("\n".join([",Filename,Kind,ClassName", *rows]))
    with pytest.raises(UserError, match="no column 'label'; found: one without a name, Filename, Kind, ClassName; rename"):
        open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    rows = [re.sub(r"pictures/(\d+)\.png,", r"\1,7,", line) for line in lines[1:]]
    (plants / "plants.csv").write_text("\n".join(["Image,ID,Label", *rows]))
    assert open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants).classes == ["fern", "moss"], "Image without a suffix"


def test_a_page_with_a_table_that_is_called_a_spreadsheet_is_a_list(plants):
    "As many web programs save .xls files; real ones say what to do."
    lines = (plants / "plants.csv").read_text().splitlines()
    rows = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in line.split(','))}</tr>" for line in lines]
    (plants / "plants.xls").write_text(f"<html><body><table>{''.join(rows)}</table></body></html>")
    images = open_images(plants / "plants.xls")
    assert images.counts == {"classes": 2, "train": 20, "val": 0, "test": 0}
    (plants / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(UserError, match=r"an old Excel file \(\.xls\); save it as \.xlsx or CSV"):
        open_images(plants / "old.xls")
    (plants / "page.xls").write_text("<html><body>Not found</body></html>")
    with pytest.raises(UserError, match="a web page, not the list itself; download it again"):
        open_images(plants / "page.xls")


def test_a_list_beside_its_images_says_where_to_move_it(plants):
    (plants / "lists").mkdir()
    lines = (plants / "plants.csv").read_text()
    (plants / "lists/up.csv").write_text(lines.replace("pictures/", "../pictures/"))
    with pytest.raises(UserError, match="images must lie below the folder of the list; move the list into a folder above them"):
        open_dataset({"csv": "lists/up.csv", "test_share": 0.2}, plants)
    (plants / "lists/bare.csv").write_text(lines.replace("pictures/", ""))
    with pytest.raises(UserError, match=r"at \S+/lists/\d+\.png; move the images there, or the list into a folder above"):
        open_dataset({"csv": "lists/bare.csv", "test_share": 0.2}, plants)
    as_usual = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    for name in ("up.csv", "bare.csv"):
        (plants / "lists" / name).rename(plants / name)
        assert open_dataset({"csv": name, "test_share": 0.2}, plants).fingerprint == as_usual.fingerprint, "the advice works"


def test_a_column_of_splits_has_no_gaps(plants):
    with_column(plants, "subset", ["test", ""] * 10)
    with pytest.raises(UserError, match="10 of 20 rows have no value in the column 'subset', which holds splits"):
        open_dataset({"csv": "plants.csv"}, plants)


def test_labels_separated_by_bars_are_several_labels(plants):
    text = (plants / "plants.csv").read_text().replace("0.png,moss", "0.png,moss | wet").replace("15.png,fern", "15.png,wet|fern")
    (plants / "plants.csv").write_text(text)
    with_column(plants, "split", ["train", "train", "test", "train"] * 5)
    text = (plants / "plants.csv").read_text().replace("2.png,moss,test", "2.png,moss|wet,test")
    (plants / "plants.csv").write_text(text)
    dataset = open_dataset({"csv": "plants.csv"}, plants)
    assert (dataset.classes, dataset.metric) == (["fern", "moss", "wet"], "map")
    shown = dataset.label_matrix.set_axis(dataset.images["file"]).loc["pictures/15.png"]
    assert shown.tolist() == [1, 0, 1] and dataset.targets.sum(axis=0).tolist() == [10, 10, 3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"csv": "absent.csv"}, "absent.csv: no such file"),
        ({"csv": "plants.csv", "split": "fold"}, "no column 'fold'; found: image, label"),
        ({"csv": "plants.csv", "label": "species"}, "no column 'species'; found: image, label"),
        ({"csv": "plants.csv"}, "no test images, found: train; in a study file draw them with test_share = 0.2"),
        ({"csv": "plants.csv", "folder": "pictures"}, "folder and csv given; expected exactly one"),
        ({"name": "plants"}, "no source given"),
        ({"csv": "plants.csv", "revision": "main"}, "revision: has no meaning for csv"),
        ({"csv": "plants.csv", "test_share": 1.5}, "test_share = 1.5: expected number above 0 and below 1"),
        ({"csv": "plants.csv", "test_share": 0.5, "splits": {"train": "a", "test": "b"}}, "keep one of the two"),
        ({"csv": "plants.csv", "metric": "auc"}, 'metric = "auc": expected'),
        ({"torchvision": "EuroSTA"}, "did you mean EuroSAT"),
        ({"torchvision": "EuroSAT", "root": "nowhere"}, "cannot be opened .*set download = true"),
        ({"torchvision": "EuroSAT", "root": "plants.csv", "download": True}, "opened .*; check the connection, or set root to"),
        ({"torchvision": "ImageNet", "root": "plants.csv"}, "cannot be opened [^;]*; set root to the folder of its files"),
        ({"torchvision": "OxfordIIITPet", "root": "nowhere"}, "cannot be opened .Dataset not found"),
        ({"torchvision": "Places365"}, r"Valid values .*; name its splits with splits = \{ train ="),
        ({"torchvision": "CocoDetection"}, "annFile.*; expected a dataset for classification"),
        ({"torchvision": "LSUN"}, "lmdb|root"),
        ({"torchvision": "EuroSAT", "splits": {"train": "all", "test": "all"}}, "one name stands for two splits"),
    ],
)
def test_mistakes_are_one_line(plants, keys, message):
    with pytest.raises(UserError, match=message) as error:
        open_dataset(keys, plants)
    assert "\n" not in str(error.value)


def test_columns_may_be_called_otherwise_if_only_one_can_be_either(plants):
    text = (plants / "plants.csv").read_text()
    as_usual = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    (plants / "plants.csv").write_text(text.replace("image,label", "File Name,species"))
    dataset = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    assert dataset.images.equals(as_usual.images) and dataset.fingerprint == as_usual.fingerprint
    assert "the images are those of the column 'File Name', the labels are those of the column 'species'" in dataset.notes[0]
    with_column(plants, "subset", ["train", "test"] * 10)
    divided = open_dataset({"csv": "plants.csv"}, plants)
    assert divided.counts["test"] == 10 and "the labels are those of the column 'species'" in divided.notes[0]
    (plants / "plants.csv").write_text(text.replace("label", "mask").replace(",moss", ",a.png").replace(",fern", ",b.png"))
    dataset = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    assert dataset.classes == ["a.png", "b.png"], "with a column image, the other one holds labels"
    (plants / "plants.csv").write_text((plants / "plants.csv").read_text().replace("image", "photo"))
    with pytest.raises(UserError, match="no column 'image' and no column 'label'; found: photo, mask; rename the column"):
        open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)


def test_lists_that_other_programs_write_are_the_same_images(plants):
    "First lines of Excel, comments, titles, the row names of R, compressed, and other kinds of tables."
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    text, table = (plants / "plants.csv").read_text(), pd.read_csv(plants / "plants.csv")
    rows = [f'"{i}",{line}' for i, line in enumerate(text.splitlines()[1:], 1)]
    for name, written in {
        "sep.csv": "\ufeffsep=;\r\n" + text.replace(",", ";"), "comment.csv": "# of 2024-03-01, by Anna\n# two kinds\n" + text,
        "title.csv": "Mosses and ferns,\n,\n" + text, "r.csv": "\n".join(["image,label", *rows]),
        "index.csv": "\n".join([",image,label", *rows]), "list.jsonl": table.to_json(orient="records", lines=True),
        "list.json": table.to_json(orient="records"), "columns.json": table.to_json(),
        "labels.json": json.dumps(dict(zip(table["image"], table["label"], strict=True)), indent=1),
        "keys.json": json.dumps({name: {"label": label} for name, label in table.to_numpy()}),
    }.items():  # fmt: skip
        (plants / name).write_text(written)
    (plants / "plants.csv.gz").write_bytes(gzip.compress(text.encode()))
    table.astype({"label": "category"}).to_parquet(plants / "list.parquet")
    table.to_excel(plants / "list.xlsx", index=False)
    notes = dict.fromkeys(("sep.csv", "title.csv"), "1 line(s) before")
    notes |= {"comment.csv": "2 line(s) before", "r.csv": "not used: one without"}
    objects = ("list.json", "columns.json", "labels.json", "keys.json")
    for name in (*notes, "index.csv", "list.jsonl", *objects, "plants.csv.gz", "list.parquet", "list.xlsx"):
        found = open_dataset({"csv": name, "test_share": 0.2}, plants)
        assert found.fingerprint == listed.fingerprint and found.name == name.split(".")[0], name
        assert len(found.notes) == (name in (*notes, "index.csv")) and notes.get(name, "") in "".join(found.notes)
    with pytest.raises(UserError, match=r"line 2 has 3 cells, the header has 1 \(line 1: image\); correct the line"):
        (plants / "short.csv").write_text("image\na.png,moss,1\nb.png,fern,2\n")
        open_dataset({"csv": "short.csv"}, plants)


def test_labels_in_lists_are_several_labels(plants):
    table = pd.read_csv(plants / "plants.csv")
    labels = [[kind, "wet"] if i < 6 else [kind] for i, kind in enumerate(table["label"])]
    table = table.assign(label=labels)
    table.to_parquet(plants / "list.parquet")
    table.to_json(plants / "list.jsonl", orient="records", lines=True)
    table.assign(label=["|".join(some) for some in labels]).to_csv(plants / "list.csv", index=False)
    listed = [open_dataset({"csv": f"list.{end}", "test_share": 0.2}, plants) for end in ("csv", "parquet", "jsonl")]
    assert listed[0].classes == ["fern", "moss", "wet"] and listed[0].targets.sum(axis=0).tolist() == [10, 10, 6]
    assert len({dataset.fingerprint for dataset in listed}) == 1


def test_images_in_cells_and_long_tables_are_one_short_line(plants):
    pixels = " ".join(["7", "130"] * 1152)
    shards = pd.DataFrame({"image": [{"bytes": b"x", "path": "1.png"}], "label": ["moss"]})
    shards.to_parquet(plants / "shard.parquet")
    wide = ",".join(f"pixel{i}" for i in range(784))
    fer = f"emotion,pixels,Usage\n0,{pixels},Training\n"
    for name, text, keys, message in (
        ("fer.csv", fer, {}, r"pixels in cells are not read \(columns of numbers: pixels\); write each"),
        ("fer.csv", fer, {"image": "pixels"}, "pixels in cells are not read"),
        ("digits.csv", f"label,{wide}\n" + "1" + ",0" * 784, {}, r"label, pixel0, pixel1, … \(785 in all\)\); write each"),
        ("wide.csv", f"name,{wide}\n" + "a" + ",b" * 784, {}, r"found: name, .*, … \(785 in all\); rename the column"),
        ("base64.csv", f"image,label\n{'iVBORw0K' * 500},moss\n", {}, "is no file's name but a text of 4,000 characters"),
        ("held.csv", "image,label\n\"{'bytes': b'\\x89PNG', 'path': None}\",moss\n", {}, "is no file's name but a text of 35"),
        ("parts.csv", f"image,label\n{'é/' * 3000},moss\n", {}, "is no file's name but a text of 6,000 characters"),
        ("long.csv", f"image,label\n1.png,\"['{'m' * 5000}']\"\n", {}, "is a list; expected one label"),
        ("coco.json", '{\n "images": []\n}', {}, 'JSON, but not an object such as {"image": "1.png", "label": "cat"} in'),
        ("ids.json", '{"1": "cat", "2": "dog"}', {}, 'JSON, but not an object such as {"image": "1.png", "label": "cat"} in'),
        ("kinds.json", '{"cat": ["1.png"], "dog": ["2.png"]}', {}, "JSON, but not an object such as"),
        ("twice.json", '{"1.png": "cat", "1.png": "dog"}', {}, "'pictures/1.png' has the labels 'cat' and 'dog'"),
        ("shard.parquet", None, {}, "the column 'image' holds images, not their paths; give the folder .* hf:FOLDER"),
    ):  # fmt: skip
        if text is not None:
            (plants / name).write_text(text)
        with pytest.raises(UserError, match=message) as error:
            open_dataset({"csv": name, "test_share": 0.2} | keys, plants)
        assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_texts_longer_than_any_path_are_no_error_of_the_system(plants, tmp_path):
    text, tail = (plants / "plants.csv").read_text(), "é=" * 2500
    (plants / "found.csv").write_text(text.replace("pictures/", "https://example.org/me/").replace(".png", f".png?{tail}"))
    assert len(open_dataset({"csv": "found.csv", "test_share": 0.2}, plants).images) == 20
    table = pd.DataFrame({"split": "train", "class": ["moss", "fern"], "file": ["é/" * 3000, "1.png"]})
    with pytest.raises(UserError, match="none of its 2 train images exists") as error:
        listed_dataset("plants", plants, table)
    assert len(str(error.value)) < 500
    with pytest.raises(UserError, match="no such file; check the path") as error:
        unlabelled_images(["iVBORw0K" * 1000])
    assert len(str(error.value)) < 500


def test_columns_of_addresses_and_ids_are_found(plants):
    text = (plants / "plants.csv").read_text()
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    for name, changed in {
        "image_url": text.replace("pictures/", "https://example.org/me/pictures/").replace(".png", ".png?signature=" + "x" * 400),
        "id_code": text.replace("pictures/", "").replace(".png", ""), "id": text.replace("pictures/", "").replace(".png", ""),
    }.items():  # fmt: skip
        (plants / "found.csv").write_text(changed.replace("image,", f"{name},"))
        found = open_dataset({"csv": "found.csv", "test_share": 0.2}, plants)
        assert found.fingerprint == listed.fingerprint and f"the images are those of the column {name!r}" in found.notes[0]


def test_a_file_of_groups_is_a_table_whatever_its_name(tmp_path):
    keys = {"folder": "scans", "test_share": 0.25}
    grouped = open_dataset(keys | {"groups": r"(p\d+)_"}, write_patients(tmp_path))
    names = [path.name for path in sorted((tmp_path / "scans").rglob("*.png"))]
    table = pd.DataFrame({"image": names, "group": [name.partition("_")[0] for name in names]})
    table.to_parquet(tmp_path / "g.parquet")
    table.to_excel(tmp_path / "g.xlsx", index=False)
    table.to_csv(tmp_path / "g.tsv", index=False, sep="\t")
    table.to_csv(tmp_path / "patients", index=False)
    for name in ("g.parquet", "g.xlsx", "g.tsv", "patients"):
        assert open_dataset(keys | {"groups": name}, tmp_path).fingerprint == grouped.fingerprint, name
    with pytest.raises(UserError, match=r"groups .*absent.tsv: no such file"):
        open_dataset(keys | {"groups": "absent.tsv"}, tmp_path)


def test_an_incomplete_line_is_named(plants):
    (plants / "plants.csv").write_text((plants / "plants.csv").read_text().replace("3.png,moss", "3.png,"))
    with pytest.raises(UserError, match="line 5: no image or no label"):
        open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)


def test_torchvision_datasets_are_read_from_their_files(tmp_path):
    "EuroSAT has no splits, GTSRB names its classes by numbers only, and MNIST keeps its images in arrays."
    for label in ("Forest", "River"):
        (tmp_path / f"eurosat/2750/{label}").mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (64, 64), (i, 50, 50)).save(tmp_path / f"eurosat/2750/{label}/{label}_{i}.jpg")
    dataset = open_dataset({"torchvision": "EuroSAT", "root": ".", "test_share": 0.2}, tmp_path)
    assert dataset.name == "eurosat" and dataset.classes == ["Forest", "River"]
    assert dataset.counts == {"classes": 2, "train": 16, "val": 0, "test": 4}
    assert dataset.read(0) == (tmp_path / "eurosat/2750/Forest/Forest_0.jpg").read_bytes()
    with pytest.raises(UserError, match="no test images"):
        open_dataset({"torchvision": "EuroSAT", "root": "."}, tmp_path)


def test_masks_and_boxes_are_no_classes(tmp_path):
    voc = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    for name in "ab":
        Image.new("RGB", (8, 8)).save(voc / f"JPEGImages/{name}.jpg")
        Image.new("L", (8, 8)).save(voc / f"SegmentationClass/{name}.png")
    with pytest.raises(UserError, match="its labels are not one class per image"):
        open_dataset({"torchvision": "VOCSegmentation", "root": "."}, tmp_path)


def test_unlabelled_test_images_are_to_be_moved_before_others_are_drawn(tmp_path):
    write_images(tmp_path, train=6, test=0)
    (tmp_path / "test").mkdir(exist_ok=True)
    Image.new("RGB", (6, 6)).save(tmp_path / "test/1.png")
    with pytest.raises(UserError, match="beside it lies test/, .* move it elsewhere, or give .*train alone"):
        open_dataset({"folder": ".", "test_share": 0.25}, tmp_path)
    assert open_dataset({"folder": "train", "test_share": 0.25}, tmp_path).counts["test"] == 4


def test_torchvision_images_in_arrays_become_png_files(tmp_path):
    import struct

    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for part, n in {"train": 8, "t10k": 4}.items():
        pixels = np.arange(n * 28 * 28, dtype=np.uint32).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, n, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, n) + bytes(i % 2 for i in range(n)))
    dataset = open_dataset({"torchvision": "MNIST", "root": "."}, tmp_path)
    assert dataset.counts == {"classes": 2, "train": 8, "val": 0, "test": 4}
    assert dataset.read(8).startswith(b"\x89PNG") and pickle.loads(pickle.dumps(dataset)).read(8) == dataset.read(8)


def test_a_study_file_takes_texts_and_tables(plants):
    write_images(plants / "shapes", train=4, test=2)
    (plants / "study.toml").write_text(
        'name = "mixed"\nnetworks = [{name = "resnet_10", architecture = "transfer_study.small_networks:resnet_10"}]\n'
        'datasets = ["shapes", {name = "greens", csv = "plants.csv", test_share = 0.2, metric = "balanced"}]\n'
    )
    file = read_study_file(plants / "study.toml")
    assert [str(entry) for entry in file.datasets] == ["shapes", "greens"]
    assert study_part(file, datasets=["greens"]).datasets == (file.datasets[1],)
    assert open_dataset(file.datasets[1], plants).metric == "mean_per_class"
    (plants / "study.toml").write_text((plants / "study.toml").read_text().replace("test_share", "test_shar"))
    with pytest.raises(UserError, match=r"datasets\[2\].test_shar: unknown key; did you mean test_share"):
        read_study_file(plants / "study.toml")


def test_entries_are_references_or_tables():
    assert dataset_entry("drawn:digits") == DatasetEntry(reference="drawn:digits")
    with pytest.raises(UserError, match="expected a reference"):
        dataset_entry("")


def test_folders_of_classes_with_drawn_test_images(tmp_path):
    "The draw and the fingerprint do not depend on the archive, nor on files that are no images, which are said."
    folder = tmp_path / "plain"
    for label in ("a", "a-b", "A b"):
        write_images(folder / label, train=6, test=0, classes=("below",))
    rows = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    table = pd.DataFrame({"class": [path.parts[0] for path in rows], "file": list(map(str, rows)), "split": "train"})
    table["split"] = draw_test_images(table["split"], table["class"], 0.3, 1)
    expected = listed_dataset("plain", folder, table)
    (folder / "a/notes.txt").write_text("x")
    (folder / "a/gone.png").symlink_to("nothing")
    dataset = open_dataset({"folder": "plain", "test_share": 0.3, "seed": 1}, tmp_path)
    assert dataset.fingerprint == expected.fingerprint and dataset.images["split"].equals(expected.images["split"])
    note, nested, copies = dataset.notes
    assert "byte for byte in two splits" in copies, "the three classes hold the same files"
    assert "folders inside classes are not classes: A b/train" in nested
    assert note.startswith("dataset plain: left out: ") and "not images: 1 (a/notes.txt)" in note
    pack(folder, tmp_path / "plain.tar")
    for key in ("folder", "tar"):
        packed = open_dataset({key: "plain.tar", "test_share": 0.3, "seed": 1}, tmp_path)
        assert packed.fingerprint == expected.fingerprint and packed.read(3) == expected.read(3)


def test_a_class_may_be_called_test(tmp_path):
    write_images(tmp_path, train=4, test=4, classes=("test", "control"))
    dataset = open_dataset({"folder": "train", "test_share": 0.25}, tmp_path)
    assert dataset.classes == ["control", "test"] and dataset.counts["test"] == 2
    with pytest.raises(UserError, match="has test/ already; remove test_share"):
        open_dataset({"folder": ".", "test_share": 0.25}, tmp_path)


def test_lists_as_other_programs_write_them(plants):
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    text = (plants / "plants.csv").read_text()
    for name, data in {
        "semicolon": text.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"),
        "utf16": text.replace(",", "\t").encode("utf-16"), "trailing": text.replace("\n", ",\n").encode(),
        "windows": text.replace("pictures/", "pictures\\").encode(), "cr": text.replace("\n", "\r").encode(),
        "line": text.replace("moss", '"moss\n"').encode(),
    }.items():  # fmt: skip
        (plants / f"{name}.csv").write_bytes(data)
        assert open_dataset({"csv": f"{name}.csv", "test_share": 0.2}, plants).fingerprint == listed.fingerprint, name
    (plants / "more.csv").write_text(f"{text}\npictures/99.png,moss")
    (note,) = open_dataset({"csv": "more.csv", "test_share": 0.2}, plants).notes
    assert note == "dataset more: 1 of 21 listed images do not exist and are left out (first: pictures/99.png)"
    first, *lines = text.splitlines(keepends=True)
    (plants / "joined.csv").write_text("".join([first, *lines[:7], "\ufeff", first, *lines[7:]]))
    joined = open_dataset({"csv": "joined.csv", "test_share": 0.2}, plants)
    assert joined.fingerprint == listed.fingerprint
    assert joined.notes == ("dataset joined: the header stands again in line 9 and is no row",)
    (plants / "latin.csv").write_bytes(text.replace("moss", "mousse verte à fleurs").encode("latin-1"))
    latin = open_dataset({"csv": "latin.csv", "test_share": 0.2}, plants)
    assert "mousse verte à fleurs" in latin.classes and "not UTF-8, read as Latin-1" in latin.notes[0]
    (plants / "plants.txt").write_text(text)
    with pytest.raises(UserError, match="not a readable tar or zip but a text file; .* give it as csv:PATH"):
        open_dataset("plants.txt", plants)
    for wrong, message in {
        text.replace("pictures/5.png,moss", "https://example.com/5.png,moss"): "5.png' is an address, not a file .such lines: 1.",
        text.replace("5.png,moss", "5.png,\"['moss', 'wet']\""): r"line 7: the label .*'wet'\].* is a list; .* separated by \|",
        text.replace("label", "kind,site").replace("png,", "png,oak,"): "no column 'label'; found: image, kind, site; rename",
        text.replace("label", "image"): "two columns are called 'image'",
        text.split("\n", 1)[1]: "no header, its first line is 'pictures/.*png,moss'; write image,label above it, with",
        text.split("\n", 1)[1].replace("pictures", "TRAIN,gs://b"): "'TRAIN,gs://b/.*'; write split,image,label above it, with",
        "".join(f"moss,{i}.png,x\n" for i in range(4)): "'moss,0.png,x'; write column1,image,column3 above it, .*, and label in",
        text.split("\n", 1)[1].replace(",", " "): "no header, its first line is 'pictures/.*png .*'; write",
        text.replace("5.png,moss", '5.png,"moss'): "dataset .*wrong.csv: line 7: a quote opens in this row and is never closed",
        text.replace("5.png,moss", '5.png,"moss').replace("12.png,f", '12.png,"f'): "line 7: .* is closed in line 14",
        text.replace("5.png,moss", "5.png,moss,x"): r"line 7 has 3 cells, the header has 2 \(line 1: image, label\); correct",
        "": "the file is empty",
    }.items():  # fmt: skip
        (plants / "wrong.csv").write_text(wrong)
        with pytest.raises(UserError, match=message):
            open_dataset({"csv": "wrong.csv", "test_share": 0.2}, plants)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda text: text.replace(".png", "").replace("pictures/", ""), "those of the same names are used, such as pictures/"),
        (lambda text: text.replace("pictures/", "/home/me/"), "those of the same names are used, such as pictures/"),
        (lambda text: text.replace("pictures/", "C:\\me\\pictures\\"), "those at the ends of the paths are used, such as pict"),
        (
            lambda text: text.replace("label", "moss,fern").replace("g,moss", "g,1,0").replace("g,fern", "g,0.0,1.0"),
            "the labels are the columns moss, fern, of 0 and 1",
        ),
    ],
    ids=["no suffix", "another machine", "Windows", "indicators"],
)  # fmt: skip
def test_lists_of_other_machines_and_columns_of_indicators_are_the_same_images(plants, change, note):
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    (plants / "other.csv").write_text(change((plants / "plants.csv").read_text()))
    other = open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
    assert other.fingerprint == listed.fingerprint and [note in line for line in other.notes] == [True]


@pytest.mark.parametrize("start", ["pictures/", "Pictures/", "C:\\Me\\PICTURES\\", "/elsewhere/"])
def test_names_in_another_case_are_the_same_images_and_said(plants, start):
    "As on the disks of Windows and macOS; where two files differ in case only, the one that is listed is meant."
    text = (plants / "plants.csv").read_text()
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    (plants / "other.csv").write_text(text.replace(".png", ".PNG").replace("pictures/", start))
    other = open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
    assert other.fingerprint == listed.fingerprint and not other.missing
    cased = "20 of the listed names differ from those of the files in upper and lower case"
    assert (cased if start[1:] == "ictures/" else "are used, such as pictures/") in other.notes[0]


def test_a_name_in_another_case_that_two_files_have_is_not_guessed(plants):
    (plants / "pictures/3.PNG").write_bytes((plants / "pictures/4.png").read_bytes())
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    assert not listed.missing and not listed.notes
    (plants / "other.csv").write_text((plants / "plants.csv").read_text().replace(".png", ".Png"))
    other = open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
    assert other.missing == ("pictures/3.Png",) and any("1 of 20 listed images do not exist" in note for note in other.notes)


def test_names_that_are_percent_encoded_are_the_same_images(plants):
    for name, other in {"3": "my cat", "12": "hund \u00fc", "13": "50%"}.items():
        (plants / f"pictures/{name}.png").rename(plants / f"pictures/{other}.png")
    plain = (plants / "plants.csv").read_text().replace("/3.png", "/my cat.png")
    plain = plain.replace("/12.png", "/hund \u00fc.png").replace("/13.png", "/50%.png")
    (plants / "plain.csv").write_text(plain)
    listed = open_dataset({"csv": "plain.csv", "test_share": 0.2}, plants)
    encoded = plain.replace("my cat", "my%20cat").replace("hund \u00fc", "hund%20u%CC%88")
    names, ends = "those of the same names are used", "those at the ends of the paths are used"
    for start, note in {
        "pictures/": "2 of the listed names are percent-encoded; decoded, such as pictures/my cat.png",
        "/data/upload/1/": names, "/data/local-files/?d=": names, "http://localhost:8080/data/upload/1/": names,
        "file:///home/me/pictures/": ends, "/data/local-files/?d=me/pictures/": ends, "s3://bucket/pictures/": ends,
    }.items():  # fmt: skip
        (plants / "other.csv").write_text(encoded.replace("pictures/", start))
        dataset = open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
        assert dataset.fingerprint == listed.fingerprint and not dataset.missing and note in dataset.notes[0], start
    (plants / "wrong.csv").write_text(encoded.replace("pictures/", "/data/upload/1/").replace("my%20cat", "cat"))
    assert open_dataset({"csv": "wrong.csv", "test_share": 0.2}, plants).missing == ("/data/upload/1/cat.png",)
    lines = [f"https://example.com/x{i}.png,{i % 2}" for i in range(6)]
    (plants / "wrong.csv").write_text("\n".join(["image,label", *lines]))
    with pytest.raises(UserError, match=r"x0.png': no image of this name .*\(such lines: 6\); copy or download"):
        open_dataset({"csv": "wrong.csv", "test_share": 0.2}, plants)


def test_names_that_several_images_have_are_not_guessed(plants):
    (plants / "more").mkdir()
    for i in range(20):
        (plants / f"more/{i}.png").write_bytes((plants / f"pictures/{i}.png").read_bytes())
    text = (plants / "plants.csv").read_text().replace("pictures/", "elsewhere/")
    (plants / "other.csv").write_text(text)
    with pytest.raises(UserError, match="be more/0.png or pictures/0.png; .*, or move the list into the folder of its images"):
        open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
    (plants / "pictures/other.csv").write_text(text)
    assert open_dataset({"csv": "pictures/other.csv", "test_share": 0.2}, plants).images["file"].str.fullmatch(r"\d+\.png").all()
    (plants / "other.csv").write_text(text.replace(".png", ".bmp"))
    with pytest.raises(UserError, match="none of its 16 train images exists; the first is expected at .*elsewhere"):
        open_dataset({"csv": "other.csv", "test_share": 0.2}, plants)
    (plants / "more/0.png").rename(plants / "more/several.png")


def write_indicators(folder, marks, columns="a,b,c", header=""):
    "wide.csv: the cells of each image in columns of indicators, and further ones."
    rows = [f"pictures/{i}.png,{','.join(cells)}" for i, cells in enumerate(marks)]
    (folder / "wide.csv").write_text("\n".join([f"image,{columns}{header}", *rows]))


@pytest.mark.parametrize("change", [str, "{}.0".format, lambda mark: str(mark == "1"), {"1": "YES", "0": "NO"}.get])
def test_images_with_none_of_several_labels_are_images(plants, change):
    "As in lists of findings on X-rays, of which most have none; True and False are what pandas writes for indicators."
    marks = ["100", "110", "011", "000", "001"] * 4
    write_indicators(plants, [[*map(change, mark), f"p{i // 5}"] for i, mark in enumerate(marks)], header=",patient")
    dataset = open_dataset({"csv": "wide.csv", "test_share": 0.2, "groups": "patient"}, plants)
    assert "the labels are the columns a, b, c, of 0 and 1; 4 of 20 images have none of them" in dataset.notes[0]
    assert dataset.classes == ["a", "b", "c"] and dataset.metric == "map" and len(dataset.images) == 20
    rows = dataset.images["name"].str.extract(r"(\d+)")[0].astype(int)
    assert dataset.targets.tolist() == [list(map(int, marks[i])) for i in rows]
    for metric in ("map", "map_11_point", "roc_auc"):
        assert 0 < knn_probe(np.eye(20)[rows] + 1, dataset.targets, split_images(dataset), metric).score <= 1


def test_columns_of_indicators_that_are_no_labels_or_classes_are_one_line(plants):
    write_indicators(plants, [["1" if i < 10 else "0", "0"] for i in range(20)], "moss,fern")
    message = r"line 12: no label, because all of its columns are 0 \(such lines: 10\), and in none are two of them 1; remove"
    with pytest.raises(UserError, match=f"{message} these lines, or add a column with 1 for them and 0 for the others"):
        open_dataset({"csv": "wide.csv", "test_share": 0.2}, plants)
    write_indicators(plants, [["1", "0", "0"] if i < 10 else ["0", "0", "1"] for i in range(20)], "moss,fern,none")
    dataset = open_dataset({"csv": "wide.csv", "test_share": 0.2}, plants)
    assert dataset.classes == ["moss", "none"] and "of 0 and 1; no line has a 1 in fern" in dataset.notes[0]
    write_indicators(plants, [["1", "0", "", "f", str(i)] for i in range(20)], "a,b,c,sex,age")
    with pytest.raises(UserError, match="no column 'label'.*has to be one of them: complete or remove c, sex, age"):
        open_dataset({"csv": "wide.csv", "test_share": 0.2}, plants)


def test_images_and_labels_of_a_list_are_the_same_however_they_are_spelled(plants):
    listed = open_dataset({"csv": "plants.csv", "test_share": 0.2}, plants)
    text = (plants / "plants.csv").read_text()
    (plants / "whole.csv").write_text(text.replace("pictures/", f"{plants}/pictures/"))
    assert open_dataset({"csv": "whole.csv", "test_share": 0.2}, plants).fingerprint == listed.fingerprint
    (plants / "pictures/3.png").rename(plants / "pictures/e\u0301.png")
    accents = text.replace("3.png,moss", "\u00e9.png,mo\u0308s", 1).replace("4.png,moss", "4.png,m\u00f6s", 1)
    accents = accents.replace("5.png,moss", "5.png,m\u00f6s")
    for i in (15, 16, 17):
        accents = accents.replace(f"{i}.png,fern", f"{i}.png,Fern")
    (plants / "accents.csv").write_text(accents)
    dataset = open_dataset({"csv": "accents.csv", "test_share": 0.2}, plants)
    assert dataset.classes == ["Fern", "fern", "moss", "m\u00f6s"] and len(dataset.images) == 20 and not dataset.missing
    assert "classes that differ only in case or spaces: 'Fern' and 'fern'" in dataset.notes[0]
    for line, message in {
        "./pictures/2.png,fern": r"'pictures/2.png' has the labels 'moss' and 'fern' \(lines 4 and 22; .* 1\).*separated by \|",
        "pictures//2.png,moss": "'pictures/2.png' is listed twice in train .*keep one line of each",
        f"{plants.parent}/2.png,moss": r"/2.png', which is outside.*\(such images: 1\).*below the folder of the list",
    }.items():  # fmt: skip
        (plants.parent / "2.png").write_bytes((plants / "pictures/2.png").read_bytes())
        (plants / "wrong.csv").write_text(f"{text}\n{line}")
        with pytest.raises(UserError, match=message):
            open_dataset({"csv": "wrong.csv", "test_share": 0.2}, plants)


def write_squares(folder, counts):
    "A folder `many` with as many images of each class, and a list of them beside it."
    lines = ["image,label"]
    for label, n in counts.items():
        (folder / "many" / label).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng([len(label), i]).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"many/{label}/{i}.png")
            lines.append(f"many/{label}/{i}.png,{label}")
    (folder / "many.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("source", ["folder", "csv"])
def test_training_keeps_the_images_of_a_small_class(tmp_path, source):
    write_squares(tmp_path, {"lynx": 10, "elk": 2, "a": 3})
    dataset = open_dataset({source: "many" + ".csv" * (source == "csv"), "test_share": 0.2}, tmp_path)
    counts = dataset.images.groupby(["class", "split"]).size().to_dict()
    assert counts == {("a", "test"): 1, ("a", "train"): 2, ("elk", "train"): 2, ("lynx", "test"): 2, ("lynx", "train"): 8}
    (note,) = dataset.notes
    assert note.endswith("no test image drawn of 1 class, because training needs its images (first: 'elk' with 2 images)")
    (tmp_path / "many/elk/1.png").unlink()
    (tmp_path / "many.csv").write_text((tmp_path / "many.csv").read_text().replace("many/elk/1.png,elk\n", ""))
    with pytest.raises(UserError, match="dataset many: class 'elk' has one training image .*; expected at least two"):
        open_dataset({source: "many" + ".csv" * (source == "csv"), "test_share": 0.2}, tmp_path)


def test_given_validation_images_leave_one_image_of_a_class_for_training():
    drawn = draw_test_images(pd.Series(["train", "train", "val", "train"]), pd.Series(["a", "a", "a", "b"]), 0.9)
    assert sorted(drawn[:2]) == ["test", "train"] and drawn[2:].tolist() == ["val", "train"]


def test_a_level_that_no_folder_has_is_one_line(tmp_path):
    flat = write_squares(tmp_path, {"lynx": 3, "elk": 3}) / "many"
    expected = "class_level 2, but its images lie in 1 level of folders; leave class_level out"
    with pytest.raises(UserError, match=expected):
        open_images(flat, class_level=2)
    with pytest.raises(UserError, match=expected):
        open_dataset({"folder": "many", "class_level": 2, "test_share": 0.3}, tmp_path)
    with pytest.raises(UserError, match=f"squares: {expected}"):
        open_dataset({"folder": str(write_images(tmp_path / "squares")), "class_level": 2})


@pytest.mark.parametrize(("separator", "words"), [(" ", "spaces"), ("\t", "tabs"), (";", "semicolons"), (",", "commas")])
def test_the_header_that_is_proposed_fits_the_list(plants, separator, words):
    "Lists as of Caffe, DomainNet and PACS: an image and the number of its class, without a header."
    rows = [separator.join((f"pictures/{i}.png", str(i // 10), "0.5")) for i in range(20)]
    (plants / "train.txt").write_text("\n".join(rows))
    with pytest.raises(UserError, match=f"image.column2.column3 above it, with {words} between .*, and label in") as error:
        open_dataset({"csv": "train.txt", "test_share": 0.2}, plants)
    header = re.search("write (.+) above it", str(error.value))[1].replace(" ", separator).replace("column2", "label")
    (plants / "train.txt").write_text("\n".join([header, *rows]))
    opened = open_dataset({"csv": "train.txt", "test_share": 0.2}, plants)
    assert opened.counts == {"classes": 2, "train": 16, "val": 0, "test": 4}


def test_names_with_spaces_are_one_cell(plants):
    (plants / "names.csv").write_text("image\nmy cat.png\nmy dog.png\n")
    with pytest.raises(UserError, match="one column only, labels are missing"):
        open_dataset({"csv": "names.csv", "test_share": 0.2}, plants)


def test_lists_of_other_splits_beside_a_list_are_said(plants):
    header, *rows = (plants / "plants.csv").read_text().splitlines()
    for name, part in {"train.csv": rows[::2], "test.csv": rows[1::4], "val.csv": rows[3::4], "tests.csv": rows}.items():
        (plants / name).write_text("\n".join([header, *part]))
    words = f"{plants}/val.csv and {plants}/test.csv list others, which are not read: "
    words += f'write csv = "{plants}/{{train,val,test}}.csv" for all'
    assert any(note.startswith(f"dataset train: {words}") for note in open_images(plants / "train.csv").notes)
    with pytest.raises(UserError, match=f"no test images, found: train; .*{re.escape(words)}"):
        open_dataset("train.csv", plants)
    assert not any("list others" in note for note in open_images(plants / "plants.csv").notes)


def test_tasks_of_label_studio_say_which_export_is_read(plants):
    tasks = [{"id": 1, "annotations": [{"result": []}], "data": {"image": "/data/upload/1.png"}}]
    (plants / "tasks.json").write_text(json.dumps(tasks))
    with pytest.raises(UserError, match="tasks of Label Studio, .*; export them as CSV or JSON-MIN"):
        open_dataset({"csv": "tasks.json", "test_share": 0.2}, plants)
