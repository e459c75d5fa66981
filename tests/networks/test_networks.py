"""Networks: features are what the classifier sees, and weights that do not fit are refused with a reason."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from transfer_study.core import UserError
from transfer_study.networks.loading import load_weights
from transfer_study.networks.networks import Network, build_network, network_digest
from transfer_study.networks.penultimate import input_configuration, penultimate_features

MODULE = """
import torch
from timm import create_model

def own():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                               torch.nn.Dropout(0.5), torch.nn.Linear(5, 7))

def not_a_network():
    return "resnet"

def fails():
    raise RuntimeError("no such block")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own_models.py").write_text(MODULE)
    return tmp_path


def own(folder: Path, function: str = "own") -> Network:
    return Network("own", f"own_models:{function}", folder / "own.safetensors", 0.5, directory=folder)


@pytest.fixture
def saved(folder):
    "The network of `own_models:own` with its weights on disk."
    namespace = {}
    exec(MODULE, namespace)
    torch.manual_seed(0)
    model = namespace["own"]().eval()
    save_file(model.state_dict(), folder / "own.safetensors")
    return model


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "mobilenetv3_small_050"])
def test_classifier_of_features_is_the_networks_output(name):
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    images = torch.randn(2, *input_configuration(model)["input_size"])
    with torch.no_grad():
        features = penultimate_features(model, images)
        assert torch.allclose(model.get_classifier()(features), model(images), atol=1e-5)


def test_features_of_a_plain_module_are_the_input_of_its_last_linear_layer(folder, saved):
    model, images = build_network(own(folder)), torch.randn(3, 3, 9, 9)
    with torch.no_grad():
        features = penultimate_features(model, images)
        assert features.shape == (3, 5)
        assert torch.equal(model[-1](features), saved(images))


def test_weights_are_loaded_and_identified(folder, saved):
    model = build_network(own(folder))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), saved.state_dict().values(), strict=True))
    before = network_digest(model)
    assert before == network_digest(build_network(own(folder))) != network_digest(saved)  # the file is part of it
    changed = load_file(folder / "own.safetensors")
    changed["0.bias"][2] += 1e-6
    save_file(changed, folder / "own.safetensors")
    assert network_digest(build_network(own(folder))) != before


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s}, lambda s: {"module." + k: v for k, v in s.items()}])
def test_the_usual_wrappers_of_state_dicts(folder, saved, wrap):
    torch.save(wrap(saved.state_dict()), folder / "own.pth")
    model = _empty(saved)
    load_weights(model, folder / "own.pth")
    assert network_digest(model) == network_digest(saved)


def _empty(model):
    import copy

    empty = copy.deepcopy(model)
    for parameter in empty.parameters():
        torch.nn.init.zeros_(parameter)
    return empty


class Payload:
    ran = False

    def __reduce__(self):
        return setattr, (Payload, "ran", True)


def test_a_pickle_that_wants_to_run_something_is_refused(folder, saved):
    torch.save({"0.weight": torch.zeros(1), "more": Payload()}, folder / "evil.pth")
    with pytest.raises(UserError, match="rejected"):
        load_weights(saved, folder / "evil.pth")
    assert not Payload.ran
    (folder / "plain.pkl").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match=r"plain\.pkl"):
        load_weights(saved, folder / "plain.pkl")
    assert not Payload.ran


def test_missing_and_truncated_weights(folder, saved):
    with pytest.raises(UserError, match="no such file"):
        load_weights(saved, folder / "absent.safetensors")
    whole = (folder / "own.safetensors").read_bytes()
    torch.save(saved.state_dict(), folder / "own.pth")
    cut = (folder / "own.pth").read_bytes()[:400]
    for name, data in {"cut.safetensors": whole[:-20], "cut.pth": cut, "none.pth": b""}.items():
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match="truncated|plain state dict"):
            load_weights(saved, folder / name)


def test_weights_of_another_architecture_name_the_first_tensors(folder, saved):
    save_file(timm.create_model("test_resnet").state_dict(), folder / "resnet.safetensors")
    with pytest.raises(UserError, match=r"0\.weight is missing; 0\.bias is missing; .* and \d+ more"):
        load_weights(saved, folder / "resnet.safetensors")


def test_another_number_of_classes_is_welcome(folder):
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), folder / "three.safetensors")
    model = build_network(Network("three", "test_resnet", folder / "three.safetensors", 0.5))
    given = load_file(folder / "three.safetensors")
    shared = [name for name in given if not name.startswith("fc.")]
    assert len(shared) == len(given) - 2
    assert all(torch.equal(model.state_dict()[name], given[name]) for name in shared)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet5O", "did you mean .*resnet50"),
        ("ResNet-50", "did you mean .*resnet50"),
        ("torchvison:resnet50", "did you mean the library torchvision"),
        ("torchvision:resnet50/IMAGENET1K_V3", "did you mean IMAGENET1K_V"),
        ("resnet50.no_such_weights", r"timm has .*resnet50\.tv_in1k|timm has .*resnet50\.a1_in1k"),
        ("densenet264d", "timm has no weights of it"),
        ("own_models:onw", "did you mean own"),
        ("absent:own", "not found, neither as .* nor among the installed modules"),
        ("own_models:not_a_network", "expected a torch.nn.Module"),
    ],
)
def test_unknown_architectures(folder, saved, architecture, message):
    weights = folder / "own.safetensors" if ":" in architecture or "O" in architecture or "-" in architecture else None
    with pytest.raises(UserError, match=message):
        build_network(Network("x", architecture, weights, 0.5, directory=folder))


def test_own_architecture_without_weights_is_refused(folder):
    with pytest.raises(UserError, match="has no weights"):
        build_network(Network("own", "own_models:own", None, 0.5, directory=folder))
