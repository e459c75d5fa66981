"Lists of images as competitions and programs for labels write them, several lists of one set, and what to do with the others."

import json

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image

from transfer_study.core import UserError
from transfer_study.images.catalog import open_dataset
from transfer_study.selection.images import open_images


@pytest.fixture
def table(tmp_path):
    "24 images of three classes, six of them for the test."
    (tmp_path / "pictures").mkdir()
    for i in range(24):
        Image.new("RGB", (6, 6), (10 * i, 0, 90)).save(tmp_path / f"pictures/{i}.png")
    kinds = ["cat", "dog", "owl"] * 8
    return pd.DataFrame(
        {"image": [f"pictures/{i}.png" for i in range(24)], "label": kinds, "split": ["train"] * 18 + ["test"] * 6}
    )


def refused(keys, folder):
    with pytest.raises(UserError) as error:
        open_dataset(keys, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def written(table, path):
    path.parent.mkdir(exist_ok=True)
    table.to_csv(path, index=False)


def test_several_lists_are_one_with_the_splits_in_braces(tmp_path, table):
    written(table, tmp_path / "all.csv")
    whole = open_dataset("all.csv", tmp_path)
    for split, part in table.groupby("split"):
        written(part[["image", "label"]], tmp_path / f"{split}.csv")
        written(part[["image", "label"]].assign(image="/home/me/" + part["image"]), tmp_path / f"old_{split}.csv")
    for keys in (
        "{train,test}.csv",
        {"csv": "{train, test}.csv"},
        "csv:old_{train,test}.csv",
        {"csv": tmp_path / "{train,test}.csv"},
    ):
        dataset = open_dataset(keys, tmp_path)
        assert dataset.fingerprint == whole.fingerprint and dataset.name == tmp_path.name
    assert "unknown split 'old_train'" in refused({"csv": "{old_train,test}.csv"}, tmp_path)
    assert open_images(tmp_path / "{train,test}.csv").counts["test"] == 6


def test_a_list_without_test_images_names_the_lists_beside_it(tmp_path, table):
    for split, part in table.groupby("split"):
        written(part[["image", "label"]], tmp_path / f"lists/{split}.csv")
    assert refused("lists/train.csv", tmp_path).endswith(
        f'{tmp_path}/lists/test.csv lists others, which are not read: write csv = "{tmp_path}/lists/{{train,test}}.csv" for all, '
        f"or csv:{tmp_path}/lists/{{train,test}}.csv (in quotes on the command line) without a study file"
    )
    written(table[["image"]].tail(6), tmp_path / "lists/test.csv")
    assert refused("lists/train.csv", tmp_path).endswith('{ csv = "…", test_share = 0.2 }'), (
        "images without labels, as of a competition"
    )


def test_lists_of_splits_beside_a_list_are_named(tmp_path, table):
    "As of ChestX-ray14: one table of all images, and two texts with the names of those of each split."
    written(table[["image", "label"]], tmp_path / "Data_Entry_2017.csv")
    for name in ("train_val_list.txt", "test_list.txt", "README.txt"):
        (tmp_path / name).write_text("pictures/0.png")
    said = "lists of splits beside it are not read: test_list.txt, train_val_list.txt; "
    said += "a column split (train, val, test) says the same"
    assert refused("Data_Entry_2017.csv", tmp_path).endswith(said)
    assert f"dataset Data_Entry_2017: {said}" in open_images(tmp_path / "Data_Entry_2017.csv").notes
    written(table, tmp_path / "Data_Entry_2017.csv")
    assert not any("beside it" in note for note in open_images(tmp_path / "Data_Entry_2017.csv").notes)


def test_roboflow_lists_of_each_split_are_joined_with_their_folders(tmp_path):
    for split, n in {"train": 12, "valid": 6, "test": 6}.items():
        (tmp_path / "set" / split).mkdir(parents=True)
        lines = ["filename, cat, dog"]
        for i in range(n):
            Image.new("RGB", (6, 6), (10 * i, n, 90)).save(tmp_path / "set" / split / f"{i}.png")
            lines.append(f"{i}.png, {int(i % 3 > 0)}, {int(i % 3 < 2)}")
        (tmp_path / "set" / split / "_classes.csv").write_text("\n".join(lines))
    dataset = open_dataset("set/{train,valid,test}/_classes.csv", tmp_path)
    assert (
        dataset.counts == {"classes": 2, "train": 12, "val": 6, "test": 6} and dataset.metric == "map" and dataset.name == "set"
    )
    assert dataset.targets.sum(axis=0).tolist() == [16, 16] and "train/0.png" in set(dataset.images["file"])
    assert "csv:FOLDER/{test,train,valid}/_classes.csv" in refused(str(tmp_path / "set"), tmp_path)
    assert "{train,valid,test}/_classes.csv" in refused("set/train/_classes.csv", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "missing.csv: no such file"),
        ({"split": "train"}, "missing.csv has a column split of its own; the lists of the splits need the same columns"),
        ({"place": "here"}, "missing.csv has the columns image, label, place, another has image, label"),
    ],
)
def test_lists_that_do_not_fit_together_are_one_line(tmp_path, table, changes, message):
    written(table[["image", "label"]].head(18), tmp_path / "train.csv")
    if changes:
        written(table[["image", "label"]].tail(6).assign(**changes), tmp_path / "missing.csv")
    assert message in refused({"csv": "{train,missing}.csv"}, tmp_path)


