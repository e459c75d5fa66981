"Figures: honest ticks, the marks and names expected, clear errors, and 1,500 networks."

import io
import re
import subprocess
import sys

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from scipy.special import expit, logit

from transfer_study.core import UserError, data_path
from transfer_study.figures import comparison, diagnostics, headline, scales, theme
from transfer_study.results import read_table
from transfer_study.statistics.analysis import analyze
from transfer_study.statistics.log_odds import with_log_odds


@pytest.fixture(scope="module")
def fine_tuned():
    return analyze(read_table(data_path("published/sfda_finetune_supervised.csv"), protocol="finetune"))


@pytest.fixture(scope="module")
def foundation():
    return analyze(read_table(data_path("published/embeddings_benchmark_16shot.csv")))


def svg(chart) -> str:
    return vl_convert.vegalite_to_svg(theme.with_theme(chart).to_dict())


def texts(picture: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def marks(picture: str, kind: str) -> int:
    "Marks of a kind that were drawn: elements with that role description."
    return len(re.findall(rf'aria-roledescription="{kind}"', picture))


def n_places(picture: str) -> list[tuple[float, str]]:
    "Place along the x axis and text of each label of the first axis."
    labels = re.search(r"role-axis-label.*?</g>", picture, re.S).group()
    return [(float(x), text) for x, text in re.findall(r'translate\(([-\d.]+),[-\d.]+\)"[^>]*>([^<]+)</text>', labels)]


# Ticks


@pytest.mark.parametrize(("low", "high"), [(0.02, 0.99), (0.7, 0.78), (0.9, 0.9995), (0.001, 0.01)])
def test_a_label_stands_at_its_log_odds(low, high):
    values = logit(np.array([low, high]))
    settings = scales.logit_axis(values, 500)
    data = theme.inline(pd.DataFrame({"v": values}), "v")
    picture = svg(alt.Chart(data, width=500, height=20).mark_point().encode(x=alt.X("v:Q", **settings)))
    start, end = settings["scale"]["domain"]
    found = n_places(picture)
    assert len(found) >= 3
    for place, label in found:
        expected = 500 * (logit(float(label.removesuffix("%")) / 100) - start) / (end - start)
        assert abs(place - expected) < 0.52, (label, place, expected)  # Vega puts labels on whole or half pixels


def test_ticks_keep_their_distance_and_are_never_fewer_than_two():
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = rng.uniform(-6, 5.5)
        high, n = min(low + rng.choice([0.05, 0.3, 1, 4, 9]), 8.5), int(rng.integers(2, 11))
        ticks = scales.percent_ticks(low, high, n)
        places = logit(np.array(ticks) / 100)
        assert len(ticks) >= 2, (expit(low), expit(high), n)
        assert (places >= low - 1e-9).all() and (places <= high + 1e-9).all()
        assert (np.diff(places) >= (high - low) / n - 1e-9).all()


def test_a_factor_stands_at_its_logarithm():
    settings = scales.odds_axis(np.array([-1.0, 2.0]), 500)
    data = theme.inline(pd.DataFrame({"v": [-1.0, 2.0]}), "v")
    found = n_places(svg(alt.Chart(data, width=500, height=20).mark_point().encode(x=alt.X("v:Q", **settings))))
    start, end = settings["scale"]["domain"]
    assert {"×1", "×0.5", "×2"} <= {label for _, label in found}
    for place, label in found:
        assert abs(place - 500 * (np.log(float(label[1:])) - start) / (end - start)) < 0.52


# Families and names


def test_at_most_eight_families_with_distinct_marks(foundation):
    names = pd.Series(
        [*foundation.rows["network"], "resnet50", "densenet121", "mobilenetv2", "swin_b", "convnext_t", "nasnet"]
    )
    shown = theme.families(names)
    assert len(shown) <= 8 and list(shown)[-1] == "other"
    assert len({mark for mark in shown.values()}) == len(shown)
    assert set(theme.with_family(pd.DataFrame({"network": names}))["family"]) == set(shown)


def test_labels_do_not_collide_at_48_points():
    rng = np.random.default_rng(1)
    points = pd.DataFrame(
        {"x": rng.uniform(0, 640, 48), "y": rng.uniform(0, 400, 48), "label": "some-network-base-patch16"}
    )
    placed = theme.place_labels(points, 640, 400)
    boxes = [
        theme._box(*row)
        for row in placed[["x", "y", "label"]]
        .assign(place=list(placed[["dx", "dy", "align"]].itertuples(index=False, name=None)))
        .values
    ]
    assert 5 <= len(boxes) < 48
    for i, box in enumerate(boxes):
        assert box[0] >= 0 and box[2] <= 640
        assert all(theme._apart(box, other) for other in boxes[:i])
        assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in zip(points.x, points.y, strict=True))


