"""What is a dataset, what is the source, and what is left out and said."""

import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.tables.names import reason_no_dataset

LEADERBOARD = """network,flowers,birds,Average,Params (M),Rank
resnet34,92.0,60.5,76.3,22.5,2
resnet50,94.1,66.3,80.2,30,1
"""
SOURCES = [
    "imagenet_top1",
    "ImageNet top-1",
    "ImageNet-1K",
    "imagenet_1k",
    "IN-1k",
    "ILSVRC",
    "ImageNet 1k",
    "Source_Accuracy",
    "source accuracy",
]


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "table.csv").write_text(text)
        return tmp_path / "table.csv"

    return write


def test_a_leaderboard(table):
    rows = read_table(table(LEADERBOARD), percent=True)
    assert set(rows["dataset"]) == {"flowers", "birds"}
    assert rows.attrs["reading"][2] == "left out: Average (an average), Params (M) (parameters), Rank (a rank)"
    forced = read_table(table(LEADERBOARD), percent=True, datasets="flowers,Average")
    assert set(forced["dataset"]) == {"flowers", "Average"} and "birds (not among --datasets)" in forced.attrs["reading"][2]


def test_timms_table_has_no_datasets(table):
    header = "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation"
    text = header + "\nresnet50.a1_in1k,81.2,18.8,95.3,4.7,25.56,288,1.0,bicubic\n"
    with pytest.raises(
        UserError, match=r"one numeric column per dataset \(left out: top1: a metric.*param_count: parameters.*--datasets"
    ):
        read_table(table(text), percent=True)


@pytest.mark.parametrize("name", SOURCES)
def test_imagenet_under_its_many_names(table, name):
    rows = read_table(table(f"network,{name},pets\na,72.0,91.2\nb,73.3,92.0\n"), percent=True)
    assert rows["source_accuracy"].tolist() == [0.72, 0.733] and set(rows["dataset"]) == {"pets"}
    if "ource" in name:
        return  # a column, and no dataset
    long = read_table(table(f"network,dataset,score\na,{name},72.0\na,pets,91.2\n"), percent=True)
    assert long["source_accuracy"].tolist() == [0.72] and set(long["dataset"]) == {"pets"}


def test_one_line_of_options_for_a_table_of_many_columns(table):
    text = ("name,pretrained,params (M),FLOPs (B),Average perf. on 3 datasets,ImageNet 1k,ImageNet-V2,Pets,Cars\n"
            "RN50,openai,102,18.2,0.6,0.598,0.53,0.85,0.54\nRN50,yfcc,102,18.2,0.5,0.30,0.25,0.40,0.10\n")  # fmt: skip
    options = {
        "network": "name,pretrained",
        "source": "ImageNet 1k",
        "leave_out": "params*,FLOPs*,Average*",
        "protocol": "zeroshot",
    }
    rows = read_table(table(text), **options)
    assert rows["network"].unique().tolist() == ["RN50 openai", "RN50 yfcc"] and set(rows["protocol"]) == {"zeroshot"}
    assert set(rows["dataset"]) == {"ImageNet-V2", "Pets", "Cars"} and rows["source_accuracy"].unique().tolist() == [0.598, 0.30]
    with pytest.raises(UserError, match="network 'RN50' has more than one score on dataset 'ImageNet-V2' \\(lines 2, 3\\)"):
        read_table(table(text))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("network,pets,pets\nresnet34,86,72\n", {}, r"2 columns are named 'pets' \(columns 2 and 3\)"),
        ("network,pets\nresnet34,86\n", {"leave_out": "cars"}, r"unknown name in --leave-out 'cars'"),
        ("network,pets\nresnet34,86\n", {"datasets": "petz"}, r"unknown name in --datasets 'petz'; did you mean pets\?"),
        ("network,pets\nresnet34,86\n", {"scale": "pets=per cent"}, r"--scale pets=per cent: expected percent, fraction"),
        ("approach,pets\nresnet34,86\n", {}, r"no column 'network'.*--network 'approach'"),
        ("network,ImageNet,ImageNet top-1,pets\na,70,71,86\n", {}, r"'ImageNet' and 'ImageNet top-1' could be the source"),
        ("network,pets,birds\nresnet34,86,good\nresnet50,88,60\n", {}, r"score 'good' of network.*line 2.*--leave-out"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(table, text, options, message):
    with pytest.raises(UserError, match=message) as error:
        read_table(table(text), percent=True, **options)
    assert "\n" not in str(error.value)


def test_rows_of_a_long_table_can_be_left_out(table):
    text = "network,dataset,metric,score\nresnet34,pets,acc1,86\nresnet34,pets,acc5,99\n"
    text += "resnet50,pets,acc1,88\nresnet50,pets,acc5,99\n"
    with pytest.raises(UserError, match="acc1 and acc5; keep one, such as acc1 with --leave-out .metric=acc5"):
        read_table(table(text), percent=True)
    rows = read_table(table(text), percent=True, leave_out="metric=acc5")
    assert rows["score"].tolist() == [0.86, 0.88] and "metric=acc5 (2 rows on request)" in rows.attrs["reading"][2]


def test_any_name_is_a_dataset_in_a_long_table():
    names = ["network", "dataset", "score", "logit", "source_accuracy", "line", "in_source", "index"]
    rows = read_table(pd.DataFrame({"network": "a", "source_accuracy": 0.7, "dataset": names, "score": 0.5}))
    assert set(rows["dataset"]) == set(names)


@pytest.mark.parametrize(
    ("text", "left_out", "values"),
    [
        ("network,dataset,score\na,pets,86\na,cars,70\nb,pets,88\n", {"network": "b"}, {"pets": [0.86], "cars": [0.70]}),
        (
            "network,family,pets,cars\na,cnn,86,70\nb,vit,88,72\nc,cnn,90,74\n",
            {"family": "CNN"},
            {"pets": [0.88], "cars": [0.72]},
        ),
    ],
)
def test_rows_of_long_and_wide_tables_can_be_left_out(table, text, left_out, values):
    (column, value), known = *left_out.items(), pd.Series(0.7, ["a", "b", "c"])
    rows = read_table(table(text), percent=True, leave_out=f"{column}={value}", source_accuracy=known)
    assert rows.groupby("dataset")["score"].agg(list).to_dict() == values
    assert f"{column}={value} (" in rows.attrs["reading"][2] and "rows on request" in rows.attrs["reading"][2]
    with pytest.raises(UserError, match=f"--leave-out {column}=zzz: no row has this value in the column '{column}'; values: "):
        read_table(table(text), percent=True, leave_out=f"{column}=zzz", source_accuracy=known)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("± pets", "a spread"), ("pets ±", "a spread"), ("+/- pets", "a spread"), ("std pets", "a spread"),
        ("pets_std", "a spread"),
        ("pets 95% CI low", "a spread"), ("pets CI upper", "a spread"), ("pets_lower", "a spread"),
        ("pets upper bound", "a spread"),
        ("pets (mean ± std)", ""), ("SD-198", ""), ("lower back", ""), ("standard cars", ""), ("Mean ± std", "an average"),
    ],
)  # fmt: skip
def test_a_spread_is_no_dataset(name, reason):
    assert reason_no_dataset(name) == reason


