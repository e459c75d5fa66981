"""Distances against brute force, and a threshold that holds what it says."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from transfer_study.classifiers.knn import nearest
from transfer_study.classifiers.novelty import directions, fit_feature_distance
from transfer_study.core import UserError


def cosine_distances(A, B):
    A, B = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (A, B))
    return 1 - A @ B.T


def test_the_threshold_is_a_quantile_of_held_out_distances():
    X = np.random.default_rng(0).normal(size=(80, 16)) + 1
    fitted = fit_feature_distance(X, n_neighbors=4, quantile=0.9)
    held_out = np.sort(cosine_distances(X, X) + 9 * np.eye(80), axis=1)[:, 3]
    assert fitted.threshold == pytest.approx(np.quantile(held_out, 0.9), abs=2e-4)  # directions are kept in half precision
    new = np.random.default_rng(1).normal(size=(7, 16))
    assert fitted.distances(new) == pytest.approx(np.sort(cosine_distances(new, X), axis=1)[:, 3], abs=1e-3)


def test_new_images_of_the_same_source_are_flagged_about_as_often_as_stated():
    random = np.random.default_rng(2)
    flagged = [
        fit_feature_distance(random.normal(size=(500, 12)), quantile=0.95).is_unlike(random.normal(size=(2000, 12))).mean()
        for _ in range(8)
    ]
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.012)


def test_images_of_new_groups_are_flagged_about_as_often_as_stated():
    random = np.random.default_rng(4)

    def scenes():
        return (random.normal(size=(60, 1, 64)) + 0.3 * random.normal(size=(60, 8, 64))).reshape(-1, 64)

    known, new, groups = scenes(), scenes(), np.repeat(np.arange(60), 8)
    fitted = fit_feature_distance(known, groups=groups)
    assert fitted.is_unlike(new).mean() < 0.06 and fit_feature_distance(known).is_unlike(new).mean() > 0.9
    others = np.where(groups[:, None] == groups, 9, cosine_distances(known, known))
    assert fitted.threshold == pytest.approx(np.quantile(np.sort(others, axis=1)[:, 4], 0.99), abs=2e-4)


def test_groups_of_single_images_change_nothing_and_a_single_group_is_refused():
    X = np.random.default_rng(5).normal(size=(30, 6))
    assert fit_feature_distance(X, groups=np.arange(30) + 7).threshold == fit_feature_distance(X).threshold
    assert fit_feature_distance(X, groups=np.r_[np.zeros(28), 1, 2]).n_neighbors == 2
    with pytest.raises(UserError, match="single group"):
        fit_feature_distance(X, groups=np.zeros(30))


def test_many_training_images_are_sampled_and_few_are_enough():
    X = np.random.default_rng(3).normal(size=(50, 6))
    assert fit_feature_distance(X, most=20).directions.shape == (20, 6)
    assert np.array_equal(fit_feature_distance(X, most=20).directions, fit_feature_distance(X, most=20).directions)
    assert fit_feature_distance(X[:3]).n_neighbors == 2
    with pytest.raises(UserError, match="at least two"):
        fit_feature_distance(X[:1])


def test_features_of_zeros_have_no_direction():
    assert not directions(np.zeros((1, 3))).any()
    assert fit_feature_distance(np.eye(3)).distances(np.zeros((1, 3))) == pytest.approx([1.0])


def test_a_row_of_zeros_is_at_right_angles_to_everything():
    X_train, X = np.array([[0.0, 0, 0], [1, 0, 0], [0.2, 1, 0], [-1, 0, 0]]), np.array([[3.0, 0, 0], [0, 0, 0], [-1, 0.1, 0]])
    rows, similarity = nearest(X_train, X, 4)
    expected = np.take_along_axis(cosine_similarity(X, X_train), rows, axis=1)
    assert similarity == pytest.approx(expected, abs=1e-6) and (np.diff(expected) <= 1e-6).all()
    assert rows[0].tolist() == [1, 2, 0, 3] and similarity[1] == pytest.approx(0, abs=1e-6)
