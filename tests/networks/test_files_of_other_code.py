"""Files of weights whose tensors have other names than the network's: of wrappers inside, of pruning, of weight normalisation."""

import logging

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.loading import load_weights
from transfer_study.networks.penultimate import penultimate_features


class Small(nn.Module):
    def __init__(self, normalise=None):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4, 3)
        if normalise:
            normalise(self.features[0])
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.classifier(self.features(x))


def same(model, other):
    x = torch.rand(2, 3, 16, 16)
    return torch.allclose(model.eval()(x), other.eval()(x), atol=1e-6)


def read(model, path, normalise=None):
    "The network with the weights of a file, after checking that it computes what `model` does; and the note."
    note = load_weights(loaded := Small(normalise), path)
    assert same(loaded, model)
    return note


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_parallel_parts_as_in_the_imagenet_example_of_pytorch(tmp_path):
    "It wraps the features of VGG and AlexNet only."
    parallel = Small()
    parallel.features = nn.DataParallel(parallel.features)
    torch.save({"epoch": 3, "arch": "vgg", "state_dict": parallel.state_dict()}, tmp_path / "best.pth.tar")
    assert "features.module.0.weight" in parallel.state_dict()
    assert read(parallel, tmp_path / "best.pth.tar") == ""


def test_pruned_weights_are_multiplied_by_their_masks(tmp_path):
    pruned = Small()
    prune.random_unstructured(pruned.features[0], "weight", 0.5)
    torch.save(pruned.state_dict(), tmp_path / "pruned.pth")
    assert "its pruned tensors (1) were multiplied by their masks" in read(pruned, tmp_path / "pruned.pth")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old weight_norm
def test_old_names_of_weight_norm(tmp_path):
    old = Small(nn.utils.weight_norm)
    torch.save(old.state_dict(), tmp_path / "old.pth")
    assert "features.0.weight_g" in old.state_dict()
    assert "its old names of weight_norm's tensors" in read(old, tmp_path / "old.pth", parametrizations.weight_norm)
    assert read(old, tmp_path / "old.pth", nn.utils.weight_norm) == ""


def test_the_decoder_of_a_masked_autoencoder_is_not_used_and_this_is_said(tmp_path):
    "As MAE saves the whole of it, here by Lightning."
    encoder = Small()
    decoder = {
        "mask_token": torch.zeros(1, 1, 4),
        "decoder_pos_embed": torch.zeros(1, 4, 4),
        "decoder_pred.weight": torch.zeros(2, 4),
    }
    for prefix in ("", "model."):
        torch.save(
            {"state_dict": {f"{prefix}{name}": tensor for name, tensor in (encoder.state_dict() | decoder).items()}},
            tmp_path / "mae.ckpt",
        )
        assert read(encoder, tmp_path / "mae.ckpt").endswith("3 other tensors are not used, first: mask_token")
    torch.save(encoder.state_dict() | {"encoder_norm.weight": torch.zeros(4)}, tmp_path / "mae.ckpt")
    with pytest.raises(UserError, match="encoder_norm.weight is not part of the network"):
        load_weights(Small(), tmp_path / "mae.ckpt")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.jit
def test_the_tensors_of_a_program_are_written_as_the_message_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Small().eval()
    torch.jit.save(torch.jit.script(model), tmp_path / "program.pt")
    torch.export.save(torch.export.export(model, (torch.zeros(2, 3, 16, 16),)), tmp_path / "program.pt2")
    for name in ("program.pt", "program.pt2"):
        with pytest.raises(UserError, match="program .*, not weights; write these with ") as caught:
            load_weights(Small(), tmp_path / name)
        exec(str(caught.value).partition("; write these with ")[2], {"torch": torch})
        assert read(model, tmp_path / "weights.pth") == ""


