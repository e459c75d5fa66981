"""Tables of another shape than expected, each of which is read, or refused with the line that says what to do."""

import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table

WIDE = pd.DataFrame({
    "network": ["resnet18", "resnet50", "resnet152"], "imagenet": [69.8, 76.1, 78.3],
    "pets": [81.5, 85.6, 87.7], "cars": [62.1, 63.9, 67.1],
})  # fmt: skip
LONG = (
    WIDE.drop(columns="imagenet")
    .melt("network", var_name="dataset", value_name="score")
    .assign(score=lambda df: df["score"] / 100)
)


def refused(table, **options):
    with pytest.raises(UserError) as raised:
        read_table(table, **options)
    return str(raised.value)


def test_several_metrics_are_named_before_any_scale():
    loss = LONG.assign(metric="loss", score=[1.2, 0.9, 0.8, 2.1, 1.9, 0.4])
    table = pd.concat([LONG.assign(metric="f1"), loss, LONG.assign(metric="accuracy")])
    message = refused(table)
    assert "metrics f1, loss and accuracy; keep one, such as accuracy with --leave-out 'metric=f1,metric=loss'" in message
    rows = read_table(table, leave_out="metric=f1,metric=loss")
    assert sorted(rows["score"]) == sorted(LONG["score"]) and set(rows["metric"]) == {"accuracy"}
    assert "the metric 'loss' are errors, no accuracies; write accuracies in their place" in refused(loss)
    of_one = loss[loss["dataset"] == "cars"]
    mixed = pd.concat([LONG[LONG["dataset"] == "pets"].assign(metric="accuracy"), of_one])
    assert "leave them out with --leave-out 'metric=loss'" in refused(mixed)
    assert set(read_table(mixed, leave_out="metric=loss")["dataset"]) == {"pets"}
    by_dataset = LONG.assign(metric=["accuracy"] * 3 + ["map_11_point"] * 3)
    assert len(read_table(by_dataset)) == 6


def test_a_scale_that_the_numbers_do_not_fit_is_said():
    table = LONG.assign(score=LONG["score"].where(LONG["dataset"] == "cars", 100 * LONG["score"]))
    assert "the largest score on dataset 'cars' is 0.671" in refused(table, percent=True)
    rows = read_table(table, scale=["percent", "cars=percent"])
    assert rows.loc[rows["dataset"] == "cars", "score"].max() == pytest.approx(0.00671)
    said = "'cars' is read as per cent, as --scale says, though its largest number is 0.671: 0.671 %"
    assert said in rows.attrs["reading"]
    assert not any("as --scale says" in line for line in read_table(table, scale="pets=percent").attrs["reading"])


