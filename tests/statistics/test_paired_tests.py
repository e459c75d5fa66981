"""Tests on single images against statsmodels, full enumeration and simulated null hypotheses."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from transfer_study.classifiers.metrics import mean_average_precision_11_point, mean_per_class_accuracy
from transfer_study.core import UserError
from transfer_study.results import write_run
from transfer_study.statistics.paired_tests import (
    compare_predictions,
    compare_runs,
    exact_binomial_test,
    permutation_test,
    permutation_test_mean_per_class,
)


@pytest.mark.parametrize("seed", range(5))
def test_exact_binomial_is_mcnemars(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.random(60) < 0.7, generator.random(60) < 0.8
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert exact_binomial_test(a, b)[0] == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_networks_that_never_differ():
    assert exact_binomial_test([1, 0, 1], [1, 0, 1]) == (1.0, 0, 0)


def test_mean_per_class_permutation_against_enumeration():
    "Ten discordant images have 1,024 swaps, which can all be looked at."
    y_true = np.array([0] * 9 + [1] * 5 + [2] * 2)
    a, b = y_true.copy(), y_true.copy()
    a[[0, 1, 2, 9, 10, 11, 14]], b[[3, 4, 12]] = 9, 9
    discordant = np.flatnonzero(a != b)
    assert len(discordant) == 10
    observed = mean_per_class_accuracy(y_true, b) - mean_per_class_accuracy(y_true, a)
    as_far = 0
    for swaps in product([False, True], repeat=10):
        one, other = a.copy(), b.copy()
        one[discordant[list(swaps)]], other[discordant[list(swaps)]] = (
            b[discordant[list(swaps)]],
            a[discordant[list(swaps)]],
        )
        as_far += (
            abs(mean_per_class_accuracy(y_true, other) - mean_per_class_accuracy(y_true, one)) >= abs(observed) - 1e-12
        )
    difference, p_value = permutation_test_mean_per_class(y_true, a, b, n_permutations=20_000)
    assert difference == pytest.approx(observed)
    assert p_value == pytest.approx(as_far / 1024, abs=0.012)


def test_permutation_keeps_its_level():
    "Two networks that are alike: 300 data sets, 5 % of p-values below 0.05 (standard error 1.3 %)."
    y_true, below = np.repeat([0, 1, 2], [40, 20, 10]), 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        a, b = (np.where(generator.random(70) < 0.7, y_true, 9) for _ in range(2))
        below += permutation_test_mean_per_class(y_true, a, b, n_permutations=500, seed=seed)[1] < 0.05
    assert 0.02 < below / 300 < 0.09


def test_average_precision_permutation_keeps_its_level_on_other_scales():
    below = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        shown = (generator.random((40, 1)) < 0.4).astype(int)
        a, b = shown + generator.normal(size=shown.shape), 1000 * (shown + generator.normal(size=shown.shape)) - 7
        below += permutation_test(shown, a, b, n_permutations=100, seed=seed)[1] < 0.1
    assert 0.01 < below / 60 < 0.22


def test_average_precision_p_value_does_not_depend_on_the_scale_of_confidences():
    generator = np.random.default_rng(1)
    shown = (generator.random((40, 2)) < 0.4).astype(int)
    a, b = shown + generator.normal(size=(2, 40, 2))
    expected = permutation_test(shown, a, b, n_permutations=100)
    assert permutation_test(shown, a, 1000 * np.exp(b), n_permutations=100) == expected


def test_average_precision_difference_is_the_metrics():
    generator = np.random.default_rng(0)
    shown = generator.integers(-1, 2, (50, 3))
    a, b = generator.normal(size=(2, 50, 3))
    difference, _ = permutation_test(shown, a, b, n_permutations=5)
    assert difference == pytest.approx(
        mean_average_precision_11_point(shown, b) - mean_average_precision_11_point(shown, a)
    )


def test_images_are_matched_by_name_and_have_to_be_the_same():
    one = {"y_true": np.array([0, 1, 1]), "y_pred": np.array([0, 1, 2]), "image": np.array(["a", "b", "c"])}
    turned = {name: values[::-1] for name, values in one.items()}
    assert compare_predictions(one, turned, "top1") == {"difference": 0.0, "p_value": 1.0, "n_test": 3}
    with pytest.raises(UserError, match="2 test images are not in both runs"):
        compare_predictions(one, one | {"image": np.array(["a", "b", "d"])}, "top1")


def test_runs_on_disk(tmp_path):
    y_true = np.arange(40) % 2
    for name, wrong in (("weak", 30), ("strong", 2), ("strong2", 2)):
        predictions = {"y_true": y_true, "y_pred": np.where(np.arange(40) < wrong, 9, y_true), "image": np.arange(40)}
        row = {
            "network": name,
            "dataset": "pets",
            "protocol": "linear",
            "metric": "top1",
            "score": 1 - wrong / 40,
            "run_id": f"run_{name}",
            "seed": 0,
        }
        write_run(tmp_path / "study" / f"run_{name}", {}, row, predictions, pd.DataFrame())
    table = compare_runs(tmp_path, "pets").set_index(["network_a", "network_b"])
    assert table.loc[("strong", "strong2"), "p_value"] == 1
    assert table.loc[("strong", "weak"), "difference"] == pytest.approx(-28 / 40)
    assert table.loc[("strong", "weak"), "p_value"] == pytest.approx(2 * 0.5**28)
    with pytest.raises(UserError, match="unknown dataset 'cars'; known: pets"):
        compare_runs(tmp_path, "cars")
