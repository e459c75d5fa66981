"All figures: the marks and words expected, clear errors, and 1,500 networks."

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from tests.figures.pictures import marks, svg, texts
from transfer_study.core import UserError
from transfer_study.figures import comparison, diagnostics, headline
from transfer_study.statistics.log_odds import with_log_odds


def toys(analysis) -> dict:
    "Each figure: function and tables by keyword, of which the first is the one that may be too short."
    influence = analysis.influence
    networks = pd.concat([analysis.networks, analysis.networks.assign(protocol="linear")])
    names = ["resnet50", "densenet121", "googlenet"]
    settings = pd.DataFrame(
        {
            "protocol": "linear",
            "setting": "dropout",
            "dataset": ["mean", "dtd"],
            "difference": [-0.3, -0.2],
            "low": -0.5,
            "high": -0.1,
            "n_pairs": 4,
        }
    )
    gains = pd.DataFrame(
        {
            "protocol": "finetune",
            "baseline": "linear",
            "dataset": ["mean", "dtd"],
            "n_pairs": 16,
            "wins": [15, 11],
            "mean_gain": [0.9, 0.2],
            "low": 0.1,
            "high": 1.2,
        }
    )
    trend = pd.DataFrame(
        {
            "protocol": "finetune",
            "baseline": "linear",
            "network": names,
            "source_accuracy": [0.76, 0.74, 0.7],
            "dataset": "dtd",
            "gain": [0.5, 0.6, 0.7],
            "n_train_per_class": [5, 10, 20],
        }
    )
    history = pd.DataFrame(
        {
            "network": "resnet50",
            "dataset": "dtd",
            "protocol": "finetune",
            "step": [1, 10, 100],
            "score": [0.1, 0.6, 0.7],
        }
    )
    sizes = trend.assign(score=[0.5, 0.6, 0.7], setting="default", network="resnet50")
    coefficients = pd.DataFrame(
        {
            "protocol": "linear",
            "model": ["OLS", "mixed"],
            "term": "source_logit",
            "estimate": [1.0, 1.1],
            "low": 0.8,
            "high": 1.3,
            "p_value": 0.01,
            "note": ["", "did not converge"],
        }
    )
    pairs = pd.DataFrame(
        {
            "protocol": "finetune",
            "network_a": [names[0], names[0], names[1]],
            "network_b": [names[1], names[2], names[2]],
            "difference": [-0.1, -0.8, -0.7],
            "low": 0.0,
            "high": 1.0,
            "p_holm": [0.4, 0.001, 0.003],
            "p_bh": 0.01,
        }
    )
    prediction = analysis.lines.query("dataset != 'mean'").assign(
        expected=lambda d: expit(d["fit"]), low=0.1, high=0.99
    )
    a, c, d, f = analysis, comparison, diagnostics, headline
    return {
        "headline": (f.headline, {"networks": a.networks, "lines": a.lines, "correlations": a.correlations}),
        "slopes": (c.slopes, {"networks": networks}),
        "per_dataset": (f.per_dataset, {"rows": a.rows, "lines": a.lines, "correlations": a.correlations}),
        "setting_effects": (c.setting_effects, {"settings": settings}),
        "protocol_gains": (c.protocol_gains, {"gains": gains}),
        "gain_trend": (c.gain_trend, {"gains_by_network": trend}),
        "convergence": (c.convergence, {"history": history}),
        "size_curves": (c.size_curves, {"rows": sizes}),
        "residuals": (d.residuals, {"influence": influence, "networks": a.networks}),
        "influence_map": (d.influence_map, {"influence": influence}),
        "left_out": (d.left_out, {"leave_one_out": a.leave_one_out, "correlations": a.correlations}),
        "coefficient_forest": (d.coefficient_forest, {"coefficients": coefficients}),
        "significance": (d.significance, {"pairs": pairs}),
        "calibration": (d.calibration, {"rows": a.rows, "prediction": prediction}),
    }


