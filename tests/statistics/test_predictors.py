"""Partial correlations and tests of dependent correlations against other implementations and simulation."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from transfer_study.core import UserError
from transfer_study.statistics.predictors import (
    compare_predictors,
    partial_correlation,
    predictor_table,
    williams_test,
    with_predictors,
)


def networks(n=30, seed=0):
    generator = np.random.default_rng(seed)
    source = generator.normal(size=n)
    names = [f"net{i}" for i in range(n)]
    table = pd.DataFrame({"network": names, "source_logit": source, "effect": source + 0.5 * generator.normal(size=n)})
    predictors = pd.DataFrame(
        {"parameters": np.exp(source + generator.normal(size=n)), "size": generator.integers(1, 9, n)}, index=names
    )
    return table, predictors


def test_partial_correlation_is_that_of_the_inverse_covariance():
    data = np.random.default_rng(0).normal(size=(40, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    precision = np.linalg.inv(np.cov(data.T))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert partial_correlation(data[:, 0], data[:, 1], data[:, 2:])["r"] == pytest.approx(expected)


def test_partial_correlation_p_value_is_that_of_the_regression_coefficient():
    x, y, z = np.random.default_rng(2).normal(size=(3, 25)) + np.random.default_rng(3).normal(size=25)
    reference = sm.OLS(y, np.column_stack([np.ones(25), x, z])).fit()
    assert partial_correlation(x, y, z)["p_value"] == pytest.approx(reference.pvalues[1])


def test_williams_by_the_determinant():
    "The formula once more, with the determinant taken from the matrix itself."
    r_xy, r_zy, r_xz, n = 0.4, 0.5, 0.1, 103
    determinant = np.linalg.det([[1, r_xy, r_xz], [r_xy, 1, r_zy], [r_xz, r_zy, 1]])
    bottom = 2 * (n - 1) / (n - 3) * determinant + ((r_xy + r_zy) / 2) ** 2 * (1 - r_xz) ** 3
    t, p_value = williams_test(r_xy, r_zy, r_xz, n)
    assert t == pytest.approx((r_xy - r_zy) * np.sqrt((n - 1) * (1 + r_xz) / bottom))
    assert (round(t, 2), round(p_value, 2)) == (-0.89, 0.37)  # as R's psych::r.test(103, .4, .5, .1) prints them


def test_williams_test_keeps_its_level_and_has_power():
    "Two predictors equally good, correlated: 5 % of 1,000 studies claim a difference; one much better: most do."
    claims = []
    for noise in (1.0, 3.0):
        rejected = 0
        for seed in range(1000):
            generator = np.random.default_rng(seed)
            common, n = generator.normal(size=30), 30
            y = common + generator.normal(size=n)
            x, z = common + generator.normal(size=n), common + noise * generator.normal(size=n)
            r = np.corrcoef([x, z, y])
            rejected += williams_test(r[0, 2], r[1, 2], r[0, 1], n)[1] < 0.05
        claims.append(rejected / 1000)
    assert 0.03 < claims[0] < 0.075 and claims[1] > 3 * claims[0]


def test_order_of_the_predictors_only_turns_the_sign():
    one, other = williams_test(0.8, 0.6, 0.5, 30), williams_test(0.6, 0.8, 0.5, 30)
    assert one[0] == pytest.approx(-other[0]) and one[0] > 0 and one[1] == pytest.approx(other[1])


def test_several_predictors_against_statsmodels():
    table = with_predictors(*networks())
    X = sm.add_constant(table[["source_logit", "log2_parameters", "log2_size"]])
    reference = sm.OLS(table["effect"], X).fit(cov_type="HC3", use_t=True)
    ours = predictor_table(table).query("model == 'source and others'").set_index("term")
    np.testing.assert_allclose(ours["estimate"], reference.params)
    np.testing.assert_allclose(ours["standard_error"], reference.bse)
    assert ours.loc["source_logit", "p_value"] < 0.001 < ours.loc["log2_size", "p_value"]


def test_comparison_holds_the_single_tests():
    table = with_predictors(*networks())
    row = compare_predictors(table).set_index("predictor").loc["log2_parameters"]
    r = table[["source_logit", "effect", "log2_parameters"]].corr().to_numpy()
    assert row["williams_t"] == pytest.approx(williams_test(r[0, 1], r[1, 2], r[0, 2], 30)[0])
    assert row["r_source_given_predictor"] == pytest.approx(
        partial_correlation(table["source_logit"], table["effect"], table["log2_parameters"])["r"]
    )


def test_missing_and_impossible_predictors_are_named():
    table, predictors = networks()
    with pytest.raises(UserError, match="no predictors for 1 of 30 networks: net3"):
        with_predictors(table, predictors.drop(index="net3"))
    with pytest.raises(UserError, match="'size' is missing or not positive for 'net4'"):
        with_predictors(table, predictors.assign(size=predictors["size"].where(predictors.index != "net4", 0)))
    with pytest.raises(UserError, match="too few for 3 predictors"):
        predictor_table(with_predictors(table.head(5), predictors))