# The figures of the two published tables


@pytest.mark.parametrize("width", [700, 340])
def test_headline_shows_every_network_once(foundation, width):
    chart = headline.headline(foundation.networks, foundation.lines, foundation.correlations, width=width)
    picture = svg(chart)
    n = len(foundation.networks)
    assert n == 41 and marks(picture, "point") == n and marks(picture, "rule mark") == n
    assert "r = 0.93" in chart.description and "41 networks" in chart.description
    assert "80%" in texts(picture) and "ImageNet top-1 accuracy" in texts(picture)
    assert 560 < float(re.search(r'width="([\d.]+)"', picture).group(1)) < 740 or width == 340


def test_headline_has_a_panel_for_each_protocol(fine_tuned):
    both = [t.assign(protocol=p) for t in (fine_tuned.networks,) for p in ("linear", "finetune")]
    chart = headline.headline(pd.concat(both), fine_tuned.lines, fine_tuned.correlations)
    assert [panel.title.text for panel in chart.concat] == ["Fixed features", "Fine-tuned"]


def test_small_multiples_share_what_is_pointed_at(foundation):
    chart = headline.per_dataset(foundation.rows, foundation.lines, foundation.correlations)
    specification = chart.to_dict()
    picture = svg(chart)
    assert len(chart.concat) == 12 and marks(picture, "point") == 12 * 41
    assert any(text.startswith("r = 0.6") for text in texts(picture))
    hover = [param for param in specification["params"] if param["name"] == "hover"]
    assert len(hover) == 1 and sorted(hover[0]["views"]) == sorted(f"panel_{i}" for i in range(12))


def test_small_multiples_need_one_protocol(fine_tuned):
    rows = pd.concat([fine_tuned.rows, fine_tuned.rows.assign(protocol="linear")])
    with pytest.raises(UserError, match="finetune, linear; choose one with protocol="):
        headline.per_dataset(rows, fine_tuned.lines, fine_tuned.correlations)
    chart = headline.per_dataset(rows, fine_tuned.lines, fine_tuned.correlations, protocol="linear")
    assert chart.description.startswith("Fixed features")


def toys(analysis) -> dict:
    "Each figure: function and tables, of which the first is the one that may be too short."
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
        "headline": (f.headline, a.networks, a.lines, a.correlations),
        "slopes": (c.slopes, networks),
        "per_dataset": (f.per_dataset, a.rows, a.lines, a.correlations),
        "setting_effects": (c.setting_effects, settings),
        "protocol_gains": (c.protocol_gains, gains),
        "gain_trend": (c.gain_trend, trend),
        "convergence": (c.convergence, history),
        "size_curves": (c.size_curves, sizes),
        "residuals": (d.residuals, influence, a.networks),
        "influence_map": (d.influence_map, influence),
        "left_out": (d.left_out, a.leave_one_out, a.correlations),
        "coefficient_forest": (d.coefficient_forest, coefficients),
        "significance": (d.significance, pairs),
        "calibration": (d.calibration, a.rows, prediction),
    }


