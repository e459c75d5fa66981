"""The tables of published figures that were collected by hand: every figure can be looked up, none stands there twice."""

import re

import pandas as pd
import pytest

from transfer_study.core import data_path

TABLES = ("specialised_methods", "kornblith2019_best_finetuned", "general_networks_input_size")


@pytest.fixture(scope="module")
def datasets():
    return pd.read_csv(data_path("datasets.csv"), index_col="name")


@pytest.fixture(scope="module")
def methods():
    return pd.read_csv(data_path("published/specialised_methods.csv"))


def lacks_source(row: pd.Series) -> bool:
    "Whether a row names neither a file of a repository at a commit nor a page."
    a_file = re.fullmatch(r"[\w.-]+/[\w.-]+", str(row["repository"])) and re.fullmatch(r"[0-9a-f]{40}", str(row["commit"]))
    a_page = re.fullmatch(r"https://\S+", str(row.get("address")))
    return not (a_file and isinstance(row["path"], str)) and not a_page


def test_every_figure_has_a_source(methods):
    assert len(methods) > 40
    sized = pd.read_csv(data_path("published/general_networks_input_size.csv"))
    for table in (methods, sized):
        assert table[table.apply(lacks_source, axis=1)].empty
    assert methods["place"].notna().all() and set(methods["reported_by"]) == {"authors", "others"}


def test_a_row_without_a_source_is_found(methods):
    row = methods.iloc[0]
    assert not lacks_source(row)
    assert lacks_source(row.replace({row["commit"]: "main"})) and lacks_source(row.replace({row["path"]: None}))


@pytest.mark.parametrize("name", TABLES)
def test_scores_are_proportions_and_stand_there_once(name):
    table = pd.read_csv(data_path(f"published/{name}.csv"))
    assert table["score"].between(0.5, 1, inclusive="neither").all()  # 0.5: per cent or an error rate would fall outside
    key = [c for c in ("method", "network", "dataset", "backbone", "input_size", "pretraining", "run") if c in table]
    assert not table.duplicated(key).any()


def test_names_are_those_of_the_package(methods, datasets):
    best = pd.read_csv(data_path("published/kornblith2019_best_finetuned.csv"))
    assert set(methods["dataset"]) <= set(datasets.index) and set(best["dataset"]) <= set(datasets.index)
    assert set(best["network"]) <= set(pd.read_csv(data_path("networks.csv"))["name"])
    assert set(methods["metric"]) <= {"top1", "mean_per_class", "map_area"}
    assert set(methods["pretraining"].dropna()) == {"none", "imagenet", "more"}
    assert (best["metric"] == best["dataset"].map(datasets["metric"])).all()
    assert (methods["metric"].eq("map_area") == methods["dataset"].eq("voc2007")).all()


def test_two_sources_agree_where_they_report_the_same(methods):
    # GPipe's table 4 lists AutoAugment's 98.5 % and 89.3 %; Fast AutoAugment's page lists errors of 1.5 % and 10.7 %.
    scores = methods[methods["method"] == "AutoAugment"].set_index("dataset")["score"]
    assert scores["cifar10"] == 0.985 and scores["cifar100"] == 0.893
