"""Log-odds, the additive model and Morey's standard errors against hand computation, scipy and statsmodels."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from transfer_study.core import UserError
from transfer_study.results import tidy
from transfer_study.statistics.log_odds import (
    adjusted_accuracies,
    dataset_effects,
    half_count,
    means_over_datasets,
    morey_standard_errors,
    seen_resolution,
    to_log_odds_table,
    with_log_odds,
)


def results(**columns):
    return tidy(pd.DataFrame({"dataset": "pets", "source_accuracy": 0.7} | columns))


@pytest.fixture
def holes():
    "A 9 × 5 table of log-odds with a quarter of the cells missing."
    generator = np.random.default_rng(3)
    values = generator.normal(size=(9, 5)) + np.arange(5) + np.arange(9)[:, None] / 3
    values[generator.random((9, 5)) < 0.25] = np.nan
    return pd.DataFrame(values, index=[f"net{i}" for i in range(9)], columns=list("abcde"))


def test_log_odds_are_the_natural_logarithm_of_the_odds():
    rows = with_log_odds(results(network=["a", "b"], score=[0.8, 0.25]))
    np.testing.assert_allclose(rows["logit"], [np.log(4), -np.log(3)])
    np.testing.assert_allclose(rows["source_logit"], np.log(0.7 / 0.3))
    assert not rows["corrected"].any()


def test_half_count_by_hand_and_only_where_needed():
    assert half_count(1.0, 50) == 50.5 / 51
    assert half_count(0.0, 50) == 0.5 / 51
    rows = with_log_odds(results(network=["a", "b", "c"], score=[1.0, 0.0, 0.98], n_test=50))
    assert rows["corrected"].tolist() == [True, True, False]
    np.testing.assert_allclose(rows["logit"], [np.log(101), -np.log(101), np.log(49)])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_certainty_without_n_test_names_the_score(score):
    with pytest.raises(UserError, match=r"'a'.*'pets'.*: give n_test, empty the cell, .* --leave-out pets"):
        with_log_odds(results(network=["a", "b"], score=score))


def test_certainty_without_n_test_is_half_counted_by_the_smallest_step():
    rows = with_log_odds(results(network=["a", "b", "c", "d"], score=[0.97, 0.98, 1.0, 0.0]))
    assert rows["corrected"].tolist() == [False, False, True, True]
    np.testing.assert_allclose(rows["logit"][2:], [np.log(201), -np.log(201)])


@pytest.mark.parametrize("n", [7, 50, 150, 1000, 4952])
@pytest.mark.parametrize("digits", [4, 9, 17])
def test_the_scores_of_accuracies_show_the_number_of_images(n, digits):
    right = np.array([n, n - 1, n - 3, n // 2, 1])
    if 2 * n <= 10**digits:  # otherwise the digits cannot show an image
        assert seen_resolution(np.round(right / n, digits)) == pytest.approx(n, abs=0 if digits > 4 else n**2 * 1e-4)


@pytest.mark.parametrize(("scores", "n"), [([0.9, 1], 10), ([139 / 150, 142 / 150, 144 / 150, 1], 150)])
def test_the_smallest_step_may_be_several_images_wide(scores, n):
    assert seen_resolution(scores) == n


@pytest.mark.parametrize("n", [2, 10, 100])
def test_scores_that_are_no_proportions_show_no_number_of_images(n):
    generator = np.random.default_rng(n)
    of_seeds = generator.integers(80, 99, (3, n)).mean(axis=0) / 97
    for scores in (generator.uniform(0.9, 0.99, n), of_seeds + generator.uniform(0, 1e-4, n)):
        assert np.isnan(seen_resolution([*scores, 1.0]))
        with pytest.raises(UserError, match=r"network 'last'.*not known, .*: give n_test"):
            with_log_odds(results(network=[*map(str, range(n)), "last"], score=[*scores, 1.0]))


def test_certain_source_accuracy_names_the_network():
    with pytest.raises(UserError, match="source_accuracy 1 of network 'b'"):
        with_log_odds(results(network=["a", "b"], score=0.5, source_accuracy=[0.5, 1.0]))


def test_seeds_are_averaged_in_log_odds():
    rows = with_log_odds(results(network="a", score=[0.5, 0.9], seed=[0, 1]))
    assert to_log_odds_table(rows).logits.loc["a", "pets"] == pytest.approx(np.log(9) / 2)


def test_complete_grid_is_the_papers_adjusted_accuracy():
    logits = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 4)))
    pd.testing.assert_frame_equal(adjusted_accuracies(logits), logits - logits.mean(axis=0))


def test_missing_cells_against_statsmodels(holes):
    long = holes.stack().rename("logit").rename_axis(["network", "dataset"]).reset_index()
    fitted = smf.ols("logit ~ C(network) + C(dataset)", long).fit()
    everywhere = pd.DataFrame([(n, d) for n in holes.index for d in holes], columns=["network", "dataset"])
    complete = everywhere.assign(fit=fitted.predict(everywhere)).pivot(index="network", columns="dataset", values="fit")
    np.testing.assert_allclose(dataset_effects(holes), complete.mean(axis=0))
    np.testing.assert_allclose(
        adjusted_accuracies(holes).mean(axis=1), complete.mean(axis=1) - complete.to_numpy().mean()
    )


def test_network_without_the_hard_dataset_is_not_favoured():
    logits = pd.DataFrame({"easy": [2.0, 2, 2], "hard": [-2.0, -2, np.nan]})
    np.testing.assert_allclose(adjusted_accuracies(logits).mean(axis=1), 0, atol=1e-12)


def test_parts_that_share_no_network():
    logits = pd.DataFrame({"a": [1.0, 2, np.nan, np.nan], "b": [np.nan, np.nan, 1, 2]})
    with pytest.raises(UserError, match=r"common network, which cannot be compared: a \| b; analyse each .* --datasets"):
        dataset_effects(logits)
    with pytest.raises(UserError, match=r"compared: a, c \| b; analyse"):
        dataset_effects(logits.assign(c=[1.0, np.nan, np.nan, np.nan]))


def test_morey_against_the_formula():
    logits = np.random.default_rng(1).normal(size=(7, 5))
    adjusted = logits - logits.mean(axis=0)
    by_hand = [np.std(row, ddof=1) / np.sqrt(5) * np.sqrt(7 / 6) for row in adjusted]
    np.testing.assert_allclose(morey_standard_errors(pd.DataFrame(adjusted)), by_hand)


def test_morey_recovers_the_true_error_where_the_uncorrected_one_is_too_small():
    "Three networks whose cells have unit variance: the squared error of a mean over 4 datasets is 1/4 on average."
    generator, n_networks, n_datasets = np.random.default_rng(5), 3, 4
    variances = []
    for _ in range(2000):
        cells = generator.normal(size=(n_networks, n_datasets)) + 10 * generator.normal(size=n_datasets)
        variances.append(morey_standard_errors(pd.DataFrame(cells - cells.mean(axis=0))) ** 2)
    assert np.mean(variances) == pytest.approx(1 / n_datasets, rel=0.04)  # without the factor it would be 33 % less


def test_single_dataset_has_no_error_bar():
    rows = with_log_odds(results(network=["a", "b", "c"], score=[0.5, 0.6, 0.7]))
    table = to_log_odds_table(rows).network_effects
    assert table["standard_error"].isna().all() and (table["n_datasets"] == 1).all()
    np.testing.assert_allclose(table["mean_accuracy"], [0.5, 0.6, 0.7])


def test_own_source_accuracies_are_used_on_their_dataset():
    generator = np.random.default_rng(0)
    cells = [(f"n{i}", d) for i in range(8) for d in ("a", "b")]
    rows = pd.DataFrame(cells, columns=["network", "dataset"])
    rows = rows.assign(logit=generator.normal(size=16), source_logit=generator.normal(size=16))
    log_odds, by_cell = to_log_odds_table(rows), rows.set_index(["network", "dataset"])
    for dataset in ("a", "b"):
        own = by_cell.xs(dataset, level="dataset")
        assert log_odds.source_on(dataset) == pytest.approx(own["source_logit"].to_numpy())
    assert log_odds.source_on("mean") == pytest.approx(rows.groupby("network")["source_logit"].mean().to_numpy())
    assert to_log_odds_table(rows.assign(source_logit=1.0)).own_source is None


def test_an_area_under_the_curve_is_no_share_of_images():
    "A score of 1 moves half way to the dataset's next score, whatever n_test; with two digits, half a step of these."

    def odds(*score):
        rows = with_log_odds(results(network=list("abc"), n_test=2000, metric="roc_auc", score=score))
        assert rows["corrected"].to_list() == [False, True, False]
        return np.exp(rows.loc[1, "logit"])

    assert odds(0.98327, 1.0, 0.98412) == pytest.approx(0.99206 / 0.00794)
    assert odds(0.98, 1.0, 0.97) == pytest.approx(201)  # (100 + 1/2) / (1/2)
    assert odds(0.12345, 0.0, 0.98412) == pytest.approx(0.061725 / 0.938275)
    with pytest.raises(UserError, match=r"network 'a'.*the dataset has no other score"):
        with_log_odds(results(network=["a"], score=[1.0], n_test=100, metric="mAP"))


def test_means_over_datasets_weight_datasets_equally():
    additive = pd.DataFrame(np.arange(4)[:, None] / 10 + np.array([0.0, 1.0, 3.0]))
    holes = additive.mask([[False, True, False], [False] * 3, [True, False, False], [False] * 3])
    np.testing.assert_allclose(means_over_datasets(holes), additive.mean(axis=1))