def test_a_line_of_several_lists_is_named_with_its_list(tmp_path, table):
    table.loc[20, "label"] = ""
    for split, part in table.groupby("split"):
        written(part[["image", "label"]], tmp_path / f"{split}.csv")
    assert "line 4 of test.csv: no image or no label" in refused("{train,test}.csv", tmp_path)


def test_a_sheet_of_a_workbook_is_named_and_merged_cells_are_filled(tmp_path, table):
    written(table, tmp_path / "all.csv")
    whole = open_dataset("all.csv", tmp_path)
    with pd.ExcelWriter(tmp_path / "lists.xlsx") as workbook:
        for split, part in table.groupby("split", sort=False):
            part[["image", "label"]].to_excel(workbook, sheet_name=split, index=False)
    assert open_dataset("lists.xlsx#{train,test}", tmp_path).fingerprint == whole.fingerprint
    assert "sheet 'train' is read; not 'test'; 'FILE#SHEET' reads another" in refused("lists.xlsx", tmp_path)
    assert "a single table; give the name without #2" in refused("all.csv#2", tmp_path)

    by_class = table.sort_values("label", kind="stable").reset_index(drop=True)
    workbook = openpyxl.Workbook()
    workbook.active.append(["image", "label", "split"])
    for i, row in by_class.iterrows():
        workbook.active.append([row["image"], row["label"] if i % 8 == 0 else None, row["split"]])
    for i in (2, 10, 18):
        workbook.active.merge_cells(f"B{i}:B{i + 7}")
    workbook.save(tmp_path / "merged.xlsx")
    merged = open_dataset("merged.xlsx", tmp_path)
    assert merged.fingerprint == whole.fingerprint
    assert merged.notes == ("dataset merged: merged cells are filled down: B2:B9, B10:B17, B18:B25",)


def test_tags_with_spaces_are_said_and_names_with_spaces_are_not(tmp_path, table):
    said = "labels with spaces are one label each, such as {}; if they are several labels of an image, write | between them"
    for labels, example in {
        ("haze primary", "agriculture clear primary water", "clear primary", "cloudy"): "'haze primary'",  # Planet
        ("16 0", "7 1", "5", "0"): "'16 0'",  # Human Protein Atlas
        ("chair", "car", "car person", "person"): "'car person'",  # PASCAL_2007 of fastai
        ("golden retriever", "labrador retriever", "beagle", "pug dog"): "",
        ("ace of clubs", "ace of hearts", "two of clubs", "joker"): "",
    }.items():
        written(table.assign(label=list(labels) * 6), tmp_path / "tags.csv")
        assert open_dataset("tags.csv", tmp_path).notes == ((f"dataset tags: {said.format(example)}",) if example else ()), labels
    rare = ["clear primary", "clear road"] * 10 + ["clear primary road", "clear water", "primary water", "road"]
    for sign in (" ", ","):
        written(table[["image"]].assign(label=[label.replace(" ", sign) for label in rare]), tmp_path / "tags.csv")
        message = refused({"csv": "tags.csv", "test_share": 0.2}, tmp_path)
        assert "has one training image (such classes: 4)" in message and "one label each, such as" in message


