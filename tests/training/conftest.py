"""Images and networks for the tests of trainings."""

import pytest

from tests.conftest import write_images
from transfer_study.images.datasets import image_folder
from transfer_study.images.drawn import drawn_dataset
from transfer_study.networks.networks import Network
from transfer_study.training.protocol import (
    training_protocol,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return image_folder(write_images(tmp_path_factory.mktemp("squares") / "squares", train=12, test=6))


@pytest.fixture
def short():
    return training_protocol("scratch", steps=6, batch_size=8, n_evaluations=3)

OWN = """
import timm
from torch import nn

def resnet():
    return timm.create_model("test_resnet", num_classes=10, pretrained_cfg_overlay={"input_size": (3, 32, 32), "crop_pct": 0.9})

def mambaout():
    return timm.create_model("test_mambaout", num_classes=10, pretrained_cfg_overlay={"input_size": (3, 32, 32)})

def small():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.Softplus(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10),
    )
    model.pretrained_cfg = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    return model
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    "Three tiny networks of ten classes, for images of 32 pixels."
    folder = tmp_path_factory.mktemp("own")
    (folder / "tiny.py").write_text(OWN)
    return {name: Network(name, f"tiny:{name}", directory=folder) for name in ("resnet", "mambaout", "small")}


@pytest.fixture(scope="module")
def digits():
    return drawn_dataset("digits", n_train_per_class=8, n_test_per_class=6)
