"""What people have: containers in checkpoints, layers beside the network's, and paths and functions that are nearly right."""

import sys
import tarfile
import types
from collections import defaultdict, deque

import numpy as np
import pytest
import torch

from tests.networks.sources import SMALL
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.loading import load_weights
from transfer_study.networks.networks import check_network
from transfer_study.networks.penultimate import penultimate_features
from transfer_study.networks.portable import reference_features
from transfer_study.networks.trainable import check_trainable


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    "A folder with a network, which is the working directory, and the network."
    (tmp_path / "nets.py").write_text(f"from torch import nn\n\n{SMALL}")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path, build_architecture("nets:Small", tmp_path).eval()


def loaded(folder, path):
    "The network with the weights of a file, and the note."
    note = load_weights(model := build_architecture("nets:Small", folder), path)
    return model, note


@pytest.fixture
def other_code(monkeypatch):
    "A class of another library, which derives from a dictionary or a list; it is gone when a file is read."
    made = types.ModuleType("some_library")
    made.Options = type("Options", (dict,), {"__module__": "some_library"})
    made.History = type("History", (list,), {"__module__": "some_library"})
    monkeypatch.setitem(sys.modules, "some_library", made)
    yield made
    monkeypatch.undo()


@pytest.mark.parametrize("zipped", [True, False])
def test_dictionaries_and_lists_of_other_code_beside_the_weights_are_read(tiny, other_code, zipped):
    "As of EasyDict, yacs (the official files of Swin) and Lookahead's optimiser."
    folder, model = tiny
    options = other_code.Options(lr=0.1, inner=other_code.Options(a=1))
    options.__dict__["attribute"] = 3
    history = defaultdict(list, {"loss": [1.0, 2.0]})
    beside = {"config": options, "history": history, "last": deque([1, 2], maxlen=5), "log": other_code.History([1])}
    weights = model.state_dict()
    contents = [{"state_dict": weights, **beside}, other_code.Options(model=weights, epoch=3), defaultdict(None, weights)]
    for i, content in enumerate(contents):
        torch.save(content, folder / f"{i}.pth", _use_new_zipfile_serialization=zipped)
    del sys.modules["some_library"]
    for i in range(3):
        other, note = loaded(folder, folder / f"{i}.pth")
        assert note == "" and all(torch.equal(tensor, weights[name]) for name, tensor in other.state_dict().items())


def test_layers_beside_those_of_the_network_are_refused_with_the_way_to_leave_them_out(tiny):
    "As SwAV's public files have them."
    folder, model = tiny
    heads = {"projection_head.0.weight": torch.ones(2, 2), "prototypes.weight": torch.ones(2, 2)}
    torch.save(model.state_dict() | heads, folder / "w.pth")
    with pytest.raises(UserError, match=r"prototypes.weight is not part of the network; if these come after") as error:
        loaded(folder, folder / "w.pth")
    exec(str(error.value).partition("without them: ")[2])  # the advice is Python that works
    other, note = loaded(folder, folder / "w-without.pth")
    assert note == "" and torch.equal(other.head.weight, model.head.weight)
    torch.save(model.state_dict() | heads | {"body.9.weight": torch.ones(2, 2)}, folder / "w.pth")
    with pytest.raises(UserError, match="give the architecture that was trained"):  # a layer inside changes the features
        loaded(folder, folder / "w.pth")


def test_entries_among_the_tensors_that_are_none_are_said(tiny):
    folder, model = tiny
    torch.save(model.state_dict() | {"epoch": 3, "classes": ["a", "b"]}, folder / "w.pth")
    other, note = loaded(folder, folder / "w.pth")
    assert note.endswith("w.pth: 2 entries beside its tensors are not used, first: epoch")
    assert torch.equal(other.head.weight, model.head.weight)


def test_networks_by_number_and_files_of_other_kinds(tiny):
    folder, model = tiny
    torch.save({0: model.state_dict(), 1: model.state_dict()}, folder / "folds.pth")
    torch.save(model.state_dict(), folder / "w.pth")
    with tarfile.open(folder / "w.pth.tar", "w") as archive:
        archive.add(folder / "w.pth", "w.pth")
    (folder / "saved").mkdir()
    (folder / "saved/saved_model.pb").write_bytes(b"")
    (folder / "link.pth").symlink_to("blobs/1")
    for name, message in {
        "link.pth": "a link to blobs/1, which is not there; copy the file itself",
        "folds.pth": r"several networks, 0, 1; .*torch.load\('.*folds.pth', weights_only=False\)\[0\], '0.pth'\)",
        "w.pth.tar": "a packed file; unpack it", "saved": r"TensorFlow \(SavedModel\)",
        "w.pht": r"no such file; did you mean w.pth\?",
        "none": "no such file; without the key weights, the library's weights are used",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            loaded(folder, folder / name)


OWN = """
import torch
from torch import nn
import torch.nn.functional as F


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class Stated(Plain):
    pretrained_cfg = {"input_size": (3, 16, 16)}


class ChannelsLast(Plain):
    pretrained_cfg = {"input_size": (32, 32, 3)}


class View(nn.Module):
    "As PyTorch's first tutorial, for 32 × 32 pixels."

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 16 * 16, 3)

    def forward(self, x):
        return self.fc(self.conv(x).view(-1, 4 * 16 * 16))


class OtherHead(Stated):
    "With timm's names, but not its arguments."

    def forward_features(self, x):
        return self.conv(x)

    def forward_head(self, x):
        return self.fc(x.mean((2, 3)))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


class Neck(Stated):
    "As networks of re-identification: two tensors in training, features in evaluation."

    def forward(self, x):
        f = self.conv(x).mean((2, 3))
        return (self.fc(f), f) if self.training else f


instance = Plain()


def unfinished():
    raise NotImplementedError


def half():
    return Stated().half()
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)

    def built(name):
        return build_architecture(f"own:{name}", tmp_path).eval()

    return built


def test_an_input_size_that_is_not_stated_is_said(own):
    (note,) = check_network(own("Plain"), "n")
    assert "'n': states no input_size, mean, std, so ImageNet's usual values are used, such as images of 224 × 224 pixels" in note
    assert check_network(own("Stated"), "n") == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ChannelsLast", r"32 channels; write the channels first, input_size = \(3, 32, 32\)$"),
        ("View", "49 rows of features for one image and 98 for two, expected one each; this size is assumed: .*pretrained_cfg"),
    ],
)
def test_sizes_that_are_nearly_right(own, name, message):
    with pytest.raises(UserError, match=message):
        check_network(own(name), "n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("instance", "own:instance: a network, expected a function without arguments that builds it"),
        ("unfinished", "own:unfinished: NotImplementedError: no reason given; expected a function"),
    ],
)
def test_what_is_no_function_that_builds_a_network(own, name, message):
    with pytest.raises(UserError, match=message):
        own(name)


def test_a_forward_head_without_pre_logits_is_an_own_method(own):
    model, images = own("OtherHead"), torch.rand(2, 3, 16, 16)
    assert check_network(model, "n") == ()
    torch.testing.assert_close(penultimate_features(model, images), model.conv(images).mean((2, 3)))


def test_a_network_that_returns_features_and_scores_in_training_is_refused(own):
    with pytest.raises(UserError, match="'n': 2 of the 2 tensors that its forward returns depend on its classifier; let it"):
        check_trainable(own("Neck"), "n")


def test_the_features_of_a_network_in_half_precision_can_be_kept(own):
    model = own("half")
    full = own("Stated")
    full.load_state_dict(model.state_dict())
    np.testing.assert_allclose(reference_features(model), reference_features(full), atol=1e-2)
