"""Tables of another shape than expected, each of which is read, or refused with the line that says what to do."""

from pathlib import Path

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
    assert "the largest score on 'cars' is 0.671" in refused(table, percent=True)
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
    assert f"such as --network 'Modell' (network=); {advice}" in refused(german())
    message = refused(german(), network="Modell")
    assert "which 'Datensatz' tells apart; if it names the datasets, call it dataset" in message
    assert "names the datasets" not in refused(german().rename(columns={"Datensatz": "dataset"}))
    rows = read_table(german().rename(columns={"Datensatz": "dataset", "Genauigkeit (%)": "score"}), network="Modell")
    assert len(rows) == 6
    variants = pd.concat([WIDE.assign(recipe="A"), WIDE.assign(recipe="B")], ignore_index=True)
    assert "add it to the networks' names with --network 'network,recipe'; or leave" in refused(variants, percent=True)
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


def pivot(name="Grand Total", prefix=""):
    table = pd.DataFrame({
        "network": list("abcde"), "imagenet": [60.1, 65.2, 70.4, 75.3, 78.8],
        "cars": [52.1, 58.1, 60.5, 71.6, 77.7], "pets": [86.3, 87.9, 88.1, 92.4, 93.6],
    })  # fmt: skip
    table.loc[5] = [name, *table.drop(columns="network").mean().round(2)]
    table[prefix + name] = table.drop(columns="network").mean(axis=1).round(2)
    return table


@pytest.mark.parametrize("name", ["Grand Total", "Gesamtergebnis", "Total général", "Total general", "Overall"])
def test_the_totals_of_a_pivot_table_are_neither_networks_nor_datasets(name):
    for table in (pivot(name), pivot(name, "Column Labels ") if name == "Grand Total" else pivot(name)):
        rows = read_table(table, percent=True)
        assert sorted(rows["network"].unique()) == list("abcde") and sorted(rows["dataset"].unique()) == ["cars", "pets"]


def test_a_mean_over_the_source_and_the_datasets_is_left_out_by_its_value():
    rows = read_table(pivot().rename(columns={"Grand Total": "everything"})[:5], percent=True)
    assert sorted(rows["dataset"].unique()) == ["cars", "pets"]
    assert any("everything (the mean of 'imagenet' to 'pets')" in line for line in rows.attrs["reading"])


def test_two_tables_side_by_side_are_refused():
    probe = WIDE.rename(columns={"network": "Model"})
    for order in ([0, 1, 2], [2, 0, 1]):
        beside = pd.concat({"Linear probe": probe, "Fine-tuning": probe.iloc[order].reset_index(drop=True)}, axis=1)
        message = refused(beside, percent=True, network="Linear probe Model", source="Linear probe imagenet")
        assert "'Fine-tuning Model' names the networks of 'Linear probe Model' again: two tables stand side by side" in message
    assert len(read_table(WIDE.assign(checkpoint=WIDE["network"]), percent=True)) == 6, "a copy of the names is a column of texts"
    distilled = WIDE.assign(teacher=["resnet152", "resnet152", "resnet50"])
    assert len(read_table(distilled, percent=True)) == 6


def test_top_1_and_top_5_in_one_cell_are_refused_and_not_looked_up():
    table = WIDE.drop(columns="imagenet").assign(**{"ImageNet (top-1 / top-5)": ["69.8 / 89.1", "76.1 / 92.9", "78.3 / 94.0"]})
    assert "score '69.8 / 89.1' of network 'resnet18'" in refused(table, percent=True)


def test_another_measure_of_the_source_beside_the_one_that_is_named():
    table = WIDE.rename(columns={"imagenet": "ImageNet linear"}).assign(**{"ImageNet k-NN": [60.1, 66.2, 68.9]})
    reading = read_table(table, percent=True, source="ImageNet linear").attrs["reading"]
    assert any("read as datasets: 'ImageNet k-NN' (may be of the source)" in line for line in reading)