EXPECTED = {  # marks of the named kind, and a text that must stand in the picture
    "headline": ("point", 11, "mnasnet1_0"),
    "slopes": ("point", 22, "resnet152"),
    "per_dataset": ("point", 121, "DTD"),
    "setting_effects": ("point", 2, "Mean over datasets"),
    "protocol_gains": ("point", 2, "Fine-tuned over fixed features"),
    "gain_trend": ("point", 3, "Fine-tuned over fixed features"),
    "convergence": ("point", 1, "training steps"),
    "size_curves": ("point", 3, "training images a class"),
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
    draw, *tables = toys(fine_tuned)[name]
    kind, n, words = EXPECTED[name]
    chart = draw(*tables, width=340)
    picture = svg(chart)
    mark = {"point": "point", "rect": "rect mark"}[kind]
    assert marks(picture, mark) == n
    assert any(words in text for text in texts(picture)), texts(picture)
    assert len(chart.description) > 20 and "NaN" not in picture


@pytest.mark.parametrize("name", EXPECTED)
def test_too_short_a_table_is_a_clear_error(fine_tuned, name):
    draw, first, *others = toys(fine_tuned)[name]
    for n in (0, 1):
        if n == 1 and name in ONE_ROW_IS_ENOUGH:
            assert draw(first.head(1), *others).description
            continue
        with pytest.raises(UserError, match=r": the table (is empty|has one row); at least \d rows? (is|are) needed"):
            draw(first.head(n), *others)
    with pytest.raises(UserError, match="no column"):
        draw(first.drop(columns="protocol"), *others)


def test_the_matrix_has_the_best_network_on_top(fine_tuned):
    chart = diagnostics.significance(fine_tuned.pairs)
    best_first = fine_tuned.networks.sort_values("effect", ascending=False)["network"].to_list()
    order = chart.to_dict()["encoding"]["y"]["sort"]
    assert order[0] == best_first[0] and order[-1] == best_first[-1]
    cells = pd.read_json(io.StringIO(chart.data.values))
    top = cells[cells["row"] == best_first[0]]
    assert (top["difference"] > 0).all() and set(top["found"]) <= {"row better", "no difference"}


def test_curves_of_cooks_distance_pass_through_the_networks_that_have_it(fine_tuned):
    table = fine_tuned.influence
    for row in table.nlargest(3, "cooks_distance").itertuples():
        curve = diagnostics._cook_curves(table["leverage"].to_numpy(), levels=(row.cooks_distance,))
        curve = curve[curve["sign"] == np.sign(row.studentized_residual)]
        found = np.interp(row.leverage, curve["leverage"], curve["studentized_residual"])
        assert np.isclose(found, row.studentized_residual, rtol=0.02)


# Size, files, imports


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
    picture = svg(headline.headline(networks, line, r))
    assert marks(picture, "point") == 1500
    assert sum(text.startswith("resnet") for text in texts(picture)) <= 8
    assert len(headline.per_dataset(rows, line, r).to_dict()["concat"]) == 4
    grid = pd.DataFrame(
        {"protocol": "linear", "dataset": "dtd", "source_accuracy": [0.1, 0.99], "expected": [0.1, 0.99]}
    )
    every = pd.concat([grid.assign(dataset=name, low=0.05, high=0.995) for name in rows["dataset"].unique()])
    assert diagnostics.calibration(rows, every).to_dict()["datasets"]  # 6,000 rows, above Altair's own limit


def test_save_writes_each_kind_and_refuses_others(fine_tuned, tmp_path):
    chart = headline.headline(fine_tuned.networks, fine_tuned.lines, fine_tuned.correlations, width=340)
    assert theme.save(chart, tmp_path / "a.svg").read_text().startswith("<svg")
    assert theme.save(chart, tmp_path / "a.png", dark=True).read_bytes().startswith(b"\x89PNG")
    assert "vegaEmbed" in theme.save(chart, tmp_path / "a.html").read_text()
    with pytest.raises(UserError, match=r"saved as \.svg, \.png or \.html, not as \.pdf"):
        theme.save(chart, tmp_path / "a.pdf")
    assert chart.to_dict().get("config", {}).get("background") is None  # saving leaves the chart as it was


def test_drawing_imports_no_torch():
    code = "import sys, transfer_study.figures.report; print([m for m in ('torch', 'fastai', 'timm') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
