"""Small networks and images for the tests of features."""

import numpy as np
import pytest
import timm
import torch

from tests.conftest import write_images
from transfer_study.images.datasets import image_folder
from transfer_study.images.decoding import decode
from transfer_study.networks.penultimate import input_transform, penultimate_features

NAMES = ("test_resnet", "test_efficientnet", "test_vit")


def build(name: str, seed: int = 0) -> torch.nn.Module:
    "A small network whose batch norms have statistics of their own."
    torch.manual_seed(seed)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def models():
    return [build(name) for name in NAMES]


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    "28 images."
    return image_folder(write_images(tmp_path_factory.mktemp("images") / "squares"))


def alone(model, dataset) -> np.ndarray:
    "The plain way: timm's transform, one image at a time."
    transform = input_transform(model)
    with torch.no_grad():
        inputs = (transform(decode(dataset.read(i)))[None] for i in range(len(dataset.images)))
        return np.concatenate([penultimate_features(model, images).numpy() for images in inputs])


def close(X, expected, tolerance=1e-5) -> bool:
    X, expected = np.asarray(X), np.asarray(expected)
    return np.abs(X - expected).max() <= tolerance * np.abs(expected).max()