@pytest.mark.parametrize(("text", "kind"), [
    ('.. csv-table:: Results\n   :header: "Model", "Pets"\n   :widths: 20, 20\n\n   "small", "91.2"\n', "reStructuredText"),
    ("=====  =====\nModel  Pets\n=====  =====\nsmall  91.2\n=====  =====\n", "reStructuredText"),
    ("+-------+------+\n| model | pets |\n+-------+------+\n| small | 91.2 |\n+-------+------+\n", "a table drawn with lines"),
])  # fmt: skip
def test_drawn_tables_are_named(text, kind, tmp_path):
    (tmp_path / "table.txt").write_text(text)
    assert f"table.txt: {kind}" in refused(tmp_path / "table.txt")
    markdown = "| model | imagenet | pets |\n|---|---|---|\n| small | 0.6 | 0.8 |\n"
    (tmp_path / "page.md").write_text(text + "\n" * 100_000 + markdown)
    assert read_table(tmp_path / "page.md")["score"].tolist() == [0.8], "a Markdown table beside it is read"


def test_the_words_none_and_na_in_a_workbook_are_texts_as_in_csv(tmp_path):
    table = pd.concat([WIDE.assign(pretrained="imagenet"), WIDE.assign(pretrained="None")], ignore_index=True)
    table.to_excel(tmp_path / "table.xlsx", index=False)
    table.to_csv(tmp_path / "table.csv", index=False)
    options = {"percent": True, "network": "network,pretrained"}
    of_excel, of_csv = (read_table(tmp_path / f"table.{kind}", **options) for kind in ("xlsx", "csv"))
    pd.testing.assert_frame_equal(of_excel, of_csv)
    assert set(of_excel["network"]) == {f"{name} {how}" for name in WIDE["network"] for how in ("imagenet", "None")}
    left = read_table(tmp_path / "table.xlsx", **options, leave_out="pretrained=None")
    assert len(left) == 6


def test_scores_in_per_cent_beside_source_accuracies_in_fractions(tmp_path):
    own = LONG.assign(score=LONG["score"] * 100, source_accuracy=[0.698, 0.761, 0.783] * 2)
    assert "give --scale source_accuracy=fraction (or omit --percent" in refused(own, percent=True)
    assert read_table(own, percent=True, scale="source_accuracy=fraction")["source_accuracy"].max() == 0.783
    scores = WIDE.drop(columns="imagenet")
    mine = pd.DataFrame({"network": WIDE["network"], "source_accuracy": [0.698, 0.761, 0.783]})
    mine.to_csv(tmp_path / "mine.csv", index=False)
    given = {"percent": True, "source_accuracy": tmp_path / "mine.csv"}
    assert "give --scale source_accuracy=fraction" in refused(scores, **given)
    assert read_table(scores, **given, scale="source_accuracy=fraction")["source_accuracy"].max() == 0.783


def test_the_column_of_networks_of_source_accuracies_is_to_be_renamed(tmp_path):
    columns = {"Weight": WIDE["network"], "Acc@1": [69.8, 76.1, 78.3], "Recipe": ["old", "new", "new"]}
    torchvision = pd.DataFrame(columns)
    torchvision.to_csv(tmp_path / "weights.csv", index=False)
    message = refused(WIDE.drop(columns="imagenet"), percent=True, source_accuracy=tmp_path / "weights.csv")
    assert "call the column that names the networks network, such as 'Weight'" in message and "--network" not in message
    torchvision.rename(columns={"Weight": "network"}).to_csv(tmp_path / "weights.csv", index=False)
    rows = read_table(WIDE.drop(columns="imagenet"), percent=True, source_accuracy=tmp_path / "weights.csv")
    assert rows["source_accuracy"].max() == pytest.approx(0.783)


