"""Cells that are empty because another one stands for them: merged ones, and what is stated once for a network or dataset."""

import numpy as np
import openpyxl
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.statistics.analysis import analyze

NETWORKS = ["mobilenet_v2", "resnet34", "resnet50", "densenet121", "resnet101", "densenet201"]
WIDE = pd.DataFrame(
    {
        "model": NETWORKS,
        "ImageNet": [71.88, 73.31, 76.13, 74.43, 77.37, 76.9],
        "Pets": [82.9, 87.3, 88.9, 90.4, 89.6, 87.9],
        "Cars": [49.7, 63.2, 63.3, 62.8, 74.3, 67.7],
        "Food": [62.7, 67.6, 75.9, 65.5, 76.8, 71.6],
    }
)
LONG = WIDE.rename(columns={"model": "network", "ImageNet": "source_accuracy"}).melt(
    ["network", "source_accuracy"], var_name="dataset", value_name="score"
)
R = 0.919


def headline(table, **options):
    return analyze(table, percent=True, n_bootstrap=100, **options).to_json()["protocols"]


def first_only(values, n):
    "Each of `values`, followed by `n - 1` empty cells."
    return [value if i == 0 else None for value in values for i in range(n)]


def workbook(path, table, *merged):
    book = openpyxl.Workbook()
    for row in [list(table.columns), *table.astype(object).where(table.notna(), None).to_numpy().tolist()]:
        book.active.append(row)
    for place in merged:
        book.active.merge_cells(place)
    book.save(path)
    return path


def test_merged_cells_of_a_sheet_are_filled_down(tmp_path):
    path = tmp_path / "table.xlsx"
    protocol = WIDE.copy()
    protocol.insert(0, "protocol", first_only(["finetune"], 6))
    found = headline(workbook(path, protocol, "A2:A7"))
    assert list(found) == ["finetune"] and found["finetune"]["r"] == pytest.approx(R, abs=5e-4)
    reading = read_table(path, percent=True).attrs["reading"]
    assert "merged cells are filled down: A2:A7" in reading and "protocol: as the table says" in reading[0]

    datasets = LONG[["dataset", "network", "source_accuracy", "score"]].assign(dataset=first_only(["Pets", "Cars", "Food"], 6))
    assert headline(workbook(path, datasets, "A2:A7", "A8:A13", "A14:A19"))["linear"]["r"] == pytest.approx(R, abs=5e-4)

    sizes = pd.concat([WIDE.assign(Pets=WIDE["Pets"] - 9), WIDE])
    sizes.insert(0, "n_train_per_class", first_only([5, "all"], 6))
    rows = read_table(workbook(path, sizes, "A2:A7", "A8:A13"), percent=True)
    assert rows["n_train_per_class"].eq(5).sum() == rows["n_train_per_class"].isna().sum() == 18

    family = WIDE[1:].assign(model=[34, 50, 101, 121, 201]).rename(columns={"model": "depth"})
    family.insert(0, "family", ["ResNet", None, None, "DenseNet", None])
    rows = read_table(workbook(path, family, "A2:A4", "A5:A6"), percent=True, network="family,depth")
    assert rows["network"].unique().tolist() == ["ResNet 34", "ResNet 50", "ResNet 101", "DenseNet 121", "DenseNet 201"]


def test_merged_cells_of_the_header_and_over_columns_are_read_as_before(tmp_path):
    plain, book = tmp_path / "plain.xlsx", openpyxl.Workbook()
    cells = [["model", "ImageNet", "Targets", None, None], [None, None, "Pets", "Cars", "Food"], *WIDE.to_numpy().tolist()]
    for row in cells:
        book.active.append(row)
    book.save(plain)
    for place in ("A1:A2", "B1:B2", "C1:E1"):
        book.active.merge_cells(place)
    book.save(tmp_path / "merged.xlsx")
    rows = read_table(plain, percent=True)
    merged = read_table(tmp_path / "merged.xlsx", percent=True)
    pd.testing.assert_frame_equal(rows, merged)
    assert rows.attrs["reading"] == merged.attrs["reading"]


@pytest.mark.parametrize(
    ("column", "value", "advice"),
    [
        ("protocol", "finetune", ", or give --protocol for these rows"),
        ("setting", "lr 0.1", ": the usual one is default"),
        ("n_train_per_class", 5, ": all training images are all"),
        ("seed", 0, ""),
    ],
)
def test_a_column_that_tells_scores_apart_is_filled_in_every_row_or_in_none(tmp_path, column, value, advice):
    said = f"{column} is empty in 5 of 6 lines with scores, first in line 3, and filled in others; fill it in every line{advice}$"
    WIDE.assign(**{column: first_only([value], 6)}).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(UserError, match=said):
        read_table(tmp_path / "table.csv", percent=True)
    for cells in (value, None, "all" if column == "n_train_per_class" else value):
        assert len(read_table(WIDE.assign(**{column: cells}), percent=True)) == 18
    with pytest.raises(UserError, match=f"{column} is empty in 12 of 18 rows"):
        read_table(LONG.assign(**{column: first_only([value] * 6, 3)}), percent=True)


