"""What a name says by itself, and what is decided by the columns and cells around it."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.tables.names import could_be_source, is_source, reason_no_dataset, summary_of

NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet101"]
WIDE = pd.DataFrame(
    {
        "network": NETWORKS,
        "imagenet": [0.71, 0.72, 0.79, 0.78],
        "pets": [0.881, 0.904, 0.915, 0.92],
        "birds": [0.612, 0.663, 0.68, 0.701],
    }
)
TARGETS = WIDE.drop(columns="imagenet")
LONG = TARGETS.melt("network", var_name="dataset", value_name="score")
OWN = WIDE.set_index("network")["imagenet"]


def check(rows, datasets=("pets", "birds")):
    "The table was read as `WIDE` is, with these names of the two datasets."
    assert list(rows["dataset"].unique()) == list(datasets) and list(rows["network"].unique()) == NETWORKS
    assert rows["source_accuracy"].tolist() == pytest.approx([*OWN, *OWN])
    assert rows["score"].tolist() == pytest.approx([*WIDE["pets"], *WIDE["birds"]])


SOURCES = [
    "acc_imagenet", "Top-1 ImageNet", "top1_imagenet", "metrics.imagenet", "imagenet mean", "ImageNet (source)", "test/imagenet",
    "val/imagenet_acc", "wds/imagenet1k", "Acc. ImageNet", "IN top-1",
]  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_under_names_with_prefixes(name):
    check(read_table(WIDE.rename(columns={"imagenet": name})))
    check(read_table(LONG.assign(**{name: LONG["network"].map(OWN)})))


@pytest.mark.parametrize("name", ["ImageNet linear", "IN", "imagenet1k-unverified"])
def test_what_could_be_the_source_is_refused_with_the_option_that_decides(name):
    assert could_be_source(name) and not is_source(name)
    table = WIDE.rename(columns={"imagenet": name})
    for shape in (table, table.melt("network", var_name="dataset", value_name="score")):
        with pytest.raises(
            UserError, match=f"'{name}' could be the source accuracy; if so, give --source '{name}'; if not, .* --datasets"
        ):
            read_table(shape)
        check(read_table(shape, source=name))
        assert set(read_table(shape, datasets=[name, "pets", "birds"])["dataset"]) == {name, "pets", "birds"}
    assert set(read_table(WIDE.assign(**{name: 0.5}))["dataset"]) == {name, "pets", "birds"}


def test_a_column_of_sources_in_a_long_table():
    table = LONG.assign(imagenet_top1=LONG["network"].map(OWN))
    assert "source accuracy: column 'imagenet_top1'" in read_table(table).attrs["reading"][0]
    check(read_table(table.rename(columns={"imagenet_top1": "upstream"}), source="upstream"))
    assert "looked up by name for 4" in read_table(table, leave_out="imagenet_top1").attrs["reading"][0]
    with pytest.raises(UserError, match="'imagenet_top1' and 'ImageNet val' could be the source accuracy; name it with --source"):
        read_table(table.assign(**{"ImageNet val": 0.7}))
    check(read_table(table.assign(**{"ImageNet val": 0.7}), source="imagenet_top1"))


def test_settings_of_a_run_are_no_datasets():
    "As Weights & Biases and MLflow export them."
    settings = {
        "momentum": 0.9,
        "dropout": [0, 0.1, 0.2, 0.1],
        "num_epochs": [9, 9, 7, 9],
        "best_epoch": 3,
        "GPU Count": [1, 2, 4, 8],
        "_step": 7,
    }
    check(read_table(WIDE.assign(**settings)))
    runs = WIDE.rename(columns={"network": "params.model"} | {name: f"metrics.{name}" for name in ("imagenet", "pets", "birds")})
    runs.insert(0, "run_id", list("abcd"))
    check(read_table(runs.assign(experiment_id=0, **{"params.momentum": 0.9})), ["metrics.pets", "metrics.birds"])
    with pytest.raises(UserError, match="--network 'Model used'"):
        read_table(
            WIDE.rename(columns={"network": "Model used"}).assign(status="done")[["status", "Model used", "imagenet", "pets"]]
        )


def test_numbers_that_count_rows_or_are_odd():
    percent = WIDE.assign(**{name: 100 * WIDE[name] for name in ("imagenet", "pets", "birds")})
    rows = read_table(percent.assign(X=[1, 2, 3, 4], order=[3, 0, 2, 1]), percent=True)
    check(rows)
    assert rows.attrs["reading"][2] == "left out: X (it counts the rows), order (it counts the rows)"
    rows = read_table(percent.assign(hosts=[8, 2, 4, 8], ratio=50), percent=True)
    said = "'hosts' (whole numbers only), 'ratio' (the same number throughout): if these are no accuracies, leave them out"
    assert f"{said} with --leave-out" in rows.attrs["reading"]


def test_what_columns_are_by_those_beside_them():
    runs = pd.concat(
        [WIDE.assign(**{name: WIDE[name] + shift for name in ("imagenet", "pets", "birds")}) for shift in (-0.01, 0, 0.01)]
    )
    grouped = runs.groupby("network", sort=False)
    check(read_table(grouped.agg(["mean", "std", "count"])))
    check(read_table(grouped[["imagenet", "pets", "birds"]].describe()))
    check(read_table(WIDE.assign(pets_n=[3, 3, 2, 3], **{"train/pets": 0.99, "Natural mean": 0.8, "Activations (M)": 0.2})))
    assert set(read_table(TARGETS.rename(columns={"pets": "Natural mean", "birds": "Structured mean"}))["dataset"]) == {
        "Natural mean",
        "Structured mean",
    }


def test_means_of_columns_are_known_by_their_values():
    groups = {f"a{i}": np.random.default_rng(i).uniform(0.3, 0.9, 5).round(3) for i in range(4)}
    table = pd.DataFrame({"network": list("vwxyz"), "source_accuracy": [0.1, 0.2, 0.3, 0.4, 0.5]} | groups)
    table = table.assign(group=table[["a0", "a1"]].mean(axis=1).round(4), score_of_all=table[[*groups]].mean(axis=1).round(4))
    rows = read_table(table)
    assert set(rows["dataset"]) == set(groups)
    assert "group (the mean of 'a0' to 'a1'), score_of_all (the mean of 'a0' to 'a3')" in rows.attrs["reading"][2]
    assert "group" in set(read_table(table, datasets="a0,a1,group")["dataset"])
    same = table[["network", "source_accuracy", "a0"]].assign(b=table["a0"], c=table["a0"])
    assert set(read_table(same)["dataset"]) == {"a0", "b", "c"}


def test_training_images_beside_test_images():
    table = WIDE.rename(columns={"pets": "pets/test_acc"}).assign(**{"pets/train_acc": 0.9})
    check(read_table(table), ["pets/test_acc", "birds"])
    rows = read_table(WIDE[["network", "imagenet"]].assign(train=0.99, val=0.81, test=[0.7, 0.75, 0.8, 0.82]))
    assert set(rows["dataset"]) == {"test"}


@pytest.mark.parametrize("name", ["Top-1", "Acc@1", "Accuracy", "Upstream", "Clean acc", "Pre-training accuracy"])
def test_a_metric_alone_may_be_the_source(name):
    table = WIDE.rename(columns={"imagenet": name})
    with pytest.raises(UserError, match=f"'{name}' could be the source accuracy; if so, give --source '{name}'"):
        read_table(table)
    check(read_table(table, source=name))


def test_melted_tables_have_their_usual_names():
    check(read_table(WIDE.melt("network")))
    check(read_table(WIDE.melt("network", var_name="name")))


def test_a_spread_or_a_dataset():
    with pytest.raises(UserError, match="'SD' could be a dataset or a spread; leave it out with --leave-out 'SD', or"):
        read_table(WIDE.assign(SD=0.3))
    check(read_table(WIDE.assign(Mean=0.8, SD=0.3)))


@pytest.mark.parametrize("cells", [
    "{:.1f} [86.0, 98.2] x", "tensor({:.2f})", "≈ {:.1f}", "{:.1f} / 99.0", "acc: {:.1f}", "top1={:.1f}", "{:.1f} → 99.0",
    "{{{:.1f}}}",
    "{:.1f}–99.0", "< {:.1f}", "'{:.1f}", "{:.1f} (best of 3)", "{:.1f} correct", "about {:.1f}", "{:.1f}; see Table 3",
])  # fmt: skip
def test_texts_like_scores_are_refused_not_dropped(cells):
    table = WIDE.assign(pets=[cells.format(100 * score) for score in WIDE["pets"]])
    with pytest.raises(
        UserError, match=r"score .* of network 'resnet18' on dataset 'pets': expected a number.*--leave-out 'pets'"
    ):
        read_table(table, percent=True)


@pytest.mark.parametrize("text", ["{:.0f}/1000", "{:.0f} of 1000", "{:.0f} out of 1000"])
def test_shares_of_images_are_refused_not_dropped(text):
    table = WIDE.assign(pets=[text.format(1000 * score) for score in WIDE["pets"]])
    with pytest.raises(UserError, match="score '881.*1000' of network 'resnet18' on dataset 'pets': expected a number"):
        read_table(table)
    assert "pets (on request)" in read_table(table, leave_out="pets").attrs["reading"][2]


def test_texts_like_scores_are_refused_where_all_are_such_or_whole():
    with pytest.raises(UserError, match="score '~88' of network 'resnet18' on dataset 'pets': expected a number"):
        whole = {name: (100 * WIDE[name]).astype(int) for name in ("imagenet", "birds")}
        read_table(WIDE.assign(**whole, pets=["~88", "~90", "~91", "~92"]), percent=True)
    with pytest.raises(UserError, match=r"score '~0\.881' of network 'resnet18' on dataset 'pets': expected a number"):
        read_table(WIDE.assign(**{name: "~" + WIDE[name].astype(str) for name in ("pets", "birds")}))


UNITS = [
    "{:.1f}%", "{:.1f} pp", "{:.1f} pts", "{:.1f} pts.", "{:.1f} points", "{:.1f} percent", "{:.1f} per cent", "{:.1f} Prozent",
    "{:.1f}％", "{:.1f}٪",
]  # fmt: skip


@pytest.mark.parametrize("mark", [".", "·", "‧", "∙", "．"])
def test_numbers_with_a_unit_of_per_cent_and_decimal_marks_of_journals_are_read(mark):
    percent = 100 * WIDE["pets"]
    columns = {f"x{k}": [text.format(score).replace(".", mark, 1) for score in percent] for k, text in enumerate(UNITS)}
    scores = read_table(WIDE[["network", "imagenet"]].assign(**columns)).pivot(index="dataset", columns="network", values="score")
    assert sorted(scores.index) == sorted(columns) and np.allclose(scores[NETWORKS], WIDE["pets"].to_numpy())


def test_bounds_in_brackets_are_a_spread():
    rows = read_table(WIDE.assign(pets=[f"{score:.3f} [0.860, 0.982]" for score in WIDE["pets"]]))
    check(rows)
    assert "spreads such as ± 0.3 are not read" in rows.attrs["reading"]


OTHER_TEXTS = [
    "v1.{}", "2024-05-0{}", "1{}.3M", "0{}.05.2025", "10.1109/CVPR.{}", "run {}", "ResNet-{}0", "ViT-B/{}6", "ViT-B/{}6-224",
    "RegNetY-{}.6GF",
    "{}24x224", "{}24 × 224", "3x{}24x224", "9bda8e{}", "c1a{}", "1{}.6 M", "{}.1 GFLOPs", "1{}.5 ms", "2{}.1 GB", "1{}.5h",
    "Apache 2.0", "CC BY-NC 4.0",
    "MIT", "timm 0.9.{}", "torch=={}.1.0", "in21k_{}", "{} GPUs", "trained for {}00 epochs", "see Table {}", "He et al., 201{}",
    "arXiv:2103.0000{}",
    "1{}:45", "A100-{}0GB", "{}x A100", "cifar10{}", "May {}, 2024", "0{}/2023", "1{}/11/2023", "202{}Q1", "fold {}/5",
    "top-{}", "W1A{}", "float{}2",
    "Adam(0.9, 0.999)", "[224, {}]", "#12{}", "id-000{}", "https://example.org/{}.5", "s3://bucket/run{}",
]  # fmt: skip


@pytest.mark.parametrize("scale", [1, 100], ids=["fractions", "per cent"])
def test_other_texts_with_digits_are_left_out(scale):
    table = WIDE.assign(**{name: scale * WIDE[name] for name in ("imagenet", "pets", "birds")})
    others = {f"x{k}": [text.format(i) for i in range(1, 5)] for k, text in enumerate(OTHER_TEXTS)}
    rows = read_table(table.assign(**others), percent=scale == 100)
    check(rows)
    assert rows.attrs["reading"][2].startswith("left out: x0 (no numbers), x1 (no numbers)")


def test_texts_are_no_scores_where_the_name_of_the_column_says_it():
    notes = [f"paper reports {score:.1f}" for score in 100 * WIDE["pets"]]
    others = {"Model sha": ["9bda8eb", "1e5", "1234567", "c1a2"], "timm version": ["0.9", "1.0 rc", "1.1 rc", "1.2 rc"]}
    check(read_table(WIDE.assign(Notes=notes, **others)))


def test_rows_are_numbered_by_a_column_without_a_name_only():
    for names in (["🐶", "🚗"], ["%", "…"], ["¨®", "¯ª"]):
        check(read_table(WIDE.rename(columns=dict(zip(["pets", "birds"], names, strict=True)))), names)
    rows = read_table(WIDE.assign(**{"": [0.1, 0.2, 0.3, 0.4], "🔢": [1, 2, 3, 4]}))
    check(rows)
    assert "column 5 (it has no name), 🔢 (it counts the rows)" in rows.attrs["reading"][2]


LIKES = [
    "Likes", "likes", "# Citations", "Hub likes", "Hub ❤️", "❤", "Downloads", "downloads last month", "GitHub stars", "⭐",
    "Stars", "Votes", "n_votes",
    "Citations", "Number of downloads",
]  # fmt: skip


@pytest.mark.parametrize("values", [[12, 3, 55, 7], [12, 1, 55, 7], [12, 0, 100, 7], [0, 0, 1, 0]])
def test_likes_are_no_accuracies(values):
    percent = WIDE.assign(**{column: 100 * WIDE[column] for column in ("imagenet", "pets", "birds")})
    rows = read_table(percent.assign(**dict.fromkeys(LIKES, values)), percent=True)
    check(rows)
    assert all(reason_no_dataset(name) == "a quantity" for name in LIKES)
    assert rows.attrs["reading"][2].startswith("left out: Likes (a quantity), likes (a quantity)")


@pytest.mark.parametrize("values", [[12, 3, 55, 7], [12, 1, 55, 7], [12, 0, 55, 7], [12, 1, 100, 0]])
def test_whole_numbers_are_said_whatever_their_smallest(values):
    percent = WIDE.assign(**{column: 100 * WIDE[column] for column in ("imagenet", "pets", "birds")})
    rows = read_table(percent.assign(hosts=values), percent=True)
    assert any(line.startswith("'hosts' (whole numbers only)") for line in rows.attrs["reading"])
    rows = read_table(WIDE.assign(never=[0, 1, 1, 0]))
    assert not any("whole numbers only" in line for line in rows.attrs["reading"])


@pytest.mark.parametrize("name", [
    "CropDisease", "Train stations", "Total-Text", "Median strip", "SD-198", "Clevr-Count", "fMoW ID", "Office (D)",
    "pets", "X", "Mean Teacher", "CIFAR-10-N", "KITTI-Range",
])  # fmt: skip
def test_names_of_datasets_stay_datasets(name):
    assert name in set(read_table(WIDE.assign(**{name: [0.5, 0.55, 0.6, 0.61]}))["dataset"]) or name == "Mean Teacher"
    assert not summary_of(name)


@pytest.mark.parametrize("name", [
    "Δ", "Gain", "Best", "Weights (M)", "Size (MB)", "Top-1 Accuracy", "Durchschnitt", "Moyenne", "Promedio",
    "level_0", "_runtime", "num_epochs", "crop_pct", "IN-C (mCE)", "FID ↓", "CO2 (kg)", "Price ($)", "VRAM", "Citations",
])  # fmt: skip
def test_names_that_are_no_datasets(name):
    assert reason_no_dataset(name)
    check(read_table(WIDE.assign(**{name: [0.5, 0.55, 0.6, 0.61]})))


@pytest.mark.parametrize(
    "name",
    ["Average (8 models)", "Mittelwert", "Durchschnitt (8 Modelle)", "Moyenne", "Media", "Chance", "Random guess", "Mean ± std"],
)
def test_rows_of_summaries_in_several_languages(name):
    last = pd.DataFrame({"network": [name], "imagenet": 0.7, "pets": 0.9, "birds": 0.6})
    rows = read_table(pd.concat([WIDE, last]))
    check(rows)
    assert f"row {name!r} (a summary, no network)" in rows.attrs["reading"][2]


def test_averages_in_a_long_table_are_left_out_unless_they_are_named():
    more = pd.DataFrame({"network": NETWORKS, "dataset": "OVERALL", "score": np.linspace(0.7, 0.8, 4)})
    rows = read_table(pd.concat([more, LONG]), source_accuracy=OWN)
    check(rows)
    assert "OVERALL (an average)" in rows.attrs["reading"][2]
    assert read_table(pd.concat([more, LONG]), datasets="*")["dataset"].nunique() == LONG["dataset"].nunique() + 1
    assert set(read_table(more)["dataset"]) == {"OVERALL"}


def test_all_is_a_total_of_pandas():
    """`pivot_table(margins=True)` calls its row and its column of means so."""
    table = LONG.pivot_table(index="network", columns="dataset", values="score", margins=True).reset_index()
    rows = read_table(table, source_accuracy=OWN)
    assert set(rows["network"]) == set(NETWORKS) and set(rows["dataset"]) == set(LONG["dataset"])
    assert "All (an average)" in rows.attrs["reading"][2] and "row 'All' (a summary, no network)" in rows.attrs["reading"][2]


def test_means_with_all_decimals_are_known_by_their_values():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(rng.uniform(0.6, 0.9, (6, 4)).round(3), columns=list("abcd"))
    sources = rng.uniform(0.6, 0.8, 6).round(3)
    table = scores.assign(network=[f"net {i}" for i in range(6)], imagenet=sources, natural=scores.mean(axis=1))
    assert "natural (the mean of 'a' to 'd')" in read_table(table).attrs["reading"][2]


def test_names_that_differ_in_the_protocol_only_are_said():
    names = [f"{name} ({how})" for name in NETWORKS for how in ("frozen", "fine-tuned")]
    table = pd.DataFrame({"network": names, "imagenet": np.linspace(0.6, 0.7, 8), "pets": np.linspace(0.7, 0.8, 8)})
    line = "8 networks, such as 'resnet18 (frozen)' and 'resnet18 (fine-tuned)', differ only in what may be the protocol"
    assert any(text.startswith(line) for text in read_table(table).attrs["reading"])
    for other in (table.iloc[::2], table.assign(network=[f"vit_{i}.mae_ft_in1k" for i in range(8)])):
        assert not any("may be the protocol" in text for text in read_table(other).attrs["reading"])
