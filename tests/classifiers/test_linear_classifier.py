"""The scikit-learn classifier on the path."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from transfer_study.classifiers.linear_probe import LogisticPathClassifier, middle_of_best
from transfer_study.core import UserError


def test_it_keeps_scikit_learns_rules():
    results = check_estimator(LogisticPathClassifier(l2=[1.0]), on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def test_it_keeps_scikit_learns_rules_with_a_choice_of_lambda():
    # a repeated sample may fall into both folds, a weighted one cannot
    exempt = {"check_sample_weight_equivalence_on_dense_data": "folds"}
    results = check_estimator(LogisticPathClassifier(l2=[1e-3, 1.0], cv=2), expected_failed_checks=exempt, on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


@pytest.mark.parametrize("n_classes", [2, 3])
def test_it_agrees_with_scikit_learn(n_classes):
    X, y = (part[: 50 * n_classes] for part in load_iris(return_X_y=True))
    ours = LogisticPathClassifier(l2=[0.5], tol=1e-14).fit(X, y)
    reference = LogisticRegression(C=4.0 if n_classes == 2 else 2.0, tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(X, y)
    assert np.allclose(ours.coef_, reference.coef_, atol=1e-6) and np.allclose(ours.predict_proba(X), reference.predict_proba(X))
    assert np.array_equal(ours.predict(X), reference.predict(X)) and ours.score(X, y) == reference.score(X, y)


def test_the_given_validation_samples_choose_and_all_samples_fit():
    X, y = load_iris(return_X_y=True)
    held_out = np.arange(len(y)) % 3 == 0
    l2 = [100.0, 1e5, 1.0]
    chosen = LogisticPathClassifier(l2=l2, cv=PredefinedSplit(np.where(held_out, 0, -1))).fit(X, y)
    scores = [
        LogisticPathClassifier(l2=[value]).fit(X[~held_out], y[~held_out]).score(X[held_out], y[held_out]) for value in l2
    ]
    assert np.allclose(chosen.validation_scores_, scores) and chosen.l2_ == l2[middle_of_best(np.array(scores), np.array(l2))]
    assert np.allclose(chosen.coef_, LogisticPathClassifier(l2=[chosen.l2_]).fit(X, y).coef_)


def test_pipeline_and_folds():
    X, y = load_iris(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), LogisticPathClassifier(random_state=0)), X, y, cv=3)
    assert scores.min() > 0.85


def test_a_class_too_rare_to_hold_out_is_an_error():
    with pytest.raises(UserError, match="too few samples"):
        LogisticPathClassifier().fit(np.arange(12.0).reshape(6, 2), [0, 0, 0, 0, 0, 1])
    with pytest.raises(UserError, match="unknown metric"):
        LogisticPathClassifier(metric="top2").fit(*load_iris(return_X_y=True))
