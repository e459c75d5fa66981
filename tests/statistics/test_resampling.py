"""The interval for other datasets, and the noise from run to run, by simulation and by hand."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.statistics.analysis import analyze
from transfer_study.statistics.correlation import bootstrap_counts, correlation_interval, correlation_table, pearson
from transfer_study.statistics.log_odds import LogOddsTable, to_log_odds_table
from transfer_study.statistics.regression import cells_of, fit_mixed, random_deviations
from transfer_study.statistics.resampling import (
    RunDraws,
    dataset_draws,
    exact_repeats,
    other_datasets_interval,
    run_deviation,
    slope_strata,
    strata_draws,
)


def simulated(n_networks=12, n_datasets=6, seed=0, network=0.25, dataset_slope=0.3, cell=0.3):
    "A table drawn from the mixed model; the mean slope is 1 and source logits have standard deviation 0.5."
    generator = np.random.default_rng(seed)
    x = generator.normal(1, 0.5, n_networks)
    slopes = 1 + dataset_slope * generator.normal(size=n_datasets)
    values = x[:, None] * slopes + network * generator.normal(size=(n_networks, 1)) + generator.normal(size=n_datasets)
    values += cell * generator.normal(size=values.shape)
    names = [f"net{i:02}" for i in range(n_networks)]
    columns = [f"data{j}" for j in range(n_datasets)]
    return LogOddsTable(pd.Series(x, index=names), pd.DataFrame(values, index=names, columns=columns))


def first_interval(log_odds, counts):
    x, y = log_odds.source.to_numpy(), log_odds.network_effects["mean_logit"].to_numpy()
    return correlation_interval(float(pearson(x, y, np.ones(len(x)))), pearson(x, y, counts), len(x))


def test_strata_are_those_of_the_mixed_model():
    "In a complete table whose variances are all positive, mean squares and REML agree."
    log_odds = simulated(30, 8)
    strata, deviations = slope_strata(log_odds), random_deviations(fit_mixed(cells_of(log_odds))[0])
    cell = strata.cells / strata.cells_freedom
    assert (strata.slopes_freedom, strata.cells_freedom) == (7, 28 * 7)
    assert np.sqrt(cell) == pytest.approx(deviations["residual"], rel=1e-3)
    slope = strata.slopes / strata.slopes_freedom - cell * strata.inverse
    assert np.sqrt(slope) == pytest.approx(deviations["dataset slope"], rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_without_three_networks_on_any_dataset_there_is_no_interval():
    "As in a patchwork of scores from several papers."
    log_odds = simulated(4, 4)
    present = np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool)
    patchwork = LogOddsTable(log_odds.source, log_odds.logits.where(present))
    assert slope_strata(patchwork).slopes_freedom == -1 and np.isnan(strata_draws(patchwork)).all()


def test_draws_of_datasets_are_those_of_the_drawn_table():
    log_odds = simulated(9, 4)
    counts = bootstrap_counts(9, 6, seed=3)
    drawn = bootstrap_counts(4, 6, seed=8)
    adjusted = (log_odds.logits - log_odds.logits.mean()).to_numpy()
    for r, networks, datasets in zip(dataset_draws(log_odds, counts, seed=7), counts.T, drawn.T, strict=True):
        mean = np.average(adjusted, axis=1, weights=datasets)
        rows = np.repeat(np.arange(9), networks.astype(int))
        assert r == pytest.approx(np.corrcoef(log_odds.source.to_numpy()[rows], mean[rows])[0, 1])


def test_other_datasets_interval_covers_and_contains_the_first():
    "True r of other networks on six other datasets, in 200 tables of 8 networks; the first interval misses it more often."
    true, inside = 0.5 / np.sqrt(0.5**2 + 0.25**2 + 0.3**2 / 6), []
    for seed in range(200):
        log_odds, counts = simulated(8, 6, seed), bootstrap_counts(8, 300, seed)
        first = first_interval(log_odds, counts)
        low, high = other_datasets_interval(log_odds, counts, first, seed)
        assert low <= first[0] and first[1] <= high
        inside.append(low <= true <= high)
    assert np.mean(inside) >= 0.94


def test_datasets_whose_slopes_differ_widen_the_interval():
    counts = bootstrap_counts(12, 500)
    alike, different = (simulated(dataset_slope=value) for value in (0.0, 1.0))
    widths = []
    for log_odds in (alike, different):
        first = first_interval(log_odds, counts)
        low, high = other_datasets_interval(log_odds, counts, first)
        widths.append((high - low) / (first[1] - first[0]))
    assert widths[1] > 1.1 * widths[0]


def test_the_seed_reaches_the_posterior_draws_of_other_datasets():
    log_odds, counts = simulated(5, 4), np.ones((5, 100))  # no draw of networks is wider than the posterior
    lows = [other_datasets_interval(log_odds, counts, (0.5, 0.5), seed)[0] for seed in (0, 1)]
    assert lows == [np.quantile(strata_draws(log_odds, seed=seed), 0.025) for seed in (0, 1)] and lows[0] != lows[1]


def test_one_dataset_says_nothing_about_others():
    log_odds = simulated(8, 1)
    assert np.isnan(other_datasets_interval(log_odds, bootstrap_counts(8, 100), (0.1, 0.9))).all()
    assert np.isnan(strata_draws(log_odds, 10)).all()


def test_missing_cells_are_left_out():
    complete = simulated(10, 5)
    missing = LogOddsTable(complete.source, complete.logits.copy())
    missing.logits.iloc[[1, 4, 7], [0, 2, 4]] = np.nan
    intervals = [other_datasets_interval(table, bootstrap_counts(10, 1000), (0.5, 0.6)) for table in (complete, missing)]
    assert np.isfinite(intervals).all() and np.abs(np.subtract(*intervals)).max() < 0.3


def runs(n_runs=3, noise=0.4, seed=0):
    generator, table = np.random.default_rng(seed), simulated(10, 3)
    cells = cells_of(table).assign(source_logit=lambda rows: rows["network"].map(table.source))
    rows = cells.loc[cells.index.repeat(n_runs)].assign(seed=np.tile(np.arange(n_runs), len(cells))).reset_index(drop=True)
    return rows.assign(logit=rows["logit"] + noise * generator.normal(size=len(rows)))


def test_run_deviation():
    assert run_deviation(runs(20)) == pytest.approx(0.4, rel=0.1)
    assert np.isnan(run_deviation(runs(1)))


def test_exact_repeats_are_not_runs_without_noise():
    "On a dataset with val/, a seed repeats the run of fixed features; one network with equal runs by chance is no such dataset."
    rows = runs(4)
    first = rows.groupby(["network", "dataset"])["logit"].transform("first")
    repeats = rows.assign(logit=rows["logit"].where(rows["dataset"] == "data0", first))
    assert exact_repeats(repeats) == ["data1", "data2"]
    assert run_deviation(repeats) == run_deviation(rows[rows["dataset"] == "data0"])
    chance = rows.assign(logit=rows["logit"].where(rows["network"] != "net00", first))
    assert exact_repeats(chance) == [] and run_deviation(chance) < run_deviation(rows)
    table = repeats.assign(score=1 / (1 + np.exp(-repeats["logit"])), source_accuracy=1 / (1 + np.exp(-repeats["source_logit"])))
    table = table[["network", "dataset", "seed", "score", "source_accuracy"]]
    assert any(text.endswith("exact repeats on data1; data2 say nothing about it") for text in analyze(table, 100).messages)
    none = analyze(table[table["dataset"] != "data0"], 100)
    assert any("all repeated runs are exact repeats, which say nothing" in text for text in none.messages)


def test_drawn_runs_have_the_mean_and_the_variance_of_the_runs():
    rows = runs()
    table, draws = to_log_odds_table(rows), RunDraws(rows, to_log_odds_table(rows), 4_000)
    source, logits = draws("data1")
    by_run = rows[rows["dataset"] == "data1"].pivot(index="network", columns="seed", values="logit")
    np.testing.assert_allclose(logits.mean(axis=1), table.logits["data1"], atol=0.05)
    np.testing.assert_allclose(logits.var(axis=1), by_run.var(axis=1, ddof=0) / 3, rtol=0.15)
    np.testing.assert_allclose(source.T, np.tile(table.source, (4_000, 1)))
    assert draws("mean")[1].shape == (10, 4_000)


def test_draws_are_centred_where_datasets_have_different_numbers_of_runs():
    "The slope is -1.5 on a dataset with five runs, and 3 on two datasets with one: each dataset counts once."
    generator = np.random.default_rng(1)
    x, names = np.linspace(-1, 1, 16), [f"n{i:02}" for i in range(16)]
    parts = [
        pd.DataFrame({"network": names, "dataset": dataset, "seed": seed, "source_logit": x + 0.1 * seed,
                      "logit": slope * x + 0.2 * generator.normal(size=16)})
        for dataset, slope, n_runs in (("a", -1.5, 5), ("b", 3, 1), ("c", 3, 1)) for seed in range(n_runs)
    ]  # fmt: skip
    rows = pd.concat(parts, ignore_index=True).drop(index=80)  # and n00 has no score on b
    table = to_log_odds_table(rows)
    draws = RunDraws(rows, table, 400)
    source, logits = draws("mean")
    middle = np.median(pearson(source, logits, np.ones(logits.shape)))
    expected = pearson(table.source.to_numpy(), table.network_effects["effect"].to_numpy(), np.ones(16))
    assert middle == pytest.approx(expected, abs=0.02) and middle > 0.9
    draws.weights = np.ones_like(draws.weights)
    np.testing.assert_allclose(draws("mean")[1], np.tile(table.network_effects["effect"], (400, 1)).T, atol=1e-12)
    assert table.source["n01"] == pytest.approx(x[1] + 0.2 / 3)  # the mean over datasets, too: 0.2, 0 and 0


def test_repeated_runs_widen_the_interval_and_the_analysis_says_so():
    rows = runs(2, noise=0.8).rename(columns={"logit": "value"})
    score = 1 / (1 + np.exp(-rows["value"]))
    table = rows.assign(score=score, source_accuracy=1 / (1 + np.exp(-rows["source_logit"])))[
        ["network", "dataset", "seed", "score", "source_accuracy"]
    ]
    both, one = analyze(table, 500), analyze(table[table["seed"] == 0], 500)
    assert any("standard deviation from run to run 0." in text for text in both.messages)
    assert any("the intervals are over networks only: with one score of each" in text for text in one.messages)
    log_odds = to_log_odds_table(both.rows)
    plain = correlation_table(log_odds, bootstrap_counts(10, 500), ("pearson",)).iloc[0]
    assert both.correlations.iloc[0]["low"] < plain["low"] and both.correlations.iloc[0]["estimate"] == plain["estimate"]
