"""The λ path against scikit-learn, and what goes wrong with features."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from transfer_study.core import UserError
from transfer_study.logistic import LogisticPath, linear_probe

SHAPES = {"tall": (120, 8, 4), "wide": (40, 90, 3), "two classes": (80, 10, 2)}


def problem(n, d, k, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(n) % k
    return random.normal(size=(n, d)) + random.normal(size=(k, d))[y], y


def multinomial_reference(X, y, l2):
    "scikit-learn's minimiser; with two classes its single weight vector w is (−w/2, w/2), penalised half as much."
    two = len(np.unique(y)) == 2
    fitted = LogisticRegression(C=(2 if two else 1) / l2, tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(X, y)
    if two:
        return np.concatenate([-fitted.coef_, fitted.coef_]) / 2, np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
    return fitted.coef_, fitted.intercept_


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_coefficients_are_scikit_learns(shape):
    X, y = problem(*shape)
    path = LogisticPath(l2=[0.1, 1.0, 30.0], tol=1e-14).fit(X, y)
    for i, l2 in enumerate(path.l2):
        coef, intercept = multinomial_reference(X, y, l2)
        assert np.allclose(path.coef_[i], coef, atol=2e-6)
        assert np.allclose(path.intercept_[i], intercept - intercept.mean(), atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_default_path_is_at_or_below_scikit_learn_everywhere(shape):
    X, y = problem(*shape, seed=1)
    path = LogisticPath().fit(X, y)
    assert path.converged_.all()
    for i in range(0, 45, 6):
        coef, intercept = multinomial_reference(X, y, path.l2[i])
        scores = X @ coef.T + intercept
        objective = (logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).sum() + path.l2[i] / 2 * (coef**2).sum()
        assert path.objective_[i] <= objective * (1 + 1e-4)


def test_objective_and_gradient_are_those_of_the_coefficients():
    X, y = problem(60, 5, 3)
    path = LogisticPath(l2=[2.0], tol=1e-3).fit(X, y)
    scores = path.decision_function(X)[0]
    p = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    objective = -np.log(p[np.arange(60), y]).sum() + (path.coef_[0] ** 2).sum()
    gradient = (p - np.eye(3)[y]).T @ (X - X.mean(axis=0)) + 2.0 * path.coef_[0]
    assert np.isclose(path.objective_[0], objective)
    assert np.isclose(path.gradient_norm_[0], max(abs(gradient).max(), abs((p - np.eye(3)[y]).sum(axis=0)).max()) / 60)


def test_order_of_l2_and_kind_of_labels_are_kept():
    X, y = problem(50, 6, 3)
    names = np.array(["ant", "bee", "cow"])[y]
    path = LogisticPath(l2=[1.0, 100.0, 0.01]).fit(X, names)
    norms = (path.coef_**2).sum(axis=(1, 2))
    assert norms[1] < norms[0] < norms[2]
    assert path.predict(X).shape == (3, 50) and set(path.predict(X).ravel()) <= set(names)


def test_shift_and_rotation_change_nothing():
    X, y = problem(70, 6, 3)
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0]
    plain, turned = (LogisticPath(l2=[1.0], tol=1e-12).fit(Z, y) for Z in (X, X @ rotation + 7.0))
    assert np.isclose(plain.objective_[0], turned.objective_[0], rtol=1e-9)
    assert np.allclose(plain.decision_function(X), turned.decision_function(X @ rotation + 7.0), atol=1e-4)


def test_constant_duplicate_and_collinear_features():
    X, y = problem(60, 5, 3)
    degenerate = np.hstack([X, np.ones((60, 1)), X[:, :1], X[:, :1] + X[:, 1:2]])
    path = LogisticPath().fit(degenerate, y)
    assert path.converged_.all() and np.isfinite(path.coef_).all() and np.allclose(path.coef_[:, :, 5], 0)


def test_features_without_any_difference_predict_the_most_frequent_class():
    path = LogisticPath(l2=[1.0]).fit(np.ones((9, 3)), np.array([0] * 6 + [1] * 3))
    assert (path.predict(np.ones((2, 3))) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_numbers_are_named(value):
    X, y = problem(20, 4, 2)
    X[[7, 11], 2] = value
    with pytest.raises(UserError, match="in 2 rows, the first: 7"):
        LogisticPath().fit(X, y)


def test_one_class_only_and_wrong_l2_are_errors():
    X, _ = problem(10, 3, 2)
    with pytest.raises(UserError, match="at least two"):
        LogisticPath().fit(X, np.zeros(10))
    with pytest.raises(UserError, match="λ > 0"):
        LogisticPath(l2=[0.0, 1.0]).fit(X, np.arange(10) % 2)


def test_iterations_that_run_out_are_said():
    X, y = problem(100, 20, 4)
    path = LogisticPath(l2=[1e-6], max_iter=3).fit(X, y)
    assert not path.converged_[0] and path.n_iter_[0] <= 3


class TestProbe:
    X, y = problem(300, 12, 3, seed=2)
    split = np.array(["train", "train", "val", "test"])[np.arange(300) // 3 % 4]

    def test_refit_uses_train_and_validation(self):
        probe = linear_probe(self.X, self.y, self.split)
        coef, intercept = multinomial_reference(self.X[self.split != "test"], self.y[self.split != "test"], probe.l2)
        expected = (self.X[self.split == "test"] @ coef.T + intercept).argmax(axis=1)
        assert (probe.y_pred == expected).mean() > 0.99
        assert np.isclose(probe.score, (probe.y_pred == self.y[self.split == "test"]).mean())

    def test_test_images_do_not_reach_choice_or_predictor(self):
        probe = linear_probe(self.X, self.y, self.split)
        X, y = self.X.copy(), self.y.copy()
        test = self.split == "test"
        y[test] = (y[test] + 1) % 3
        changed = linear_probe(X, y, self.split)
        assert changed.l2 == probe.l2 and np.array_equal(changed.y_pred, probe.y_pred)
        X[test] *= -5.0
        assert linear_probe(X, self.y, self.split).curve.equals(probe.curve)

    def test_of_ties_on_validation_the_middle_one_is_taken(self):
        probe = linear_probe(self.X, self.y, self.split, l2=np.array([1e-8, 1e-6, 1e-7, 1e-5, 1e-4]))
        curve = probe.curve.set_index("l2")["validation_score"]
        assert curve.nunique() == 1, "the example is meant to tie"
        assert probe.l2 == 1e-6