EXPECTED = {  # marks of the named kind, and a text that must stand in the picture
    "headline": ("point", 11, "mnasnet1_0"),
    "slopes": ("point", 22, "resnet152"),
    "per_dataset": ("point", 121, "DTD"),
    "setting_effects": ("point", 2, "Mean over datasets"),
    "protocol_gains": ("point", 2, "Fine-tuned over fixed features"),
    "gain_trend": ("point", 3, "Fine-tuned over fixed features"),
    "convergence": ("point", 1, "training steps"),
    "size_curves": ("point", 3, "training images per class"),
    "residuals": ("point", 11, "mnasnet1_0"),
    "influence_map": ("point", 11, "mnasnet1_0"),
    "left_out": ("point", 22, "Without one network"),
    "coefficient_forest": ("point", 2, "source_logit"),
    "significance": ("rect", 6, "no difference"),
    "calibration": ("point", 121, "Predicted and found"),
}
ONE_ROW_IS_ENOUGH = {"setting_effects", "protocol_gains", "coefficient_forest", "significance"}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_figure_renders_with_its_marks_and_words(fine_tuned, name):
    draw, tables = toys(fine_tuned)[name]
    kind, n, words = EXPECTED[name]
    chart = draw(**tables, width=340)
    picture = svg(chart)
    mark = {"point": "point", "rect": "rect mark"}[kind]
    assert marks(picture, mark) == n
    assert any(words in text for text in texts(picture)), texts(picture)
    assert len(chart.description) > 20 and "NaN" not in picture


@pytest.mark.parametrize("name", EXPECTED)
def test_too_short_a_table_is_a_clear_error(fine_tuned, name):
    draw, tables = toys(fine_tuned)[name]
    first, table = next(iter(tables.items()))
    for n in (0, 1):
        if n == 1 and name in ONE_ROW_IS_ENOUGH:
            assert draw(**tables | {first: table.head(1)}).description
            continue
        with pytest.raises(UserError, match=r": the table (is empty|has one row); at least \d rows? (is|are) needed"):
            draw(**tables | {first: table.head(n)})
    with pytest.raises(UserError, match="no column"):
        draw(**tables | {first: table.drop(columns="protocol")})


def test_1500_networks_stay_drawable():
    rng = np.random.default_rng(0)
    skill = rng.normal(1, 0.7, 1500)
    rows = pd.DataFrame(
        {
            "network": np.repeat([f"resnet{i}" for i in range(1500)], 4),
            "dataset": ["dtd", "sun397", "food101", "cifar10"] * 1500,
            "source_accuracy": expit(np.repeat(skill, 4)),
            "protocol": "linear",
            "setting": "default",
        }
    )
    rows["score"] = expit(np.repeat(skill, 4) + rng.normal(0, 0.3, 6000))
    rows = with_log_odds(rows.assign(n_test=np.nan, n_train_per_class=np.nan, excluded=False))
    line = pd.DataFrame(
        {
            "protocol": "linear",
            "dataset": "mean",
            "source_logit": [-1.0, 3.0],
            "fit": [-1.0, 3],
            "low": [-1.1, 2.9],
            "high": [-0.9, 3.1],
        }
    )
    networks = rows.groupby("network", as_index=False).agg(
        source_accuracy=("source_accuracy", "first"),
        source_logit=("source_logit", "first"),
        mean_logit=("logit", "mean"),
    )
    networks = networks.assign(
        protocol="linear", standard_error=0.1, effect=0.0, mean_accuracy=expit(networks["mean_logit"]), n_datasets=4
    )
    r = pd.DataFrame(
        {
            "protocol": ["linear"],
            "dataset": ["mean"],
            "method": ["pearson"],
            "estimate": [0.9],
            "low": [0.8],
            "high": [0.95],
        }
    )
    picture = svg(headline.headline(networks=networks, lines=line, correlations=r))
    assert marks(picture, "point") == 1500
    assert sum(text.startswith("resnet") for text in texts(picture)) <= 8
    assert len(headline.per_dataset(rows=rows, lines=line, correlations=r).to_dict()["concat"]) == 4
    grid = pd.DataFrame(
        {"protocol": "linear", "dataset": "dtd", "source_accuracy": [0.1, 0.99], "expected": [0.1, 0.99]}
    )
    every = pd.concat([grid.assign(dataset=name, low=0.05, high=0.995) for name in rows["dataset"].unique()])
    assert diagnostics.calibration(rows=rows, prediction=every).to_dict()["datasets"]  # 6,000 rows, above Altair's own limit