def test_a_name_that_stands_twice_is_refused_with_the_name_of_the_file(tmp_path):
    lines = ["Model,imagenet,pets,,Model,imagenet,pets", "small,60,80,,small,60,85", "large,70,88,,large,70,90"]
    (tmp_path / "twice.csv").write_text("\n".join(lines))
    assert refused(tmp_path / "twice.csv", percent=True).startswith(f"{tmp_path}/twice.csv: 2 columns are named 'Model'")


def test_accuracies_of_other_networks_are_named_before_any_is_missing():
    scores = WIDE.replace({"resnet18": "Unknown A", "resnet50": "Unknown B", "resnet152": "Unknown C"}).drop(columns="imagenet")
    message = refused(scores, percent=True, source_accuracy={"ResNet-18": 0.698, "ResNet-50": 0.761})
    assert "given for ResNet-18, ResNet-50, but the table has the networks Unknown A, Unknown B, Unknown C" in message


def tracked():
    "As experiment trackers export runs: a kind of each row, and the datasets in a column of another name."
    rows = LONG.rename(columns={"network": "train.arch", "dataset": "data.name", "score": "test_acc"})
    rows = pd.concat([rows.iloc[[0]], rows], ignore_index=True)
    rows.insert(0, "typ", ["baseline", *["branch"] * 6])
    return rows


def test_the_column_that_tells_the_rows_of_a_network_apart_is_proposed():
    assert "such as --network 'train.arch' (network=); if 'data.name' names the datasets, call it dataset" in refused(tracked())
    assert "which 'data.name' tells apart" in refused(tracked(), network="train.arch")
    asked = refused(tracked(), network="train.arch", score="test_acc")
    assert "no column 'dataset'; found: typ, train.arch, data.name, test_acc; if 'data.name' names the datasets" in asked
    renamed = tracked().rename(columns={"data.name": "dataset"})
    assert len(read_table(renamed, network="train.arch", score="test_acc", leave_out="typ=baseline")) == 6


def test_the_column_that_says_dataset_comes_before_one_called_task():
    """As in the results of CLIP_benchmark: the task is the kind of evaluation."""
    table = pd.DataFrame([
        {"model": model, "task": "zero-shot", "downstream_dataset": dataset, "score": score, "imagenet": source}
        for model, source in (("small", 0.6), ("large", 0.7)) for dataset, score in (("pets", 0.8), ("cars", 0.7))
    ])  # fmt: skip
    both = "the column 'task' or 'downstream_dataset' may name the datasets; call the right one dataset"
    with pytest.raises(UserError, match=both):
        read_table(table)
    with pytest.raises(UserError, match="no column 'dataset'.*if 'downstream_dataset' names the datasets, call it dataset"):
        read_table(table, leave_out="task")
    rows = read_table(table.rename(columns={"downstream_dataset": "dataset"}))
    assert set(rows["dataset"]) == {"pets", "cars"} and len(rows) == 4
    assert len(read_table(table.assign(task=table["downstream_dataset"], downstream_dataset="imagenet-1k"))) == 4


def test_options_take_names_with_commas():
    office, birds = "Office (Art, Clipart)", "Birds, fine"
    table = WIDE.rename(columns={"pets": office, "cars": birds}).assign(food=[50.1, 52.3, 51.7])
    long = table.drop(columns="imagenet").melt("network", var_name="dataset", value_name="score")
    sources = table.set_index("network")["imagenet"] / 100
    known = {"source_accuracy": sources, "percent": True, "scale": "source_accuracy=fraction"}
    for shape, options in ((table, {"percent": True}), (long, known)):
        assert set(read_table(shape, datasets=f"food,{office},{birds}", **options)["dataset"]) == {office, birds, "food"}
        assert set(read_table(shape, leave_out=f"{birds},food", **options)["dataset"]) == {office}
    assert set(read_table(long, leave_out=f"dataset={birds},dataset=food", **known)["dataset"]) == {office}
    again = long.assign(group=long["dataset"])  # the same cells in another column
    assert set(read_table(again, leave_out=f"dataset={birds},dataset=food", **known)["dataset"]) == {office}


