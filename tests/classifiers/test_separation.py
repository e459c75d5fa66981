"""Class separation against all pairs and against hand cases; maps that the seed decides."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from transfer_study.classifiers.separation import (
    between_class_variance,
    class_separation,
    feature_map,
    feature_maps,
    separation_table,
)
from transfer_study.core import UserError
from transfer_study.figures.maps import feature_map_panels

random = np.random.default_rng(0)


def by_pairs(X, y):
    labels = np.unique(y)
    blocks = np.array([[cdist(X[y == j], X[y == k], "cosine").mean() for k in labels] for j in labels])
    return 1 - np.diag(blocks).mean() / blocks.mean()


@pytest.mark.parametrize("sizes", [(5, 5), (1, 30, 4), (7,) * 12])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_separation_is_that_of_all_pairs(sizes, dtype):
    y = np.repeat(np.arange(len(sizes)), sizes)
    X = (random.normal(size=(len(y), 6)) + random.normal(size=(len(sizes), 6))[y]).astype(dtype)
    order = random.permutation(len(y))
    assert class_separation(X[order], y[order]) == pytest.approx(by_pairs(X.astype(float), y), abs=1e-9)


@pytest.mark.parametrize("X, expected", [
    ([[1, 0], [2, 0], [0, 1], [0, 5]], 1.0),  # a direction a class, whatever the length
    ([[1, 0], [0, 1], [0, 1], [0, 1]], 1 / 3),
    ([[1, 0], [0, 1], [1, 0], [0, 1]], 0.0),
    ([[1, 0], [-1, 0], [0, 1], [0, -1]], 0.0),  # spread over opposite directions
])  # fmt: skip
def test_separation_by_hand(X, expected):
    assert class_separation(np.array(X), np.array([0, 0, 1, 1])) == pytest.approx(expected)


def test_separation_does_not_depend_on_lengths_and_names():
    X, y = random.normal(size=(30, 4)), np.repeat(list("abc"), 10)
    lengths = random.uniform(0.1, 9, (30, 1))
    assert class_separation(X * lengths, y) == pytest.approx(class_separation(X, y))
    assert between_class_variance(X * lengths, y) != pytest.approx(between_class_variance(X, y))
    assert between_class_variance(X + 7, y) == pytest.approx(between_class_variance(X, y))


def test_variance_between_classes_by_hand():
    "Within 1 and 0, on average 1/2; the means 1 and 5 vary by 4."
    X, y = np.array([[0.0], [2.0], [5.0], [5.0], [5.0]]), np.array([0, 0, 1, 1, 1])
    assert between_class_variance(X, y) == pytest.approx(4 / 4.5)
    more = np.array([0, 0, 1, 1, 1, 1, 1, 1])  # a class counts the same, however many images it has
    assert between_class_variance(np.vstack([X, X[2:]]), more) == pytest.approx(4 / 4.5)


@pytest.mark.parametrize("X, y, words", [
    ([[0, 0], [1, 0], [0, 1]], [0, 0, 1], "1 of 3 rows of features are 0"),
    ([[1, 0], [1, 0]], [0, 1], "same direction"),
    ([[1, 0], [0, 1]], [0, 0], "1 class in 2 labels"),
])  # fmt: skip
def test_what_has_no_separation_is_refused(X, y, words):
    with pytest.raises(UserError, match=words):
        class_separation(np.array(X, dtype=float), np.array(y))


def test_a_map_is_decided_by_the_seed_and_keeps_neighbours():
    centres = 20 * random.normal(size=(4, 10))
    y = np.repeat(np.arange(4), 15)
    X = centres[y] + random.normal(size=(60, 10))
    first = feature_map(X, perplexity=10)
    assert np.array_equal(first, feature_map(X, perplexity=10)) and not np.array_equal(first, feature_map(X, perplexity=20))
    assert np.abs(first).max() == 1 and first.shape == (60, 2)
    assert (y[(cdist(first, first) + 9 * np.eye(60)).argmin(axis=1)] == y).mean() > 0.95


def test_a_map_does_not_depend_on_the_number_of_threads():
    X = random.normal(size=(500, 40))
    maps = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            maps.append(feature_map(X))
    assert np.array_equal(*maps)


def test_too_few_images_for_a_map():
    with pytest.raises(UserError, match="20 images, expected more than the perplexity of 30"):
        feature_map(random.normal(size=(20, 3)))
    with pytest.raises(UserError, match="features of 1 images are NaN or infinite"):
        feature_map(np.vstack([random.normal(size=(40, 3)), [[np.nan, 0, 0]]]))


# ---------------------------------------------------------------- the figure


def settings_features(n_classes=3, n=12):
    y = np.repeat(np.arange(n_classes), n)
    X = random.normal(size=(len(y), 20))
    return {"default": X, "label_smoothing": X + 6 * np.eye(n_classes, 20)[y]}, y


def test_the_figure_has_a_panel_for_each_setting_with_its_numbers():
    features, y = settings_features()
    numbers, points = separation_table(features, y), feature_maps(features, np.array(list("abc"))[y], perplexity=5)
    chart = feature_map_panels(points, numbers).to_dict()
    titles = [panel["title"] for panel in chart["concat"]]
    assert [title["text"] for title in titles] == ["Default", "Label smoothing"]
    assert titles[1]["subtitle"] == f"R² = {numbers['class_separation'][1]:.2f}"
    assert chart["description"].startswith("t-SNE maps") and "Label smoothing: R² =" in chart["description"]


def test_the_figure_shows_accuracies_where_there_are_some():
    features, y = settings_features()
    numbers = separation_table(features, y).assign(source_accuracy=[0.7, 0.72], score=[0.8, np.nan])
    chart = feature_map_panels(feature_maps(features, y.astype(str), perplexity=5), numbers).to_dict()
    first, second = (panel["title"]["subtitle"] for panel in chart["concat"])
    assert first.endswith("source 70.0 %, transfer 80.0 %") and second.endswith("source 72.0 %")


@pytest.mark.parametrize("n_classes", [10, 11])
def test_many_classes_have_no_legend_but_names_under_the_pointer(n_classes):
    features, y = settings_features(n_classes, n=4)
    encoding = feature_map_panels(feature_maps(features, y.astype(str), perplexity=5)).to_dict()["concat"][0]["encoding"]
    assert (encoding["color"]["legend"] is None) == (n_classes == 11) and encoding["tooltip"][0]["field"] == "class"


def test_a_table_without_what_is_drawn_is_refused():
    with pytest.raises(UserError, match="no column 'class'"):
        feature_map_panels(pd.DataFrame({"setting": ["a"], "x": [0.0], "y": [0.0]}))