COUNTED = pd.DataFrame({"model": ["resnet18", "resnet34"] * 2, "dataset": ["pets"] * 2 + ["cars"] * 2})
COUNTS = COUNTED.assign(n_correct=[51, 53, 17, 21], n_total=[60, 60, 40, 40])


@pytest.mark.parametrize("names", [("n_correct", "n_total"), ("correct", "total"), ("hits", "n_test"), ("num_correct", "n")])
@pytest.mark.parametrize("times", [1, 100])
@pytest.mark.parametrize("explicit", [True, False])
def test_counts_of_right_answers_are_no_scores(names, times, explicit):
    table = COUNTED.assign(**{name: COUNTS[column] * times for name, column in zip(names, ["n_correct", "n_total"], strict=True)})
    advice = f"'{names[0]}' holds counts, no accuracies; divide it by '{names[1]}', and call the column of the quotients score$"
    for percent in (True, False):
        with pytest.raises(UserError, match=advice):
            read_table(table, percent=percent, score=names[0] if explicit else None)
    followed = table.assign(score=table[names[0]] / table[names[1]])
    assert read_table(followed)["score"].tolist() == followed["score"].tolist()


def test_whole_percentages_are_scores():
    table = COUNTED.assign(xyz=COUNTS["n_correct"], n_images=100)
    with pytest.raises(UserError, match="'xyz' may hold counts, .*; if it holds percentages, give --score 'xyz' --percent$"):
        read_table(table, percent=True)
    named = table.rename(columns={"xyz": "correct"})
    for own in (table, named.assign(n_images=3669), named.drop(columns="n_images")):
        assert read_table(own, percent=True, score=own.columns[2])["score"].tolist() == [0.51, 0.53, 0.17, 0.21]
    with pytest.raises(UserError, match="such as --score 'xyz'$"):
        read_table(table.assign(n_images=3669), percent=True)
    with pytest.raises(UserError, match="divide it by the number of test images"):
        read_table(COUNTS.drop(columns="n_total"), percent=True)
    rows = read_table(COUNTS.assign(accuracy=COUNTS["n_correct"] / COUNTS["n_total"]))
    assert rows["score"].tolist() == [0.85, 51 / 60 + 2 / 60, 17 / 40, 21 / 40]
