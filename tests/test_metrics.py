"""Metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from transfer_study.metrics import (
    average_precision_11_point,
    mean_average_precision_11_point,
    mean_per_class_accuracy,
    top1_accuracy,
)


@pytest.fixture
def labels():
    random = np.random.default_rng(3)
    return random.integers(0, 7, 200), random.integers(0, 7, (4, 200))


def test_top1_is_scikit_learns_accuracy(labels):
    y_true, y_pred = labels
    assert np.allclose(top1_accuracy(y_true, y_pred), [accuracy_score(y_true, row) for row in y_pred])


def test_mean_per_class_is_scikit_learns_balanced_accuracy(labels):
    y_true, y_pred = labels
    assert np.allclose(mean_per_class_accuracy(y_true, y_pred), [balanced_accuracy_score(y_true, row) for row in y_pred])


def voc_average_precision(relevant, score):
    "The loop of PASCAL VOC's development kit (VOCevalcls.m), point by point."
    ranked = relevant[np.argsort(-score)]
    recall, precision = np.cumsum(ranked) / ranked.sum(), np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    total = 0.0
    for tenth in range(11):
        reached = [p for r, p in zip(recall, precision, strict=True) if round(r * 1000) >= tenth * 100]
        total += max(reached, default=0.0) / 11
    return total


def test_average_precision_is_the_development_kits():
    random = np.random.default_rng(4)
    for _ in range(50):
        relevant, score = random.integers(0, 2, 60), random.permutation(60.0 * np.arange(60))
        assert np.isclose(average_precision_11_point(relevant, score), voc_average_precision(relevant, score), atol=1e-3)


def test_a_perfect_ranking_scores_one_and_difficult_objects_do_not_count():
    y_true = np.array([[1, 0], [0, 1], [-1, 1], [0, -1]])
    score = np.array([[2.0, 1.0], [1.0, 3.0], [9.0, 2.0], [0.0, 9.0]])
    assert mean_average_precision_11_point(y_true, score) == 1.0
    assert mean_average_precision_11_point(np.abs(y_true) * (y_true != -1), score) < 1.0


def test_a_class_without_images_is_left_out_of_the_mean():
    y_true, score = np.array([[1, 0], [0, 0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert mean_average_precision_11_point(y_true, score) == 1.0
