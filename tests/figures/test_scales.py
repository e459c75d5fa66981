"Ticks stand at their numbers, keep their distance, and are never fewer than two."

import altair as alt
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from tests.figures.pictures import n_places, svg
from transfer_study.figures import scales, theme


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


def test_a_logarithmic_axis_labels_preferred_numbers_first():
    assert scales.log_axis([5, 15], 400)["axis"]["values"] == [5, 10]
    assert scales.log_axis([5, 15], 400, preferred=[5, 15])["axis"]["values"] == [5, 10, 15]
    assert scales.log_axis([5, 15], 60, preferred=[5, 6, 15])["axis"]["values"] == [5, 15]  # no room for 6
