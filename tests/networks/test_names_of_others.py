"""Files with the names of a network's authors, or of an earlier timm: read as timm reads them, and said."""

import re

import pytest
import timm
import torch

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network, network_digest

NETS = """
import timm


def swin():
    sizes = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **sizes)


def convnext():
    return timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=3)


def vit():
    return timm.create_model("test_vit", img_size=96)
"""


def convnext_of_authors(state: dict) -> dict:
    "As in the files of facebookresearch/ConvNeXt, whose linear layers are convolutions in timm's smallest networks."
    names = {
        "stem.": "downsample_layers.0.",
        ".blocks.": ".",
        "conv_dw": "dwconv",
        "mlp.fc": "pwconv",
        "head.norm.": "norm.",
        "head.fc.": "head.",
    }
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        renamed[name] = tensor.flatten(1) if "pwconv" in name and tensor.ndim == 4 else tensor
    return renamed


def swin_of_old_timm(state: dict) -> dict:
    "As timm 0.6 saved it: downsampling at the end of a stage, and buffers."
    old = {
        re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name): tensor
        for name, tensor in state.items()
    }
    old = {name.replace("head.fc.", "head."): tensor for name, tensor in old.items()}
    return old | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.long)}


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


CASES = {
    "convnext": (convnext_of_authors, "downsample_layers.0.0.weight, were changed as timm does$"),
    "swin": (
        swin_of_old_timm,
        "were changed as timm does; 1 other tensors are not used, first: layers.0.blocks.0.attn.relative_position_index$",
    ),
}


@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
@pytest.mark.parametrize("function", CASES)
def test_a_file_of_others_is_the_same_network(nets, function, prefix):
    rename, said = CASES[function]
    torch.manual_seed(0)
    plain = build_architecture(f"nets:{function}", nets).eval()
    others = {f"{prefix}{name}": tensor for name, tensor in rename(plain.state_dict()).items()}
    torch.save({"model": others | {"criterion.weight": torch.ones(2)} if prefix else others}, nets / "w.pth")
    read = build_network(Network("x", f"nets:{function}", nets / "w.pth", directory=nets))
    assert network_digest(read) == network_digest(plain) and read.classifier_loaded
    assert re.search(said if not prefix else r"were changed as timm does; \d other tensors are not used, first: ", read.notes[0])
    assert (f"the prefix '{prefix}' of the tensors' names was removed" in read.notes[0]) == bool(prefix)


def test_another_architecture_or_size_is_refused_as_before(nets):
    torch.save(convnext_of_authors(timm.create_model("convnext_atto").state_dict()), nets / "w.pth")
    with pytest.raises(UserError, match="not of this architecture: stem.0.weight is missing; .*; the file holds 'down"):
        build_network(Network("x", "nets:convnext", nets / "w.pth", directory=nets))
    torch.save(timm.create_model("test_vit").state_dict(), nets / "w.pth")
    with pytest.raises(UserError, match=r"pos_embed is \(1, 101, 64\), expected \(1, 37, 64\); as of another input size; give "):
        build_network(Network("x", "nets:vit", nets / "w.pth", directory=nets))


def test_an_old_name_of_timm_by_name(tmp_path):
    torch.manual_seed(1)
    plain = timm.create_model("convnext_atto").eval()
    torch.save(convnext_of_authors(plain.state_dict()), tmp_path / "w.pth")
    read = build_network(Network("x", "convnext_atto", tmp_path / "w.pth"))
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in plain.state_dict().items())
