"""Tables as pandas, experiment trackers, databases and README files leave them."""

import numpy as np
import openpyxl
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table

NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet101", "densenet121"]
SOURCE = [69.76, 73.31, 76.13, 77.37, 74.43]
WIDE = pd.DataFrame({"arch": NETWORKS, "pets": [88.1, 90.4, 91.5, 92.6, 91.0], "cars": [51.2, 56.3, 58.4, 60.1, 57.7]})
LONG = WIDE.melt("arch", var_name="dataset", value_name="score")
SEEDS = pd.concat([LONG.assign(seed=seed, score=(LONG["score"] + seed / 2).round(1)) for seed in (0, 1)], ignore_index=True)
PROTOCOLS = pd.concat(
    [LONG.assign(protocol=name, score=LONG["score"] + gain) for name, gain in (("linear", 0.0), ("finetune", 2.5))]
)


def scores(rows, *keys):
    return rows.set_index(["network", "dataset", *keys])["score"].mul(100).round(6).sort_index().to_dict()


def expected(table, *keys):
    return table.set_index(["arch", "dataset", *keys])["score"].round(6).sort_index().to_dict()


def read(path, text, **options):
    path.write_text(text)
    return read_table(path, percent=True, **options)


def refused(table, **options):
    with pytest.raises(UserError) as caught:
        read_table(table, percent=True, **options)
    return str(caught.value)


@pytest.mark.parametrize("index", ["arch", "model", "model_name", "backbone"])
@pytest.mark.parametrize("kind", ["csv", "xlsx", "html"])
def test_pivoted_seeds_are_runs_whatever_the_index_is_called(tmp_path, index, kind):
    path = tmp_path / f"table.{kind}"
    pivoted = SEEDS.rename(columns={"arch": index}).pivot_table(index=index, columns=["dataset", "seed"], values="score")
    {"csv": pivoted.to_csv, "xlsx": pivoted.to_excel, "html": pivoted.to_html}[kind](path)
    rows = read_table(path, percent=True)
    assert scores(rows, "seed") == expected(SEEDS, "seed")


@pytest.mark.parametrize("name", ["{}_{}", "('{}', {})", "{} {}", "{}.{}", "{} ({})", "{}[{}]"])
def test_numbers_from_0_on_behind_several_names_are_runs(tmp_path, name):
    pivoted = SEEDS.pivot_table(index="arch", columns=["dataset", "seed"], values="score")
    pivoted.columns = [name.format(*parts) for parts in pivoted.columns]
    pivoted.to_csv(tmp_path / "table.csv")
    rows = read_table(tmp_path / "table.csv", percent=True)
    assert scores(rows, "seed") == expected(SEEDS, "seed")
    assert any(line.startswith("columns that are runs of one dataset: ") for line in rows.attrs["reading"])


@pytest.mark.parametrize(
    "names",
    [
        ["pets_1", "cars_2"],
        ["pets_5", "pets_10", "cars_5", "cars_10"],
        ["task_1", "task_2"],
        ["CIFAR-10", "CIFAR-100"],
        ["A-1", "A-2", "B-1", "B-2"],
    ],
)
def test_other_numbers_are_part_of_the_names(names):
    table = WIDE[["arch"]].assign(**{name: WIDE["pets"] - k for k, name in enumerate(names)})
    assert list(read_table(table, percent=True)["dataset"].unique()) == names


def test_runs_of_the_source_that_are_numbered_are_the_source():
    table = WIDE[["arch"]].assign(imagenet_0=SOURCE, imagenet_1=SOURCE, pets_0=WIDE["pets"], pets_1=WIDE["pets"])
    rows = read_table(table, percent=True)
    assert set(rows["dataset"]) == {"pets"} and rows["source_accuracy"].iloc[0] == pytest.approx(0.6976)


