"""Correlations, intervals and bands against scipy, numpy and simulated coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from transfer_study.core import data_path
from transfer_study.results import read_table
from transfer_study.statistics.correlation import (
    bca_interval,
    bootstrap_counts,
    bootstrap_draws,
    correlation_interval,
    correlation_table,
    format_interval,
    format_r,
    kendall,
    least_squares_line,
    line_table,
    midranks,
    pearson,
    percentile_interval,
    posterior_draws,
    r_without_each,
    rank_interval,
    spearman,
)
from transfer_study.statistics.log_odds import LogOddsTable, adjusted_accuracies, to_log_odds_table, with_log_odds

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
OURS = {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def correlated(n, r=0.8, seed=0, digits=None):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    y = r * x + np.sqrt(1 - r**2) * generator.normal(size=n)
    return (x, y) if digits is None else (x.round(digits), y.round(digits))


@pytest.fixture(scope="module")
def finetuned():
    return to_log_odds_table(with_log_odds(read_table(data_path("published/sfda_finetune_supervised.csv"))))


@pytest.mark.parametrize("digits", [None, 0], ids=["distinct", "ties"])
@pytest.mark.parametrize("method", OURS)
def test_every_draw_is_scipys_value_of_the_drawn_sample(method, digits):
    x, y = correlated(15, digits=digits)
    counts = bootstrap_counts(15, 30, seed=2)
    drawn = [np.repeat(np.arange(15), column.astype(int)) for column in counts.T]
    np.testing.assert_allclose(OURS[method](x, y, counts), [SCIPY[method](x[i], y[i])[0] for i in drawn], atol=1e-12)
    assert OURS[method](x, y, np.ones(15)) == pytest.approx(SCIPY[method](x, y)[0])


@pytest.mark.parametrize("method", OURS)
def test_left_out_is_the_sample_without_it(method):
    x, y = correlated(9)
    expected = [SCIPY[method](np.delete(x, i), np.delete(y, i))[0] for i in range(9)]
    np.testing.assert_allclose(OURS[method](x, y, 1 - np.eye(9)), expected)


def test_midranks_against_scipy():
    values = np.array([3.0, 1, 3, 2, 2, 5])
    np.testing.assert_allclose(midranks(values, np.ones(6)), stats.rankdata(values))


def test_line_against_scipy():
    x, y = correlated(20)
    expected = stats.linregress(x, y)
    np.testing.assert_allclose(
        least_squares_line(x + 1e3, y, np.ones(20)), [expected.intercept - 1e3 * expected.slope, expected.slope]
    )


def test_draws_are_multinomial_and_seeded():
    counts = bootstrap_counts(8, 20_000, seed=1)
    assert (counts.sum(axis=0) == 8).all()
    np.testing.assert_allclose(counts.var(axis=1), 7 / 8, atol=0.04)
    assert np.array_equal(counts, bootstrap_counts(8, 20_000, seed=1))
    assert not np.array_equal(counts, bootstrap_counts(8, 20_000, seed=2))


def rowwise_r(x, y, axis):
    x, y = x - x.mean(axis, keepdims=True), y - y.mean(axis, keepdims=True)
    return (x * y).sum(axis) / np.sqrt((x**2).sum(axis) * (y**2).sum(axis))


def test_bca_is_scipys_on_scipys_draws():
    x, y = correlated(25, r=0.9, seed=4)
    reference = stats.bootstrap((x, y), rowwise_r, paired=True, n_resamples=4000, random_state=0, method="BCa")
    left_out = pearson(x, y, 1 - np.eye(25))
    ours = bca_interval(pearson(x, y, np.ones(25)), reference.bootstrap_distribution, left_out)
    np.testing.assert_allclose(ours, reference.confidence_interval, rtol=1e-9)


def test_intervals_on_our_draws_agree_with_scipys():
    x, y = correlated(25, r=0.9, seed=4)
    draws = pearson(x, y, bootstrap_counts(25, 20_000))
    reference = stats.bootstrap((x, y), lambda a, b: np.corrcoef(a, b)[0, 1], paired=True, vectorized=False,
                                n_resamples=4000, random_state=0, method="percentile")  # fmt: skip
    np.testing.assert_allclose(percentile_interval(draws), reference.confidence_interval, atol=0.012)


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_linearised_draws_agree_with_ranking_every_draw(method):
    x, y = correlated(260, r=0.6)
    counts = bootstrap_counts(260, 1000)
    _, linearised, _ = bootstrap_draws(method, x, y, counts)
    exact = OURS[method](x, y, counts)
    assert not np.array_equal(linearised, exact)
    assert linearised.std() == pytest.approx(exact.std(), rel=0.05)
    assert np.corrcoef(linearised, exact)[0, 1] > 0.98


def coverage(interval, true, n=30, r=0.7, n_studies=400):
    inside = 0
    for seed in range(n_studies):
        x, y = correlated(n, r, seed)
        counts = bootstrap_counts(n, 400, seed)
        low, high = interval(x, y, counts)
        inside += low < true < high
    return inside / n_studies


def test_percentile_interval_covers():
    "30 networks, r = 0.7: percentile intervals cover a little less than 95 % (standard error 1.2 %)."
    assert 0.90 < coverage(lambda x, y, counts: percentile_interval(pearson(x, y, counts)), 0.7) < 0.97


def test_bca_interval_covers():
    def interval(x, y, counts):
        return bca_interval(float(pearson(x, y, np.ones(30))), pearson(x, y, counts), pearson(x, y, 1 - np.eye(30)))

    assert 0.90 < coverage(interval, 0.7) < 0.98


def test_rank_interval_covers():
    true = 6 / np.pi * np.arcsin(0.7 / 2)  # of a normal distribution with r = 0.7
    assert 0.90 < coverage(lambda x, y, counts: percentile_interval(spearman(x, y, counts)), true) < 0.98


@pytest.mark.parametrize("method", ["spearman", "kendall"])
@pytest.mark.parametrize("n", [4, 6, 12])
def test_rank_intervals_of_few_networks_cover(method, n):
    "Fisher z intervals, with the percentile intervals, of 500 studies with r = 0.9 (standard error 1 %)."
    true = {"spearman": 6 / np.pi * np.arcsin(0.45), "kendall": 2 / np.pi * np.arcsin(0.9)}[method]
    inside, counts = [], bootstrap_counts(n, 300)
    for seed in range(500):
        x, y = correlated(n, 0.9, seed)
        ends = rank_interval(method, float(OURS[method](x, y, np.ones(n))), n), percentile_interval(OURS[method](x, y, counts))
        inside.append(np.nanmin(ends, axis=0)[0] <= true <= np.nanmax(ends, axis=0)[1])
    assert np.mean(inside) > 0.93


def share_covered(interval, n_networks, true, heavy, n_studies=500, n_bootstrap=300):
    "How many of the studies have an interval that contains the true r; `heavy`: Student's t with three degrees of freedom."
    generator = np.random.default_rng([n_networks, int(100 * true), heavy])
    shape = (2, n_studies, n_networks)
    source, own = generator.standard_t(3, shape) / np.sqrt(3) if heavy else generator.normal(size=shape)
    transfer = true * source + np.sqrt(1 - true**2) * own
    counts = bootstrap_counts(n_networks, n_bootstrap)
    draws = np.array([pearson(x, y, counts) for x, y in zip(source, transfer, strict=True)])
    r = np.array([float(pearson(x, y, np.ones(n_networks))) for x, y in zip(source, transfer, strict=True)])
    low, high = interval(r, draws, n_networks)
    return np.mean((low <= true) & (true <= high))


SIZES = [(n, true) for n in (3, 5, 8, 16, 40) for true in (0.0, 0.99)]


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "t3"])
def test_the_interval_of_r_covers_whatever_the_number_of_networks(heavy):
    "500 studies a size (standard error 1 %); benchmarks/bench_coverage.py has more sizes and more studies."
    shares = [share_covered(correlation_interval, n, true, heavy) for n, true in SIZES]
    assert np.mean(shares) >= 0.95 and min(shares) >= 0.93, dict(zip(SIZES, shares, strict=True))


def test_the_percentile_interval_alone_does_not_cover():
    def percentile(r, draws, n):
        return np.nanquantile(draws, [0.025, 0.975], axis=-1)

    assert share_covered(percentile, 3, 0.99, heavy=False) < 0.5
    assert np.mean([share_covered(percentile, n, true, heavy=True) for n, true in SIZES]) < 0.9


def test_posterior_is_the_exact_interval_of_r():
    "At its lower end, an r as large as the estimate or larger comes in 2.5 % of samples (Fisher 1915)."
    r, n = 0.8, 6
    low, high = np.quantile(posterior_draws(r, n, 200_000), [0.025, 0.975])
    for true, tail in ((low, 1), (high, -1)):
        source, own = np.random.default_rng(5).normal(size=(2, 40_000, n))
        transfer = true * source + np.sqrt(1 - true**2) * own
        found = rowwise_r(source, transfer, 1)
        assert np.mean(tail * found >= tail * r) == pytest.approx(0.025, abs=0.003)


def test_the_seed_reaches_the_posterior_draws():
    x, y = correlated(4, 0.3)
    log_odds = LogOddsTable(pd.Series(x), pd.DataFrame({"only": y}))
    counts = np.ones((4, 100))  # no draw is wider than the posterior
    lows = [correlation_table(log_odds, counts, ("pearson",), seed=seed)["low"][0] for seed in (0, 0, 1)]
    expected = [np.quantile(posterior_draws(np.corrcoef(x, y)[0, 1], 4, seed=seed), 0.025) for seed in (0, 0, 1)]
    np.testing.assert_allclose(lows, expected)
    assert lows[0] == lows[1] != lows[2] == pytest.approx(lows[0], abs=0.05)


def test_a_perfect_line_has_no_doubt_and_three_networks_have_much():
    x = np.arange(6.0)
    low, high = correlation_interval(1.0, pearson(x, x, bootstrap_counts(6, 200)), 6)
    assert low > 0.999 and high == pytest.approx(1)
    low, high = correlation_interval(0.9, np.array([0.9, 1.0, np.nan, -1.0] * 50), 3)
    assert low < 0 < 0.9 < high


def test_few_networks_give_r_one_digit():
    assert (format_r(0.649, 11), format_r(0.649, 12), format_r(-0.04, 5)) == ("0.6", "0.65", "0.0")
    assert format_interval(0.5, 1.0, 6) == "0.5 to 1.0" and format_interval(None, 1.0, 6) == format_interval(np.nan, 1, 6) == ""


@pytest.mark.parametrize("n", [3, 5, 30])
def test_band_covers_the_true_line(n):
    inside = []
    for seed in range(200):
        x, y = correlated(n, 0.7, seed)
        log_odds = LogOddsTable(pd.Series(x), pd.DataFrame({"only": y}))
        table = line_table(log_odds, bootstrap_counts(n, 400, seed), n_points=3).query("dataset == 'only'")
        true = 0.7 * table["source_logit"]
        inside.append((table["low"] < true) & (true < table["high"]))
    assert (np.mean(inside, axis=0) > 0.92).all() and np.mean(inside) < 0.995


def test_table_with_missing_cells_uses_what_exists():
    x, y = correlated(12)
    log_odds = LogOddsTable(
        pd.Series(x),
        pd.DataFrame({"a": y, "b": np.where(np.arange(12) < 4, np.nan, y + 1), "c": [1.0, 2.0] + [np.nan] * 10}),
    )
    table = correlation_table(log_odds, bootstrap_counts(12, 200)).set_index(["dataset", "method"])
    assert table.loc[("b", "pearson"), "estimate"] == pytest.approx(stats.pearsonr(x[4:], y[4:])[0])
    assert table["n_networks"].groupby("dataset").first().to_dict() == {"mean": 12, "a": 12, "b": 8, "c": 2}
    assert np.isnan(table.loc[("c", "pearson"), "estimate"])


def test_r_without_each_network_and_dataset(finetuned):
    table = r_without_each(finetuned).set_index("name")["r"]
    without = finetuned.logits.drop(index="mnasnet1_0")
    assert table["mnasnet1_0"] == pytest.approx(np.corrcoef(finetuned.source[without.index], without.mean(axis=1))[0, 1])
    fewer = finetuned.logits.drop(columns="cifar10").mean(axis=1)
    assert table["cifar10"] == pytest.approx(np.corrcoef(finetuned.source[fewer.index], fewer)[0, 1])


def test_without_the_only_link_between_datasets_r_is_missing():
    generator = np.random.default_rng(4)
    logits = pd.DataFrame(generator.normal(size=(6, 3)), index=list("ABCDEF"), columns=["first", "link", "last"])
    logits.loc[["D", "E", "F"], "first"] = logits.loc[["A", "B", "C"], "last"] = np.nan
    source = pd.Series(generator.normal(size=6), index=logits.index)
    table = r_without_each(LogOddsTable(source, logits)).query("left_out == 'dataset'").set_index("name")["r"]
    assert np.isnan(table["link"])
    expected = adjusted_accuracies(logits[["link", "last"]]).mean(axis=1)
    assert table["first"] == pytest.approx(np.corrcoef(source, expected)[0, 1]) and np.isfinite(table["last"])


def test_published_headlines(finetuned):
    table = correlation_table(finetuned, bootstrap_counts(11, 500))
    headline = table.set_index(["dataset", "method"])["estimate"]["mean"]
    assert headline["pearson"] == pytest.approx(0.65, abs=0.005)
    assert headline["spearman"] == pytest.approx(stats.spearmanr(finetuned.source, finetuned.logits.mean(axis=1))[0])


def test_a_dataset_with_its_own_source_accuracies():
    generator = np.random.default_rng(3)
    source, logits = (pd.DataFrame(generator.normal(size=(9, 2)), columns=["a", "b"]) for _ in range(2))
    log_odds = LogOddsTable(source.mean(axis=1), logits, source)
    table = correlation_table(log_odds, bootstrap_counts(9, 100)).query("method == 'pearson'").set_index("dataset")["estimate"]
    assert table["a"] == pytest.approx(np.corrcoef(source["a"], logits["a"])[0, 1])
    assert table["mean"] == pytest.approx(np.corrcoef(source.mean(axis=1), logits.mean(axis=1))[0, 1])
    lines = line_table(log_odds, bootstrap_counts(9, 100)).query("dataset == 'b'")
    assert lines["source_logit"].max() == source["b"].max()
