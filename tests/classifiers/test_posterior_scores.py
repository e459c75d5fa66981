"""Scores from probabilities against the published procedures written out, and the table of all scores."""

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import mutual_info_score

from tests.classifiers.common import toy
from transfer_study.classifiers.posterior_scores import (
    TRANSFERABILITY_SCORES,
    leep,
    nce,
    ncti,
    ncti_components,
    ncti_of_components,
    nleep,
    sfda,
    transferability_scores,
)
from transfer_study.core import UserError


def probabilities(n=60, n_source=7, seed=0):
    random = np.random.default_rng(seed)
    return softmax(2 * random.normal(size=(n, n_source)), axis=1), random.integers(4, size=n)


# ---------------------------------------------------------------- LEEP and NCE


def test_leep_is_its_definition_with_the_logarithm():
    theta, y = probabilities()
    joint = np.array([[theta[y == label, z].sum() / len(y) for z in range(7)] for label in range(4)])
    predicted = np.array([sum(joint[y[i], z] / joint[:, z].sum() * theta[i, z] for z in range(7)) for i in range(len(y))])
    assert leep(theta, y) == pytest.approx(np.log(predicted).mean()) and leep(theta, y) < 0 < predicted.mean()


def test_without_the_logarithm_the_order_can_be_another():
    "A network that is certain and wrong on 15 % of the images, and one that gives the right class 84 % everywhere."
    y = np.repeat([0, 1], 100)
    certain = np.eye(2)[np.where(np.arange(200) % 100 < 15, 1 - y, y)]
    cautious = np.where(y[:, None] == [0, 1], 0.84, 0.16)

    def without_logarithm(theta):
        joint = np.stack([theta[y == label].sum(axis=0) for label in (0, 1)])
        return np.einsum("nz,nz->n", theta, (joint / joint.sum(axis=0))[y]).mean()

    assert without_logarithm(certain) > without_logarithm(cautious) and leep(certain, y) < leep(cautious, y)
    assert leep(certain, y) == pytest.approx(0.85 * np.log(0.85) + 0.15 * np.log(0.15))
    assert leep(cautious, y) == pytest.approx(np.log(0.84**2 + 0.16**2))


def test_leep_of_probabilities_0_and_1_is_nce():
    z, y = np.random.default_rng(0).integers(5, size=80), np.random.default_rng(1).integers(3, size=80)
    assert leep(np.eye(9)[z], y) == pytest.approx(nce(z, y))  # four of the nine source classes have no image: 0/0
    assert nce(z, y) == pytest.approx(mutual_info_score(z, y) - mutual_info_score(y, y))
    assert nce(np.array(list("abcde"))[z], y) == nce(z, y)


def test_leep_lies_between_the_bounds_of_the_paper():
    "At least NCE plus the mean log probability of the most likely source class, and at least −H(y)."
    for seed in range(5):
        theta, y = probabilities(seed=seed)
        z = theta.argmax(axis=1)
        assert 0 >= leep(theta, y) >= nce(z, y) + np.log(theta.max(axis=1)).mean()
        assert leep(theta, y) >= -mutual_info_score(y, y)


@pytest.mark.parametrize("theta, y, words", [
    ([[2.0, -1], [0.5, 0.5]], [0, 1], "rows that are not probabilities"),
    ([[0.2, 0.2], [0.5, 0.5]], [0, 1], "such as the softmax of the logits"),
    ([[np.nan, 1], [0.5, 0.5]], [0, 1], "rows that are not probabilities"),
    ([[0.5, 0.5]], [0, 1], "probabilities of shape"),
    ([[0.5, 0.5], [0.5, 0.5]], [1, 1], "1 class in 2 labels"),
])  # fmt: skip
def test_what_is_not_probabilities_is_refused(theta, y, words):
    with pytest.raises(UserError, match=f"LEEP: .*{words}"):
        leep(np.array(theta), np.array(y))


def test_nce_names_itself():
    with pytest.raises(UserError, match="NCE: 1 class"):
        nce(np.array([0, 1]), np.array([3, 3]))


# ---------------------------------------------------------------- NLEEP


def test_nleep_with_a_component_for_each_image_is_0():
    X, y = toy((5, 5), 2)
    assert nleep(X, y, components_per_class=5) == pytest.approx(0, abs=1e-6)


def test_nleep_has_a_seed_and_needs_no_more_images_than_components():
    X, y = toy((30, 30, 30), 4)
    assert nleep(X, y) == nleep(X, y, random_state=0) != nleep(X, y, random_state=1)
    assert np.isfinite(nleep(*toy((3, 3, 3), 4)))
    with pytest.raises(UserError, match="0 components and 0.8 of the variance"):
        nleep(X, y, components_per_class=0)


# ---------------------------------------------------------------- SFDA