def test_tuples_with_statistics_are_read_as_the_lines_of_a_header(tmp_path):
    table = SEEDS.pivot_table(index="arch", columns="dataset", values="score", aggfunc=["mean", "std"])
    table.columns = table.columns.to_flat_index()
    table.reset_index().to_csv(tmp_path / "table.csv", index=False)
    rows = read_table(tmp_path / "table.csv", percent=True)
    assert scores(rows) == expected(SEEDS.groupby(["arch", "dataset"], as_index=False)["score"].mean())


def test_quantiles_that_pandas_describes_are_no_datasets():
    described = SEEDS.groupby("arch")["score"].describe()
    assert "25%: a quantile; 50%: a quantile; 75%: a quantile" in refused(described)
    rows = read_table(SEEDS.groupby(["arch", "dataset"])["score"].describe().reset_index(), percent=True)
    assert scores(rows) == expected(SEEDS.groupby(["arch", "dataset"], as_index=False)["score"].mean())
    shares = WIDE.rename(columns={"pets": "1%", "cars": "10%"})
    assert list(read_table(shares, percent=True)["dataset"].unique()) == ["1%", "10%"]  # of the labels


@pytest.mark.parametrize(
    "name", ["{}_lr", "{} best lr", "best_lr_{}", "{}/learning_rate", "{} weight decay", "{} best epoch", "{}_wd"]
)
def test_a_setting_of_each_dataset_is_none(name):
    table = WIDE.assign(
        pets=WIDE["pets"] / 100,
        cars=WIDE["cars"] / 100,
        **{name.format(dataset): [0.01, 0.1, 0.03, 0.3, 0.02] for dataset in ("pets", "cars")},
    )
    rows = read_table(table)
    assert list(rows["dataset"].unique()) == ["pets", "cars"]
    assert name.format("pets") in rows.attrs["reading"][2]


def test_names_that_only_look_like_settings_of_others_are_datasets():
    table = WIDE.rename(columns={"pets": "NYU", "cars": "CIFAR-10"}).assign(
        **{"NYU Depth": WIDE["pets"] - 3, "CIFAR-10-C": WIDE["cars"] - 5}
    )
    assert list(read_table(table, percent=True)["dataset"].unique()) == ["NYU", "CIFAR-10", "NYU Depth", "CIFAR-10-C"]


@pytest.mark.parametrize(
    "names",
    [
        ("{} (linear)", "{} (finetune)"),
        ("{}_linear", "{}_ft"),
        ("LP {}", "FT {}"),
        ("{} Linear probe", "{} Full fine-tuning"),
        ("linear/{}", "finetuned/{}"),
    ],
)
def test_protocols_in_the_names_of_columns(names):
    parts = {"linear": names[0], "finetune": names[1]}
    wide = PROTOCOLS.pivot(index="arch", columns=["dataset", "protocol"], values="score")
    wide.columns = [parts[protocol].format(dataset) for dataset, protocol in wide.columns]
    for table in (wide, wide.assign(ImageNet=SOURCE)):
        rows = read_table(table, percent=True)
        assert scores(rows, "protocol") == expected(PROTOCOLS, "protocol")
        assert "protocol: as the table says" in rows.attrs["reading"][0]


def test_the_source_of_each_protocol_is_that_of_its_column():
    wide = PROTOCOLS.pivot(index="arch", columns=["dataset", "protocol"], values="score").reindex(NETWORKS)
    wide.columns = [f"{dataset} ({protocol})" for dataset, protocol in wide.columns]
    rows = read_table(wide.assign(**{"ImageNet (linear)": SOURCE, "ImageNet (finetune)": np.add(SOURCE, 1)}), percent=True)
    assert set(rows["dataset"]) == {"pets", "cars"}
    assert rows.query("network == 'resnet18'").groupby("protocol")["source_accuracy"].first().round(4).to_dict() == {
        "linear": 0.6976,
        "finetune": 0.7076,
    }


def test_datasets_told_apart_by_a_protocol_in_some_names_only_are_said():
    table = WIDE.assign(**{"pets ft": WIDE["pets"] + 1})
    assert any(
        "2 datasets, such as 'pets' and 'pets ft', differ only in what may be the protocol" in line
        for line in read_table(table, percent=True).attrs["reading"]
    )


