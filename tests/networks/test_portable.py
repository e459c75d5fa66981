"""The digest of a kept network and its check image."""

import hashlib

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.portable import feature_weights, reference_features, reference_image, weights_digest


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_digest_survives_a_file_and_another_classifier(name, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    save_file(feature_weights(model), tmp_path / "w.safetensors")
    assert not any(key.startswith(("fc.", "head.fc", "head.weight")) for key in load_file(tmp_path / "w.safetensors"))
    again = build_network(Network(name, name, tmp_path / "w.safetensors"))
    assert weights_digest(again) == weights_digest(model)
    assert np.array_equal(reference_features(again), reference_features(model))


def test_any_weight_of_the_features_counts():
    torch.manual_seed(0)
    model = timm.create_model("test_resnet").eval()
    before, seen = weights_digest(model), set()
    for name, tensor in model.state_dict().items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        with torch.no_grad():
            tensor.view(-1)[0] += 1
        seen.add(weights_digest(model))
        with torch.no_grad():
            tensor.view(-1)[0] -= 1
    assert before not in seen and len(seen) > 10


def test_the_image_is_the_same_on_every_machine():
    assert hashlib.sha256(reference_image().tobytes()).hexdigest()[:16] == "e7d128eb37b47981"