@pytest.mark.parametrize(("factor", "expected"), [(0.01, "from 0 to 1;"), (1, "from 0 to 100;")])
def test_a_negative_score_is_refused_with_its_scale(factor, expected):
    table = WIDE.assign(**{name: WIDE[name] * factor for name in WIDE if name != "network"})
    table.loc[1, "pets"] = -1.0
    message = refused(table, percent=factor == 1)
    assert f"score -1 of network 'resnet50' on dataset 'pets' (row 2): expected a number {expected}" in message
    assert message.endswith("correct the cell, or empty it if the score is missing")


def test_numbers_by_name_in_json_are_to_be_written_below_two_columns(tmp_path):
    flat = '{"small": 0.6, "large": 0.7}'
    for text, advice in ((flat, "NAME,NUMBER in a line each"), ('{"small": {"pets": [0.6]}}', r"or as CSV")):
        (tmp_path / "own.json").write_text(text)
        with pytest.raises(UserError, match=f"JSON, no table; .*{advice}"):
            read_table(WIDE, source_accuracy=tmp_path / "own.json")
    for text, advice in (("[n_classes]\npets = 37\n", "TOML, no table; write NAME"), ('datasets = ["pets"]\n', "a study file")):
        (tmp_path / "own.toml").write_text(text)
        with pytest.raises(UserError, match=advice):
            read_table(WIDE, percent=True, n_classes=tmp_path / "own.toml")


def test_an_address_that_was_taken_for_a_path_is_one():
    assert "an address, not a file" in refused(WIDE, source_accuracy=Path("https://example.com/imagenet.csv"))


def test_which_of_several_accuracies_is_read_is_said():
    targets = WIDE.drop(columns="imagenet")
    top1 = WIDE["imagenet"]
    given = pd.DataFrame({"model": WIDE["network"], "acc@1": top1, "acc@1 (tta)": top1 + 1, "acc@5": 95.0})
    reading = read_table(targets, percent=True, source_accuracy=given).attrs["reading"]
    assert "source accuracies of table: the column 'acc@1' is read; not 'acc@1 (tta)'" in reading
    errors = pd.DataFrame({"model": WIDE["network"], "top1_err": 100 - WIDE["imagenet"]})
    message = refused(targets, percent=True, source_accuracy=errors)
    assert message.endswith("'top1_err' is an error: write one minus it into a column source_accuracy")


def test_all_wrong_numbers_of_classes_are_named_at_once(tmp_path):
    (tmp_path / "classes.csv").write_text("Dataset,Number of classes\npets,0\ncars,many\n")
    message = refused(WIDE, percent=True, n_classes=tmp_path / "classes.csv")
    assert "n_classes 0 on dataset 'pets' (line 2), n_classes 'many' on dataset 'cars' (line 3): expected" in message
    for wrong in (float("nan"), float("inf"), True):
        message = refused(WIDE, percent=True, n_classes={"pets": wrong, "cars": 1})
        assert f"n_classes {wrong!r} of dataset 'pets', 1 of dataset 'cars': expected" in message
    assert refused(WIDE, percent=True, n_classes=[37, 196]).startswith("n_classes: a list; expected")


def test_numbers_of_classes_as_pandas_keeps_and_writes_them(tmp_path):
    counts = pd.Series({"pets": 37, "cars": 196}, name="n_classes")
    counts.to_csv(tmp_path / "classes.csv")
    for given in (counts, counts.to_frame(), tmp_path / "classes.csv"):
        rows = read_table(WIDE, percent=True, n_classes=given)
        assert rows.groupby("dataset")["n_classes"].first().to_dict() == {"pets": 37, "cars": 196}


