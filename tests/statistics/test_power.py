"""Power by simulation against known correlations; prediction within and outside what was seen."""

import numpy as np
import pytest

from tests.statistics.test_analysis import quick, study
from transfer_study.core import UserError
from transfer_study.statistics.power import (
    StudyModel,
    expected_accuracy,
    log_odds_of,
    networks_by_r,
    networks_needed,
    power_table,
    simulate_studies,
    study_model,
)

MODEL = StudyModel(slope=1.0, source=0.5, network=0.3, dataset_slope=0.2, residual=0.4)


def test_drawn_studies_have_the_correlation_that_the_variances_say():
    source, transfer = simulate_studies(MODEL, n_networks=400, n_datasets=8, n_studies=300)
    r = [np.corrcoef(pair)[0, 1] for pair in zip(source, transfer, strict=True)]
    assert np.mean(r) == pytest.approx(0.5 / np.sqrt(0.5**2 + 0.3**2 + 0.4**2 / 8), abs=0.005)


def test_largest_r_is_approached_with_many_datasets():
    source, transfer = simulate_studies(MODEL, n_networks=400, n_datasets=5000, n_studies=50)
    r = [np.corrcoef(pair)[0, 1] for pair in zip(source, transfer, strict=True)]
    assert np.mean(r) == pytest.approx(MODEL.largest_r, abs=0.01)


def test_fitted_model_describes_its_study():
    analysis = quick(study(60, 8))
    model = study_model(log_odds_of(analysis, "linear"))
    assert model.slope == pytest.approx(1.2, abs=0.2)  # three standard errors
    assert (model.source, model.network, model.residual) == pytest.approx((0.4, 0.2, 0.2), abs=0.06)


def test_width_is_that_of_fishers_interval_a_quarter_longer_for_many_networks():
    row = power_table(MODEL, (150,), (8,), n_studies=60).iloc[0]
    middle, half = np.arctanh(row["r"]), 1.25 * 1.96 / np.sqrt(147)
    assert row["width"] == pytest.approx(np.tanh(middle + half) - np.tanh(middle - half), rel=0.12)


def test_no_relation_no_power():
    none = StudyModel(slope=0.0, source=0.5, network=0.3, dataset_slope=0.0, residual=0.4)
    table = power_table(none, (30,), (6,), n_studies=300)
    assert table["power"][0] < 0.07  # one side of a 95 % interval, a little more in small samples
    assert power_table(MODEL, (30,), (6,), n_studies=50)["power"][0] > 0.95


def test_networks_needed_is_the_smallest_that_is_enough():
    needed = networks_needed(MODEL, width=0.3, n_datasets=6, largest=100, n_studies=40)
    assert power_table(MODEL, (needed,), (6,), 40)["width"][0] <= 0.3 < power_table(MODEL, (needed - 1,), (6,), 40)["width"][0]
    with pytest.raises(UserError, match="even 20 networks"):
        networks_needed(MODEL, width=0.01, largest=20, n_studies=20)


def test_networks_by_r_falls_with_r():
    table = networks_by_r([0.4, 0.9], width=0.4, n_studies=40)
    assert table["n_for_width"][0] > 3 * table["n_for_width"][1] and table["n_for_power"][0] > 3 * table["n_for_power"][1]
    none = networks_by_r([0.0], width=0.4, largest=30, n_studies=20)
    assert none[["n_for_width", "n_for_power"]].isna().all(axis=None)
    with pytest.raises(UserError, match="r 1: expected a number from 0 to below 1"):
        networks_by_r([1.0])


def test_prediction_says_where_it_extrapolates():
    analysis = quick(study(20))
    seen = analysis.networks["source_accuracy"]
    inside, outside = expected_accuracy(analysis, seen.median()), expected_accuracy(analysis, 0.99)
    assert not inside["extrapolated"].any() and outside["extrapolated"].all()
    assert ((outside["high"] - outside["low"]) > 0).all()
    with pytest.raises(UserError, match="between 0 and 1"):
        expected_accuracy(analysis, 75)
    with pytest.raises(UserError, match="no protocol 'scratch'.*linear"):
        expected_accuracy(analysis, 0.7, "scratch")


def test_a_single_dataset_gives_no_design():
    with pytest.raises(UserError, match="at least two"):
        study_model(log_odds_of(quick(study(n_datasets=1)), "linear"))
