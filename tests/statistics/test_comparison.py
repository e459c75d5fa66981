"""Paired differences against scipy and statsmodels; settings and gains by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from statsmodels.stats.multitest import multipletests

from transfer_study.results import tidy
from transfer_study.statistics.comparison import (
    corrected_p_values,
    gain_table,
    gains_by_network,
    mean_differences,
    pair_table,
    setting_table,
    t_intervals,
)
from transfer_study.statistics.log_odds import LogOddsTable, with_log_odds


def log_odds(n_networks=6, n_datasets=8, seed=0):
    generator = np.random.default_rng(seed)
    names = [f"net{i}" for i in range(n_networks)]
    values = generator.normal(size=(n_networks, n_datasets)) + np.arange(n_networks)[:, None] / 4
    return LogOddsTable(pd.Series(generator.normal(size=n_networks), index=names), pd.DataFrame(values, index=names))


def rows(**columns):
    return with_log_odds(tidy(pd.DataFrame({"source_accuracy": 0.7} | columns)))


def test_t_interval_against_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, size=(3, 9))
    table = t_intervals(values)
    for row, sample in zip(table.itertuples(), values, strict=True):
        reference = stats.ttest_1samp(sample, 0)
        interval = reference.confidence_interval(0.95)
        np.testing.assert_allclose([row.p_value, row.low, row.high], [reference.pvalue, *interval])


def test_one_pair_has_no_interval():
    table = t_intervals([[0.5, np.nan]])
    assert table["difference"][0] == 0.5 and table[["low", "high", "p_value"]].isna().all(axis=None)


def test_pairs_against_scipy_with_a_missing_cell():
    complete = log_odds()
    complete.logits.iloc[2, 3] = np.nan
    for row in pair_table(complete).itertuples():
        both = complete.logits.loc[[row.network_a, row.network_b]].dropna(axis=1).to_numpy()
        reference = stats.ttest_rel(both[1], both[0])
        assert row.p_value == pytest.approx(reference.pvalue)
        assert row.difference == pytest.approx((both[1] - both[0]).mean())
        assert row.n_datasets == both.shape[1]


def test_corrections_against_statsmodels_over_all_pairs():
    table = pair_table(log_odds())
    assert len(table) == 15
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p_value"], method="holm")[1])
    np.testing.assert_allclose(table["p_bh"], multipletests(table["p_value"], method="fdr_bh")[1])


def test_corrections_leave_out_what_was_not_tested():
    assert corrected_p_values([np.nan, np.nan]).isna().all(axis=None) and corrected_p_values([]).empty
    table = corrected_p_values([0.01, np.nan, 0.02])
    np.testing.assert_allclose(table["p_holm"], [0.02, np.nan, 0.02])


def test_many_networks_compare_the_best():
    many = log_odds(70, 4)
    many.logits.loc["net69"] += 10
    table = pair_table(many)
    assert len(table) == 50 * 49 / 2
    assert table["network_a"].iloc[0] == "net69"


def test_false_claims_after_holm_are_rare():
    "Five networks that are alike: Holm claims falsely in about 5 % of 100 studies, no correction in a quarter."
    claims = {"p_value": 0, "p_holm": 0}
    for seed in range(100):
        table = pair_table(LogOddsTable(pd.Series(range(5)), pd.DataFrame(np.random.default_rng(seed).normal(size=(5, 12)))))
        for name in claims:
            claims[name] += (table[name] < 0.05).any()
    assert claims["p_holm"] / 100 < 0.11
    assert claims["p_value"] / 100 > 0.17


def test_mean_over_networks_not_cells():
    cells = pd.DataFrame({"network": list("aabbcc"), "dataset": list("xyxyxy"), "difference": [1.0, 2.0, 3.0, 4.0, -1.0, 0.0]})
    table = mean_differences(cells).set_index("dataset")
    interval = stats.ttest_1samp([1.5, 3.5, -0.5], 0).confidence_interval(0.95)
    np.testing.assert_allclose(table.loc["mean", ["difference", "low", "high"]].astype(float), [1.5, *interval])
    assert table["n_pairs"].to_dict() == {"mean": 6, "x": 3, "y": 3} and table["wins"].to_dict() == {"mean": 4, "x": 2, "y": 2}
    assert (table["over"] == "networks").all()


@pytest.mark.parametrize("networks", ["aaa", "aaabbb"])
def test_one_or_two_networks_take_datasets_as_the_sample(networks):
    "Two that happen to gain the same would otherwise have an interval of no width."
    cells = pd.DataFrame({"network": list(networks), "dataset": list("xyz") * (len(networks) // 3)})
    cells["difference"] = [1.0, 2.0, 4.0, 3.0, 3.0, 1.0][: len(cells)]
    table, means = mean_differences(cells), cells.groupby("dataset")["difference"].mean()
    low, high = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert table.loc[0, ["low", "high", "over"]].tolist() == [pytest.approx(low), pytest.approx(high), "datasets"]
    assert table.loc[1:, ["low", "high", "over"]].isna().all(axis=None)


def test_two_networks_on_two_datasets_have_no_interval():
    cells = pd.DataFrame({"network": list("aabb"), "dataset": list("xyxy"), "difference": [0.1, 0.3, -0.1, 0.5]})
    table = mean_differences(cells)
    assert table.loc[0, "difference"] == pytest.approx(0.2) and table[["low", "high", "over"]].isna().all(axis=None)


def test_a_mean_over_datasets_does_not_depend_on_which_networks_were_tried():
    "Differences of 0.1 on one dataset and 1.5 on another that two of eight networks have; and an additive table."
    unequal = pd.DataFrame({"network": list("abcdefghab"), "dataset": ["easy"] * 8 + ["hard"] * 2})
    unequal["difference"] = [0.1] * 8 + [1.5] * 2
    mean = mean_differences(unequal).iloc[0]
    assert mean[["difference", "low", "high"]].to_list() == pytest.approx([0.8] * 3) and mean["n_pairs"] == 10
    complete = (np.arange(5)[:, None] / 10 + [0, 1, 3]).ravel()
    cells = pd.DataFrame({"network": list("aaabbbcccdddeee"), "dataset": list("xyz") * 5, "difference": complete})
    columns = ["difference", "low", "high"]
    holes = mean_differences(cells.drop(index=[1, 5, 13])).loc[0, columns].to_list()
    assert holes == pytest.approx(mean_differences(cells).loc[0, columns].to_list())
    apart = mean_differences(cells[(cells["dataset"] == "z") == cells["network"].isin(["d", "e"])]).iloc[0]
    assert apart["difference"] == pytest.approx((0.1 + 1.1 + 3.35) / 3) and apart["over"] == "datasets"


def test_interval_of_a_setting_covers():
    inside = []
    for seed in range(250):
        noise = np.random.default_rng(seed).normal(size=(5, 3)) + np.random.default_rng(seed + 999).normal(size=(5, 1))
        cells = pd.DataFrame(0.4 + noise).stack().rename("difference").rename_axis(["network", "dataset"]).reset_index()
        table = mean_differences(cells)
        inside.append(table.loc[0, "low"] < 0.4 < table.loc[0, "high"])
    assert 0.91 < np.mean(inside) < 0.985  # over cells in place of networks it would be about 0.75


def test_settings_are_paired_and_averaged_over_seeds():
    table = rows(
        network=["a", "a", "a", "b", "b", "c"], dataset="pets", seed=[0, 0, 1, 0, 0, 0],
        setting=["default", "smooth", "smooth", "default", "smooth", "smooth"], score=[0.5, 0.6, 0.7, 0.4, 0.5, 0.9],
    )  # fmt: skip
    result = setting_table(table).set_index("dataset").loc["pets"]
    assert result["difference"] == pytest.approx(((logit(0.6) + logit(0.7)) / 2 + logit(0.5) - logit(0.4)) / 2)
    assert result["n_pairs"] == 2


def test_no_settings_no_table():
    assert setting_table(rows(network=["a", "b"], dataset="pets", score=0.5)).empty


def test_gains_by_hand():
    table = rows(
        network=["a", "b", "a", "b", "a"], dataset="pets", score=expit([0.0, 1, 0.5, 0.7, -1]),
        protocol=["linear", "linear", "finetune", "finetune", "scratch"],
    )  # fmt: skip
    gains = gains_by_network(table).set_index(["protocol", "baseline", "network"])["gain"]
    expected = {("finetune", "linear", "a"): 0.5, ("finetune", "linear", "b"): -0.3,
                ("finetune", "scratch", "a"): 1.5, ("linear", "scratch", "a"): 1.0}  # fmt: skip
    assert gains.to_dict() == pytest.approx(expected)
    summary = gain_table(gains_by_network(table)).set_index(["protocol", "baseline", "dataset"])
    assert summary.loc[("finetune", "linear", "mean"), ["n_pairs", "wins"]].tolist() == [2, 1]
    assert summary.loc[("finetune", "linear", "mean"), "mean_gain"] == pytest.approx(0.1)


def test_gains_pair_equal_training_set_sizes_and_summarise_the_full_one():
    table = rows(
        network="a", dataset="pets", score=expit([0.0, 1, 2, 5]), n_train_per_class=[pd.NA, 10, pd.NA, 10],
        protocol=["linear", "linear", "finetune", "finetune"],
    )  # fmt: skip
    gains = gains_by_network(table)
    assert sorted(gains["gain"].round(6)) == [2, 4]
    assert gain_table(gains)["mean_gain"].round(6).unique().tolist() == [2]