def test_the_datasets_of_a_turned_table_need_no_other_name(tmp_path):
    rows = "| pets | 0.8 | 0.9 |\n| cars | 0.7 | 0.8 |\n| food | 0.7 | 0.8 |\n"
    (tmp_path / "turned.md").write_text(f"| Dataset | net a | net b |\n|---|---|---|\n{rows}")
    message = refused(tmp_path / "turned.md")
    assert "no source accuracy for 2 of 2 networks (net a, net b); give it as a column" in message


def test_given_accuracies_that_are_of_no_network_are_said():
    targets, given = WIDE.drop(columns="imagenet"), {"ResNet-50": 0.8, "resnet18": 0.7, "resnet152": 0.78, "vit": 0.8}
    reading = read_table(targets, percent=True, source_accuracy=pd.Series(given)).attrs["reading"]
    spelled = "source accuracies given under another name than in the table are not used: 'ResNet-50' for 'resnet50'"
    assert f"{spelled}; correct the names" in reading
    assert "1 of the given source accuracies are of no network in the table: vit" in reading
    whole = read_table(targets, percent=True, source_accuracy=WIDE.set_index("network")["imagenet"] / 100)
    assert not any("given" in line for line in whole.attrs["reading"][1:])


def test_names_of_networks_in_a_column_without_a_name(tmp_path):
    rows = "0,small,0.8,0.7\n1,large,0.9,0.8\n"
    (tmp_path / "numbered.csv").write_text(",,pets,cars\n" + rows)
    markdown = "|  |  | pets | cars |\n|---|---|---|---|\n|  | small | 0.8 | 0.7 |\n|  | large | 0.9 | 0.8 |\n"
    (tmp_path / "empty.md").write_text(markdown)
    (tmp_path / "two.csv").write_text(",,pets,cars\na,small,0.8,0.7\nb,large,0.9,0.8\n")
    (tmp_path / "inside.csv").write_text("id,,pets\n0,small,0.8\n1,large,0.9\n")
    sources = pd.Series({"small": 0.6, "large": 0.7})
    for name in ("numbered.csv", "empty.md"):
        assert set(read_table(tmp_path / name, source_accuracy=sources)["network"]) == {"small", "large"}
    for name in ("two.csv", "inside.csv"):
        assert refused(tmp_path / name, source_accuracy=sources).endswith("write network above the column of their names")


def test_what_tells_two_scores_apart_is_named():
    "The rows are those that no column tells apart, though others of the network and dataset differ in their seeds."
    sizes = pd.concat([LONG.assign(shots=n, seed=k, score=LONG["score"] + n / 1000 + k / 10_000) for n in (1, 5) for k in (1, 2)])
    known = {"source_accuracy": WIDE.set_index("network")["imagenet"] / 100}
    message = refused(sizes, **known)
    assert f"(rows 1, {2 * len(LONG) + 1}), which differ in 'shots'; " in message
    assert message.endswith("leave rows out, such as with --leave-out 'shots=5'")
    assert len(read_table(sizes, leave_out="shots=5", **known)) == 2 * 6
    assert len(read_table(sizes.rename(columns={"shots": "n_train_per_class"}), **known)) == 4 * 6
    without = refused(sizes.drop(columns="shots"), **known)
    assert without.endswith("; keep one, or tell them apart by the columns protocol, seed, n_train_per_class or setting")


def test_folds_of_a_long_table_are_to_be_called_seeds():
    table = pd.concat([LONG.assign(fold=k, score=LONG["score"] + k / 1000) for k in range(3)])
    known = {"source_accuracy": WIDE.set_index("network")["imagenet"] / 100}
    assert "which differ in 'fold'; call this column seed (runs, folds), " in refused(table, **known)
    assert len(read_table(table.rename(columns={"fold": "seed"}), **known)) == 18


def test_the_owner_of_a_checkpoint_on_a_hub_is_no_part_of_its_name():
    table = pd.DataFrame({"network": ["timm/resnet50.a1_in1k", "timm/resnet18.a1_in1k"], "pets": [0.8, 0.9]})
    assert "rename 'timm/resnet18.a1_in1k' to 'resnet18.a1_in1k', 'timm/resnet50.a1_in1k' to" in refused(table)


