"""Failed scores: found by rule, and nothing else found."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from transfer_study.core import data_path
from transfer_study.results import read_table, tidy
from transfer_study.statistics.exclusions import at_chance, failed_scores, gross_outliers, known_n_classes, mark_excluded
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
    broken = finetuned.assign(score=finetuned["score"].where(finetuned.index != 7, 0.004))
    excluded = failed_scores(broken)
    marked = mark_excluded(broken, excluded)
    assert excluded[["network", "dataset"]].to_numpy().tolist() == [
        [broken.loc[7, "network"], broken.loc[7, "dataset"]]
    ]
    assert marked.sum() == 1 and marked[7]


def test_failed_seed_costs_that_seed_only(finetuned):
    seeds = pd.concat([finetuned.assign(seed=seed) for seed in (0, 1)], ignore_index=True)
    seeds.loc[7, "score"] = 0.004
    assert mark_excluded(seeds, failed_scores(seeds)).to_numpy().nonzero()[0].tolist() == [7]


def test_classes_of_an_unknown_dataset_can_be_given():
    rows = with_log_odds(
        tidy(pd.DataFrame({"network": list("abc"), "dataset": "mine", "score": 0.51, "source_accuracy": 0.6}))
    )
    assert failed_scores(rows).empty
    assert len(failed_scores(rows, n_classes={"mine": 2})) == 3


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
