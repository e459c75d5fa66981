"""Failed scores: found by rule, and nothing else found."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from transfer_study.core import data_path
from transfer_study.results import read_table, tidy
from transfer_study.statistics.exclusions import (
    at_chance,
    exclusions_in_words,
    failed_scores,
    gross_outliers,
    known_n_classes,
    mark_excluded,
)
from transfer_study.statistics.log_odds import with_log_odds


@pytest.fixture(scope="module")
def embeddings():
    return with_log_odds(read_table(data_path("published/embeddings_benchmark_16shot.csv")))


@pytest.fixture(scope="module")
def finetuned():
    return with_log_odds(read_table(data_path("published/sfda_finetune_supervised.csv"), protocol="finetune"))


def line(n, noise=0.1, seed=0):
    "Networks along a line, with a little noise."
    generator = np.random.default_rng(seed)
    effect = generator.normal(size=n)
    names = [f"net{i}" for i in range(n)]
    return pd.DataFrame({"network": names, "effect": effect, "source_logit": effect + noise * generator.normal(size=n)})


@pytest.mark.parametrize(
    ("score", "n_classes", "expected"),
    [
        (0.001, 1000, True),
        (0.002, 1000, True),
        (0.0021, 1000, False),
        (0.14, 10, True),
        (0.15, 10, False),
        (0.5, np.nan, False),
    ],
)
def test_chance_rule(score, n_classes, expected):
    assert at_chance(score, n_classes) == expected


def test_the_twelve_datasets_have_their_classes():
    assert len(known_n_classes()) == 12 and known_n_classes()["food101"] == 101 and known_n_classes()["voc2007"] == 20


def test_published_table_has_seven_failed_source_scores(embeddings):
    excluded = failed_scores(embeddings)
    assert len(excluded) == 7 and excluded["dataset"].isna().all()
    assert excluded["reason"].str.contains("at chance for 1,000 classes").sum() == 6
    assert excluded["reason"].str.contains("source score 0.153 is 2.5 log-odds below").sum() == 1


def test_influential_but_sound_network_stays(finetuned):
    assert failed_scores(finetuned).empty


def test_failed_cell_costs_that_cell_only(finetuned):
    broken = with_log_odds(finetuned.assign(score=finetuned["score"].where(finetuned.index != 7, 0.004)))
    excluded = failed_scores(broken)
    marked = mark_excluded(broken, excluded)
    assert excluded[["network", "dataset"]].to_numpy().tolist() == [[broken.loc[7, "network"], broken.loc[7, "dataset"]]]
    assert marked.sum() == 1 and marked[7]


def test_failed_seed_costs_that_seed_only(finetuned):
    seeds = pd.concat([finetuned.assign(seed=seed) for seed in (0, 1)], ignore_index=True)
    seeds.loc[7, "score"] = 0.004
    seeds = with_log_odds(seeds)
    assert mark_excluded(seeds, failed_scores(seeds)).to_numpy().nonzero()[0].tolist() == [7]


def grid(failed=(), n_classes=(10, 10, 10, 10), names=("easy", "usual", "unusual", "hard")):
    "Six networks on four datasets, scores along an additive fit but never below chance; `failed` cells are at chance."
    chance, rows = 1 / np.array(n_classes), []
    for i in range(6):
        for j, name in enumerate(names):
            score = chance[j] if (i, name) in failed else max(expit(i / 2 + (2, 1, 0, -3.5)[j]), chance[j])
            rows.append((f"net{i}", 0.5 + i / 20, name, score))
    return with_log_odds(tidy(pd.DataFrame(rows, columns=["network", "source_accuracy", "dataset", "score"])))


def test_weak_networks_are_honestly_at_chance_on_a_hard_dataset():
    rows, classes = grid(), dict.fromkeys(("easy", "usual", "unusual", "hard"), 10)
    assert at_chance(rows["score"], 10).sum() > 0 and failed_scores(rows, classes).empty


def test_a_score_at_chance_is_cut_where_the_others_suggest_more():
    classes = dict.fromkeys(("easy", "usual", "unusual", "hard"), 10)
    excluded = failed_scores(grid(failed=[(5, "easy")]), classes)
    assert excluded[["network", "dataset", "rule"]].to_numpy().tolist() == [["net5", "easy", "score at chance"]]
    assert (
        "at chance for 10 classes" in excluded["reason"].item()
        and "below what the other scores suggest" in excluded["reason"].item()
    )
    assert failed_scores(grid(failed=[(5, "easy")])).empty  # the number of classes is not known


def test_a_network_at_chance_everywhere_and_a_single_dataset_cannot_be_judged():
    names = ("easy", "usual", "unusual", "hard")
    assert failed_scores(grid(failed=[(0, name) for name in names]), dict.fromkeys(names, 10)).empty
    one = grid(failed=[(5, "easy")]).query("dataset == 'easy'").reset_index(drop=True)
    assert failed_scores(one, {"easy": 10}).empty


@pytest.mark.parametrize("name", ["fgvc_aircraft", "FGVC Aircraft", "fgvc-aircraft", "FGVCAircraft"])
def test_the_spelling_of_a_name_does_not_matter(name):
    names = (name, "usual", "unusual", "hard")
    excluded = failed_scores(grid(failed=[(5, name)], n_classes=(100, 10, 10, 10), names=names))
    assert excluded["dataset"].tolist() == [name]


def test_the_tables_own_number_of_classes_comes_before_that_of_the_paper():
    rows = grid(failed=[(5, "Food101")], n_classes=(3, 3, 3, 3), names=("Food101", "usual", "unusual", "hard"))
    assert failed_scores(rows).empty  # a third is far above chance for the paper's 101 classes
    assert failed_scores(rows.assign(n_classes=3))["dataset"].tolist() == ["Food101"]
    assert failed_scores(rows, {"food-101": 3})["dataset"].tolist() == ["Food101"]


def test_chance_of_the_area_under_the_curve_is_a_half():
    rows = grid(failed=[(5, "easy")], n_classes=(2, 10, 10, 10)).assign(metric="auc")
    assert failed_scores(rows, {"easy": 1000})["dataset"].tolist() == ["easy"]


def test_a_source_at_chance_is_judged_by_the_sound_scores():
    rows = grid()
    low = rows.assign(source_accuracy=rows["source_accuracy"].where(rows["network"] != "net4", 0.001))
    excluded = failed_scores(with_log_odds(low.drop(columns=["logit", "source_logit", "corrected"])))
    assert (
        excluded[["network", "rule"]].to_numpy().tolist() == [["net4", "source at chance"]]
        and "4 sound transfer" in excluded["reason"].item()
    )
    assert exclusions_in_words(excluded) == "1 network left out: one with ImageNet at chance"


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_gross_outlier_in_either_direction(shift):
    networks = line(20)
    networks.loc[4, "source_logit"] += shift
    assert list(gross_outliers(networks)) == ["net4"]
    assert ("below" if shift < 0 else "above") in gross_outliers(networks)["net4"]


def test_gross_outlier_needs_both_a_large_distance_and_an_unusual_one():
    near, wide = line(20, noise=0.01), line(20, noise=1.0)
    near.loc[4, "source_logit"] += 1.0  # 100 deviations, but less than 1.5 log-odds
    wide.loc[4, "source_logit"] += 2.0  # 2 log-odds, but only 2 deviations
    assert not gross_outliers(near) and not gross_outliers(wide)


def test_too_few_networks_show_no_outlier():
    networks = line(7)
    networks.loc[4, "source_logit"] += 3
    assert not gross_outliers(networks)
    assert list(gross_outliers(pd.concat([networks, line(1, seed=1).assign(network="one more")]))) == ["net4"]


def test_clean_studies_are_left_alone():
    "Normal noise: at six robust deviations and 1.5 log-odds, none of 200 studies of 16 networks loses any."
    assert sum(bool(gross_outliers(line(16, noise=0.3, seed=seed))) for seed in range(200)) == 0


def test_reason_gives_the_score_as_published():
    networks = line(20)
    networks.loc[4, "source_logit"] -= 3
    assert f"{expit(networks.loc[4, 'source_logit']):.3f}" in gross_outliers(networks)["net4"]