@pytest.mark.parametrize(
    ("text", "protocol"),
    [
        ("Linear probe", "linear"),
        ("linear probing", "linear"),
        ("LP", "linear"),
        ("Full fine-tuning", "finetune"),
        ("From scratch", "scratch"),
        ("k-NN", "knn"),
        ("LP-FT", "LP-FT"),
    ],
)
def test_protocols_have_their_usual_names(text, protocol):
    assert set(read_table(LONG.assign(protocol=text), percent=True)["protocol"]) == {protocol}
    if protocol != text:
        assert set(read_table(LONG, percent=True, protocol=text)["protocol"]) == {protocol}


def test_two_protocols_that_would_have_one_name_keep_their_own():
    table = pd.concat(
        [LONG.assign(protocol="Linear probe"), LONG.assign(protocol="Logistic regression"), LONG.assign(protocol="FT")]
    )
    assert set(read_table(table, percent=True)["protocol"]) == {"Linear probe", "Logistic regression", "finetune"}


def test_rows_that_sum_up_the_seeds_are_left_out():
    table = pd.concat([SEEDS, LONG.assign(seed="mean"), LONG.assign(seed="std", score=0.3)])
    rows = read_table(table, percent=True)
    assert scores(rows, "seed") == expected(SEEDS, "seed")
    assert "rows of seed 'mean' (a summary of runs), rows of seed 'std' (a summary of runs)" in rows.attrs["reading"][2]
    table = LONG.assign(seed="mean")
    assert "expected a whole number; correct it, or leave the column out with --leave-out seed" in refused(table)
    assert scores(read_table(table, percent=True, leave_out="seed")) == expected(LONG)


def test_advice_keeps_the_test_images_and_the_last_epoch():
    split = pd.concat([LONG.assign(split="train", score=99.0), LONG.assign(split="test")])
    assert "--leave-out 'split=train'" in refused(split)
    epochs = pd.concat([LONG.assign(epoch=epoch, score=LONG["score"] - 20 + 10 * epoch) for epoch in (0, 1, 2)])
    assert "--leave-out 'epoch=0,epoch=1'" in refused(epochs)
    assert scores(read_table(epochs, percent=True, leave_out="epoch=0,epoch=1")) == expected(LONG)


def test_all_texts_among_the_scores_are_counted():
    wide = WIDE.astype(object)
    wide.loc[1, "pets"], wide.loc[3, "cars"] = "failed", "see note"
    assert "(and 1 more, such as 'see note'), or leave the columns out with --leave-out 'pets,cars'" in refused(wide)
    long = LONG.astype({"score": object})
    long.loc[[2, 5], "score"] = "failed"
    assert "expected a number from 0 to 100; correct the cell (and 1 more), or empty it" in refused(long)
    rows = read_table(wide.replace({"failed": "OOM", "see note": "_"}), percent=True)
    assert "2 of 10 scores are empty" in rows.attrs["reading"]


@pytest.mark.parametrize(("column", "done", "not_done"), [
    ("State", "finished", "crashed"), ("status", "FINISHED", "FAILED"),
    ("state", "COMPLETE", "TrialState.PRUNED"), ("status", "COMPLETED", "OUT_OF_MEMORY"),
])  # fmt: skip
def test_scores_of_runs_that_did_not_finish_are_said(column, done, not_done):
    table = SEEDS.assign(**{column: done})
    assert not any("did not finish" in line for line in read_table(table, percent=True).attrs["reading"])
    table.loc[[2, 7], column] = not_done
    table.loc[2, "score"] = np.nan
    (said,) = [line for line in read_table(table, percent=True).attrs["reading"] if "did not finish" in line]
    advice = f"{column}={not_done}"
    assert said == f"1 of 20 scores are of runs that did not finish, by {column!r}; leave them out with --leave-out '{advice}'"
    assert scores(read_table(table, percent=True, leave_out=advice), "seed") == expected(table.drop(index=[2, 7]), "seed")
    wide = WIDE.assign(**{column: [done, not_done, done, done, done]})
    assert said.replace("1 of 20", "2 of 10") in read_table(wide, percent=True).attrs["reading"]