HEADERLESS = {
    "resnet34,88.63,72.96\nresnet50,89.09,74.72\n": "write a line with network and the names of the datasets above it",
    "resnet34,88,72\nresnet50,89,74\n": "no header, its first line is 'resnet34,88,72'",
    "resnet34,cars,88.63\nresnet34,dtd,72.96\n": "write 'network,dataset,score' above it",
}


@pytest.mark.parametrize("text", HEADERLESS)
def test_a_table_without_a_header_says_so(text, tmp_path):
    "Its first row would be lost as names of columns. Columns named by numbers are no rows."
    (tmp_path / "table.csv").write_text(text)
    assert HEADERLESS[text] in refused(tmp_path / "table.csv", percent=True)
    (tmp_path / "sources.csv").write_text("resnet34,73.3\nresnet50,76.1\n")
    message = refused(WIDE, percent=True, leave_out="imagenet", source_accuracy=tmp_path / "sources.csv")
    assert message.endswith("no header, its first line is 'resnet34,73.3'; write 'network,source_accuracy' above it")
    shares = WIDE.rename(columns={"network": "Ansatz", "pets": "0.5", "cars": "1.0"})
    assert "such as --network 'Ansatz'" in refused(shares, percent=True)


def test_metrics_beside_an_accuracy_are_no_datasets():
    scores = {"Accuracy": [0.8, 0.85, 0.9], "Precision": [0.81, 0.84, 0.91], "F1-Score": [0.8, 0.86, 0.9]}
    metrics = WIDE[["network"]].assign(**scores)
    known = {"source_accuracy": WIDE.set_index("network")["imagenet"] / 100}
    assert refused(metrics, **known).endswith("if 'Accuracy' is the accuracy on one dataset, give --datasets 'Accuracy'")
    rows = read_table(metrics, datasets="Accuracy", **known)
    assert rows["score"].tolist() == [0.8, 0.85, 0.9]
    assert "left out: Precision (a metric, no dataset), F1-Score" in rows.attrs["reading"][2]
    tested = read_table(metrics.rename(columns={"Accuracy": "Test Accuracy"}), **known)
    assert set(tested["dataset"]) == {"Test Accuracy"}
    declared = read_table(metrics.assign(pets_f1=[0.7, 0.8, 0.9]), datasets="Accuracy,pets_f1", **known).attrs["reading"]
    assert any(line.endswith("declare it, such as --metric 'pets_f1'=f1") for line in declared)


def test_errors_are_named_before_counts_of_right_answers_are_guessed(tmp_path):
    rows = "".join(f"|cifar100|{name}|{error}|60|200|\n" for name, error in (("a", 30.1), ("b", 25.2), ("c", 22.7)))
    (tmp_path / "readme.md").write_text("|dataset|network|top1 err|epoch(lr = 0.1)|total epoch|\n|:-:|:-:|:-:|:-:|:-:|\n" + rows)
    message = refused(tmp_path / "readme.md", percent=True)
    assert "'top1 err' holds errors, no accuracies" in message
    assert message == refused(tmp_path / "readme.md", percent=True, leave_out="epoch*,total epoch")


def test_shots_of_a_wide_table_may_be_sizes_or_be_left_out():
    table = pd.concat([WIDE.assign(**{"n-shot": f"{n}-shot", "pets": WIDE["pets"] + n}) for n in (1, 4)])
    message = refused(table, percent=True)
    assert message.endswith("--network 'network,n-shot'; or leave rows out, such as with --leave-out 'n-shot=4-shot'")
    assert "else call this column seed (runs, folds), n_train_per_class, protocol or setting" in message
    assert len(read_table(table, percent=True, leave_out="n-shot=4-shot")) == 6
