"""The code of a network of one's own is part of every identity, and networks of libraries keep theirs."""

import hashlib
import re

import numpy as np
import pytest
import torch

from tests.conftest import write_images
from transfer_study.core import UserError, digest
from transfer_study.features.extraction import extract_features, feature_key
from transfer_study.images.catalog import open_dataset
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network, network_digest, network_structure
from transfer_study.networks.penultimate import input_configuration
from transfer_study.study.costs import measure_network
from transfer_study.study.resolve import meta_network
from transfer_study.study.study import Study

NETS = """
import torch


class Net(torch.nn.Module):
    "What it computes depends on an attribute that is not printed."

    def __init__(self, power):
        super().__init__()
        self.conv, self.fc, self.power = torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.Linear(8, 10), power
        self.pretrained_cfg = {"input_size": (3, 32, 32), "crop_pct": 1.0}

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).pow(self.power).mean((2, 3)))


def first():
    return Net(1)


def third():
    return Net(3)


def tokens():
    import timm

    return timm.create_model("test_vit", img_size=32, pretrained_cfg_overlay={"input_size": (3, 32, 32)})
"""
GIVEN = """
name = "given"
datasets = ["squares"]

[[networks]]
name = "a"
architecture = "nets:first"
weights = "first.pt"
source_accuracy = 0.5

[protocols.linear]

[protocols.finetune]
steps = 5
n_learning_rates = 1
n_weight_decays = 0

[protocols.scratch]
steps = 5
n_learning_rates = 1
n_weight_decays = 1
"""
TRAINED = re.sub(r"weights.*\nsource_accuracy.*\n", "", GIVEN) + '\n[source]\ndataset = "squares"\nsteps = 5\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.manual_seed(0)
    torch.save(build_architecture("nets:first", tmp_path).state_dict(), tmp_path / "first.pt")
    write_images(tmp_path / "squares")
    return tmp_path


def run_ids(folder, text):
    (folder / "study.toml").write_text(text)
    plan = Study.from_file(folder / "study.toml").tasks(folder / "runs", "cpu")
    trainings = {task.kind: task.id for task in plan.tasks if task.kind == "pretrain"}
    return {run.protocol: run.run_id for run in plan.runs} | trainings


def test_two_functions_of_a_module_do_not_share_cached_features(folder):
    dataset, cache = open_dataset(str(folder / "squares")), folder / "features"
    models = [build_network(Network(name, f"nets:{name}", folder / "first.pt", directory=folder)) for name in ("first", "third")]
    assert str(models[0]) == str(models[1]) and len({feature_key(model, dataset) for model in models}) == 2
    alone = [extract_features([model], dataset)[0].X for model in models]
    shared = [extract_features([model], dataset, cache)[0].X for model in models]
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True)) and np.abs(alone[0] - alone[1]).max() > 0.01


@pytest.mark.parametrize("text", [GIVEN, TRAINED], ids=["given weights", "trained on the source"])
def test_a_change_of_the_code_changes_every_run(folder, text):
    before = run_ids(folder, text)
    assert {"linear", "finetune", "scratch"} <= before.keys() and run_ids(folder, text) == before
    (folder / "nets.py").write_text(NETS.replace("torch.relu", "torch.nn.functional.gelu"))
    after = run_ids(folder, text)
    assert after.keys() == before.keys() and not [name for name in before if before[name] == after[name]]


def test_the_code_counts_under_a_chosen_pooling(folder):
    network = Network("t", "nets:tokens", pooling="avg", directory=folder)
    before = network_structure(meta_network(network))
    (folder / "nets.py").write_text(NETS + "# changed\n")
    assert network_structure(meta_network(network)) != before


@pytest.mark.parametrize(
    "architecture",
    ["test_resnet", "torchvision:squeezenet1_1", "pytorchcv:squeezenet_v1_1", "transfer_study.small_networks:resnet_10"],
)
def test_networks_of_libraries_keep_their_keys(folder, architecture):
    "Known by the printed structure and the tensors alone, as at every earlier checkout."
    torch.manual_seed(0)
    model, dataset = build_architecture(architecture).eval(), open_dataset(str(folder / "squares"))
    state = hashlib.sha256(str(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert network_digest(model) == state.hexdigest()[:16]
    expected = digest([2, network_digest(model), dataset.fingerprint, input_configuration(model), "float32", "float32", None])
    assert feature_key(model, dataset) == expected


PROBE = """

def probe():
    return type("Probe", (Net,), {"forward": lambda net, x: net.fc(torch.relu(net.conv(x)).mean((2, 3)).detach())})(1)
"""


@pytest.mark.parametrize("trained", ["", "finetune", "scratch", "source"])
def test_a_network_without_gradients_is_refused_in_the_plan_of_a_training(folder, trained):
    (folder / "nets.py").write_text(NETS + PROBE)
    (folder / "study.toml").write_text((TRAINED if trained == "source" else GIVEN).replace("nets:first", "nets:probe"))
    study = Study.from_file(folder / "study.toml").part(protocols=["linear" if trained in ("", "source") else trained])
    if not trained:
        assert len(study.plan(folder / "runs", "cpu")) == 1
        return
    message = r"networks\[1\]: network 'a': no gradient reaches 2 of its 4 tensors, first conv.weight"
    with pytest.raises(UserError, match=message):
        study.plan(folder / "runs", "cpu")


OTHER_OUTPUTS = """

def beside():
    return type("Beside", (Net,), {"forward": lambda net, x: {"x": x, "scores": Net.forward(net, x)}})(1)


def without():
    return type("Without", (Net,), {"forward": torch.no_grad()(Net.forward)})(1)
"""


@pytest.mark.parametrize("function", ["beside", "without"])
def test_a_plan_measures_networks_with_other_outputs_or_without_gradients(folder, function):
    (folder / "nets.py").write_text(NETS + OTHER_OUTPUTS)
    (folder / "study.toml").write_text(GIVEN.replace("nets:first", f"nets:{function}"))
    study = Study.from_file(folder / "study.toml").part(protocols=["linear"])
    (network,) = study.tasks(folder / "runs", "cpu").networks
    assert min(measure_network(network, "cpu")) > 0
