"""Evidence about networks: against independent computations, and where nothing should be found."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from transfer_study.classifiers.calibration import fit_temperature
from transfer_study.classifiers.transferability import leave_one_out
from transfer_study.images.splits import group_folds
from transfer_study.selection.candidates import TransferPrior
from transfer_study.selection.checks import label_errors
from transfer_study.selection.evidence import (
    compare_with_best,
    cross_validated,
    interval_of,
    learning_curve,
    stratified_order,
    tie_set,
    training_variance,
)
from transfer_study.selection.halving import Comparison, Steps, best_affordable, choose, posterior, rung_sizes, survivors


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300].astype(np.float32), y[:300], group_folds(y[:300], np.arange(300))


def test_cross_validation_agrees_with_scikit_learn(digits):
    X, y, fold = digits
    one = cross_validated(X, y, fold, l2=[0.1, 10.0, 1000.0])
    reference = np.empty(len(y), int)
    for k in np.unique(fold):
        model = LogisticRegression(C=1 / one.l2, tol=1e-10, max_iter=10_000).fit(X[fold != k], y[fold != k])
        reference[fold == k] = model.predict(X[fold == k])
    assert np.mean(one.y_pred == reference) >= 0.99  # lbfgs stops a little earlier
    assert one.accuracy == np.mean(one.y_pred == y)
    assert np.array_equal(one.scores.argmax(axis=1), one.y_pred) and one.accuracy == one.curve["accuracy"].max()


def test_an_image_is_never_predicted_by_a_model_that_saw_it(digits):
    "Random labels cannot be predicted; a leak would show at once with more features than images."
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 400)).astype(np.float32), random.integers(0, 2, 200)
    one = cross_validated(X, y, group_folds(y, np.arange(200)), l2=[1e-3, 1.0])
    assert 0.35 < one.accuracy < 0.65
    assert 0.35 < leave_one_out(X, y, 5).mean() < 0.65


def test_a_class_that_a_fold_lacks_counts_as_wrong(digits):
    X, y, _ = digits
    y = np.where(np.arange(300) == 0, 10, y)
    one = cross_validated(X, y, group_folds(y, np.arange(300)), l2=[1.0])
    assert one.y_pred[0] != 10 and one.scores.shape == (300, 11)


def test_the_interval_covers_what_it_says():
    random, n = np.random.default_rng(0), 400
    covered, with_groups = [], []
    for _ in range(300):
        low, high = interval_of(random.random(n) < 0.8, np.arange(n))
        covered.append(low < 0.8 < high)
        group = np.arange(n) // 8
        right = random.random(n) < random.beta(4, 1, 50)[group]  # images of a group are alike; mean 0.8
        low, high = interval_of(right, group)
        with_groups.append(low < 0.8 < high)
    assert 0.91 <= np.mean(covered) <= 0.985 and 0.89 <= np.mean(with_groups) <= 0.985
    ends = [interval_of(np.full(n, answer), np.arange(n)) for n in range(1, 60) for answer in (False, True)]
    assert {low for low, _ in ends[::2]} == {0.0} and {high for _, high in ends[1::2]} == {1.0}
    assert interval_of(np.arange(100) < 80, np.arange(100), 0.01)[0] < interval_of(np.arange(100) < 80, np.arange(100))[0]


def test_the_interval_of_few_groups_covers_what_it_says():
    "Images of a group are alike (intraclass correlation 1/9), mean 0.85; by hand for three groups."
    random = np.random.default_rng(1)
    for n_groups, size in ((4, 50), (6, 50)):
        group, ends = np.repeat(np.arange(n_groups), size), []
        for _ in range(300):
            p = random.beta(6.8, 1.2, n_groups)
            ends.append(interval_of(random.random(len(group)) < p[group], group))
        low, high = np.transpose(ends)
        assert 0.92 <= ((low <= 0.85) & (high >= 0.85)).mean() <= 0.985
    right, group = np.repeat([1.0, 0, 1, 0, 1, 0], [9, 1, 8, 2, 4, 6]), np.repeat(np.arange(3), 10)  # 0.9, 0.8 and 0.4; mean 0.7
    variance = np.var([0.9, 0.8, 0.4], ddof=1) / 3
    root, half = np.array([interval_of(right, group)]).T, t.ppf(0.975, 2) * np.sqrt(variance)
    scale = half**2 / 0.21  # an end x of Wilson's interval solves (0.7 − x)² = half² x (1 − x) / (0.7 · 0.3)
    assert np.allclose((0.7 - root) ** 2, scale * root * (1 - root), atol=1e-12)
    assert interval_of(np.ones(50), np.zeros(50)) == (0.0, 1.0)  # one group says nothing


@pytest.mark.parametrize("share", [1, 0.5])
def test_two_networks_are_compared_by_the_exact_binomial_test(share):
    "Signs at random count what the binomial distribution counts, also for answers that count one half."
    a, b = np.arange(100) < 80, np.r_[np.arange(90) < 65, np.ones(10, bool)]
    exact = binomtest(int((a & ~b).sum()), int((a != b).sum())).pvalue
    compared = compare_with_best(pd.DataFrame({"a": share * a, "b": share * b}), np.arange(100))
    assert 0.05 < exact < 0.95 and compared["p_corrected"].tolist() == [1.0, pytest.approx(exact, abs=0.02)]


def test_equal_networks_are_rarely_told_apart():
    "Twelve of them, on difficult and easy images; the best is chosen by the same images that compare it with the others."
    random, told_apart = np.random.default_rng(1), 0
    for _ in range(300):
        right = pd.DataFrame(random.random((200, 12)) < random.beta(2, 0.5, (200, 1)))
        told_apart += len(tie_set(compare_with_best(right, np.arange(200)))) < 12
    assert 0.02 <= told_apart / 300 <= 0.07


def test_equal_networks_are_rarely_told_apart_when_images_of_a_group_are_alike():
    random, group, told_apart = np.random.default_rng(2), np.arange(320) // 8, 0
    for _ in range(150):
        right = pd.DataFrame(random.random((320, 6)) < random.beta(2, 0.5, (40, 6))[group])
        told_apart += len(tie_set(compare_with_best(right, group))) < 6
    assert told_apart / 150 <= 0.08


def test_the_set_keeps_the_equals_and_loses_the_worse_among_many():
    "Of forty networks five are the best by 6 points; all five stay, and most of the others leave."
    random = np.random.default_rng(3)
    right = pd.DataFrame(random.random((5000, 40)) < np.r_[np.full(5, 0.86), np.full(35, 0.8)])
    kept = tie_set(compare_with_best(right, np.arange(5000)))
    assert set(range(5)) <= set(kept) and len(kept) <= 7


def test_the_best_always_belongs_to_the_tie_set():
    right = pd.DataFrame({"good": np.ones(100, bool), "bad": np.arange(100) < 20})
    compared = compare_with_best(right, np.arange(100))
    assert tie_set(compared) == ["good"] and compared["difference"].tolist() == [0.0, -0.8]


def test_every_beginning_of_the_order_is_stratified():
    y = np.repeat([0, 1, 2], [100, 50, 25])
    order = stratified_order(y, seed=3)
    for n in (14, 35, 70):
        assert np.abs(np.bincount(y[order[:n]], minlength=3) - n * np.array([4, 2, 1]) / 7).max() <= 1.5
    assert np.array_equal(order, stratified_order(y, seed=3)) and not np.array_equal(order, stratified_order(y, seed=4))


def test_the_curve_ends_at_the_cross_validated_accuracy_and_never_falls_beyond(digits):
    X, y, fold = digits
    curve = learning_curve(X, y, fold, np.arange(300), stratified_order(y), [1.0, 10.0])
    assert curve["accuracy"].iloc[2] == cross_validated(X, y, fold, l2=[1.0, 10.0]).accuracy
    last, twice = curve.iloc[-2], curve.iloc[-1]
    assert (
        twice["n_train"] == 2 * last["n_train"]
        and last["accuracy"] <= twice["accuracy"] <= 1
        and twice["low"] <= twice["accuracy"] <= twice["high"]
    )


def test_the_sizes_of_the_curve_are_those_that_were_fitted():
    "Two images of each class at least: 20 classes of 6 have 40, 60 and 120, 20 of 3 only 60; 5 folds leave four fifths."
    random = np.random.default_rng(0)
    for size, n_train in ((6, [32, 48, 96, 192]), (3, [48])):
        y = np.repeat(np.arange(20), size)
        X = random.normal(size=(20, 32))[y] + random.normal(size=(len(y), 32))
        curve = learning_curve(X, y, np.arange(len(y)) % 5, np.arange(len(y)), stratified_order(y), [1.0])
        assert curve["n_train"].tolist() == n_train and curve["extrapolated"].sum() == (size == 6)
        assert curve["n_train"].is_unique


def test_the_extrapolation_of_few_groups_is_wider():
    "Of two groups by a factor of √2 · 12.7 / 1.96 about the accuracy; one group says nothing."
    random, y = np.random.default_rng(0), np.arange(80) % 2
    X, fold, order = random.normal(size=(80, 4)) + y[:, None], np.arange(80) // 2 % 5, np.arange(80)
    alone, two, one = (learning_curve(X, y, fold, np.arange(80) // size, order, [1.0]) for size in (1, 40, 80))
    assert alone["accuracy"].equals(two["accuracy"]) and (two["high"] - two["low"] > 3 * (alone["high"] - alone["low"])).iloc[-1]
    assert one[["low", "high"]].to_numpy().tolist() == [[0.0, 1.0]] * 4
    sure = learning_curve(X + 100 * y[:, None], y, fold, np.arange(80), order, [1.0])[["accuracy", "low", "high"]].to_numpy()
    assert sure[-2, 0] == 1 and sure[-2, 1] < 0.97 and sure[-1] == pytest.approx(sure[-2])  # without an error as sure as today


def test_planted_label_errors_are_found(digits):
    X, y, fold = digits
    random = np.random.default_rng(0)
    planted = random.choice(300, 15, replace=False)
    wrong = y.copy()
    wrong[planted] = (y[planted] + 1 + random.integers(0, 9, 15)) % 10
    errors = label_errors(cross_validated(X, wrong, fold, l2=[10.0]).probabilities, wrong)
    assert len(set(planted) & set(errors["row"])) >= 13 and len(errors) <= 25
    assert set(errors["row"].head(8)) <= set(planted)


def test_a_class_in_one_fold_spoils_neither_probabilities_nor_label_findings():
    "Its images are predicted by a classifier that does not know it; the others get what they get without it."
    random = np.random.default_rng(0)
    y = np.r_[np.repeat(np.arange(3), 30), np.full(6, 3)]
    X = random.normal(size=(4, 8))[y] + random.normal(size=(96, 8))
    fold = np.r_[np.arange(90) % 5, np.zeros(6, int)]
    one, without = cross_validated(X, y, fold, l2=[1.0]), cross_validated(X[:90], y[:90], fold[:90], l2=[1.0])
    known = one.knows_class(y)
    assert known.tolist() == [True] * 90 + [False] * 6 and (one.y_pred[90:] != 3).all() and (one.probabilities[90:, 3] == 0).all()
    assert fit_temperature(one.scores, y) == pytest.approx(fit_temperature(without.scores, y[:90]), rel=0.15)
    errors = label_errors(one.probabilities, y, known)
    assert errors["row"].max() < 90 and (errors["suggested"] < 3).all()
    assert abs(len(errors) - len(label_errors(without.probabilities, y[:90]))) <= 2
    assert np.isnan(cross_validated(X, y, np.r_[-1, fold[1:]], l2=[1.0]).probabilities[0]).all()


def test_rungs_and_survivors():
    assert rung_sizes(400, 5) == [100, 400] and rung_sizes(399, 5) == [399] and rung_sizes(100_000, 10)[-1] == 100_000
    compared = pd.DataFrame({"network": list("abc"), "p_corrected": [1, 0.001, 0.2]})
    draws = pd.DataFrame(np.random.default_rng(0).normal([3.0, 2.0, 2.0], 0.1, (500, 3)), columns=list("abc"))
    staying, leaving = survivors(compared, draws, dict.fromkeys("abc", 1.0), 2.0)
    assert staying == ["a", "c"] and list(leaving) == ["b"]  # shown to be worse, though more accurate than c
    assert survivors(compared, draws, dict.fromkeys("abc", 1.0), 0.0)[0] == ["a"]
    assert survivors(compared, draws, {}, None)[0] == ["a", "b", "c"]


def test_features_are_asked_for_once_at_each_rung():
    X, y = load_digits(return_X_y=True)
    made_up, y, asked = {"a": X[:400, 10:12], "b": X[:400, 26:28]}, y[:400] % 2, []

    def features(names, rows):
        asked.append(len(rows))
        return {name: made_up[name][rows].astype(np.float32) for name in names}

    choice = choose(Comparison(features, y, np.arange(400), {"a": 1.0, "b": 1.0}, {}, transfer=TransferPrior(0.6, 0.2, 1.0, 0.5)))
    assert asked == [100, 400] and set(choice.features) == {"a", "b"}


def test_the_networks_that_stay_have_the_best_expected_maximum_of_all_affordable_sets():
    random, names = np.random.default_rng(1), range(6)
    for _ in range(10):
        draws, seconds = random.normal(random.normal(size=6), 0.5, (300, 6)), random.uniform(1, 5, 6)
        sets = [set_ for k in names for set_ in combinations(names, k + 1) if seconds[list(set_)].sum() <= 8]
        best = max(draws[:, list(set_)].max(axis=1).mean() for set_ in sets)
        taken = best_affordable(draws, seconds, 8.0)
        worst = draws.mean(axis=0).min()
        assert seconds[taken].sum() <= 8 and draws[:, taken].max(axis=1).mean() - worst >= 0.9 * (best - worst)


def test_the_posterior_is_that_of_a_normal_model_and_the_evidence_wins_in_the_end():
    "With independent answers and a flat prior it is the log-odds; with a certain prior, the line."
    right = pd.DataFrame(np.random.default_rng(0).random((4000, 2)) < [0.7, 0.8], columns=["a", "b"]).astype(float)
    groups, odds = np.arange(4000), np.log(right.mean() / (1 - right.mean())).to_numpy()
    mean, covariance = posterior(right, groups, {"a": 0.8, "b": 0.6}, TransferPrior(0.6, 0.2, 100.0, 0.5))
    assert mean == pytest.approx(odds, abs=1e-3)
    p = right.mean().to_numpy()
    assert np.diag(covariance) == pytest.approx(1 / (4000 * p * (1 - p)), rel=0.05)
    mean, _ = posterior(right, groups, {"a": 0.8, "b": 0.6}, TransferPrior(0.6, 0.0, 1e-4, 0.5))
    assert mean[0] - mean[1] == pytest.approx(0.6 * (np.log(4) - np.log(1.5)), abs=1e-3)
    alone, _ = posterior(right, groups, {}, TransferPrior(0.6, 0.2, 1e-4, 0.0))
    assert alone[0] == pytest.approx(alone[1], abs=1e-3)  # nothing is known of either and no deviation is allowed


def test_the_evidence_of_few_groups_has_the_variance_of_their_means():
    "By hand for three groups; a single group says nothing, and the prior stays."
    right = pd.DataFrame({"a": np.repeat([1.0, 0, 1, 0, 1, 0], [9, 1, 8, 2, 4, 6])})  # 0.9, 0.8 and 0.4; mean 0.7
    flat, p = TransferPrior(0.6, 0.2, 100.0, 0.5), 21.5 / 31
    _, covariance = posterior(right, np.repeat(np.arange(3), 10), {}, flat)
    variance = np.var([0.9, 0.8, 0.4], ddof=1) / 3 + 0.25 / 30**2
    assert covariance[0, 0] == pytest.approx(variance / (p * (1 - p)) ** 2, rel=1e-3)
    assert [*map(np.ravel, posterior(right, np.zeros(30), {}, flat))] == [*map(np.ravel, flat.moments([np.nan]))]


def test_a_step_is_computed_once_and_for_its_own_key(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"X": np.arange(3), "name": "a", "p": 0.5}

    for steps in (Steps(tmp_path, "images"), Steps(tmp_path, "images"), Steps(tmp_path, "other images")):
        kept = steps.result("step", compute, 1)
        assert kept["X"].tolist() == [0, 1, 2] and kept["name"] == "a" and kept["p"] == 0.5
    assert len(calls) == 2 and len(list(tmp_path.iterdir())) == 2


def test_a_rare_class_that_a_part_of_the_images_lacks_stops_nothing():
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], [40, 4])
    X = (random.normal(size=(44, 3)) + 4 * y[:, None]).astype(np.float32)
    fold, fitted = np.arange(44) % 4, np.arange(44) < 20  # no fitted sample of the rare class
    one = cross_validated(X, y, fold, fitted=fitted)
    assert (one.y_pred == 0).all() and one.accuracy == 40 / 44 and (one.probabilities[:, 0] == 1).all()
    curve = learning_curve(X, y, fold, np.arange(44), np.arange(44), [1e-2])
    assert curve["accuracy"].iloc[0] == 40 / 44 and curve["accuracy"].iloc[2] > 0.95
    group = np.r_[np.arange(40) % 2, np.full(4, 2)]  # a draw of the three groups may lack either class
    right = {True: {True: 1.0, False: 4 / 44}, False: {True: 40 / 44}}
    drawn = [set(np.random.default_rng([0, draw]).integers(0, 3, 3).tolist()) for draw in range(10)]
    accuracies = [right[2 in of_draw][bool(of_draw & {0, 1})] for of_draw in drawn]
    assert len(set(accuracies)) > 1 and training_variance(X, y, group, X, y, 1e-2) == pytest.approx(np.var(accuracies, ddof=1))
