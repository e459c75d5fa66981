"""A table with a column per network is turned, and no other."""

import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table

NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet101"]
WIDE = pd.DataFrame(
    {
        "network": NETWORKS,
        "ImageNet": [70.1, 73.2, 76.3, 77.4],
        "pets": [88.1, 90.4, 91.5, 92.6],
        "birds": [61.2, 66.3, 68.4, 70.1],
    }
)
TARGETS = WIDE.drop(columns="ImageNet")
TURNED = WIDE.set_index("network").T
SAID = "rows and columns are exchanged, because each column is a network"
FURTHER = pd.DataFrame(
    {"Params (M)": [11.7, 21.8, 25.6, 44.5], "FLOPs": [1.8, 3.6, 4.1, 7.8], "Average": [74.6, 78.3, 79.9, 81.3]}, index=NETWORKS
)


def same(rows, table=WIDE, said=SAID):
    "Whether `rows` are those of `table`, read from its turned form."
    expected = read_table(table, percent=True)
    columns = ["network", "source_accuracy", "dataset", "score"]
    pd.testing.assert_frame_equal(rows[columns], expected[columns])
    return said in rows.attrs["reading"]


@pytest.mark.parametrize("corner", ["", "dataset", "Dataset", "Task", "model", "Method"])
@pytest.mark.parametrize("names", [NETWORKS, ["ours-S", "ours-M", "ours-L", "ours-XL"]])
def test_a_row_of_imagenet_says_that_each_column_is_a_network(tmp_path, corner, names):
    turned = TURNED.set_axis(names, axis=1)
    turned.rename_axis(corner).to_csv(tmp_path / "turned.csv")
    assert same(read_table(tmp_path / "turned.csv", percent=True), WIDE.assign(network=names))
    assert same(read_table(turned, percent=True), WIDE.assign(network=names))


def test_known_networks_above_the_columns_and_a_column_of_datasets_say_it_too(tmp_path):
    turned, own = TARGETS.set_index("network").T, pd.Series([0.7, 0.72, 0.74, 0.76], ["a", "b", "c", "d"])
    assert same(read_table(turned, percent=True), TARGETS)
    named = turned.set_axis(own.index, axis=1)
    by_given = read_table(named, percent=True, source_accuracy=own)
    assert SAID in by_given.attrs["reading"] and by_given["source_accuracy"].tolist() == [*own, *own]
    with pytest.raises(UserError, match=r"networks \(birds, pets\); if these are datasets .*, call the first column dataset"):
        read_table(named, percent=True)
    with pytest.raises(UserError, match=r"no source accuracy for 4 of 4 networks \(a, b, c, d\)"):
        read_table(named.rename_axis("dataset"), percent=True)


def test_rows_and_columns_that_are_neither_are_left_out_and_said():
    turned = pd.concat([TURNED, FURTHER.T])
    rows = read_table(turned, percent=True)
    assert same(rows) and "Params (M) (parameters), FLOPs (computation), Average (an average)" in rows.attrs["reading"][2]
    turned = TURNED.rename_axis("Task").reset_index().assign(Average=80.0, metric="top-1", n_test=100)
    rows = read_table(turned, percent=True)
    assert same(rows, said="each column is a network, and is read row by row")
    assert set(rows["metric"]) == {"top-1"} and set(rows["n_test"]) == {100}
    assert "row 'Average' (a summary, no network)" in rows.attrs["reading"][2]


def test_a_cell_of_a_turned_table_is_named_by_its_column():
    with pytest.raises(UserError, match=r"'oops' of network 'resnet34' on dataset 'pets': .* \(column 3\)"):
        read_table(TURNED.astype(object).replace(90.4, "oops"), percent=True)


def test_usual_tables_are_not_turned():
    own = pd.Series([0.7, 0.72, 0.74, 0.76], ["ImageNet", "JFT", "Places", "iNat"])
    pretrained = TARGETS.assign(network=own.index)  # a network per data set of pretraining
    for table, options in (
        (WIDE, {}),
        (TARGETS, {}),
        (pretrained, {"source_accuracy": own}),
        (WIDE.rename(columns={"birds": "resnet50"}), {}),
        (WIDE.melt("network", var_name="dataset", value_name="score"), {}),
    ):
        rows = read_table(table, percent=True, **options)
        assert SAID not in rows.attrs["reading"] and list(rows["network"].unique()) == list(table["network"].unique())
    with pytest.raises(UserError, match="no column 'network'"):
        read_table(pretrained.rename(columns={"network": "Pretraining"}), percent=True)


def test_what_a_column_states_of_each_row_is_read(tmp_path):
    stated = TURNED.rename_axis("Dataset").reset_index()
    stated.insert(1, "Protocol", "Linear")
    both = pd.concat([stated, stated.assign(Protocol="fine-tune", resnet18=[71.0, 89.0, 63.0])])
    further = pd.DataFrame({"Dataset": ["Average", "Params (M)"], "Protocol": "Linear"} | dict.fromkeys(NETWORKS, 75.0))
    file = tmp_path / "stated.csv"
    pd.concat([both, further]).assign(Domain="natural").to_csv(file, index=False)
    rows = read_table(file, percent=True)
    expected = read_table(WIDE, percent=True).sort_values(["network", "dataset"], ignore_index=True)
    for protocol, first in (("linear", [0.701, 0.612, 0.881]), ("finetune", [0.71, 0.63, 0.89])):
        part = rows[rows["protocol"] == protocol].sort_values(["network", "dataset"], ignore_index=True)
        columns = ["network", "source_accuracy", "dataset", "score"]
        others, own = (part["network"] != "resnet18", part[part["network"] == "resnet18"])
        pd.testing.assert_frame_equal(part.loc[others, columns], expected.loc[others, columns])
        assert [own["source_accuracy"].iloc[0], *own["score"]] == pytest.approx(first)
    left = "rows left out: 'Average' (an average), 'Params (M)' (parameters); not read: 'Domain'"
    assert f"each column is a network, and is read row by row; {left}" in rows.attrs["reading"]
    classes = stated.drop(columns="Protocol").assign(n_classes=[1000, 37, 500], metric=["top-1", "mean per class", "top-1"])
    rows = read_table(classes, percent=True)
    by_dataset = rows.groupby("dataset")[["n_classes", "metric"]].first()
    assert by_dataset.to_numpy().tolist() == [[500, "top-1"], [37, "mean per class"]]
    file.write_text(file.read_text().replace("61.2", "x61"))
    with pytest.raises(UserError, match=r"'x61' of network 'resnet18' on dataset 'birds' \(line 4\): "):
        read_table(file, percent=True)