@pytest.mark.parametrize("shape", ["wide", "long"])
@pytest.mark.parametrize("baseline", [True, False], ids=["below a baseline", "everywhere"])
def test_differences_are_no_scores(tmp_path, baseline, shape):
    pets = ["81.5" if baseline else "+0.3", "+4.1", "+6.2"]
    table = WIDE[["network", "imagenet"]].assign(pets=pets)
    table = (
        table
        if shape == "wide"
        else table.rename(columns={"imagenet": "source_accuracy", "pets": "score"}).assign(dataset="pets")
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    for written in (table, tmp_path / "table.csv"):
        message = refused(written, percent=True)
        assert f"score {pets[1] if baseline else pets[0]!r} of network".replace("score +4.1", "score '+4.1'") in message
        assert "no difference" in message


def test_a_spread_may_have_a_sign():
    rows = read_table(WIDE.assign(pets=["81.5 (+0.3)", "85.6 ± 0.2", "87.7 (±0.1)"]), percent=True)
    assert sorted(rows.loc[rows["dataset"] == "pets", "score"]) == pytest.approx([0.815, 0.856, 0.877])


def test_errors_in_a_long_table():
    table = LONG.assign(score=100 - 100 * LONG["score"]).rename(columns={"score": "top1_err"})
    for options in ({}, {"score": "top1_err"}, {"score": "top1_err", "percent": True}):
        assert "'top1_err' holds errors, no accuracies" in refused(table, **options)
    both = table.assign(top1=100 * LONG["score"])
    assert read_table(both, percent=True)["score"].max() == pytest.approx(0.877)


def turned():
    table = WIDE.set_index("network").drop(columns="imagenet").T.rename_axis("Dataset").reset_index()
    return table.rename_axis(columns=None)


def test_counts_beside_networks_are_no_networks():
    table = turned()
    for i, (name, counts) in enumerate(
        {"Classes": [37, 196], "Train size": ["3,680", "8,144"], "Held out": [3669, 8041]}.items()
    ):
        table.insert(1 + i, name, counts)
    table.insert(4, "Metric", ["accuracy", "accuracy"])
    rows = read_table(table, percent=True)
    assert sorted(rows["network"].unique()) == sorted(WIDE["network"]) and rows["score"].max() == pytest.approx(0.877)
    assert any("not read: 'Train size', 'Held out'" in line for line in rows.attrs["reading"])
    assert {"small", "large"} <= set(read_table(turned().assign(small=[80.5, 60.1], large=[81.5, 61.2]), percent=True,
                                                source_accuracy={"small": 0.6, "large": 0.7})["network"])  # fmt: skip


def test_the_advice_on_a_cell_names_the_row_or_the_column_that_is_odd():
    row = pd.DataFrame({"network": ["# classes"], "imagenet": [1000], "pets": [37], "cars": [196]})
    table = pd.concat([row, WIDE], ignore_index=True)
    assert "leave the row out with --leave-out 'network=# classes'" in refused(table, percent=True)
    assert len(read_table(table, percent=True, leave_out="network=# classes")) == 6
    assert "leave the column out with --leave-out 'images'" in refused(
        WIDE.assign(images=[3669, 3669, 8041.5]), percent=True, datasets="pets,images"
    )


def german():
    return LONG.rename(columns={"network": "Modell", "dataset": "Datensatz", "score": "Genauigkeit (%)"})


def test_a_long_table_in_another_language_is_no_wide_one():
    advice = "if 'Datensatz' names the datasets, call it dataset, and the column of scores score"
    assert f"such as --network 'Modell'; {advice}" in refused(german())
    message = refused(german(), network="Modell")
    assert "which 'Datensatz' tells apart; if it names the datasets, call it dataset" in message
    assert "names the datasets" not in refused(german().rename(columns={"Datensatz": "dataset"}))
    rows = read_table(german().rename(columns={"Datensatz": "dataset", "Genauigkeit (%)": "score"}), network="Modell")
    assert len(rows) == 6
    variants = pd.concat([WIDE.assign(recipe="A"), WIDE.assign(recipe="B")], ignore_index=True)
    assert "if it belongs to the networks' names, --network 'network,recipe'" in refused(variants, percent=True)
    assert read_table(variants, percent=True, network="network,recipe")["network"].nunique() == 6
    assert len(read_table(variants.rename(columns={"recipe": "setting"}), percent=True)) == 12


def test_the_tasks_of_an_evaluation_harness_are_datasets():
    table = LONG.rename(columns={"network": "model", "dataset": "Tasks", "score": "Value"}).assign(
        Metric="acc", Stderr=0.01, Version=1
    )
    assert read_table(table)["score"].max() == pytest.approx(0.877)


def test_a_table_of_images_or_of_classes():
    images = pd.DataFrame({"model": "resnet18", "dataset": "pets", "image": ["a", "b"], "label": [1, 2], "prediction": [1, 0]})
    assert "one row per image, with its label and prediction; expected an accuracy for each network" in refused(images)
    report = pd.DataFrame(
        {"precision": [0.9, 0.8], "recall": [0.9, 0.7], "f1-score": [0.9, 0.75], "support": [20, 30]}, index=["cat", "dog"]
    )
    assert "one row per class of one network on one dataset" in refused(report)


def test_names_from_latex_are_without_backslashes():
    rows = read_table(WIDE.replace("resnet18", r"mobilenet\_v2").drop(columns="imagenet"), percent=True)
    assert rows.loc[rows["network"] == "mobilenet_v2", "source_accuracy"].unique().tolist() == [0.71878]