def test_a_list_of_no_labels_is_an_image_with_none_of_several(tmp_path, table):
    for name, none in {"some.json": [], "some.jsonl": [], "some.csv": "|"}.items():
        labels = [none if i % 8 == 0 else [kind, "wet"] if i % 2 else [kind] for i, kind in enumerate(table["label"])]
        if name.endswith("csv"):
            written(table.assign(label=["|".join(some) for some in labels]), tmp_path / name)
        else:
            table.assign(label=labels).to_json(tmp_path / name, orient="records", lines=name.endswith("l"))
        dataset = open_dataset(name, tmp_path)
        assert dataset.metric == "map" and dataset.targets.sum(axis=1).tolist().count(0) == 3, name
        assert dataset.notes == ("dataset some: 3 of 24 images have none of the labels",)
    blank = table.assign(label=["cat|dog", "", *table["label"][2:]])
    written(blank, tmp_path / "blank.csv")
    assert (
        "complete or remove the line (such lines: 1); an image with none of the labels has a | alone"
        in refused("blank.csv", tmp_path)
    )


def test_columns_of_1_and_minus_1_are_labels(tmp_path, table):
    "As in CelebA's list of attributes; with 0 and empty cells, as in CheXpert's, -1 is another thing."
    ones = pd.DataFrame({"Smiling": [1, -1, 1] * 8, "Young": [1, 1, -1, -1] * 6})
    written(pd.concat([table[["image", "split"]], ones], axis=1), tmp_path / "celeba.csv")
    dataset = open_dataset("celeba.csv", tmp_path)
    assert dataset.metric == "map" and (
        dataset.targets == (ones.loc[dataset.images["file"].str.extract(r"(\d+)")[0].astype(int)] > 0)
    ).all(axis=None)
    assert "the labels are the columns Smiling, Young, of -1 and 1" in dataset.notes[0]
    written(pd.concat([table[["image", "split"]], ones.assign(Hat=0)], axis=1), tmp_path / "celeba.csv")
    assert "beside the images and splits has to be one of them: complete or remove Hat" in refused("celeba.csv", tmp_path)
    marks = ones.replace({1: "x", -1: ""})
    written(pd.concat([table[["image", "split"]], marks], axis=1), tmp_path / "marks.csv")
    assert "has to be one of them: complete or remove Smiling, Young" in refused("marks.csv", tmp_path)


def test_an_image_that_is_listed_twice_is_said_before_images_are_drawn(tmp_path, table):
    written(pd.concat([table, table.head(9)])[["image", "label"]], tmp_path / "twice.csv")
    for share in (0.2, 0.5):
        assert "'pictures/0.png' is listed twice in train (such images: 9)" in refused(
            {"csv": "twice.csv", "test_share": share}, tmp_path
        )


def test_named_columns_stand_beside_many_numbers(tmp_path, table):
    "As in the competition on leaves: an id, a species and 192 measures."
    measures = pd.DataFrame(np.arange(24 * 64).reshape(24, 64) / 7, columns=[f"margin{i}" for i in range(64)])
    leaves = pd.concat([pd.DataFrame({"id": range(24), "species": table["label"]}), measures], axis=1)
    written(leaves, tmp_path / "leaves.csv")
    assert "if 'id' names their files, name it with --image id of recommend" in refused(
        {"csv": "leaves.csv", "test_share": 0.2}, tmp_path
    )
    dataset = open_dataset({"csv": "leaves.csv", "image": "id", "label": "species", "test_share": 0.2}, tmp_path)
    assert dataset.classes == ["cat", "dog", "owl"] and len(dataset.images) == 24


