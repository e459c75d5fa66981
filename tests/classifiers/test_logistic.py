"""The λ path against scikit-learn, and what goes wrong with features."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from transfer_study.classifiers.logistic import LogisticPath
from transfer_study.core import UserError

ROOT = Path(__file__).resolve().parents[2]
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
        assert np.allclose(path.coef_[i], coef, atol=1e-6)
        assert np.allclose(path.intercept_[i], intercept - intercept.mean(), atol=1e-6)


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
    expected = max(np.linalg.norm(gradient, axis=1).max(), abs((p - np.eye(3)[y]).sum(axis=0)).max()) / 60
    assert np.isclose(path.objective_[0], objective) and np.isclose(path.gradient_norm_[0], expected) and expected > 1e-6


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("l2", [1e3, 1.0, 1e-6])
def test_the_duality_gap_bounds_the_distance_from_the_minimum(shape, l2):
    X, y = problem(*shape, seed=3)
    exact = LogisticPath(l2=[l2], tol=1e-10, certify=True).fit(X, y)
    rough = LogisticPath(l2=[l2], tol=0.1).fit(X, y)
    distance = rough.objective_[0] - exact.objective_[0]
    assert exact.converged_[0] and exact.duality_gap_[0] <= 1e-10 * exact.objective_[0]
    assert -1e-9 * exact.objective_[0] <= distance <= rough.duality_gap_[0]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_estimate_of_the_distance_holds_along_the_path(shape):
    X, y = problem(*shape, seed=4)
    path, exact = LogisticPath().fit(X, y), LogisticPath(tol=1e-9, certify=True).fit(X, y)
    assert path.converged_.all() and exact.converged_.all()
    assert (path.objective_ <= exact.objective_ * (1 + 1e-5)).all() and (path.objective_ >= exact.objective_ * (1 - 1e-9)).all()


def test_scores_come_one_lambda_at_a_time():
    X, y = problem(50, 6, 3)
    path = LogisticPath(l2=[0.1, 10.0]).fit(X, y)
    scores = path.scores(X)
    assert iter(scores) is scores and np.allclose(next(scores), path.decision_function(X)[0])
    assert np.array_equal(path.coefficients(1)[0], path.coef_[1]) and path.intercept_.shape == (2, 3)


def test_fitting_again_forgets_the_first_coefficients():
    X, y = problem(50, 6, 3)
    path = LogisticPath(l2=[1.0])
    first = path.fit(X, y).coef_
    assert not np.allclose(path.fit(2 * X, y).coef_, first)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", ">f8"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_type_of_features(dtype, shape):
    X, y = problem(*shape)
    X = (4 * X).round().astype(dtype)
    plain, typed = LogisticPath(l2=[1.0], tol=1e-10).fit(X.astype(float), y), LogisticPath(l2=[1.0], tol=1e-10).fit(X, y)
    assert np.isclose(plain.objective_[0], typed.objective_[0], rtol=1e-9)


@pytest.mark.parametrize("shape", [*SHAPES.values(), (9000, 40, 5)])
def test_streamed_from_a_read_only_file(shape, tmp_path, recwarn):
    X, y = problem(*shape)
    np.save(tmp_path / "features.npy", X.astype("float32"))
    streamed = LogisticPath(l2=[0.01, 1.0], tol=1e-9, memory=0).fit(np.load(tmp_path / "features.npy", mmap_mode="r"), y)
    held = LogisticPath(l2=[0.01, 1.0], tol=1e-9).fit(X.astype("float32"), y)
    assert streamed.converged_.all() and np.allclose(streamed.objective_, held.objective_, rtol=1e-8)
    assert not recwarn.list


def test_one_sample_weight_is_one_repetition():
    X, y = problem(40, 5, 3)
    times = np.random.default_rng(0).integers(0, 4, 40)
    weighted = LogisticPath(l2=[0.3], tol=1e-12).fit(X, y, sample_weight=times)
    repeated = LogisticPath(l2=[0.3], tol=1e-12).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert np.allclose(weighted.coef_, repeated.coef_, atol=1e-6) and np.isclose(*weighted.objective_, *repeated.objective_)


def test_sample_weights_are_scikit_learns():
    X, y = problem(60, 6, 3)
    weights = np.random.default_rng(1).uniform(0, 3, 60)
    path = LogisticPath(l2=[0.5], tol=1e-14).fit(X, y, weights)
    reference = LogisticRegression(C=2.0, tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(X, y, weights)
    assert np.allclose(path.coef_[0], reference.coef_, atol=1e-6)


@pytest.mark.parametrize("shape", [(120, 8), (40, 90)], ids=["tall", "wide"])
def test_a_matrix_of_labels_is_one_binary_problem_a_class(shape):
    random = np.random.default_rng(6)
    X = random.normal(size=shape)
    Y = (X[:, :4] + random.normal(size=(len(X), 4)) > 0.5).astype(int)
    Y[random.random(Y.shape) < 0.15] = -1
    path = LogisticPath(l2=[0.1, 3.0], tol=1e-14).fit(X, Y)
    for i, l2 in enumerate(path.l2):
        for c in range(4):
            known = Y[:, c] >= 0
            reference = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000, solver="newton-cholesky")
            reference.fit(X[known], Y[known, c])
            assert np.allclose(path.coef_[i, c], reference.coef_[0], atol=1e-6)
            assert np.isclose(path.intercept_[i, c], reference.intercept_[0], atol=1e-6)
    assert np.array_equal(path.predict(X), path.decision_function(X) > 0)


def test_a_class_that_is_never_shown_has_a_constant_score():
    X = np.random.default_rng(0).normal(size=(30, 4))
    Y = np.column_stack([X[:, 0] > 0, np.zeros(30), np.ones(30)]).astype(int)
    path = LogisticPath(l2=[1.0]).fit(X, Y)
    scores = path.decision_function(X)[0]
    assert np.ptp(scores[:, 0]) > 1 and np.ptp(scores[:, 1:], axis=0).max() == 0
    assert (scores[:, 1] < -3).all() and (scores[:, 2] > 3).all()


def test_separable_data_at_the_smallest_lambda_warn_of_nothing(recwarn):
    random = np.random.default_rng(0)
    y = np.arange(200) % 5
    X = 20 * np.eye(5)[y] @ random.normal(size=(5, 30)) + random.normal(size=(200, 30))
    path = LogisticPath().fit(X, y)
    assert path.converged_.all() and (np.diff(path.objective_) > 0).all() and not recwarn.list


def test_many_classes_and_classes_with_one_sample():
    X, y = problem(700, 20, 500)
    path = LogisticPath(l2=[1e-4, 1e-2, 1.0]).fit(X, y)
    assert path.converged_.all() and path.coef_.shape == (3, 500, 20)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_features(scale):
    X, y = problem(100, 12, 4)
    plain, scaled = LogisticPath(l2=[0.1]).fit(X, y), LogisticPath(l2=[0.1 * scale**2]).fit(scale * X + 3 * scale, y)
    assert scaled.converged_[0] and np.isclose(plain.objective_[0], scaled.objective_[0], rtol=1e-5)


def test_wrong_weights_labels_and_shapes_are_errors():
    X, y = problem(20, 4, 2)
    for arguments, message in [
        ((X, y, np.full(20, -1.0)), "sample_weight"), ((X, y, np.where(y == 1, 0, 1)), "one class only"),
        ((X, y[:-1]), "20 rows"), ((X[0], y), "shape"), ((X, np.full((20, 2), 3)), "expected 1, 0, or -1"),
        ((X, np.where(y == 1, np.nan, 0.0)), "labels: NaN"), ((X, np.zeros((20, 2), int)), "no class that is shown"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            LogisticPath().fit(*arguments)
    with pytest.raises(UserError, match="from 0 to 1; expected whole numbers from 0 to 0"):
        LogisticPath(n_classes=1).fit(X, y)


@pytest.mark.parametrize("label", [0, 2])
def test_a_single_class_of_several_is_always_predicted(label):
    X, _ = problem(6, 4, 2)
    path = LogisticPath(l2=[1e-3, 1.0], n_classes=3).fit(X, np.full(6, label), np.r_[0.0, np.ones(5)])
    assert path.converged_.all() and (path.predict(-100 * X) == label).all() and path.objective_.tolist() == [0.0, 0.0]
    assert np.isneginf(path.decision_function(X)).sum() == 2 * 6 * 2


MEMORY = """
import resource, sys, numpy as np
from transfer_study.classifiers.logistic import LogisticPath
import torch
torch.set_num_threads(1)
n, d, k = map(int, sys.argv[1:4])
random = np.random.default_rng(0)
y = np.arange(n) % k
LogisticPath(l2=[1.0]).fit(random.normal(size=(50, 20)), y[:50])  # what libraries take once
X = np.empty((n, d), np.float32)
for i in range(n): X[i] = random.normal(size=d) + (y[i] == np.arange(d) % k)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
LogisticPath(l2=np.logspace(-2, 2, 5)).fit(X, y)
print(X.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


@pytest.mark.parametrize("shape", [(60_000, 400, 5), (500, 60_000, 5)], ids=["tall", "wide"])
def test_memory_is_at_most_three_times_the_features(shape):
    arguments = [sys.executable, "-c", MEMORY, *map(str, shape)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    features, more = map(int, done.stdout.split())
    assert features + more <= 3 * features


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