PROGRAMS = """
import torch

def scripted():
    return torch.jit.load("program.pt")

def exported():
    return torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),)).module()

def whole():
    return torch.load("whole.pth")

def downloads():
    raise OSError("no route to host")

def imports():
    import no_such_library
"""


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.jit
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("scripted", "returned a program of torch.jit or torch.export, .*; return the network that it was made from"),
        ("exported", "returned a program of torch.jit or torch.export, .*; return the network that it was made from"),
        ("whole", r"whole\.pth holds more than tensors; if you trust it, read it with torch\.load\(…, weights_only=False\)$"),
        ("downloads", r"no route to host; expected a function .* and downloads nothing, as its weights come from a file$"),
        ("imports", r"No module named 'no_such_library'; install it, or put its file beside the study file$"),
    ],
)
def test_what_a_function_returns_or_lacks_is_said_with_what_to_do(tmp_path, monkeypatch, function, message):
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "program.pt")
    torch.save(Small(), "whole.pth")
    (tmp_path / "nets.py").write_text(PROGRAMS)
    with pytest.raises(UserError, match=message):
        build_architecture(f"nets:{function}", tmp_path)


def test_the_contents_of_a_file_count_not_its_suffix(tmp_path):
    "d2l.ai saves state dicts as .params, which is MXNet's suffix, too."
    model = Small()
    for name in ("mlp.params", "net.keras", "net.pb"):
        torch.save(model.state_dict(), tmp_path / name)
        assert read(model, tmp_path / name) == ""
    (tmp_path / "other.params").write_bytes(b"\x12\x01\0\0\0\0\0\0" + bytes(100))
    with pytest.raises(UserError, match="a file of MXNet, not of PyTorch"):
        load_weights(model, tmp_path / "other.params")


def test_a_name_of_the_file_stands_beside_those_that_are_missing(tmp_path):
    torch.save({"one.0.weight": torch.zeros(4, 3, 3, 3), "one.0.bias": torch.zeros(4)}, tmp_path / "w.pth")
    missing = "features.0.weight is missing; features.0.bias is missing"
    with pytest.raises(UserError, match=f"{missing}; one.0.weight is not part of the network"):
        load_weights(Small(), tmp_path / "w.pth")


NETS = """
import logging
from torch import nn

logging.basicConfig(level=logging.DEBUG)

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
"""


def test_the_logs_of_own_code_stay_its_own(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    before = logging.root.level, logging.root.handlers[:]
    build_architecture("nets:small", tmp_path)
    assert before == (logging.root.level, logging.root.handlers)


def test_ends_of_lines_do_not_change_a_network(tmp_path):
    "As git writes them on Windows."
    digests = []
    for text in (NETS, NETS.replace("\n", "\r\n"), NETS.replace("12", "3")):
        (tmp_path / "nets.py").write_bytes(text.encode())
        digests.append(build_architecture("nets:small", tmp_path).source_digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_file_in_a_folder_of_a_trainer_is_named_wherever_it_lies(tmp_path):
    "As Lightning and MLflow save it."
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": Small().state_dict()}, tmp_path / "version_0" / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="a folder, .*; give the file in it, such as .*/version_0/checkpoints/last.ckpt$"):
        load_weights(Small(), tmp_path / "version_0")


def test_adapters_and_tensors_without_values_say_what_to_save(tmp_path):
    tensors = Small().state_dict()
    for content, message in [
        ({"base_model.model.classifier.lora_A.weight": torch.zeros(2, 4)}, r"save model.merge_and_unload\(\).state_dict\(\)"),
        ({name: tensor.to("meta") for name, tensor in tensors.items()}, "features.0.weight .* PyTorch's meta device"),
    ]:
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=message):
            load_weights(Small(), tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_program_of_torch_jit_in_python_is_one_line():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    images = torch.zeros(1, 3, 2, 2)
    for program in (torch.jit.script(network), torch.jit.trace(network, images)):
        with pytest.raises(UserError, match="a program of torch.jit, .*; give the network that it was made from$"):
            penultimate_features(program, images)