def test_splits_beside_another_word_are_proposed(tmp_path, table):
    "As Vertex AI writes them; without a word, test images would be drawn from all of them."
    given = table["split"].map({"train": "TRAINING", "test": "TEST"}).where(table.index != 3, "UNASSIGNED")
    written(table.drop(columns="split").assign(ml_use=given), tmp_path / "vertex.csv")
    line = 'write split = "ml_use", splits = { train = "TRAINING", test = "TEST" }'
    assert line in refused("vertex.csv", tmp_path)
    with pytest.raises(UserError, match="holds splits of other names"):
        open_images(tmp_path / "vertex.csv")
    dataset = open_dataset({"csv": "vertex.csv", "split": "ml_use", "splits": {"train": "TRAINING", "test": "TEST"}}, tmp_path)
    assert dataset.counts["train"] == 17 and "left out: 1 row of split 'UNASSIGNED'" in dataset.notes[-1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("choice.csv", 'image,label\n1.png,cat\n2.png,"{""is"": ""cat""}"', "line 3: .* is an object with keys; expected"),
        ("tool.xml", '<?xml version="1.0"?>\n<annotations><image name="1.png"/></annotations>', "XML; labels in JSON or XML"),
        ("list.lst", "0\t1.0\tcat/1.png\n1\t0.0\tdog/2.png", "write column1 column2 image above it, with tabs .*, and label"),
        ("cars.csv", "1.png,39,116,14\n2.png,36,116,3", "write image,column2,column3,column4 above it, .*, and label in"),
        ("german.csv", "1.png;cat\n2.png;dog", "write image;label above it, with semicolons between"),
        ("tabs.tsv", "1.png\tcat\n2.png\tdog", "write image label above it, with tabs between the columns$"),
        ("spaces.txt", "real/1.png 0\nreal/2.png 1", "write image label above it, with spaces between the columns$"),
        ("words.txt", "real/1.png 0\nreal/2.png 1 2", "with commas between the columns instead of spaces, also in the lines"),
        ("both.csv", "patient,finding,age\n1,a,3\n2,b,4", "no column 'image' and no column 'label'; found: patient, finding"),
    ],
)  # fmt: skip
def test_lists_that_are_read_otherwise_say_what_to_do(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset({"csv": name, "test_share": 0.2}, tmp_path)


def test_files_of_arrays_and_folders_are_no_lists(tmp_path, table):
    np.savez(tmp_path / "pathmnist.npz", train_images=np.zeros((3, 4, 4, 3), np.uint8), train_labels=np.arange(3))
    (tmp_path / "labels.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    for name, message in {
        "pathmnist.npz": "arrays of NumPy, not images; write each",
        "labels.mat": "arrays (MATLAB), not images",
        "pictures": "a folder; give it without csv",
    }.items():
        assert message in refused({"csv": name}, tmp_path)
    (tmp_path / "list.txt").write_bytes("image\tlabel\n1.png\tcat\n".encode("utf-16"))
    assert "not a readable tar or zip but a text file; if it lists images and labels, give it as csv:PATH" in refused(
        "list.txt", tmp_path
    )


def test_python_takes_paths_as_keys_and_names_what_it_does_not_take(tmp_path, table):
    written(table, tmp_path / "all.csv")
    assert open_dataset({"csv": tmp_path / "all.csv"}).counts["train"] == 18
    for wrong, found in ((5, "int"), (None, "NoneType"), ([str(tmp_path)], "list"), (table, "DataFrame; write it to a CSV file")):
        assert f'dataset: expected a name, a path, or a table of keys such as {{ csv = "images.csv" }}, found {found}' in refused(
            wrong, tmp_path
        )


def test_nested_labels_of_json_are_no_texts(tmp_path):
    rows = [{"image": f"{i}.png", "label": {"displayName": "cat"}} for i in range(3)]
    (tmp_path / "vertex.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "line 1: the label \"{'displayName': 'cat'}\" is an object with keys" in refused({"csv": "vertex.jsonl"}, tmp_path)