@pytest.mark.parametrize("prefix", ["params_", "params.", "parameters/", "config."])
def test_what_a_tracker_writes_before_names(prefix):
    table = SEEDS.rename(
        columns={"arch": f"{prefix}model", "dataset": f"{prefix}dataset", "seed": f"{prefix}seed", "score": "value"}
    )
    assert scores(read_table(table.assign(**{f"{prefix}lr": 0.1}), percent=True), "seed") == expected(SEEDS, "seed")


def test_cells_that_hold_lists_are_no_numbers(tmp_path):
    WIDE.assign(per_class=[[0.1, 0.2]] * 5, meta=[{"a": 1}] * 5).to_parquet(tmp_path / "table.parquet")
    rows = read_table(tmp_path / "table.parquet", percent=True)
    assert scores(rows) == expected(LONG) and "per_class (no numbers), meta (no numbers)" in rows.attrs["reading"][2]


def test_cells_of_a_page_without_their_row(tmp_path):
    cells = "".join(f"<tr><td>{row.arch}<td>{row.pets}<td>{row.cars}</tr>" for row in WIDE.itertuples())
    for head in (
        "<tbody><th>model</th><th>pets</th><th>cars</th>{}</tbody>",
        "<thead><th>model<th>pets<th>cars</thead><tbody>{}</tbody>",
    ):
        rows = read(tmp_path / "page.html", f"<table>{head.format(cells)}</table>")
        assert scores(rows) == expected(LONG)


@pytest.mark.parametrize("rule", ["|---+---+---|", "|-----+------+-----|", "---+---+---"])
def test_tables_of_emacs_and_psql(tmp_path, rule):
    line = "{} | {} | {}" if rule.startswith("-") else "| {} | {} | {} |"
    lines = [line.format("model", "pets", "cars"), rule, *(line.format(*row) for row in WIDE.itertuples(index=False))]
    for ends in ("", "\n(5 rows)\n"):
        assert scores(read(tmp_path / "table.txt", "\n".join(lines) + ends)) == expected(LONG)


def test_yaml_is_named(tmp_path):
    with pytest.raises(UserError, match="YAML, no table; save it as CSV"):
        read(tmp_path / "table.yaml", "resnet18:\n  pets: 88.1\n")


def test_the_source_among_the_chosen_datasets_is_the_source():
    table = WIDE.assign(ImageNet=SOURCE)
    rows = read_table(table, percent=True, datasets="ImageNet,pets")
    assert set(rows["dataset"]) == {"pets"} and rows["source_accuracy"].iloc[0] == pytest.approx(0.6976)
    alone = read_table(table, percent=True, datasets="ImageNet")
    assert set(alone["dataset"]) == {"ImageNet"} and alone["source_accuracy"].iloc[0] == pytest.approx(0.69758)


def test_a_nameless_column_of_scores_is_not_called_row_numbers(tmp_path):
    rows = read_table(WIDE.assign(**{"Unnamed: 3": WIDE["pets"] - 0.3}), percent=True)
    assert "Unnamed: 3 (it has no name)" in rows.attrs["reading"][2]


def test_sizes_in_thousands_beside_networks_are_no_network():
    turned = WIDE.set_index("arch").T.rename_axis("Dataset").reset_index()
    turned.insert(1, "Classes", [37, 196])
    turned.insert(2, "Train", ["3,680", "8,144"])
    rows = read_table(turned, percent=True)
    assert scores(rows) == expected(LONG) and rows["n_classes"].unique().tolist() == [37, 196]


