"""Metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_recall_curve

from transfer_study.classifiers.metrics import (
    average_precision_11_point,
    mean_average_precision,
    mean_average_precision_11_point,
    mean_per_class_accuracy,
    mean_roc_auc,
    top1_accuracy,
)
from transfer_study.core import UserError


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


def scikit_learns_11_points(relevant, score):
    "The interpolated precisions from scikit-learn's own curve, whose points are exact shares of counts."
    precision, recall = (values[:-1] for values in precision_recall_curve(relevant, score)[:2])  # the last point is made up
    reached = np.round(recall * relevant.sum()) * 10  # recall k of n reaches the tenth t where 10 k >= t n
    return np.mean([precision[reached >= tenth * relevant.sum()].max() for tenth in range(11)])


@pytest.mark.parametrize("n_relevant", [1, 3, 7, 10, 20, 59, 60])
def test_average_precision_is_scikit_learns_curve_at_11_recalls(n_relevant):
    random = np.random.default_rng(n_relevant)
    for _ in range(20):
        relevant, score = random.permutation(np.arange(60) < n_relevant), random.normal(size=60)
        assert average_precision_11_point(relevant, score) == pytest.approx(scikit_learns_11_points(relevant, score), abs=1e-12)


def test_the_order_of_images_with_the_same_score_does_not_count():
    relevant = np.arange(100) < 10
    assert average_precision_11_point(relevant, np.zeros(100)) == average_precision_11_point(relevant[::-1], np.zeros(100)) == 0.1
    random = np.random.default_rng(7)
    for _ in range(20):
        relevant, score = random.permutation(np.arange(60) < 13), random.integers(0, 6, 60)
        assert average_precision_11_point(relevant, score) == pytest.approx(scikit_learns_11_points(relevant, score), abs=1e-12)


def test_a_label_without_a_column_of_scores_is_refused():
    for metric in (mean_roc_auc, mean_average_precision):
        with pytest.raises(UserError, match="labels from 0 to 2: expected 0 to 1"):
            metric(np.array([0, 1, 2]), np.zeros((3, 2)))


def test_difficult_images_are_as_if_they_were_not_there():
    random = np.random.default_rng(8)
    y_true, score = random.integers(-1, 2, (80, 4)), random.normal(size=(80, 4))
    by_class = []
    for k in range(4):
        rows = y_true[:, k] != -1
        by_class.append(scikit_learns_11_points(y_true[rows, k], score[rows, k]))
    assert mean_average_precision_11_point(y_true, score) == pytest.approx(np.mean(by_class), abs=1e-12)


def test_mean_average_precision_by_hand():
    # class a: ranks 1 0 1 (the difficult image between them is left out): 6 recalls at 1, 5 at 2/3
    # class b: the one image is ranked second of four: 11 recalls at 1/2
    y_true = np.array([[1, 0], [-1, 1], [0, 0], [1, 0]])
    score = np.array([[4.0, 9.0], [3.0, 8.0], [2.0, 7.0], [1.0, 6.0]])
    assert mean_average_precision_11_point(y_true, score) == pytest.approx(((6 + 5 * 2 / 3) / 11 + 1 / 2) / 2)


def test_an_average_precision_depends_on_the_order_alone():
    random = np.random.default_rng(9)
    relevant, score = random.integers(0, 2, 50), random.normal(size=50)
    assert average_precision_11_point(relevant, score) == average_precision_11_point(relevant, np.exp(3 * score) - 7)


def test_mean_per_class_weighs_classes_not_images():
    y_true, y_pred = np.array([0] * 98 + [1, 2]), np.zeros(100, dtype=int)
    assert mean_per_class_accuracy(y_true, y_pred) == pytest.approx(1 / 3) and top1_accuracy(y_true, y_pred) == 0.98


def test_a_class_that_is_only_predicted_does_not_enter_the_mean():
    assert mean_per_class_accuracy([0, 0, 1], [0, 5, 1]) == pytest.approx((1 / 2 + 1) / 2)


def test_metrics_of_own_datasets_agree_with_scikit_learn():
    import numpy as np
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    from transfer_study.classifiers.metrics import macro_f1, mean_average_precision, mean_roc_auc

    rng = np.random.default_rng(0)
    y, score = np.arange(60) % 4, rng.integers(0, 5, (60, 4)) / 4.0 + np.eye(4)[np.arange(60) % 4] * 0.3
    assert np.isclose(macro_f1(y, score.argmax(axis=1)), f1_score(y, score.argmax(axis=1), average="macro"))
    proba = score / score.sum(axis=1, keepdims=True)
    assert np.isclose(mean_roc_auc(y, proba), roc_auc_score(y, proba, multi_class="ovr"))
    shown = rng.integers(0, 2, (60, 4))
    assert np.isclose(mean_roc_auc(shown, score), roc_auc_score(shown, score))
    assert np.isclose(mean_average_precision(shown, score), average_precision_score(shown, score))
    difficult = shown.copy()
    difficult[shown[:, 0] == 1, 0] = np.where(np.arange((shown[:, 0] == 1).sum()) % 2, 1, -1)
    counted = difficult[:, 0] >= 0
    of_others = [roc_auc_score(shown[:, k], score[:, k]) for k in (1, 2, 3)]
    expected = [roc_auc_score(difficult[counted, 0], score[counted, 0]), *of_others]
    assert np.isclose(mean_roc_auc(difficult, score), np.mean(expected))