def published_sfda(X, y):
    "The authors' procedure: generalised eigenvectors of the scatter matrices, and softmax twice."
    X = X.copy()

    def fit(X, shrinkage):
        priors, means = np.bincount(y) / len(y), np.stack([X[y == label].mean(axis=0) for label in np.unique(y)])
        within = sum(p * np.cov(X[y == label].T, bias=True) for label, p in enumerate(priors))
        shrinkage = max(np.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10) if shrinkage is None else shrinkage
        identity = np.eye(X.shape[1]) / X.shape[1]
        shrunk = [(1 - shrinkage) * S + shrinkage * np.trace(S) * identity for S in (within, np.cov(X.T, bias=True))]
        _, vectors = eigh(shrunk[1] - shrunk[0], shrunk[0])
        coefficients = means @ vectors @ vectors.T
        return softmax(X @ coefficients.T - 0.5 * np.diag(means @ coefficients.T) + np.log(priors), axis=1), means, shrinkage

    probability, means, shrinkage = fit(X, None)
    probability = softmax(probability, axis=1)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    for label in np.unique(y):
        p = probability[y == label, label][:, None]
        X[y == label] = p * X[y == label] + (1 - p) * others[label]
    return fit(X, shrinkage)[0][np.arange(len(y)), y].mean()


@pytest.mark.parametrize("sizes", [(20, 30), (20, 30, 25), (9,) * 8])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_sfda_is_the_published_procedure(sizes, scale):
    X, y = toy(sizes)
    assert sfda(scale * X, y) == pytest.approx(published_sfda(scale * X, y), abs=1e-8)


def test_sfda_without_folds_sees_classes_in_noise():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(120, 110)), np.repeat([0, 1, 2], 40)
    assert sfda(X, y) > 0.5 and abs(sfda(X, y, n_folds=5) - 1 / 3) < 0.12


def test_sfda_with_folds_of_separated_classes_is_near_1():
    X, y = toy((40, 40, 40), distance=10)
    assert sfda(X, y, n_folds=4) > 0.99 and sfda(X, y, n_folds=4) == sfda(X, y, n_folds=4)


def test_folds_with_a_class_of_one_image():
    "It cannot be predicted without having been fitted, so its image counts 0."
    X, y = toy((40, 40, 1), distance=10)
    assert sfda(X, y, n_folds=5) == pytest.approx(80 / 81, abs=0.01)
    for n_folds in (1, 41):
        with pytest.raises(UserError, match="expected 2 to 40"):
            sfda(X, y, n_folds=n_folds)


# ---------------------------------------------------------------- NCTI


def test_components_of_ncti_by_their_definition():
    X, y = toy((30, 40, 30), 80, distance=3)
    X = 10 * X  # a variance above 23, so that nothing is shrunk
    Z = PCA(64, svd_solver="full").fit_transform(X)
    model = LinearDiscriminantAnalysis().fit(Z, y)
    p = model.predict_proba(Z)
    by_class = sum(np.linalg.svd(p[y == label], compute_uv=False).sum() for label in range(3))
    spread, probability, compact = ncti_components(X, y)
    assert spread == pytest.approx(np.linalg.svd(model.transform(Z) - model.transform(Z).mean(axis=0), compute_uv=False).sum())
    assert probability == pytest.approx(p[np.arange(100), y].mean()) and compact == pytest.approx(-np.log(by_class))


def test_ncti_scales_each_part_over_the_networks():
    assert ncti_of_components(np.array([[1, 0.2, -5], [3, 0.4, -5], [2, 0.2, -5]])) == pytest.approx([0, 2, 0.5])
    with pytest.raises(UserError, match="at least two networks"):
        ncti_of_components(np.array([[1, 0.2, -5]]))


def test_ncti_depends_on_who_else_competes():
    X, y = toy((30, 30), 10, distance=2)
    random = np.random.default_rng(0)
    features = [X + level * random.normal(size=X.shape) for level in (0, 1, 3)]
    assert ncti(features, y)[0] == pytest.approx(3) and ncti(features[1:], y)[0] == pytest.approx(3)
    assert ncti(features, y)[1] < 3


def test_ncti_with_few_images_and_features_below_64():
    X, y = toy((5, 4, 1), 3)
    assert np.isfinite(ncti_components(X, y)).all() and np.isfinite(ncti_components(0.01 * X, y)).all()


# ---------------------------------------------------------------- the table


def test_the_table_has_a_row_for_each_network_and_score():
    X, y = toy((10, 10, 10), 8)
    theta = softmax(X, axis=1)
    table = transferability_scores({"a": X, "b": X[:, :5]}, y, {"a": theta})
    assert list(table) == ["network", "score", "value", "seconds", "note"]
    assert len(table) == 2 * len(TRANSFERABILITY_SCORES) and list(table["score"][:12]) == list(TRANSFERABILITY_SCORES)
    by = table.set_index(["network", "score"])
    assert by.loc[("a", "leep"), "value"] == leep(theta, y) and by.loc[("a", "nce"), "value"] == nce(theta.argmax(axis=1), y)
    assert list(by.loc[["a", "b"]].xs("ncti", level="score")["value"]) == pytest.approx(ncti([X, X[:, :5]], y))
    missing = table[table["value"].isna()]
    assert set(missing["network"]) == {"b"} and set(missing["score"]) == {"leep", "nce"}
    assert set(missing["note"]) == {"no source probabilities"}


def test_a_score_without_a_value_says_why():
    X, y = toy((10, 10), 1)
    table = transferability_scores({"a": X}, y, scores=("parc", "ncti", "gbc")).set_index("score")
    assert "at least two principal components" in table.loc["parc", "note"]
    assert "at least two networks" in table.loc["ncti", "note"]
    assert np.isfinite(table.loc["gbc", "value"]) and table.loc["gbc", "note"] == ""
    with pytest.raises(UserError, match="logm.*logme"):
        transferability_scores({"a": X}, y, scores=("logm",))
