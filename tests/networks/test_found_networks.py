"""Networks of one's own that are packages, and files of weights as programs leave them: used, or what is wrong in one line."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.networks.sources import SMALL
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network, load_weights


@pytest.fixture
def tiny(tmp_path):
    "A folder with a network, and the network."
    (tmp_path / "nets.py").write_text(f"from torch import nn\n\n{SMALL}")
    return tmp_path, build_architecture("nets:Small", tmp_path).eval()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "architecture module 'parts': SyntaxError"),
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import torch\n\ntorch.nothing\n", "AttributeError"),
        ("raise SystemExit(2)\n", "SystemExit: 2"),
        ("from . import nothing\n", "ImportError: cannot import name 'nothing'"),
    ],
)
def test_a_package_that_fails_is_one_line(tmp_path, text, message):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text(text)
    with pytest.raises(UserError, match=message):
        build_architecture("parts:f", tmp_path)


def test_names_of_other_programs_say_how_to_write_them(tiny):
    for name, message in {
        "nets.py:Small": "expected the name of a module, such as nets for the file nets.py",
        "keras:resnet": "'keras': not found", "facebook/dinov2-base": "write transformers:facebook/dinov2-base",
        "hf-hub:timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k$",
        "hf_hub:timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k$",
        "timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k", "hf-hub:laion/x": "write transformers:laion/x",
        "https://huggingface.co/timm/resnet18.a1_in1k": "a web address; write timm:resnet18.a1_in1k$",
        "https://huggingface.co/google/vit-base-patch16-224/tree/main": "write transformers:google/vit-base-patch16-224$",
        "https://download.pytorch.org/models/resnet18.pth": "a web address; give the name of the architecture, and a file",
        "dinov2_vits14": "timm has its weights as vit_small_patch14_dinov2.lvd142m$",
        "dino_vits16": r"timm's networks of dino are .*vit_small_patch16_224\.dino", "resnet5O": "did you mean resnet50",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            build_network(Network("n", name, directory=tiny[0]))


def test_any_prefix_of_all_names_is_removed_and_two_networks_are_refused(tiny):
    folder, model = tiny
    weights = model.state_dict()
    zeros = {name: 0 * tensor for name, tensor in weights.items()}
    torch.save({f"net.{name}": tensor for name, tensor in weights.items()} | {"loss.weight": torch.zeros(2)}, folder / "w.pth")
    note = load_weights(other := build_architecture("nets:Small", folder), folder / "w.pth")
    assert torch.equal(other.body[0].weight, model.body[0].weight) and torch.equal(other.head.weight, model.head.weight)
    assert "the prefix 'net.' of the tensors' names was removed; 1 other tensors are not used, first: loss.weight" in note
    pair = {f"q.{name}": tensor for name, tensor in weights.items()} | {f"k.{name}": tensor for name, tensor in zeros.items()}
    torch.save({"state_dict": pair}, folder / "w.pth")
    with pytest.raises(UserError, match=r"holds several networks, 'k\.', 'q\.'; save the tensors of one"):
        load_weights(model, folder / "w.pth")
    torch.save({"checkpoint": {"weights": weights}}, folder / "w.pth")
    with pytest.raises(UserError, match="body.0.weight is missing.*the file holds 'checkpoint'"):
        load_weights(model, folder / "w.pth")


def test_numbers_of_numpy_and_paths_beside_the_weights_are_read(tiny):
    folder, model = tiny
    others = {"best": np.float64(0.7), "epoch": np.int64(3), "hyper_parameters": {"data": Path("x/y")}}  # Lightning saves paths
    torch.save({"state_dict": model.state_dict(), **others}, folder / "w.pth")
    load_weights(other := build_architecture("nets:Small", folder), folder / "w.pth")
    assert torch.equal(other.head.weight, model.head.weight)


def test_a_network_in_a_wrapper_is_refused(tiny):
    folder, _ = tiny
    text = "import torch\nfrom nets import Small\n\n\ndef parallel():\n    return torch.nn.DataParallel(Small())\n"
    (folder / "wrapped.py").write_text(text)
    with pytest.raises(UserError, match="returned a network wrapped in DataParallel; return the network without"):
        build_architecture("wrapped:parallel", folder)


def test_packed_files_wrong_names_and_addresses(tiny):
    folder, model = tiny
    torch.save(model.state_dict(), folder / "w.pth")
    save_file(model.state_dict(), folder / "right.safetensors")
    (folder / "w.pth.gz").write_bytes(gzip.compress((folder / "w.pth").read_bytes()))
    (folder / "wrong.safetensors").write_bytes((folder / "w.pth").read_bytes())
    with zipfile.ZipFile(folder / "w.zip", "w") as packed:
        packed.write(folder / "right.safetensors", "right.safetensors")
    for name, message in {
        "w.pth.gz": "a packed file; unpack it", "w.zip": "a zip that torch.save did not write; unpack it",
        "wrong.safetensors": "a file of torch.save; give it a name that ends in .pth",
        "https:/example.com/w.pth": "an address, not a file",
        ".": r"a folder, .* give the file in it, such as .*right\.safetensors$",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            load_weights(model, folder / name)
    assert load_weights(model, folder / "right.safetensors") == ""