def test_empty_protocols_are_those_that_are_given_and_rows_of_the_source_need_none():
    partly = LONG.assign(protocol=first_only(["finetune"] * 6, 3))
    assert set(read_table(partly, percent=True, protocol="scratch")["protocol"]) == {"finetune", "scratch"}
    with pytest.raises(UserError, match="protocol is empty in 12 of 18 rows"):
        read_table(partly, percent=True, protocol=" ")
    source = LONG[["network", "source_accuracy"]].drop_duplicates().rename(columns={"source_accuracy": "score"})
    targets = LONG.drop(columns="source_accuracy").assign(protocol="finetune", setting="default")
    rows = read_table(pd.concat([targets, source.assign(dataset="imagenet")]), percent=True)
    assert len(rows) == 18 and set(rows["protocol"]) == {"finetune"}
    averages = pd.DataFrame({"model": ["mean"], "ImageNet": [75.0], "Pets": [87.8], "Cars": [63.5], "Food": [70.0]})
    assert len(read_table(pd.concat([WIDE.assign(protocol="knn"), averages]), percent=True)) == 18
    seeds = pd.concat([LONG.assign(protocol="linear"), *(LONG.assign(protocol="finetune", seed=seed) for seed in range(2))])
    assert read_table(seeds, percent=True)["seed"].isna().sum() == 18


def test_a_results_table_of_the_package_has_no_size_for_all_images(tmp_path):
    rows = read_table(LONG, percent=True)
    both = pd.concat([rows.assign(n_train_per_class=5), rows])
    both.to_csv(tmp_path / "results.csv", index=False)
    assert read_table(tmp_path / "results.csv")["n_train_per_class"].isna().sum() == 18


def test_parts_of_names_that_are_missing():
    parts = WIDE.assign(model=["ResNet", None, None, "DenseNet", None, None], depth=[18, 34, 50, 121, 169, 201])
    with pytest.raises(
        UserError, match="no network in row 2; every row needs a name, but 'model' is empty in 4 of 6 rows; fill it"
    ):
        read_table(parts, percent=True, network="model,depth")
    rows = read_table(WIDE.assign(variant=["", "", "SWSL", "", "", ""]), percent=True, network="model,variant")
    assert "resnet50 SWSL" in set(rows["network"]) and "resnet34" in set(rows["network"])
    said = "'variant' is empty in 5 of 6 rows (first in row 1), whose networks are named without it"
    assert said in rows.attrs["reading"]


def test_a_source_accuracy_in_one_row_of_a_network_holds_for_its_other_rows():
    for names in (NETWORKS, list("abcdef")):
        once = LONG.sort_values("network", kind="stable").assign(network=np.repeat(sorted(names), 3))
        once["source_accuracy"] = once["source_accuracy"].where(~once["network"].duplicated())
        assert headline(once)["linear"]["r"] == pytest.approx(R, abs=5e-4)
        reading = read_table(once, percent=True).attrs["reading"]
        assert "source accuracy: column 'source_accuracy'; " in reading[0]
        assert "for 12 scores without a source accuracy, that of the network's other rows is used" in reading
    with pytest.raises(UserError, match="network 'a' has source accuracies from 0.7 to 0.8"):
        table = pd.DataFrame({"network": "a", "source_accuracy": [70, None, 80], "dataset": list("xyz"), "score": 50})
        read_table(table, percent=True, source_accuracy={"a": 0.7})


def test_a_source_accuracy_holds_for_its_setting_only():
    table = pd.concat([LONG[LONG["network"] == "resnet50"].assign(setting=setting) for setting in ("default", "augreg")])
    table["source_accuracy"] = [70, None, None, 80, None, None]
    assert read_table(table, percent=True).groupby("setting")["source_accuracy"].unique().map(list).to_dict() == {
        "augreg": [0.8],
        "default": [0.7],
    }
    table["source_accuracy"] = [70, None, None, None, None, None]
    assert read_table(table, percent=True).query("setting == 'augreg'")["source_accuracy"].unique().tolist() == [0.7613]
    seeds = table.assign(setting="default", seed=[0] * 3 + [1] * 3)
    assert set(read_table(seeds, percent=True)["source_accuracy"]) == {0.7}


CHANCE = LONG.assign(score=LONG["score"].where((LONG["network"] != "resnet101") | (LONG["dataset"] != "Cars"), 0.6))


def test_a_number_of_classes_in_one_row_of_a_dataset_holds_for_its_other_rows():
    once = CHANCE.assign(n_classes=first_only([37, 196, 101], 6))
    some = CHANCE.assign(n_classes=CHANCE["dataset"].map({"Pets": 37, "Cars": 196, "Food": 101}).where(CHANCE.index != 10))
    for table in (once, some):
        found = headline(table)["linear"]
        assert found["r"] == pytest.approx(0.9165, abs=5e-5) and found["r_all"] == pytest.approx(-0.3126, abs=5e-5)
    assert read_table(once, percent=True).groupby("dataset")["n_classes"].unique().map(list).to_dict() == {
        "Cars": [196],
        "Food": [101],
        "Pets": [37],
    }
    wrong = once.assign(n_classes=[37, 38, *once["n_classes"][2:]])
    with pytest.raises(UserError, match=r"dataset 'Pets' has 37 and 38 classes \(rows 1 and 2\); keep one"):
        read_table(wrong, percent=True)
