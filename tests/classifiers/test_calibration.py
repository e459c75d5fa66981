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


def share_covered(y_true, p, metric, truth, n_draws):
    random = np.random.default_rng(3)
    ends = [accuracy_interval(y_true, np.where(random.random(len(p)) < p, y_true, -1), metric) for _ in range(n_draws)]
    return np.mean([low <= truth <= high for low, high in ends])


@pytest.mark.parametrize("metric", ["top1", "mean_per_class"])
def test_the_interval_covers_the_true_accuracy(metric):
    y_true, p = np.repeat([0, 1], [60, 30]), np.repeat([0.9, 0.7], [60, 30])
    truth = {"top1": p.mean(), "mean_per_class": 0.8}[metric]
    assert 0.92 <= share_covered(y_true, p, metric, truth, 300) <= 0.99


FLOWERS, LONG_TAIL = np.full(102, 60), np.geomspace(3, 700, 101).round().astype(int)  # images per class


@pytest.mark.parametrize(
    ("sizes", "of_class"),
    [
        (np.full(100, 5), np.full(100, 0.95)), (np.full(100, 5), np.full(100, 0.5)), (np.full(100, 1), np.full(100, 0.7)),
        (FLOWERS, np.full(102, 0.95)), (FLOWERS, np.linspace(0.6, 1, 102)),
        (LONG_TAIL, np.full(101, 0.9)), (LONG_TAIL, np.linspace(0.6, 0.99, 101)),
    ],
)  # fmt: skip
def test_the_interval_of_many_classes_covers_the_true_mean(sizes, of_class):
    y_true, p = np.repeat(np.arange(len(sizes)), sizes), np.repeat(of_class, sizes)
    assert 0.91 <= share_covered(y_true, p, "mean_per_class", of_class.mean(), 300) <= 0.985


def test_the_interval_without_a_mistake_ends_at_one():
    low, high = accuracy_interval(np.repeat(np.arange(100), 5), np.repeat(np.arange(100), 5), "mean_per_class")
    assert high == 1.0 and low == pytest.approx(500 / (500 + 1.959964**2), abs=1e-6)  # Wilson's for 500 of 500
    for n in range(1, 60):  # uneven classes have a fractional number of images
        y_true = np.r_[np.zeros(n, int), np.ones(7, int)]
        assert accuracy_interval(y_true, y_true, "mean_per_class")[1] == 1.0 == accuracy_interval(y_true, y_true)[1]
        assert accuracy_interval(y_true, 1 - y_true, "mean_per_class")[0] == 0.0 == accuracy_interval(y_true, 1 - y_true)[0]


def test_classes_of_the_same_size_and_accuracy_have_nearly_the_interval_of_top1():
    y_true = np.tile(np.arange(20), 50)
    y_pred = np.where(np.arange(1000) < 900, y_true, -1)  # 45 of 50 in every class
    assert accuracy_interval(y_true, y_pred, "mean_per_class") == pytest.approx(accuracy_interval(y_true, y_pred), abs=5e-4)


def test_wilsons_published_example():
    "Newcombe 1998, table I: 81 of 263, Wilson's score interval without continuity correction."
    assert accuracy_interval(np.zeros(263), np.repeat([0, 1], [81, 182])) == pytest.approx((0.2553, 0.3662), abs=5e-5)
