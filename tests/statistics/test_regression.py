"""Regressions, influence and prediction: statsmodels called directly, hand computation, simulated coverage."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy.special import expit, logit

from transfer_study.core import data_path
from transfer_study.results import read_table
from transfer_study.statistics.log_odds import LogOddsTable, to_log_odds_table, with_log_odds
from transfer_study.statistics.regression import (
    cells_of,
    coefficient_table,
    fit_binomial,
    fit_means,
    fit_mixed,
    fit_ols,
    fit_robust,
    influence_table,
    predict_accuracy,
    random_deviations,
    regression_table,
    satterthwaite,
)


def simulated(n_networks=20, n_datasets=6, seed=0, slope=1.2, network=0.3, dataset_slope=0.2, residual=0.25):
    "A table drawn from the mixed model."
    generator = np.random.default_rng(seed)
    x = generator.normal(1, 0.5, n_networks)
    slopes = slope + dataset_slope * generator.normal(size=n_datasets)
    values = x[:, None] * slopes + network * generator.normal(size=(n_networks, 1)) + generator.normal(size=n_datasets)
    values += residual * generator.normal(size=values.shape)
    names = [f"net{i:02}" for i in range(n_networks)]
    datasets = [f"data{j}" for j in range(n_datasets)]
    return LogOddsTable(pd.Series(x, index=names), pd.DataFrame(values, index=names, columns=datasets))


def rows_of(log_odds, n_test):
    cells = cells_of(log_odds)
    return cells.assign(source_logit=cells["network"].map(log_odds.source), score=expit(cells["logit"]), n_test=n_test)


@pytest.fixture(scope="module")
def finetuned():
    return to_log_odds_table(with_log_odds(read_table(data_path("published/sfda_finetune_supervised.csv"))))


def test_ols_clustered_by_hand():
    cells = cells_of(simulated())
    result = fit_ols(cells)
    X, y = result.model.exog, cells["logit"].to_numpy()
    inverse = np.linalg.inv(X.T @ X)
    residual = y - X @ inverse @ X.T @ y
    scores = pd.DataFrame(X * residual[:, None]).groupby(cells["network"].to_numpy()).sum().to_numpy()
    (n, k), groups = X.shape, len(scores)
    sandwich = inverse @ scores.T @ scores @ inverse * groups / (groups - 1) * (n - 1) / (n - k)
    np.testing.assert_allclose(result.bse, np.sqrt(np.diag(sandwich)))


def test_ols_slope_is_that_of_the_network_means_in_a_complete_grid(finetuned):
    slope = np.polyfit(finetuned.source, finetuned.logits.mean(axis=1), 1)[0]
    assert fit_ols(cells_of(finetuned)).params["source_logit"] == pytest.approx(slope)


def test_coefficient_table_holds_the_fit():
    result = fit_ols(cells_of(simulated()))
    row = coefficient_table(result, "ols").set_index("term").loc["source_logit"]
    low, high = result.conf_int().loc["source_logit"]
    expected = [result.params["source_logit"], result.bse["source_logit"], low, high, result.pvalues["source_logit"]]
    np.testing.assert_allclose(row[["estimate", "standard_error", "low", "high", "p_value"]].astype(float), expected)
    ratios = row[["odds_ratio", "odds_ratio_low", "odds_ratio_high"]].astype(float)
    np.testing.assert_allclose(np.log(ratios), [expected[0], low, high])


@pytest.mark.parametrize("missing", [0, 25])
def test_mixed_model_finds_the_optimum_from_any_start(missing):
    log_odds = simulated(seed=1)
    cells = cells_of(log_odds)
    cells = cells.drop(index=np.random.default_rng(0).choice(cells.index, missing, replace=False))
    components = {"network": "0 + C(network)", "dataset": "0 + C(dataset)", "slope": "0 + C(dataset):source_logit"}
    reference = smf.mixedlm("logit ~ source_logit", cells, groups=np.zeros(len(cells)), re_formula="0",
                            vc_formula=components).fit(method="powell")  # fmt: skip
    result, note = fit_mixed(cells)
    assert result.llf == pytest.approx(reference.llf, abs=1e-3)
    assert result.params["source_logit"] == pytest.approx(reference.params["source_logit"], rel=1e-3)
    assert result.bse["source_logit"] == pytest.approx(reference.bse["source_logit"], rel=0.01)
    assert "standard deviations: dataset" in note


def test_mixed_model_recovers_what_was_put_in():
    fits = [fit_mixed(cells_of(simulated(30, 8, seed)))[0] for seed in range(20)]
    spread = pd.DataFrame([random_deviations(fit) for fit in fits]).pow(2).mean().pow(0.5)
    assert np.mean([fit.fe_params["source_logit"] for fit in fits]) == pytest.approx(1.2, abs=0.08)
    assert spread.to_dict() == pytest.approx({"dataset": 1.0, "dataset slope": 0.2, "network": 0.3, "residual": 0.25}, rel=0.15)


def test_intervals_of_the_slope_cover():
    "Slopes that do not differ between datasets: 95 % intervals of both models in 60 studies (standard error 2.8 %)."
    inside = {"ols": 0, "mixed": 0}
    for seed in range(60):
        cells = cells_of(simulated(20, 3, seed, dataset_slope=0.0))
        for name, result in (("ols", fit_ols(cells)), ("mixed", fit_mixed(cells)[0])):
            low, high = result.conf_int().loc["source_logit"]
            inside[name] += low < 1.2 < high
    assert 0.86 < inside["ols"] / 60 < 0.995
    assert 0.86 < inside["mixed"] / 60 <= 1.0


def test_satterthwaite_by_mean_squares():
    "In a complete table, the variance of the slope is a sum of three mean squares with known degrees of freedom."
    log_odds = simulated(14, 5, seed=3, dataset_slope=0.5)
    result, _ = fit_mixed(cells_of(log_odds))
    spread = random_deviations(result)
    n, d, sxx = 14, 5, 13 * log_odds.source.var()
    cell, network, slope = spread["residual"] ** 2, spread["network"] ** 2, spread["dataset slope"] ** 2
    parts = np.array([(network + cell / d) / sxx, (slope + cell / sxx) / d, -cell / (d * sxx)])
    freedom = np.array([n - 2, d - 1, (n - 2) * (d - 1)])
    assert result.bse["source_logit"] ** 2 == pytest.approx(parts.sum(), rel=1e-3)
    assert satterthwaite(result)[1] == pytest.approx(parts.sum() ** 2 / (parts**2 / freedom).sum(), rel=1e-3)


def test_slopes_of_few_networks_cover():
    "Three networks, 60 tables (standard error 2.8 %): Satterthwaite's t and the t of the means contain the slope, z does not."
    inside = {"z": [], "satterthwaite": [], "means": []}
    for seed in range(60):
        log_odds = simulated(3, 6, seed, dataset_slope=0.0)
        result, _ = fit_mixed(cells_of(log_odds))
        tables = {
            "z": coefficient_table(result, ""),
            "satterthwaite": coefficient_table(result, "", freedom=satterthwaite(result)),
            "means": coefficient_table(fit_means(log_odds), ""),
        }
        for name, table in tables.items():
            low, high = table.set_index("term").loc["source_logit", ["low", "high"]]
            inside[name].append(low < 1.2 < high)
    assert np.mean(inside["z"]) < 0.88 < 0.9 < min(np.mean(inside["satterthwaite"]), np.mean(inside["means"]))


def test_large_grids_are_sampled_for_the_mixed_model():
    log_odds = simulated(130, 3)
    fitted = [fit_mixed(cells_of(log_odds), seed) for seed in (0, 1)]
    assert all(note.startswith("fitted to 100 of 130 networks") for _, note in fitted)
    table = regression_table(rows_of(log_odds, n_test=pd.NA), log_odds, seed=1).query("model == 'mixed'").set_index("term")
    slopes = [result.fe_params["source_logit"] for result, _ in fitted]
    assert table["estimate"]["source_logit"] == slopes[1] != slopes[0]


def test_binomial_against_weighted_proportions_and_the_score_equations():
    rows = rows_of(simulated(), n_test=500)
    result, note = fit_binomial(rows)
    right = np.round(rows["score"] * 500)
    proportions = rows.assign(share=right / 500, source_logit=rows["source_logit"] - rows["source_logit"].mean())
    reference = smf.glm("share ~ source_logit + C(dataset)", proportions, family=sm.families.Binomial(),
                        var_weights=np.full(len(rows), 500.0)).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(rows["network"])[0]}, use_t=True)  # fmt: skip
    np.testing.assert_allclose(result.params, reference.params)
    np.testing.assert_allclose(result.bse, reference.bse)
    mean = result.fittedvalues
    dispersion = ((right - 500 * mean) ** 2 / (500 * mean * (1 - mean))).sum() / (len(rows) - len(result.params))
    assert f"overdispersion {dispersion:.1f}:" in note and dispersion > 5


def test_repeated_runs_are_no_further_test_images():
    rows = rows_of(simulated(), n_test=500)
    rows["score"] = np.round(rows["score"] * 500) / 500
    once, note = fit_binomial(rows)
    above, below = (rows.assign(score=rows["score"] + step, seed=seed) for seed, step in enumerate([0.002, -0.002]))
    more_of_one = rows[rows["dataset"] == "data0"].assign(seed=2)
    repeated, its_note = fit_binomial(pd.concat([above, below, more_of_one]))
    np.testing.assert_allclose([repeated.params, repeated.bse], [once.params, once.bse])
    assert its_note == note and repeated.df_resid == once.df_resid


def test_counts_have_the_predictor_of_the_other_models():
    rows = rows_of(simulated(8, 3), n_test=500)
    shift = rows["dataset"].map({"data0": -0.1, "data1": 0.0, "data2": 0.1}) * rows["source_logit"]
    own = rows.assign(source_logit=rows["source_logit"] + shift)
    table = regression_table(own, to_log_odds_table(own)).query("model == 'binomial' and term == 'source_logit'")
    assert table["estimate"].item() == pytest.approx(fit_binomial(rows)[0].params["source_logit"])


def test_only_counts_of_correct_answers_enter_the_binomial_model():
    log_odds = simulated(8, 3)
    rows = rows_of(log_odds, n_test=500)
    areas = rows["dataset"] == rows["dataset"].iloc[0]
    mixed, own = rows.assign(metric=np.where(areas, "roc_auc", "top1")), fit_binomial(rows[~areas])[0].params["source_logit"]
    table = regression_table(mixed, log_odds).query("model == 'binomial'").set_index("term")
    assert table.loc["source_logit", "estimate"] == own
    assert "without 8 of 24 scores, which are no counts of correct answers" in table.loc["source_logit", "note"]
    none = regression_table(rows.assign(metric="roc_auc"), log_odds).set_index("model")["note"]
    assert none["binomial"] == "not fitted: needs counts of correct answers"


def test_pure_binomial_counts_are_not_overdispersed():
    rows, overdispersion = rows_of(simulated(network=0.0, dataset_slope=0.0, residual=0.0), n_test=500), []
    for seed in range(1, 7):
        counts = np.random.default_rng(seed).binomial(500, rows["score"])
        overdispersion.append(float(fit_binomial(rows.assign(score=counts / 500))[1].split()[1].rstrip(":")))
    assert 0.9 < np.mean(overdispersion) < 1.12


def test_robust_line_is_not_bent():
    log_odds = simulated(network=0.05, residual=0.1)
    honest = fit_robust(log_odds).params["source_logit"]
    logits = log_odds.logits.copy()
    logits.iloc[int(np.argmax(log_odds.source))] -= 5
    wild = LogOddsTable(log_odds.source, logits)
    assert fit_robust(wild).params["source_logit"] == pytest.approx(honest, abs=0.1)
    assert fit_ols(cells_of(wild)).params["source_logit"] < honest - 0.3


def test_models_that_cannot_be_fitted_say_so():
    log_odds = simulated(n_datasets=1)
    rows = rows_of(log_odds, n_test=pd.NA)
    notes = regression_table(rows, log_odds).set_index("model")["note"]
    assert notes["mixed"] == "not fitted: needs at least two datasets"
    assert notes["binomial"] == "not fitted: needs n_test"


def test_influence_by_leaving_out(finetuned):
    table = influence_table(finetuned)
    x, y = finetuned.source.to_numpy(), finetuned.logits.mean(axis=1).to_numpy()
    n, full = len(x), np.polyval(np.polyfit(x, y, 1), x)
    scale = ((y - full) ** 2).sum() / (n - 2)
    for i in range(n):
        kept = np.arange(n) != i
        fit = np.polyfit(x[kept], y[kept], 1)
        spread = ((y[kept] - np.polyval(fit, x[kept])) ** 2).sum() / (n - 3)
        leverage = 1 / n + (x[i] - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
        expected = {
            "residual": y[i] - full[i],
            "leverage": leverage,
            "cooks_distance": ((np.polyval(fit, x) - full) ** 2).sum() / (2 * scale),
            "studentized_residual": (y[i] - full[i]) / np.sqrt(spread * (1 - leverage)),
            "r_without": np.corrcoef(x[kept], y[kept])[0, 1],
        }
        assert table.loc[i, list(expected)].to_dict() == pytest.approx(expected)


def test_dominant_network_is_named(finetuned):
    flagged = influence_table(finetuned).query("flagged")
    assert flagged["statement"].tolist() == ["without mnasnet1_0 r rises from 0.6 to 0.8"]


def test_three_networks_have_no_correlation_of_two():
    table = influence_table(simulated(n_networks=3))
    assert table["r_without"].isna().all() and not table["flagged"].any()


def test_prediction_by_hand():
    log_odds = simulated(n_networks=12)
    row = predict_accuracy(log_odds, [0.8]).set_index("dataset").loc["data0"]
    x, y = log_odds.source.to_numpy(), log_odds.logits["data0"].to_numpy()
    slope, intercept = np.polyfit(x, y, 1)
    scale = np.sqrt(((y - intercept - slope * x) ** 2).sum() / 10)
    half = 2.228139 * scale * np.sqrt(1 + 1 / 12 + (logit(0.8) - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    centre = intercept + slope * logit(0.8)
    np.testing.assert_allclose(
        row[["expected", "low", "high"]].astype(float), expit([centre, centre - half, centre + half]), rtol=1e-6
    )


def test_prediction_interval_covers_a_new_network():
    inside = []
    for seed in range(200):
        log_odds = simulated(13, 1, seed)
        old = LogOddsTable(log_odds.source.iloc[:-1], log_odds.logits.iloc[:-1])
        row = predict_accuracy(old, [expit(log_odds.source.iloc[-1])]).set_index("dataset").loc["data0"]
        inside.append(row["low"] < expit(log_odds.logits.iloc[-1]["data0"]) < row["high"])
    assert 0.90 < np.mean(inside) < 0.99


def test_a_name_that_reads_as_missing_is_a_name():
    plain = simulated(n_networks=8, n_datasets=3)
    rename = {"net07": "NaN", "data2": "nan"}  # which sort behind data0 and data1, and before net00
    named = LogOddsTable(plain.source.rename(rename), plain.logits.rename(index=rename, columns=rename))
    rows = rows_of(plain, n_test=500)
    expected = regression_table(rows, plain)
    table = regression_table(rows.replace({"network": rename, "dataset": rename}), named)
    columns = ["estimate", "low", "high", "p_value"]
    assert table["term"].str.contains("nan_").sum() == expected["term"].str.contains("data2").sum() > 0
    np.testing.assert_allclose(table[columns].to_numpy(float), expected[columns].to_numpy(float), rtol=1e-4)


def test_binomial_without_the_scores_that_are_missing():
    log_odds = simulated(n_networks=8, n_datasets=3)
    rows = rows_of(log_odds, n_test=500)
    missing = pd.concat([rows, rows.head(1).assign(dataset="data2", network="net03", score=np.nan)])
    expected, table = regression_table(rows, log_odds), regression_table(missing, log_odds)
    assert not table["note"].str.contains("not fitted").any()
    pd.testing.assert_frame_equal(table, expected)


def test_warnings_of_statsmodels_are_said_in_words():
    log_odds = simulated(n_networks=6, network=0, residual=0.01, seed=3)
    table = regression_table(rows_of(log_odds, pd.NA), log_odds)
    note = table.loc[table["model"] == "mixed", "note"].iloc[0]
    assert "standard deviations: " in note
    assert not [word for word in ("Hessian matrix", "MLE", "mle_retvals", "|grad|") if word in note]
    assert "at the boundary, where a variance is 0" in note
