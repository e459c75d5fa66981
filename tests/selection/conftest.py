"""One finished study and one classifier for the tests of this room."""

import shutil
from typing import NamedTuple

import numpy as np
import pytest

from tests.conftest import write_study
from transfer_study.classifiers.linear_probe import LogisticPathClassifier
from transfer_study.features.extraction import Features, extract_features
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.networks.networks import Network, build_network
from transfer_study.selection.classifier import save_classifier
from transfer_study.study.study import Study


class Fitted(NamedTuple):
    "A network, its features of a dataset, and a head."

    network: Network
    dataset: ImageDataset
    features: Features
    test: np.ndarray  # (n,) bool
    head: LogisticPathClassifier
    arguments: dict  # of `save_classifier`


@pytest.fixture(scope="session")
def finished(tmp_path_factory, weights):
    "The directory of the runs of a study, and its results table; tests only add to it."
    folder = tmp_path_factory.mktemp("kept")
    study = Study.from_file(write_study(folder, weights)).part(["test_resnet", "test_efficientnet"])
    results = study.run(folder / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    return folder, results


@pytest.fixture(scope="session")
def fitted(finished, weights):
    folder, _ = finished
    network, dataset = (
        Network("test_resnet", "test_resnet", weights / "test_resnet.safetensors"),
        image_folder(folder / "squares"),
    )
    (features,) = extract_features([build_network(network)], dataset)
    y, test = dataset.targets[features.rows], (dataset.images["split"] == "test").to_numpy()[features.rows]
    head = LogisticPathClassifier(l2=[1e-2]).fit(features.X[~test], y[~test])
    accuracy = float((head.predict(features.X[test]) == y[test]).mean())
    arguments = {
        "network": network, "head": head, "class_names": dataset.classes, "expected_accuracy": accuracy, "interval": (0.0, 1.0),
        "n_test": int(test.sum()), "training_features": features.X[~test],
    }  # fmt: skip
    return Fitted(network, dataset, features, test, head, arguments)


@pytest.fixture(scope="session")
def saved(fitted, tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("saved") / "classifier", bundle=True, **fitted.arguments)


@pytest.fixture
def copied(saved, tmp_path):
    "A copy of the classifier that a test may damage."
    return shutil.copytree(saved, tmp_path / "classifier")