def test_a_second_table_behind_an_empty_column(tmp_path):
    book = openpyxl.Workbook()
    for row in [
        ["model", "pets", "cars", None, "Dataset", "Classes"],
        ["resnet18", 88.1, 51.2, None, "pets", 37],
        ["resnet34", 90.4, 56.3, None, "cars", 196],
        ["resnet50", 91.5, 58.4],
    ]:
        book.active.append(row)
    book.save(tmp_path / "table.xlsx")
    assert "'model' and 'Dataset' have an empty column between them: two tables stand side by side" in refused(
        tmp_path / "table.xlsx"
    )
    spaced = LONG.assign(space=None).rename(columns={"space": ""})[["arch", "", "dataset", "score"]]
    assert scores(read_table(spaced, percent=True)) == expected(LONG)


def test_the_metric_of_a_leaderboard_is_no_dataset():
    table = WIDE[["arch"]].assign(**{"Percentage correct": WIDE["pets"], "im/sec": [1226.1, 900.0, 526.3, 394.5, 292.3]})
    assert "if 'Percentage correct' is the accuracy on one dataset, give --datasets 'Percentage correct'" in refused(table)
    assert "im/sec: computation" in refused(table)


@pytest.mark.parametrize("name", ["{} (seed {})", "{}_run{}", "{}-fold-{}"])
def test_runs_in_the_names_of_all_networks(name):
    names = [name.format(network, seed) for network, seed in zip(SEEDS["arch"], SEEDS["seed"], strict=True)]
    long = SEEDS.drop(columns="seed").assign(arch=names)
    for table in (long, long.pivot(index="arch", columns="dataset", values="score").reset_index()):
        rows = read_table(table, percent=True)
        assert scores(rows, "seed") == expected(SEEDS, "seed")
        assert any(
            "10 networks, such as" in line and "state runs: they are those of 5 networks" in line
            for line in rows.attrs["reading"]
        )
    some = pd.concat([LONG, LONG.assign(arch=[name.format(network, 1) for network in LONG["arch"]])]).assign(source_accuracy=70.0)
    assert read_table(some, percent=True)["network"].nunique() == 10


def test_a_column_of_texts_without_a_name_is_no_row_numbers(tmp_path):
    "Groups of networks below an empty cell of the header, as in the tables of VTAB; their place is their name."
    lines = [",Model,ImageNet,dtd,pets"]
    lines += [f"{group},{name},{56 + i},{48 + i},{80 + i}" for i, (group, name) in enumerate(
        [("Supervised", "resnet50"), ("Supervised", "resnet18"), ("Rotation", "resnet34"), ("Rotation", "vgg16")]
    )]  # fmt: skip
    rows = read(tmp_path / "vtab.csv", "\n".join(lines))
    assert "left out: column 1 (no numbers)" in rows.attrs["reading"] and len(rows) == 8
    of_groups = read_table(tmp_path / "vtab.csv", percent=True, network=["column 1", "Model"])
    assert of_groups["network"].iloc[0] == "Supervised resnet50" and "left out: nothing" in of_groups.attrs["reading"]
    (tmp_path / "vtab.csv").write_text("\n".join(lines).replace("resnet34", "resnet50"))
    assert "--network 'Model,column 1'" in refused(tmp_path / "vtab.csv")
    columns = {"Unnamed: 0": list("abcd"), "network": NETWORKS[:4], "source_accuracy": SOURCE[:4], "dtd": [48.0, 49, 50, 51]}
    numbered = pd.DataFrame(columns)
    assert "left out: Unnamed: 0 (no numbers)" in read_table(numbered, percent=True).attrs["reading"]


def test_names_that_only_a_superscript_tells_apart_are_told_what_to_write(tmp_path):
    lines = ["| Model | ImageNet | pets |", "|---|---|---|", "| DeiT-B | 81.8 | 98.4 |", "| DeiT-B <sup>∗</sup> | 83.4 | 98.8 |"]
    text = "\n".join([*lines, "| ViT-B | 77.9 | 97 |"])
    (tmp_path / "deit.md").write_text(text)
    said = refused(tmp_path / "deit.md")
    assert said.endswith("superscripts are not read: if they are part of a network's name, write them as plain text")
    (tmp_path / "deit.md").write_text(text.replace("<sup>∗</sup>", "∗"))
    assert read_table(tmp_path / "deit.md", percent=True)["network"].nunique() == 3
