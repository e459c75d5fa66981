"""Runs side by side, datasets with names of other things, and a top-1 accuracy of no dataset."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table

WIDE = pd.DataFrame(
    {
        "network": ["resnet18", "resnet34", "resnet50", "resnet101"],
        "ImageNet": [70.1, 73.2, 76.3, 77.4],
        "pets": [88.1, 90.4, 91.5, 92.6],
        "birds": [61.2, 66.3, 68.4, 70.1],
    }
)
SHIFTS = {0: 0.0, 1: 0.5, 2: -0.3}
MELTED = WIDE.melt("network", var_name="dataset", value_name="score")
LONG = pd.concat([MELTED.assign(seed=seed, shift=shift) for seed, shift in SHIFTS.items()])
LONG = LONG.assign(score=(LONG["score"] + LONG.pop("shift")).round(1))
EXPECTED = read_table(LONG, percent=True)


def as_expected(rows, said=""):
    "Whether `rows` are those of the long table with a column seed."
    columns = ["network", "dataset", "seed", "source_accuracy", "score"]
    both = [part[columns].sort_values(columns[:3], ignore_index=True) for part in (rows, EXPECTED)]
    pd.testing.assert_frame_equal(*both)
    return any(line.startswith(said) for line in rows.attrs["reading"])


@pytest.mark.parametrize("name", ["{}_seed{}", "{} (run {})", "seed{}/{}", "{} Run #{}", "{}-trial-{}", "{}.repeat{}"])
def test_columns_of_runs_are_repeated_rows(name):
    wide = LONG.pivot(index="network", columns=["dataset", "seed"], values="score")
    order = (lambda dataset, seed: (seed, dataset)) if name.startswith("seed") else (lambda *parts: parts)
    wide.columns = [name.format(*order(*parts)) for parts in wide.columns]
    assert as_expected(read_table(wide, percent=True), "columns that are runs of one dataset: ")


def test_pivoted_seeds_and_seeds_of_a_long_table_are_repeated_rows(tmp_path):
    pivoted = LONG.pivot(index="network", columns=["dataset", "seed"], values="score")
    assert as_expected(read_table(pivoted, percent=True), "columns that are runs of one dataset: ")
    pivoted.to_csv(tmp_path / "pivoted.csv")
    assert as_expected(read_table(tmp_path / "pivoted.csv", percent=True))
    long = LONG.pivot(index=["network", "dataset"], columns="seed", values="score")
    for table in (long, long.add_prefix("seed_").reset_index(), long.add_prefix("acc_run").reset_index()):
        assert as_expected(read_table(table, percent=True), "3 columns are runs: ")


def test_a_mean_beside_its_runs_is_no_dataset_and_runs_are_named_together():
    runs = WIDE.rename(columns={"pets": "pets_seed0"}).assign(pets_seed1=[88.4, 90.1, 91.9, 92.2])
    mean = runs[["pets_seed0", "pets_seed1"]].mean(axis=1)
    rows = read_table(runs.assign(pets=mean, pets_std=0.2, **{"pets avg": mean}), percent=True)
    assert rows.groupby("dataset").size().to_dict() == {"pets": 8, "birds": 4}
    assert "pets (its runs are read), pets_std (a spread), pets avg (its runs are read)" in rows.attrs["reading"][2]
    assert set(read_table(runs, percent=True, datasets="pets")["dataset"]) == {"pets"}
    assert set(read_table(runs, percent=True, leave_out="pets")["dataset"]) == {"birds"}
    assert read_table(runs, percent=True, leave_out="pets_seed1").groupby("dataset").size().to_dict() == {"pets": 4, "birds": 4}
    with pytest.raises(UserError, match="seed_0: a run of a dataset without a name"):
        read_table(WIDE[["network", "ImageNet"]].assign(seed_0=80.1, seed_1=80.3), percent=True)


def test_a_long_table_of_means_or_of_one_column_of_scores():
    long = MELTED
    for name in ("mean", "accuracy mean", "test_acc", "test/acc_mean"):
        rows = read_table(long.rename(columns={"score": name}).assign(std=0.3, epoch=90, n_test=50), percent=True)
        assert rows["score"].tolist() == read_table(long, percent=True)["score"].tolist()
        assert f"the column {name!r} is read as the score" in rows.attrs["reading"]
    with pytest.raises(UserError, match="no column 'score'; .*; name it with --score, such as --score 'mean'"):
        read_table(long.rename(columns={"score": "mean"}).assign(pets=80.1), percent=True)


@pytest.mark.parametrize("name", ["SEM-10", "NFFA-SEM", "SEM", "CT Upper", "CT Lower", "Depth", "BDD Time of Day"])
def test_scores_under_the_name_of_something_else_are_a_dataset(name):
    for scale in (1, 100):
        table = WIDE.set_index("network").div(scale).round(4).reset_index()
        rows = read_table(table.rename(columns={"birds": name}), percent=scale == 1)
        assert list(rows["dataset"].unique()) == ["pets", name]
        said = [line for line in rows.attrs["reading"] if line.startswith(f"read as datasets: {name!r} (")]
        assert len(said) == 1 and said[0].endswith("leave them out with --leave-out if they are none")
        assert set(read_table(table.rename(columns={"birds": name}), percent=scale == 1, leave_out=name)["dataset"]) == {"pets"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pets_sem", [0.3, 0.2, 0.4, 0.3]), ("NFFA-SEM", [0.3, 0.2, 0.4, 0.3]), ("std", [1.2, 0.9, 1.4, 1.1]),
        ("pets upper", [89.1, 91.4, 92.5, 93.6]), ("pets_lower", [87.1, 89.4, 90.5, 91.6]), ("upper", [62.2, 67.3, 69.4, 71.1]),
        ("pets CI low", [87.1, 89.4, 90.5, 91.6]),
        ("Depth", [18, 34, 50, 101]), ("depth", [81, 82, 83, 84]), ("Training time", [62.3, 65.1, 70.2, 75.1]),
        ("time_h", [62.3, 65.1, 70.2, 75.1]), ("Time (ms) per inference step (CPU)", [58.2, 69.5, 77.1, 89.6]),
        ("Inference time of CPU", [25.2, 58.2, 77.1, 98.6]), ("Params", [86.6, 86.7, 88.1, 87.5]), ("SEM-10", [90.1] * 4),
    ],
)  # fmt: skip
def test_other_numbers_under_these_names_are_none(name, values):
    table = WIDE.assign(**{name: values})
    try:
        rows = read_table(table, percent=True)
    except UserError as error:
        assert "could be a dataset or a spread" in str(error)
    else:
        assert list(rows["dataset"].unique()) == ["pets", "birds"] and f"{name} (" in rows.attrs["reading"][2]


def test_top_1_beside_top_5_is_the_source():
    "As in Keras's table of networks and in timm's results."
    keras = WIDE.rename(columns={"ImageNet": "Top-1 Accuracy"}).assign(**{
        "Size (MB)": [88, 528, 549, 98], "Top-5 Accuracy": "90.1%", "Parameters": "22.9M", "Depth": [81, 16, 19, 107],
        "Time (ms) per inference step (CPU)": [109.4, 69.5, 84.8, 58.2], "Time (ms) per inference step (GPU)": [8, 4.2, 4, 5],
    })  # fmt: skip
    timm = WIDE.rename(columns={"ImageNet": "top1", "network": "model"})
    timm = timm.assign(img_size=224, top1_err=100 - timm["top1"], top5=95.3, top5_err=4.7, param_count="1,014.45", crop_pct=0.95)
    for table, name in ((keras, "Top-1 Accuracy"), (timm, "top1")):
        rows = read_table(table, percent=True)
        assert list(rows["dataset"].unique()) == ["pets", "birds"]
        assert f"source accuracy: column {name!r}" in rows.attrs["reading"][0]
        assert rows["source_accuracy"].tolist() == pytest.approx([*WIDE["ImageNet"] / 100] * 2)
    with pytest.raises(UserError, match="could be the source accuracy"):
        read_table(keras.assign(acc1=70.1, acc5=90.1), percent=True)
    with_source = read_table(keras.assign(imagenet=WIDE["ImageNet"] - 1), percent=True)
    assert np.allclose(with_source["source_accuracy"], [*(WIDE["ImageNet"] - 1) / 100] * 2)


def test_a_table_without_datasets_and_one_without_networks_say_which_column_is_to_blame():
    with pytest.raises(UserError, match="no dataset beside the source accuracy 'ImageNet'; expected"):
        read_table(WIDE[["network", "ImageNet"]], percent=True)
    table = WIDE.rename(columns={"network": "backbone"}).assign(method=list("abcd"))
    table.loc[1, "backbone"] = None
    with pytest.raises(UserError, match=r"no network in row 2; .* but 'backbone' is empty in 1 of 4 rows; .* --network 'method'"):
        read_table(table, percent=True)


INTERVALS = WIDE.assign(ImageNet_lo=WIDE["ImageNet"] - 0.2, ImageNet_hi=WIDE["ImageNet"] + 0.3)
INTERVALS = INTERVALS.assign(
    **{
        f"{name}{end}": WIDE[name] + by
        for name in ("pets", "birds")
        for end, by in (("_lo", [-0.9, -1.2, -0.8, -1]), ("_hi", 1.1))
    }
)


@pytest.mark.parametrize(
    "low, high", [("_lo", "_hi"), (" (95% lo)", " (95% hi)"), ("_l95", "_u95"), ("_q025", "_q975"), ("_unten", "_oben")]
)
@pytest.mark.parametrize("scale", [1, 100])
def test_bounds_of_a_dataset_are_known_by_their_values(low, high, scale):
    named = INTERVALS.rename(columns=lambda name: name.replace("_lo", low).replace("_hi", high))
    rows = read_table((named.set_index("network") * scale / 100).round(4), percent=scale == 100)
    expected = read_table(WIDE, percent=True)
    assert set(rows["dataset"]) == {"pets", "birds"} and np.allclose(rows["source_accuracy"], expected["source_accuracy"])
    left = next(line for line in rows.attrs["reading"] if line.startswith("left out"))
    assert left.count("a bound of 'pets'") == left.count("a bound of 'birds'") == left.count("a bound of 'ImageNet'") == 2
    before = named.rename(columns={f"pets{end}": f"{end.strip('_ ')} pets" for end in (low, high)})
    assert set(read_table(before, percent=True)["dataset"]) == {"pets", "birds"}


def test_datasets_around_another_are_read_and_said():
    further = WIDE.assign(**{"pets-easy": WIDE["pets"] + [5, 4, 4, 3], "pets-hard": WIDE["pets"] - [20, 17, 13, 14]})
    rows = read_table(further, percent=True)
    said = (
        "'pets-hard' and 'pets-easy' are read as datasets, though 'pets' lies between them in every row; if they are bounds, "
        "leave them out with --leave-out"
    )
    assert rows["dataset"].nunique() == 4 and said in rows.attrs["reading"]
    alike = WIDE.assign(
        **{
            "CIFAR-10": WIDE["pets"],
            "CIFAR-100": WIDE["birds"],
            "CIFAR-10-C": WIDE["birds"] + 2,
            "birds 1-shot": WIDE["birds"] - 1,
        }
    )
    rows = read_table(alike, percent=True)
    assert rows["dataset"].nunique() == 6 and not any("lies between" in line for line in rows.attrs["reading"])
    not_all = INTERVALS.drop(columns=["ImageNet_lo", "ImageNet_hi"]).assign(
        birds_hi=[61.0, 67, 67, 72]
    )  # no bound of one dataset, so of none
    assert read_table(not_all, percent=True)["dataset"].nunique() == 6
    named = read_table(INTERVALS, percent=True, datasets="pets,pets_lo")
    assert set(named["dataset"]) == {"pets", "pets_lo"}
