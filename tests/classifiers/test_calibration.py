"""A temperature against a grid, an interval against coverage."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from transfer_study.classifiers.calibration import accuracy_interval, fit_temperature, negative_log_likelihood


@pytest.mark.parametrize("factor", [0.2, 1.0, 6.0])
def test_no_temperature_of_a_grid_is_better(factor):
    random = np.random.default_rng(1)
    scores = random.normal(size=(400, 5)) * 2
    labels = np.array([random.choice(5, p=p) for p in softmax(scores, axis=1)])
    fitted = fit_temperature(factor * scores, labels)
    grid = [-log_softmax(factor * scores / t, axis=1)[np.arange(400), labels].mean() for t in np.geomspace(0.02, 50, 400)]
    assert negative_log_likelihood(factor * scores, labels, fitted) <= min(grid) + 1e-9
    assert fitted / factor == pytest.approx(fit_temperature(scores, labels), rel=1e-3)


def test_without_a_mistake_there_is_nothing_to_fit():
    assert fit_temperature(np.eye(4), np.arange(4)) == 1.0 and fit_temperature(np.zeros((0, 2)), np.zeros(0, int)) == 1.0


def test_pure_noise_gets_probabilities_near_chance():
    random = np.random.default_rng(2)
    scores, labels = random.normal(size=(2000, 4)) * 10, random.integers(4, size=2000)
    assert softmax(scores / fit_temperature(scores, labels), axis=1).max(axis=1).mean() < 0.35


@pytest.mark.parametrize("metric", ["top1", "mean_per_class"])
def test_the_interval_covers_the_true_accuracy(metric):
    random, y_true, p = np.random.default_rng(3), np.repeat([0, 1], [60, 30]), np.repeat([0.9, 0.7], [60, 30])
    truth = {"top1": p.mean(), "mean_per_class": 0.8}[metric]
    covered = 0
    for _ in range(300):
        low, high = accuracy_interval(y_true, np.where(random.random(90) < p, y_true, 2), metric)
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99


def test_wilsons_published_example():
    "Newcombe 1998, table I: 81 of 263, Wilson's score interval without continuity correction."
    assert accuracy_interval(np.zeros(263), np.repeat([0, 1], [81, 182])) == pytest.approx((0.2553, 0.3662), abs=5e-5)
