"""Transferability scores against closed forms, other libraries and toys, and the faults seen in public code."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import pinvh
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm, spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from tests.classifiers.common import toy
from transfer_study.classifiers.posterior_scores import FEATURE_SCORES
from transfer_study.classifiers.transferability import (
    common_dimension,
    gbc,
    h_score,
    h_score_shrunk,
    leave_one_out,
    leave_one_out_knn,
    logme,
    parc,
    principal_components,
    transrate,
)
from transfer_study.core import UserError

# ---------------------------------------------------------------- what holds for every score


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_features_stay_as_they_are(name):
    "SFDA's public code writes the moved features into the array that it is given."
    X, y = toy()
    before = X.copy()
    X.flags.writeable = y.flags.writeable = False
    first = FEATURE_SCORES[name](X, y)
    assert isinstance(first, float) and np.array_equal(X, before) and FEATURE_SCORES[name](X, y) == first


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_order_of_images_and_names_of_classes_do_not_matter(name):
    if name == "nleep":
        pytest.skip("a mixture starts from images drawn by their row")
    X, y = toy()
    order = np.random.default_rng(1).permutation(len(y))
    renamed = np.array(["c", "a", "b"])[y][order]
    assert FEATURE_SCORES[name](X[order], renamed) == pytest.approx(FEATURE_SCORES[name](X, y), rel=1e-8)


@pytest.mark.parametrize("name", FEATURE_SCORES)
@pytest.mark.parametrize("d", [3, 200])
def test_a_class_of_one_image_and_more_features_than_images(name, d):
    X, y = toy((20, 1, 15), d)
    assert np.isfinite(FEATURE_SCORES[name](X.astype(np.float32), y))


@pytest.mark.parametrize("name", FEATURE_SCORES)
def test_separated_classes_score_higher_than_shuffled_labels(name):
    X, y = toy((40, 40, 40), distance=4.0)
    assert FEATURE_SCORES[name](X, y) > FEATURE_SCORES[name](X, np.random.default_rng(2).permutation(y))


@pytest.mark.parametrize("name", FEATURE_SCORES)
@pytest.mark.parametrize("X, y, words", [
    ([[1.0, 2], [np.nan, 0], [3, 3]], [0, 1, 1], "NaN or infinity in 1 rows of features, the first: 1"),
    ([[1.0, 2], [2, 0], [3, 3]], [0, 0, 0], "1 class in 3 labels"),
    ([[1.0, 2], [2, 0], [3, 3]], [0, 1], "labels of shape"),
    ([[1.0, 2], [2, 0], [3, 3]], [[0], [1], [1]], "labels of shape"),
    ([1.0, 2, 3], [0, 1, 1], "features of shape"),
    ([[1.0, 2], [1, 2], [1, 2]], [0, 1, 1], "all 3 rows of features are equal"),
])  # fmt: skip
def test_input_without_a_score_is_refused(name, X, y, words):
    with pytest.raises(UserError, match=words):
        FEATURE_SCORES[name](np.array(X), np.array(y))


# ---------------------------------------------------------------- LogME


def highest_evidence(X, target):
    "The largest density of one-hot labels under N(0, XXᵀ/α + 1/β), from a general optimiser."

    def minus_density(logs):
        return -multivariate_normal(cov=X @ X.T / np.exp(logs[0]) + np.eye(len(X)) / np.exp(logs[1])).logpdf(target)

    options = {"xatol": 1e-7, "fatol": 1e-10}
    starts = [(0, 0), (3, 3), (6, 2), (-2, 1)]
    return max(-minimize(minus_density, start, method="Nelder-Mead", options=options).fun for start in starts) / len(X)


@pytest.mark.parametrize("d", [2, 10, 40])
def test_logme_is_the_highest_density_of_a_normal_distribution(d):
    "With 40 features for 30 images, too: public code counts (d − n)/2 · ln α too often there."
    X, y = toy((12, 18), d, seed=d)
    expected = np.mean([highest_evidence(X, (y == label).astype(float)) for label in (0, 1)])
    assert logme(X, y) == pytest.approx(expected, abs=1e-5)


def test_logme_by_the_fixed_point_of_the_paper():
    X, y = toy((50, 60, 40), 8)
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    evidences = []
    for label in range(3):
        target = (y == label).astype(float)
        x, n, d, t = U.T @ target, len(y), X.shape[1], 1.0
        for _ in range(500):
            gamma, m2 = (s**2 / (s**2 + t)).sum(), ((s * x / (s**2 + t)) ** 2).sum()
            residual = ((x * t / (s**2 + t)) ** 2).sum() + target @ target - x @ x
            alpha, beta = gamma / m2, (n - gamma) / residual
            t = alpha / beta
        evidences.append(d / 2 * np.log(alpha) + n / 2 * np.log(beta) - np.log(alpha + beta * s**2).sum() / 2
                         - beta / 2 * residual - alpha / 2 * m2 - n / 2 * np.log(2 * np.pi))  # fmt: skip
    assert logme(X, y) == pytest.approx(np.mean(evidences) / len(y), abs=1e-8)


def test_logme_of_features_that_do_not_help_is_that_of_noise_alone():
    "The prior variance goes to 0, and labels are N(0, 1/β) with 1/β their mean square."
    X, y = np.tile([[1.0, -1.0]], (30, 1)) * np.tile([[1], [-1]], (15, 1)), np.repeat([0, 1, 0], [10, 10, 10])
    X[:10:2], X[1:10:2] = [[1, -1]], [[-1, 1]]  # balanced in both classes
    shares = np.array([2 / 3, 1 / 3])
    assert logme(X, y) == pytest.approx(np.mean(-0.5 * (np.log(2 * np.pi * shares) + 1)), abs=1e-4)


# ---------------------------------------------------------------- H-score


@pytest.mark.parametrize("d", [2, 6, 30])
def test_h_score_is_the_trace_of_its_definition(d):
    X, y = toy(d=d)
    g = np.stack([X[y == label].mean(axis=0) for label in range(3)])[y]
    expected = np.trace(pinvh(np.cov(X.T)) @ np.cov(g.T))
    assert h_score(X, y) == pytest.approx(expected)


def test_h_score_does_not_exceed_its_bound():
    "A pseudo-inverse with a cut-off of 1e-15, as in public code, takes the rounding errors of single precision for directions."
    X, y = toy((10, 10, 10), 100)
    X = X.astype(np.float32)
    g = np.stack([X[y == label].mean(axis=0) for label in range(3)])[y]
    covariances = [(part - part.mean(axis=0)).T @ (part - part.mean(axis=0)) / 29 for part in (X, g)]
    public = np.trace(np.linalg.pinv(covariances[0], rcond=1e-15) @ covariances[1])
    assert abs(public) > 2.5 and 2 - 1e-9 <= h_score(X, y) <= 2 + 1e-9


def test_h_score_does_not_depend_on_scale_rotation_or_copies_of_features():
    X, y = toy()
    turned = X @ np.random.default_rng(3).normal(size=(6, 6)) + 5
    assert h_score(turned, y) == pytest.approx(h_score(X, y)) == pytest.approx(h_score(np.hstack([X, 1e-3 * X]), y))


def test_shrunk_h_score_is_its_definition_and_stays_below_the_plain_one():
    X, y = toy(d=12)
    centred = X - X.mean(axis=0)
    shrunk = LedoitWolf().fit(X)
    g = np.stack([centred[y == label].mean(axis=0) for label in range(3)])[y]
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ (g.T @ g) / len(y))
    assert h_score_shrunk(X, y) == pytest.approx(expected) and h_score_shrunk(X, y) < h_score(X, y)


def test_shrunk_h_score_of_many_images_is_the_plain_one():
    X, y = toy((4000, 6000), 3, distance=3)
    assert h_score_shrunk(X, y) == pytest.approx(h_score(X, y), rel=0.01)


# ---------------------------------------------------------------- TransRate and GBC


@pytest.mark.parametrize("d", [2, 40])
def test_transrate_is_its_definition(d):
    X, y = toy((10, 7), d)
    Z = X - X.mean(axis=0)

    def rate(part):
        return 0.5 * np.linalg.slogdet(np.eye(d) + part.T @ part / (len(part) * 1e-4))[1]

    assert transrate(X, y) == pytest.approx(rate(Z) - (rate(Z[y == 0]) + rate(Z[y == 1])) / 2)
    assert transrate(X + 3, y) == pytest.approx(transrate(X, y)) and transrate(10 * X, y) != pytest.approx(transrate(X, y))
    with pytest.raises(UserError, match="eps 0; expected a number above 0"):
        transrate(X, y, eps=0)


def test_gbc_is_the_overlap_of_normal_distributions():
    "In one dimension, by numerical integration."
    X, y = toy((30, 40, 20), 1, distance=2)
    fits = [norm(X[y == label].mean(), X[y == label].std()) for label in range(3)]
    pairs = [(a, b) for a in fits for b in fits if a is not b]
    overlap = [quad(lambda x, a=a, b=b: np.sqrt(a.pdf(x) * b.pdf(x)), -30, 30)[0] for a, b in pairs]
    assert gbc(X, y) == pytest.approx(-sum(overlap), rel=1e-6)


def test_gbc_of_equal_classes_and_of_classes_far_apart():
    X = np.random.default_rng(0).normal(size=(20, 4))
    assert gbc(np.vstack([X, X]), np.repeat([0, 1], 20)) == pytest.approx(-2)
    assert gbc(np.vstack([X, X + 100]), np.repeat([0, 1], 20)) == pytest.approx(0, abs=1e-9)


def test_gbc_of_a_class_of_one_image_lies_between_nothing_and_everything():
    "Without a variance, such a class would never overlap with any other."
    X, y = toy((30, 30, 1), 3, distance=0)
    both = gbc(X[:60], y[:60])
    assert -6 < gbc(X, y) < both - 0.5
    with pytest.raises(UserError, match="no variance within any class"):
        gbc(X[:3], np.arange(3))


def test_gbc_with_a_feature_that_is_constant_within_a_class():
    X, y = toy((20, 20), 3)
    X[y == 0, 0] = 1.0
    assert -2 <= gbc(X, y) <= 0


# ---------------------------------------------------------------- PARC


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("d", [4, 60])
def test_parc_is_spearman_of_the_two_matrices(n_classes, d):
    X, y = toy((12,) * n_classes, d)
    Z = principal_components(X, 32)
    upper = np.triu_indices(len(y), 1)
    labels = (1 - np.corrcoef(np.eye(n_classes)[y]))[upper].round(9)
    expected = spearmanr((1 - np.corrcoef(Z / Z.std(axis=0)))[upper], labels).statistic
    assert parc(X, y) == pytest.approx(expected, abs=1e-9)


def test_parc_with_tied_distances():
    "Pairs of equal images have the same distances to the others."
    X, y = toy((8, 9), 5)
    X, y = np.vstack([X, X, X]), np.r_[y, y, y]
    Z = principal_components(X, 32)
    upper = np.triu_indices(len(y), 1)
    matrix = (1 - np.corrcoef(Z / Z.std(axis=0)))[upper]
    assert parc(X, y) == pytest.approx(spearmanr(matrix.round(10), (y[:, None] != y)[upper]).statistic, abs=1e-3)


def test_parc_uses_its_subsample():
    "Public code draws 15,000 images and goes on with all of them."
    X, y = toy((60, 90, 30))
    sampled, full = parc(X, y, max_samples=60), parc(X, y)
    assert sampled != full and parc(X, y, max_samples=180) == full
    assert sampled == parc(X, y, max_samples=60) != parc(X, y, max_samples=60, random_state=1)
    assert abs(sampled - full) < 0.15
    assert np.isfinite(parc(*toy((60, 90, 1)), max_samples=40))


def test_parc_needs_pairs_of_both_kinds_and_two_components():
    X, y = toy()
    with pytest.raises(UserError, match="no two images of the same class"):
        parc(X[:5], np.arange(5))
    with pytest.raises(UserError, match="at least two principal components"):
        parc(X[:, :1], y)


# ---------------------------------------------------------------- neighbours, components


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_scikit_learn(k):
    X, y = toy((30, 40, 20))
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: 1 + (1 - d / 2) / (2 * k + 1))
    expected = cross_val_score(model, X, y, cv=LeaveOneOut()).mean()
    assert leave_one_out_knn(X, y, k) == pytest.approx(expected) == leave_one_out(X.astype(np.float32), y, k).mean()


def test_no_image_is_its_own_neighbour():
    "Many equal images, so that the image itself need not be among its nearest."
    X, y = np.ones((12, 2)), np.arange(12)
    X[:4] = [[1, 0]]
    assert leave_one_out_knn(X, y) == 0
    assert leave_one_out_knn(X, np.r_[np.zeros(4), np.ones(8)], 2) == 1


def test_a_group_is_no_neighbour_of_itself():
    X = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    y, groups = np.repeat([0, 0, 1, 1], 5), np.repeat(np.arange(4), 5)
    assert leave_one_out(X, y, 5).all()
    assert not leave_one_out(X, np.repeat(np.arange(4), 5), 5, groups).any()


def test_an_image_without_features_is_near_to_none():
    "A row of zeros is as far from its own class as from any other, and votes less than an image that is a little alike."
    X, y = np.array([[1, 0], [0.1, 1], [0, 0], [0, 1.0]]), np.array([0, 0, 1, 1])
    assert leave_one_out(X, y)[0] and not leave_one_out(X, y)[1]


@pytest.mark.parametrize("k", [0, 75])
def test_neighbours_beyond_the_images_are_refused(k):
    with pytest.raises(UserError, match="for 75 images; expected 1 to 74"):
        leave_one_out_knn(*toy(), k)


def test_common_dimension_removes_what_width_adds():
    "Noise of 150 features has a higher H-score than noise of 20; on 20 components each, hardly."
    random, y = np.random.default_rng(0), np.repeat(np.arange(4), 50)
    narrow, wide = random.normal(size=(200, 20)), random.normal(size=(200, 150))
    assert h_score(wide, y) > 3 * h_score(narrow, y)
    a, b = common_dimension([narrow, wide])
    assert a.shape == b.shape == (200, 20)
    assert h_score(a, y) == pytest.approx(h_score(narrow, y)) and h_score(b, y) < 2 * h_score(a, y)


@pytest.mark.parametrize("n_components, shapes, words", [
    (30, [(50, 20), (50, 40)], "expected 1 to 20"),
    (0, [(50, 20), (50, 40)], "expected 1 to 20"),
    (None, [(50, 20), (40, 40)], "50, 40 images; expected features of the same images"),
])  # fmt: skip
def test_a_common_dimension_that_does_not_exist(n_components, shapes, words):
    with pytest.raises(UserError, match=words):
        common_dimension([np.random.default_rng(0).normal(size=shape) for shape in shapes], n_components)
