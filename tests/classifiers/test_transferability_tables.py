"""The shipped tables of transferability scores: complete, and in accord with other runs of the same networks and images."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.classifiers.posterior_scores import FEATURE_SCORES
from transfer_study.core import data_path


@pytest.fixture(scope="module")
def tables():
    folder = "results/transferability"
    truth = pd.read_csv(data_path(f"{folder}/truth.csv")).set_index(["network", "dataset"])
    predictions = pd.read_csv(data_path(f"{folder}/predictions.csv"), dtype=str).set_index(["network", "dataset"])["right"]
    return truth, pd.read_csv(data_path(f"{folder}/scores.csv")), predictions


def test_every_network_has_every_score_on_every_dataset(tables):
    truth, scores, predictions = tables
    grid = truth.reset_index()
    assert len(truth) == grid["network"].nunique() * grid["dataset"].nunique() == len(predictions) and truth.index.is_unique
    counts = scores[scores["seed"] == 0].groupby("score").size()
    assert (counts == len(truth)).all() and {*FEATURE_SCORES, "leep", "nce", "ncti_spread"} <= set(counts.index)
    assert np.isfinite(scores["value"]).all() and (truth["seconds_extraction"] > 0).all()


def test_predictions_give_the_accuracies(tables):
    truth, _, predictions = tables
    for place, right in predictions.items():
        assert len(right) == truth.loc[place, "n_test"]
        assert right.count("1") / len(right) == pytest.approx(truth.loc[place, "test_accuracy"], abs=1e-5)


def test_accuracies_are_those_of_the_study_of_the_same_networks(tables):
    """An earlier run of the package, on another processor: mostly the same images are right.

    Neighbouring λ often differ by no or one of the 150 to 400 validation images, so that rounding decides which one is taken, and
    their test accuracies differ by up to half a point. They stay within a standard error of the accuracy itself.
    """
    truth, _, _ = tables
    study = pd.read_csv(data_path("results/mobilenets/results.csv")).set_index(["network", "dataset"])
    shared = truth.index.intersection(study.index)
    assert len(shared) == 5 * truth.index.get_level_values("dataset").nunique()
    p, n = truth.loc[shared, "test_accuracy"], truth.loc[shared, "n_test"]
    difference = (p - study.loc[shared, "score"]).abs()
    assert (difference * n).median() < 1 and (difference <= np.sqrt(p * (1 - p) / n)).all()
    assert (truth.loc[shared, "source_accuracy"] == study.loc[shared, "source_accuracy"]).all()


def test_scores_that_have_bounds_keep_them(tables):
    truth, scores, _ = tables
    wide = scores[scores["seed"] == 0].pivot(index=["network", "dataset"], columns="score", values="value")
    n_classes = truth.loc[wide.index, "n_classes"]
    assert (wide["h_score"] <= n_classes - 1 + 1e-4).all() and (wide["h_score_shrunk"] >= 0).all()
    assert (wide[["leep", "nce", "nleep", "gbc"]] <= 1e-9).all().all() and wide["leave_one_out_knn"].between(0, 1).all()
    assert wide["sfda"].between(0, 1.00001).all() and wide["parc"].between(-1, 1).all()
