"""Prepared networks compute the features of the plain network, on every kind of machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.features.conftest import build, close
from transfer_study.core import UserError
from transfer_study.features.inference import fold_batch_norm, keep_freed_memory, prepare_network, resolve_precision
from transfer_study.networks.penultimate import penultimate_features


def test_folding_keeps_features_and_leaves_no_norm_after_a_convolution(models):
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        folded = fold_batch_norm(models[0], images)
        assert folded is not models[0] and not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert close(penultimate_features(folded, images), penultimate_features(models[0], images))
        weird = build("test_resnet")
        weird.register_forward_pre_hook(lambda module, inputs: None)
        convolution = next(m for m in weird.modules() if isinstance(m, torch.nn.Conv2d))
        convolution.register_forward_hook(lambda module, inputs, output: output.mul_(2))
        folded = fold_batch_norm(weird, images)
        assert close(penultimate_features(folded, images), penultimate_features(weird, images))


def test_freed_memory_is_kept_where_glibc_allows_it():
    with keep_freed_memory() as supported:
        assert supported == (sys.platform == "linux" and "musl" not in os.confstr("CS_GNU_LIBC_VERSION"))
        torch.zeros(1000)


def test_auto_precision_is_bfloat16_only_where_the_processor_has_it():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx2" in flags:
        assert resolve_precision("auto", "cpu") == ("bfloat16" if {"amx_bf16", "avx512_bf16"} & set(flags.split()) else "float32")
    with pytest.raises(UserError, match="precision 'half'"):
        resolve_precision("half")


class Small(torch.nn.Module):
    "A convolution and a classifier: quick to compile."

    def __init__(self):
        super().__init__()
        self.convolution, self.classifier = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)

    def forward(self, images):
        return self.classifier(self.convolution(images).relu().mean((2, 3)))


def prepared_features(compile: bool) -> torch.Tensor:
    torch.manual_seed(0)
    model = Small().eval()
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    return prepare_network(model, compile=compile)(torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a C++ compiler with OpenMP")
def test_compiled_features_are_the_same_up_to_rounding_or_refused():
    try:
        compiled = prepared_features(compile=True)
    except UserError as error:  # torch 2.15 with ATEN_CPU_CAPABILITY=avx2 on a processor with AVX-512
        assert "computes other features" in str(error) and os.environ.get("ATEN_CPU_CAPABILITY") == "avx2"
    else:
        assert close(compiled, prepared_features(compile=False))


FAULTS = [lambda features: features * 2, lambda features: features.index_fill(0, torch.tensor(2), torch.nan)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_compiler_that_computes_other_features_is_found(fault, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda compute: lambda images: fault(compute(images)))
    with pytest.raises(UserError, match="computes other features than the network itself .* set compile = false"):
        prepared_features(compile=True)


def test_without_a_compiler_the_error_says_what_to_change(tmp_path):
    code = "from tests.features.test_inference import prepared_features; prepared_features(compile=True)"
    environment = os.environ | {"CXX": str(tmp_path / "absent"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": str(tmp_path)}
    root = Path(__file__).parents[2]
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=root)
    assert "UserError: compile = true: torch.compile failed (" in failed.stderr and "set compile = false" in failed.stderr
