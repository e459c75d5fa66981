"""The `pretrained_cfg` of a network: what people write is read as meant, and mistakes are one line."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg
from torchvision.transforms import InterpolationMode

from tests.networks.sources import SMALL
from transfer_study.core import UserError
from transfer_study.networks.networks import Network, build_network, checked_input, random_network
from transfer_study.networks.penultimate import input_configuration, input_transform

HALF = (0.5, 0.5, 0.5)


def configured(configuration):
    return SimpleNamespace(pretrained_cfg=configuration)


def test_the_configurations_of_timm_are_unchanged():
    for name in timm.list_pretrained():
        model = configured(get_pretrained_cfg(name).to_dict(remove_null=False))
        assert repr(input_configuration(model)) == repr(resolve_model_data_config(model)), name


@pytest.mark.parametrize(
    "configuration",
    [
        {"input_size": [3, 48, 48], "mean": list(HALF), "std": list(HALF)},
        {"input_size": torch.Size([3, 48, 48]), "mean": np.array(HALF), "std": torch.tensor(HALF)},
        {"input_size": np.array([3, 48, 48]), "mean": HALF, "std": HALF, "interpolation": 3, "crop_mode": "Center"},
        {"input_size": (3, 48, 48), "mean": HALF, "std": HALF, "interpolation": "BICUBIC"},
        {"input_size": (3, 48, 48), "mean": HALF, "std": HALF, "interpolation": InterpolationMode.BICUBIC, "crop_pct": None},
        {
            "input_size": (3, 48, 48),
            "mean": HALF,
            "std": HALF,
            "interpolation": Image.Resampling.BICUBIC,
            "license": "mit",
            "url": "",
        },
        PretrainedCfg(input_size=(3, 48, 48), mean=HALF, std=HALF, hf_hub_id="timm/x", tag="x", first_conv="conv1"),
    ],
)
def test_forms_of_one_configuration_agree(configuration):
    expected = {
        "input_size": (3, 48, 48),
        "interpolation": "bicubic",
        "mean": HALF,
        "std": HALF,
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
    assert input_configuration(configured(configuration)) == expected
    assert input_transform(configured(configuration))(Image.new("RGB", (60, 70))).shape == (3, 48, 48)


def test_what_is_not_stated_is_timms_default():
    default = resolve_model_data_config(configured({"tag": "x"}))
    for model in (configured(None), configured({}), SimpleNamespace(), configured({"mean": None})):
        assert input_configuration(model) == default
    assert input_configuration(SimpleNamespace(default_cfg={"crop_pct": 1}))["crop_pct"] == 1


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (
            {"mean": (123.675, 116.28, 103.53)},
            r"mean is \(123.675, 116.28, 103.53\), expected three numbers from 0 to 1.*divide .* by 255",
        ),
        ({"std": (58.4, 57.1, 57.4)}, "std is .*divide .* by 255"),
        ({"std": (255, 255, 255)}, "std is .*at most 1"),
        ({"std": (-1, 1, 1)}, r"std is \(-1, 1, 1\), expected three numbers above 0"),
        ({"std": (0, 0, 0)}, "above 0"),
        ({"mean": (float("nan"), 0, 0)}, "mean is .nan"),
        ({"mean": 0.5}, "mean is 0.5, expected three numbers"),
        ({"mean": (0.5,)}, "expected three numbers"),
        ({"mean": ("0.5", "0.5", "0.5")}, "expected three numbers"),
        ({"crop_mode": "centre"}, "crop_mode is 'centre', expected center, squash or border"),
        ({"crop_pct": 87.5}, "crop_pct is 87.5, expected .* such as 0.875"),
        ({"crop_pct": 0}, "crop_pct is 0"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic', expected nearest, bilinear, bicubic"),
        ({"interpolation": 9}, "interpolation is 9"),
        ({"input_size": 48}, "input_size is 48, expected three whole numbers: channels, height and width"),
        ({"input_size": (48, 48)}, r"input_size is \(48, 48\)"),
        ({"input_size": (3, 48.5, 48)}, "input_size is"),
        (
            {"img_size": 48, "image_mean": HALF},
            "img_size, image_mean: unknown; the keys of the input are input_size, interpolation, mean, std",
        ),
        ({"mean": (124, 116, 104), "std": (58, 57, 57), "size": 48}, "mean is .*; std is .*; size: unknown"),
        ("imagenet", " is str; expected a dictionary"),
    ],
)
def test_mistakes_name_the_key_and_what_is_expected(configuration, message):
    with pytest.raises(UserError, match=f"^network 'a': its pretrained_cfg.*{message}") as caught:
        checked_input(configured(configuration), "a")
    assert "\n" not in str(caught.value)


def test_a_network_of_ones_own_is_checked_when_it_is_built(tmp_path):
    wrong = SMALL.replace('"input_size"', '"img_size"')
    (tmp_path / "nets.py").write_text(f"from torch import nn\n\n{wrong}")
    for build in (build_network, random_network):
        with pytest.raises(UserError, match="network 'a': .*img_size: unknown"):
            build(Network("a", "nets:Small", tmp_path / "not_looked_at.pth", directory=tmp_path))
