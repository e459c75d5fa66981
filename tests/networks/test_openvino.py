"""The back end of a study's features: what may choose OpenVINO, and that its features are PyTorch's."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

from tests.features.conftest import build, close
from transfer_study.core import UserError
from transfer_study.features.inference import prepare_network
from transfer_study.networks.openvino import (
    AGREEMENT,
    checked_features,
    disagreement,
    is_installed,
    openvino_features,
    probe_images,
    resolve_backend,
)
from transfer_study.networks.penultimate import penultimate_features

needs_openvino = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed (the extra openvino)")


class Moody(torch.nn.Module):
    "A network that cannot be traced: its forward pass depends on values, and on how often it was called."

    def __init__(self, model):
        super().__init__()
        self.model, self.pretrained_cfg, self.n = model, model.pretrained_cfg, 0

    def forward(self, images):
        self.n += 1
        return self.model(images * self.n)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_pytorch_is_what_a_study_gets_without_asking():
    assert resolve_backend("torch", None) == ("torch", "")
    with pytest.raises(UserError, match="backend 'onnx': expected one of torch, openvino, auto"):
        resolve_backend("onnx", None)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"device": "cuda"}, "device is 'cuda'"), ({"precision": "bfloat16"}, "precision is 'bfloat16'"),
        ({"instruction_set": "avx2"}, "instruction_set is 'avx2'"),
    ],
)
def test_openvino_is_for_the_whole_cpu_in_single_precision(limit, message):
    assert resolve_backend("auto", None, **limit)[0] == "torch" and message in resolve_backend("auto", None, **limit)[1]
    with pytest.raises(UserError, match=message):
        resolve_backend("openvino", None, **limit)


@pytest.mark.skipif(is_installed(), reason="OpenVINO is installed")
def test_without_the_extra_auto_is_pytorch_and_openvino_an_error():
    model = timm.create_model("test_resnet").eval()
    assert resolve_backend("auto", model) == ("torch", "OpenVINO is not installed")
    for use in (resolve_backend, lambda backend, model: prepare_network(model, backend=backend)):
        with pytest.raises(UserError, match=r'OpenVINO is not installed; pip install "transfer_study\[openvino\]"'):
            use("openvino", model)


def test_the_disagreement_sees_a_wrong_feature_a_wrong_shape_and_nan():
    model = build("test_resnet")

    def wrong(change):
        return disagreement(model, lambda images: change(penultimate_features(model, images)))

    assert wrong(lambda X: X) == 0 < wrong(lambda X: X * (1 + 1e-5)) < AGREEMENT < wrong(lambda X: X * 1.001)
    assert wrong(lambda X: X[:, 1:]) == wrong(lambda X: X * float("nan")) == float("inf")
    assert not torch.equal(probe_images(model)[0], probe_images(model)[1])


@needs_openvino
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_features_are_those_of_pytorch(name):
    model = build(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pixels = torch.randint(0, 256, (11, *timm.data.resolve_model_data_config(model)["input_size"][1:], 3), dtype=torch.uint8)
    plain, ours = prepare_network(model), prepare_network(model, backend="openvino")
    assert ours.n_features == plain.n_features and close(ours(pixels), plain(pixels), 1e-5)
    assert np.array_equal(ours(pixels).numpy(), prepare_network(model, backend="openvino")(pixels).numpy())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert resolve_backend("auto", model) == resolve_backend("openvino", model) == ("openvino", "")


@needs_openvino
def test_a_network_with_other_features_stays_with_pytorch():
    model = Moody(build("test_resnet")).eval()
    backend, reason = resolve_backend("auto", model)
    assert backend == "torch" and reason and resolve_backend("auto", model) == (backend, reason)  # from the cache
    with pytest.raises(UserError, match='backend "openvino": Moody'):
        checked_features(model)


@needs_openvino
def test_what_openvino_does_not_know_is_one_line():
    class Strange(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, images):
            return self.linear(torch.special.bessel_j0(images).mean((2, 3)))

    with pytest.raises(UserError, match=r'^backend "openvino": Strange cannot be converted \(.*\); set backend = "torch"$'):
        openvino_features(Strange().eval())


@pytest.mark.parametrize("limit", [{"precision": "bfloat16"}, {"compile": True}, {"device": "meta"}])
def test_preparation_refuses_what_openvino_cannot_do(limit):
    with pytest.raises(UserError, match=f'backend "openvino": {next(iter(limit))} is'):
        prepare_network(build("test_resnet"), backend="openvino", **limit)


SIGNALLED = """
import gc, signal
import timm, torch
from transfer_study.networks.openvino import openvino_features
model = timm.create_model("test_resnet").eval()
features = openvino_features(model)
features = openvino_features(model)  # the second is there before the first is gone
del features
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


@needs_openvino
def test_a_signal_is_handled_after_the_last_network_is_gone():
    "Each load of OpenVINO replaces the stack for signals; of two at once, a freed one stays in use, and Ctrl-C crashes."
    run = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "handled\n"), run.stderr
