"""The linear probe (λ chosen without the test images, refit, one score) and the scikit-learn classifier."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from transfer_study.classifiers.knn import knn_probe
from transfer_study.classifiers.linear_probe import LogisticPathClassifier, linear_probe, middle_of_best, select_rows
from transfer_study.classifiers.metrics import mean_average_precision_11_point
from transfer_study.core import UserError
from transfer_study.images.splits import training_subset

N = 300
RANDOM = np.random.default_rng(2)
Y = np.arange(N) % 3
X = RANDOM.normal(size=(N, 12)) + RANDOM.normal(size=(3, 12))[Y]
SPLIT = np.array(["train", "train", "val", "test"])[np.arange(N) // 3 % 4]
TEST = SPLIT == "test"


def test_refit_uses_train_and_validation():
    probe = linear_probe(X, Y, SPLIT)
    reference = LogisticRegression(C=1 / probe.l2, tol=1e-10, max_iter=10_000).fit(X[~TEST], Y[~TEST])
    assert (probe.y_pred == reference.predict(X[TEST])).mean() > 0.99
    assert np.isclose(probe.score, (probe.y_pred == Y[TEST]).mean()) and probe.converged


@pytest.mark.parametrize("probe_of", [linear_probe, knn_probe], ids=["linear", "knn"])
def test_test_images_do_not_reach_choice_or_predictor(probe_of):
    probe = probe_of(X, Y, SPLIT)
    features, y = X.copy(), Y.copy()
    y[TEST] = (y[TEST] + 1) % 3
    changed = probe_of(X, y, SPLIT)
    assert changed.curve.equals(probe.curve) and np.array_equal(changed.y_pred, probe.y_pred) and changed.score != probe.score
    features[TEST] *= -5.0
    assert probe_of(features, Y, SPLIT).curve.equals(probe.curve)


@pytest.mark.parametrize("probe_of", [linear_probe, knn_probe], ids=["linear", "knn"])
def test_unused_rows_play_no_part(probe_of):
    split = SPLIT.astype(object)
    split[np.flatnonzero(SPLIT == "train")[::3]] = "unused"
    kept = split != "unused"
    spoilt = X.copy()
    spoilt[~kept] = 1e6
    one, other = probe_of(spoilt, Y, split), probe_of(X[kept], Y[kept], split[kept])
    assert one.score == other.score and np.array_equal(one.y_pred, other.y_pred) and one.curve.equals(other.curve)


def test_of_ties_the_middle_one():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for scores, best in {(1, 5, 5, 5, 2): 3, (1, 5, 5, 2, 5): 3, (9, 5, 5, 5, 9): 1}.items():
        assert values[middle_of_best(np.array(scores), values)] == best


def test_copies_are_fitted_and_never_scored():
    "A copy that says nothing new changes nothing; a copy of another place moves the boundary; none is predicted."
    features, y, split, copy = np.vstack([X, X + 0.7]), np.tile(Y, 2), np.tile(SPLIT, 2), np.repeat([0, 1], N)
    plain, moved = linear_probe(X, Y, SPLIT), linear_probe(features, y, split, copy=copy)
    assert moved.y_pred.shape == (TEST.sum(),) and not np.isclose(moved.curve["objective"], plain.curve["objective"]).all()
    spoilt = features.copy()
    spoilt[(copy == 1) & (split == "test")] = 1e6
    assert linear_probe(spoilt, y, split, copy=copy).curve.equals(moved.curve)
    wrong = y.copy()
    wrong[(copy == 1) & (split == "val")] = (wrong[(copy == 1) & (split == "val")] + 1) % 3
    blind = linear_probe(features, wrong, split, copy=copy)
    assert blind.curve.equals(moved.curve), "copies of validation images must not take part in the choice"
    assert not np.array_equal(blind.y_pred, moved.y_pred), "and must take part in the refit"


def test_several_labels_against_one_regression_a_class():
    labels = (X[:, :4] + RANDOM.normal(size=(N, 4)) > 0.3).astype(int)
    labels[::17, 1] = -1
    probe = linear_probe(X, labels, SPLIT, "map_11_point", l2=np.array([2.0]))
    scores = np.empty((TEST.sum(), 4))
    for k in range(4):
        counted = ~TEST & (labels[:, k] >= 0)
        fitted = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=10_000).fit(X[counted], labels[counted, k])
        scores[:, k] = fitted.decision_function(X[TEST])
    assert np.allclose(probe.y_pred, scores, atol=1e-2)
    assert probe.score == pytest.approx(mean_average_precision_11_point(labels[TEST], scores), abs=5e-3)


def test_one_l2_needs_no_validation_and_several_do():
    split = np.where(SPLIT == "val", "train", SPLIT)
    assert linear_probe(X, Y, split, l2=np.array([1.0])).l2 == 1.0
    with pytest.raises(UserError, match="no validation images to choose one of 45 λ;"):
        linear_probe(X, Y, split)
    assert knn_probe(X, Y, split, n_neighbors=(3,)).n_neighbors == 3
    with pytest.raises(UserError, match="225 training and 0 validation images"):
        knn_probe(X, Y, split)


def test_rows_are_selected_from_a_map_to_a_map(tmp_path):
    X = np.arange(30_000, dtype="float32").reshape(10_000, 3)
    np.save(tmp_path / "X.npy", X)
    mapped, rows = np.load(tmp_path / "X.npy", mmap_mode="r"), RANDOM.permutation(10_000)[:9_000]
    chosen = select_rows(mapped, rows, most_bytes=1000)
    assert isinstance(chosen, np.memmap) and np.array_equal(chosen, X[rows]) and not isinstance(select_rows(X, rows), np.memmap)


def test_neighbours_that_point_the_same_way_are_near_however_long_they_are():
    X = np.array([[1.0, 0.0], [100.0, 1.0], [0.0, 1.0], [-1.0, 50.0], [5.0, 0.0], [0.1, 3.0]])
    probe = knn_probe(X, np.array([0, 0, 1, 1, 0, 1]), np.array(["train"] * 4 + ["test"] * 2), n_neighbors=(2,))
    assert probe.score == 1 and probe.y_pred.tolist() == [0, 1]


def test_neighbours_with_several_labels_leave_difficult_ones_out():
    X = np.eye(2)[[0, 0, 1, 0, 1]]
    labels = np.array([[1, -1], [-1, 0], [0, 1], [1, 0], [0, 1]])
    probe = knn_probe(X, labels, np.array(["train"] * 3 + ["test"] * 2), "map_11_point", n_neighbors=(2,))
    assert probe.y_pred.round()[0].tolist() == [1, 0] and probe.score == 1


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_without_training_images_moves_no_scores_to_other_classes(missing):
    "The classes that were fitted are told apart as without the third class, whose area is that of chance."
    split = np.where(np.isin(Y, missing) & ~TEST, "unused", SPLIT)
    others = [k for k in range(3) if k != missing]
    for probe, one in ((linear_probe, {"l2": np.array([1.0])}), (knn_probe, {"n_neighbors": (9,)})):
        result = probe(X, Y, split, "roc_auc", **one)
        alone = probe(X, np.searchsorted(others, Y), split, "top1", **one)
        assert result.y_pred.shape == (TEST.sum(), 3) and len(np.unique(result.y_pred[:, missing])) == 1
        assert np.array_equal(result.y_pred[:, others].argmax(axis=1), alone.y_pred)
        areas = [roc_auc_score(Y[TEST] == k, result.y_pred[:, k]) for k in range(3)]
        assert areas[missing] == 0.5 and result.score == pytest.approx(np.mean(areas)) and min(areas[k] for k in others) > 0.6
        assert np.array_equal(probe(X, Y, split, "top1", **one).y_pred, np.take(others, alone.y_pred))


class TestSubset:
    y = np.repeat(np.arange(4), 30)
    split = np.tile(["train"] * 15 + ["val"] * 5 + ["test"] * 10, 4)

    def test_sizes_and_shares(self):
        for n, held_out in {2: 1, 5: 1, 10: 2, 20: 4}.items():
            subset = training_subset(self.y, self.split, n)
            for label in range(4):
                of_class = subset[self.y == label]
                assert (of_class == "val").sum() == held_out and (of_class == "train").sum() == n - held_out
            assert np.array_equal(subset == "test", self.split == "test")

    def test_smaller_subsets_lie_in_larger_ones_and_seeds_differ(self):
        def used(n, seed):
            return {*np.flatnonzero(np.isin(training_subset(self.y, self.split, n, seed), ("train", "val")))}

        assert used(1, 3) < used(2, 3) < used(5, 3) < used(20, 3)
        assert used(5, 3) != used(5, 4)

    def test_one_image_is_trained_on(self):
        subset = training_subset(self.y, self.split, 1)
        assert (subset == "train").sum() == 4 and not (subset == "val").any()

    def test_too_few_images(self):
        with pytest.raises(UserError, match="n_train_per_class 21: class 0 has only 20 images"):
            training_subset(self.y, self.split, 21)


def test_copies_of_an_image_stay_on_one_side(tmp_path):
    "Few images per class and random crops: the images are drawn, not their copies."
    from tests.conftest import write_images
    from transfer_study.images.datasets import image_folder
    from transfer_study.networks.networks import Network
    from transfer_study.study.runs import Run, used_images

    dataset = image_folder(write_images(tmp_path / "squares"))
    parameters = {"n_train_per_class": 4, "validation_share": 0.25}
    run = Run(Network("any", "any:any"), dataset, "linear", parameters, 0, "0" * 16)
    rows = np.repeat(np.arange(len(dataset.images)), np.where(dataset.images["split"] == "test", 1, 3))
    y, split = used_images(run, rows)
    once, alone = used_images(run, np.arange(len(dataset.images)))
    assert np.array_equal(y, once[rows]) and np.array_equal(split, alone[rows])
    assert [(split == name).sum() for name in ("train", "val", "test")] == [2 * 3 * 3, 2 * 1 * 3, 8]


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
