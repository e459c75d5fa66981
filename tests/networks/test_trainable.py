"""Which output of a network of one's own is trained; several heads, and features without a gradient, are refused."""

import pytest
import torch

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import check_network
from transfer_study.networks.trainable import check_trainable, scores_places

NETS = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.mask_token = nn.Parameter(torch.ones(3))  # not used
        self.embed, self.head = nn.Linear(16, 16), nn.Linear(16, 10)
        self.pretrained_cfg = {"input_size": (3, 32, 32)}

    def features(self, x):
        return self.body(self.stem(x))

    def forward(self, x):
        return self.head(self.features(x))


def returns(forward):
    "A network with this forward, which gets the network and images."
    return lambda: type("Other", (Plain,), {"forward": forward})()


def both(network, x):
    features = network.features(x)
    return features, network.head(features)


first = returns(lambda network, x: both(network, x)[::-1])
second = returns(both)
nested = returns(lambda network, x: ((x, [x.mean()]), {"out": {"logits": both(network, x)[1]}}))
normal = returns(lambda network, x: (network.head(f := network.embed(network.features(x)).relu()), f / f.norm()))
with_softmax = returns(lambda network, x: ((scores := both(network, x)[1]).softmax(1), scores, scores.argmax(1)))



def as_yolo(network, x):
    scores = both(network, x)[1]
    return scores if network.training else (scores.softmax(1), scores)


def auxiliary(network, x):
    features, scores = both(network, x)
    return (network.embed(features), scores) if network.training else scores


as_yolo, auxiliary = returns(as_yolo), returns(auxiliary)
two_softmaxes = returns(lambda network, x: ((scores := both(network, x)[1]).softmax(1), scores.log_softmax(1)))
always_softmax = returns(lambda network, x: both(network, x)[1].softmax(1))
sigmoid_of_dict = returns(lambda network, x: {"features": (f := network.features(x)), "probabilities": network.head(f).sigmoid()})
softmax_in_evaluation = returns(lambda network, x: both(network, x)[1] if network.training else both(network, x)[1].softmax(1))
log_softmax = returns(lambda network, x: both(network, x)[1].log_softmax(1))
half = returns(lambda network, x: both(network, x)[1][:, :5])
fails = returns(lambda network, x: network.head(x) if network.training else both(network, x)[1])


def googlenet():
    import torchvision

    return torchvision.models.googlenet(init_weights=False)


def transformer():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16)
    model = ViTForImageClassification(ViTConfig(num_labels=5, output_hidden_states=True, **sizes))
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    return model


class Two(nn.Module):
    def __init__(self, species, health, kind):
        super().__init__()
        self.backbone, self.species, self.health, self.kind = Plain(), species, health, kind
        self.backbone.head = self.backbone.embed = nn.Identity()
        self.pretrained_cfg = self.backbone.pretrained_cfg

    def forward(self, x):
        features = self.backbone(x)
        return self.kind(species=self.species(features), health=self.health(features))


def pair(**outputs):
    return tuple(outputs.values())


def deep(n):
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, n))


heads = lambda: Two(nn.Linear(16, 5), nn.Linear(16, 2), pair)
named_heads = lambda: Two(nn.Linear(16, 5), nn.Linear(16, 2), dict)
deep_heads = lambda: Two(deep(5), deep(2), pair)


@torch.no_grad()
def everything(network, x):
    return both(network, x)[1]


@torch.inference_mode()
def inference(network, x):
    return both(network, x)[1]


def probe(network, x):
    with torch.no_grad():
        features = network.features(x)
    return {"features": features, "logits": network.head(features)}


detached = returns(lambda network, x: network.head(network.features(x).detach()))
frozen_stem = returns(lambda network, x: network.head(network.body(network.stem(x).detach())))
without_gradients, in_inference_mode, linear_probe = returns(everything), returns(inference), returns(probe)
"""


@pytest.fixture
def build(tmp_path):
    "A function from a name to the network, in evaluation mode."
    (tmp_path / "nets.py").write_text(NETS)

    def built(name: str) -> torch.nn.Module:
        torch.manual_seed(0)
        return build_architecture(f"nets:{name}", tmp_path).eval()

    return built


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("Plain", (0, 0)), ("first", (0, 0)), ("second", (1, 1)), ("nested", (2, 2)), ("normal", (0, 0)),
        ("with_softmax", (1, 1)), ("as_yolo", (1, 0)),
        ("auxiliary", (0, 1)), ("linear_probe", (1, 1)), ("softmax_in_evaluation", (0, 0)), ("log_softmax", (0, 0)),
        ("googlenet", (0, 0)), ("transformer", (0, 0)),
    ],
)  # fmt: skip
def test_the_scores_are_what_depends_on_the_classifier(build, name, places):
    "Finding them changes nothing in the network, and no random numbers."
    if name == "transformer":
        pytest.importorskip("transformers")
    model = build(name)
    before, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    assert scores_places(model) == places
    if name != "linear_probe":
        model.pretrained_cfg = getattr(model, "pretrained_cfg", {"input_size": (3, 224, 224)})
        assert check_network(model, "x") == ()
        check_trainable(model, "x")
    assert torch.equal(torch.get_rng_state(), random) and not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_softmaxes", "2 of the 2 tensors that its forward returns depend on its classifier head; let it return the scores"),
        ("half", r"its forward returns scores of the shape \(2, 5\); expected \(2, 10\), those of its classifier head"),
        ("always_softmax", "its forward returns probabilities in training, .*; apply softmax or sigmoid in evaluation only$"),
        ("sigmoid_of_dict", "its forward returns probabilities in training, "),
        ("fails", "fails for two images of 3 × 32 × 32 in the mode of training: RuntimeError: .*mat1 and mat2 shapes cannot"),
        ("without_gradients", "no gradient reaches 11 of its 11 tensors, first stem.weight, .*; remove torch.no_grad()"),
        ("in_inference_mode", "no gradient reaches 11 of its 11 tensors, first stem.weight"),
        ("linear_probe", "no gradient reaches 9 of its 11 tensors, first stem.weight"),
        ("detached", "no gradient reaches 9 of its 11 tensors, first stem.weight"),
        ("frozen_stem", "no gradient reaches 5 of its 11 tensors, first stem.weight"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_its_features_are_not(build, name, message):
    "The mask token, which comes first, is not used, so that it is not the first."
    model = build(name)
    assert check_network(model, "x") == ()
    with pytest.raises(UserError, match=f"^network 'x': {message}") as error:
        check_trainable(model, "x")
    assert "\n" not in str(error.value) and not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "heads"),
    [("heads", "species, health"), ("named_heads", "species, health"), ("deep_heads", r"species\.2, health\.2")],
)
def test_two_heads_are_refused_for_every_protocol(build, name, heads):
    found = rf"^network 'x': its forward returns the outputs of two heads \({heads}\), .*; let it return one of them$"
    with pytest.raises(UserError, match=found):
        check_network(build(name), "x")
