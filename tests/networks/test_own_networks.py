"""Networks of one's own: files beside them, layers that are not used, and what cannot give features, named in one line."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.networks.sources import SMALL
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.loading import load_weights
from transfer_study.networks.networks import (
    Network,
    build_network,
    check_network,
    describe_network,
    network_digest,
    network_structure,
)
from transfer_study.networks.penultimate import classifier_names, penultimate_features
from transfer_study.training.callbacks import replace_classifier

NETS = """
import torch
from torch import nn
from blocks import body


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = body()
        self.head = nn.Linear(4, 10)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.head(self.body(x))


class Unused(Tiny):
    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(7, 2)


class Excite(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 4)

    def forward(self, x):
        return x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]


class Excited(nn.Module):
    "The only linear layer is inside, as in blocks of squeeze and excitation; the classifier is none, or a convolution."

    def __init__(self, classifier=None):
        super().__init__()
        self.conv, self.excite = nn.Conv2d(3, 4, 3), Excite()
        self.classifier = classifier or nn.Identity()
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.classifier(self.excite(self.conv(x)).mean((2, 3), keepdim=True)).flatten(1)


def convolution():
    return Excited(nn.Conv2d(4, 10, 1))


def flattened():
    return Excited(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)))


class Before(Tiny):
    "The layer that is defined last is used, and before the head."

    def __init__(self):
        super().__init__()
        self.middle = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.middle(self.body(x)))


class Fails(Tiny):
    def forward(self, x):
        raise RuntimeError("shape '[1, 2]' is invalid")


class Noise(Tiny):
    def forward(self, x):
        return self.head(self.body(x) + torch.randn(4))


class Bare(Tiny):
    def forward(self, x):
        return self.body(x)


class Headless(Tiny):
    "As people make it: the classifier replaced, a linear layer inside."

    def __init__(self):
        super().__init__()
        self.inside, self.norm, self.fc = nn.Linear(4, 7), nn.LayerNorm(7), nn.Identity()
        del self.head

    def forward(self, x):
        return self.fc(self.norm(self.inside(self.body(x))))


class Trailing(Tiny):
    "An Identity directly behind the classifier, in place of an activation."

    def __init__(self):
        super().__init__()
        self.dropout, self.activation = nn.Dropout(), nn.Identity()

    def forward(self, x):
        return self.activation(self.dropout(self.head(self.body(x))))


class Tokens(Tiny):
    "A transformer's shape: a linear layer for each token, a norm, then the mean; with or without a classifier after them."

    classify = False

    def __init__(self):
        super().__init__()
        self.tokens, self.linear, self.norm = nn.Conv2d(3, 5, 4, 4), nn.Linear(5, 5), nn.LayerNorm(5)

    def forward(self, x):
        tokens = self.tokens(x).flatten(2).transpose(1, 2)
        features = self.norm(tokens + self.linear(tokens)).mean(1)
        return self.final(features) if self.classify else features


class Classified(Tokens):
    classify = True

    def __init__(self):
        super().__init__()
        self.final = nn.Linear(5, 3)


class Maps(Tiny):
    def forward(self, x):
        return self.body(x)[:, :, None, None].expand(-1, -1, 2, 1)


class Pooled(Tiny):
    def forward(self, x):
        return self.body(x)[:, :, None, None]


class Image(Tiny):
    def forward(self, x):
        return x + self.body(x).sum()


class Squeezed(Tiny):
    def forward(self, x):
        return self.body(x).squeeze()


class SqueezedHead(Tiny):
    def forward(self, x):
        return self.head(self.body(x).squeeze())


def cut():
    import torchvision

    return torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])


class Pair(Tiny):
    def forward(self, x):
        return self.body(x), x


def resnet():
    import torchvision

    network = torchvision.models.resnet18()
    network.fc = nn.Identity()
    return network


def squeezenet():
    import torchvision

    return torchvision.models.squeezenet1_1()


def squeezed():
    network = squeezenet()
    network.classifier[1] = nn.Identity()
    network.pretrained_cfg = {"input_size": (3, 64, 64)}
    return network


class NiN(nn.Module):
    "A convolution gives the scores of classes, whose mean over the places is the output."

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.scores, self.relu = nn.Conv2d(6, 5, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.scores(self.layers(x))).mean((2, 3))


def scored():
    return NiN()


def unscored():
    network = NiN()
    network.scores = nn.Identity()
    return network


class First(Tiny):
    def forward(self, x):
        return self.head(self.body(x)[:1])


def needs_argument(width):
    return Tiny()


def gray():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


def one_channel():
    network = gray()
    network.pretrained_cfg = {"input_size": (1, 16, 16)}
    return network


def lazy():
    from more.parts import Part

    return nn.Sequential(Tiny(), Part())
"""
BLOCKS = """
from torch import nn


def body():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
PARTS = "from torch import nn\n\n\nclass Part(nn.Linear):\n    def __init__(self):\n        super().__init__(10, 3)\n"


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/__init__.py").write_text("")
    (tmp_path / "more/parts.py").write_text(PARTS)
    return tmp_path


def digest_of(folder, function: str = "Tiny") -> str:
    torch.manual_seed(0)
    return network_digest(build_architecture(f"nets:{function}", folder))


def test_a_module_imports_the_files_beside_it_and_they_are_part_of_its_digest(nets):
    before = digest_of(nets)
    assert digest_of(nets) == before and "blocks" not in sys.modules and str(nets) not in sys.path
    (nets / "README").write_text("not imported")
    assert digest_of(nets) == before
    for file, text in {
        "blocks.py": BLOCKS + "# changed\n",
        "nets.py": NETS.replace("self.head(self.body(x))", "self.head(2 * self.body(x))"),
    }.items():
        changed = nets / file
        old = changed.read_text()
        changed.write_text(text)
        assert digest_of(nets) != before
        changed.write_text(old)
    assert digest_of(nets) == before


def test_a_package_that_is_imported_later_counts_too(nets):
    before = digest_of(nets, "lazy")
    (nets / "more/parts.py").write_text(PARTS + "# changed\n")
    assert digest_of(nets, "lazy") != before and not [name for name in sys.modules if name.split(".")[0] == "more"]


def test_two_studies_have_files_of_the_same_name(nets, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "nets.py").write_text(NETS)
    (other / "blocks.py").write_text(BLOCKS.replace("nn.ReLU()", "nn.GELU()"))
    models = [build_architecture("nets:Tiny", folder) for folder in (nets, other, nets)]
    assert ["GELU" in str(model) for model in models] == [False, True, False]


def test_a_missing_neighbour_is_one_line(nets):
    (nets / "blocks.py").unlink()
    with pytest.raises(UserError, match=r"architecture module .*nets\.py: ModuleNotFoundError: No module named 'blocks'"):
        build_architecture("nets:Tiny", nets)


def test_an_unused_auxiliary_layer_is_not_the_classifier(nets):
    unused, before = (build_architecture(f"nets:{name}", nets).eval() for name in ("Unused", "Before"))
    assert classifier_names(unused) == ["head"] and classifier_names(before) == ["middle"]
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(unused.head(penultimate_features(unused, images)), unused(images))
    training = build_architecture("nets:Unused", nets).train()
    classifier_names(training)
    assert all(module.training for module in training.modules())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("Fails", r"network 'x': fails for an image of 3 × 16 × 16: RuntimeError: shape '\[1, 2\]' is invalid"),
        ("Maps", r"network 'x': .*returns a tensor of the shape \(1, 4, 2, 1\); .* \(images, features\), such as x.mean"),
        ("Image", r"the shape \(1, 3, 16, 16\); .* and not maps as large as the image, such as x.mean\(\(2, 3\)\) of what"),
        ("Squeezed", r"a tensor of the shape \(4,\); .*, such as by x.flatten\(1\) in place of x.squeeze\(\), which also drops"),
        ("SqueezedHead", r"network 'x': fails .*; where it has x.squeeze\(\), which also drops .* image, write x.flatten\(1\)$"),
        ("Pair", "network 'x': .* its forward pass uses no linear layer as a classifier and returns tuple; expected features"),
        ("squeezenet", "network 'x': .*; in a function of your own, put torch.nn.Identity in place of classifier.1$"),
        ("First", "network 'x': gives 1 rows of features for one image and 1 for two, expected one each"),
        ("gray", "network 'x': fails for an image of 3 × 224 × 224: .*must take colour images"),
        ("one_channel", "network 'x': its input has 1 channels; a network must take colour images"),
    ],
)
def test_what_gives_no_features_is_named(nets, function, message):
    with pytest.raises(UserError, match=message):
        check_network(build_architecture(f"nets:{function}", nets).eval(), "x")


def test_the_advice_on_an_output_can_be_written_so():
    "A plain data class has attributes, a dictionary has keys."

    @dataclasses.dataclass
    class Output:
        vectors: torch.Tensor

    class Body(torch.nn.Conv2d):
        def forward(self, images):
            return self.output(super().forward(images).mean((2, 3)))

    for output, advice in ((Output, "output.vectors"), (lambda vectors: {"vectors": vectors}, "output['vectors']")):
        model = Body(3, 4, 3).eval()
        model.output = output
        with pytest.raises(UserError) as error:
            penultimate_features(model, torch.zeros(1, 3, 8, 8))
        assert f"with vectors (1, 4); expected features of the shape (images, features), such as {advice}, or" in str(error.value)


@pytest.mark.parametrize(
    ("name", "config", "parts"),
    [
        (
            "Dinov2Model",
            {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32},
            "last_hidden_state (1, 17, 8), pooler_output (1, 8)",
        ),
        ("ConvNextModel", {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2}, "last_hidden_state (1, 8, 4, 4)"),
        ("SwinModel", {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2, "image_size": 32}, "output (1, 8)"),
    ],
)  # fmt: skip
def test_layers_inside_of_a_backbone_are_no_classifiers(name, config, parts):
    "Backbones of the Transformers library return an object, and their last linear layers lie inside of blocks."
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**config)).eval()
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    assert classifier_names(model) == []
    for compute in (lambda: check_network(model, "x"), lambda: penultimate_features(model, torch.zeros(1, 3, 32, 32))):
        with pytest.raises(UserError, match="uses no linear layer as a classifier and returns ") as error, torch.no_grad():
            compute()
        assert parts in str(error.value) and "such as output['pooler_output'], or a network" in str(error.value)


@pytest.mark.parametrize(
    ("function", "n_features", "scores"),
    [
        ("Headless", 7, ""), ("resnet", 512, ""), ("Bare", 4, ""), ("body", 4, "0"), ("Tokens", 5, ""),
        ("squeezed", 512, ""), ("scored", 5, "scores"), ("unscored", 6, ""), ("Pooled", 4, ""), ("cut", 512, ""),
    ],
)  # fmt: skip
def test_the_output_of_a_network_without_a_classifier_is_its_features(nets, function, n_features, scores):
    module = "blocks" if function == "body" else "nets"
    model = build_architecture(f"{module}:{function}", nets).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(penultimate_features(model, images), model(images).flatten(1))
    *others, note = check_network(model, "x")
    assert all("states no input_size" in other for other in others)
    advice = f"; if these are scores of classes, put torch.nn.Identity in place of {scores}" if scores else ""
    assert note.endswith(f" is taken as its features{advice}")
    assert note.startswith(f"network 'x': has no classifier; its output, {n_features} values for an image, is taken")
    assert classifier_names(model) == [] and describe_network(model)["n_features"] == n_features
    replaced = replace_classifier(model, 3)
    assert replaced(images).shape == (2, 3) and classifier_names(replaced) == ["head"]
    replaced(images).sum().backward()
    assert replaced.head.weight.grad is not None
    assert any(parameter.grad is not None for parameter in replaced.tower.parameters())


def test_a_removed_classifier_may_be_in_the_file_and_one_that_is_there_counts(nets):
    "An Identity behind a linear layer removes nothing; its features and its digest are what they were."
    import torchvision

    torch.save(torchvision.models.resnet18().state_dict(), nets / "w.pth")
    loaded = build_network(Network("x", "nets:resnet", nets / "w.pth", directory=nets))
    assert torch.equal(loaded.conv1.weight, torch.load(nets / "w.pth")["conv1.weight"])
    assert not getattr(loaded, "notes", ())
    projection = {f"fc.{i}.weight": torch.zeros(4, 4) for i in (0, 3, 6)}  # as in the encoder of SimSiam
    torch.save(torchvision.models.resnet18().state_dict() | projection, nets / "w.pth")
    (note,) = build_network(Network("x", "nets:resnet", nets / "w.pth", directory=nets)).notes
    assert note.endswith("5 tensors at the place of the classifier, first fc.weight, are not used")
    trailing, headless = (build_architecture(f"nets:{name}", nets).eval() for name in ("Trailing", "Headless"))
    with torch.no_grad():
        images = torch.randn(2, 3, 16, 16)
        assert torch.equal(penultimate_features(trailing, images), trailing.body(images))
    assert classifier_names(trailing) == ["head"]
    classified = build_architecture("nets:Classified", nets).eval()
    with torch.no_grad():
        assert classifier_names(classified) == ["final"] and penultimate_features(classified, images).shape == (2, 5)
    assert network_structure(trailing) == str(trailing) + trailing.source_digest
    assert network_structure(headless) != str(headless) + headless.source_digest, "else kept features of a layer inside are taken"


def test_layers_with_numbers_for_names_are_those_of_the_network_in_their_order(nets):
    "As in the file of a Sequential of a network's children, with which lightly trains."
    import torchvision

    network, cut = torchvision.models.resnet18(), build_architecture("nets:cut", nets)
    for prefix, beside in (("", {}), ("backbone.", {"projection_head.layers.0.weight": torch.zeros(2, 512)})):
        torch.save({f"{prefix}{name}": tensor for name, tensor in cut.state_dict().items()} | beside, nets / "w.pth")
        loaded = build_network(Network("x", "torchvision:resnet18", nets / "w.pth"))
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(penultimate_features(loaded, images), penultimate_features(cut.eval(), images))
        (note,) = loaded.notes
        assert f"taken in their order, such as {prefix}0.weight for conv1.weight" in note
        assert note.endswith("layers.0.weight") == bool(beside)
    with pytest.raises(UserError, match="0.weight is not part of the network"):
        build_network(Network("x", "torchvision:resnet34", nets / "w.pth"))
    torch.save(network.state_dict(), nets / "w.pth")
    with pytest.raises(UserError, match=r"before its layers were put into a torch.nn.Sequential, .* return the network itself: "):
        build_network(Network("x", "nets:cut", nets / "w.pth", directory=nets))


def test_a_removed_convolution_may_be_in_the_file(nets):
    for complete, removed, place in (("squeezenet", "squeezed", "classifier.1"), ("scored", "unscored", "scores")):
        state = build_architecture(f"nets:{complete}", nets).state_dict()
        torch.save(state, nets / "w.pth")
        loaded = build_network(Network("x", f"nets:{removed}", nets / "w.pth", directory=nets))
        assert set(state) - set(loaded.state_dict()) == {f"{place}.weight", f"{place}.bias"}
        assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
        assert network_structure(loaded) == str(loaded) + loaded.source_digest
        torch.save({**state, "other.weight": torch.zeros(3)}, nets / "w.pth")
        with pytest.raises(UserError, match="other.weight is not part of the network; if these come after the features"):
            build_network(Network("x", f"nets:{removed}", nets / "w.pth", directory=nets))


def test_noise_is_said_and_the_rest_is_fine(nets):
    assert check_network(build_architecture("nets:Tiny", nets).eval(), "x") == ()
    (line,) = check_network(build_architecture("nets:Noise", nets).eval(), "x")
    assert line == "network 'x': gives other features at every pass, so its results cannot be repeated"


def test_a_module_that_ends_the_program_is_one_line(nets):
    for text in ("import sys\n\nsys.exit(3)\n", "def f():\n    raise SystemExit(3)\n"):
        (nets / "ends.py").write_text(text)
        with pytest.raises(UserError, match="ends the program when it is imported|SystemExit: 3"):
            build_architecture("ends:f", nets)
    with pytest.raises(UserError, match="architecture module ''"):
        build_architecture(":f", nets)


class Asks(torch.nn.Module):
    def forward(self, x, mask):
        return x


class Features(torch.nn.Module):
    pretrained_cfg = {"input_size": (3, 8, 8)}

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 11)


class Narrow(Features):
    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Asks, "expected a forward that takes images .n, 3, height, width., and nothing else$"),
        (Features, "NotImplementedError: .*expected a forward that takes images"),
        (Narrow, "Calculated padded input size per channel: .*; its pretrained_cfg states this size"),
        (
            lambda: timm.create_model("test_resnet", features_only=True),
            "uses no linear layer as a classifier and returns list; expected features",
        ),
    ],
)
def test_a_forward_pass_that_fails_says_what_is_wrong_and_not_only_the_size(network, message):
    with pytest.raises(UserError, match=message):
        check_network(network().eval(), "x")


def test_a_function_that_fails_is_one_line(nets):
    with pytest.raises(UserError, match="nets:needs_argument: TypeError: .*without arguments that builds the network on the CPU"):
        build_architecture("nets:needs_argument", nets)
    with pytest.raises(UserError, match=r"nets:needs_argument\(4\): expected module:function, the name of a function"):
        build_architecture("nets:needs_argument(4)", nets)
    with pytest.raises(UserError, match="unknown function in nets 'torch'; known: Bare, .*, Tiny"):
        build_architecture("nets:torch", nets)
    (nets / "train.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--data'])\n")
    with pytest.raises(UserError, match="train.py: ends the program when it is imported; .*__main__"):
        build_architecture("train:Net", nets)


@pytest.fixture
def model(nets):
    torch.manual_seed(0)
    return build_architecture("nets:Tiny", nets).eval()


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "model.backbone.", "model._orig_mod.backbone."])
def test_prefixes_of_trainers_are_removed_and_said(nets, model, prefix):
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights | {"loss.weight": torch.zeros(2)}, "epoch": 3}, nets / "w.ckpt")
    loaded = build_network(Network("x", "nets:Tiny", nets / "w.ckpt", directory=nets))
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True))
    (note,) = loaded.notes
    said = prefix.replace("_orig_mod.", "")
    assert f"the prefix {said!r} of the tensors' names was removed; 1 other tensors are not used, first: loss.weight" in note


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.model.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_prefixes_that_timm_removes(nets, model, prefix):
    torch.save({prefix + name: tensor for name, tensor in model.state_dict().items()}, nets / "w.pth")
    load_weights(other := build_architecture("nets:Tiny", nets), nets / "w.pth")
    assert torch.equal(other.head.weight, model.head.weight)


def test_averaged_models_and_wrappers_inside_are_read(nets, model):
    "PyTorch's AveragedModel, also of a parallel or compiled network; names that FSDP, checkpointing and compilation put inside."
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    averaged = torch.optim.swa_utils.AveragedModel(model)
    contents = [averaged.state_dict(), torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(model)).state_dict()]
    contents += [torch.optim.swa_utils.AveragedModel(torch.compile(model)).state_dict(), {"model_ema": averaged.state_dict()}]
    partly = build_architecture("nets:Tiny", nets)
    partly.load_state_dict(model.state_dict())
    partly.body = checkpoint_wrapper(torch.compile(partly.body))
    contents.append(torch.nn.Module.state_dict(partly))
    wrapped = "_fsdp_wrapped_module.body._fsdp_wrapped_module."
    contents.append({name.replace("body.", wrapped): tensor for name, tensor in model.state_dict().items()})
    for content in contents:
        torch.save(content, nets / "w.pth")
        load_weights(other := build_architecture("nets:Tiny", nets), nets / "w.pth")
        assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))
    torch.save(model.state_dict() | {"n_averaged": torch.tensor(3)}, nets / "w.pth")
    with pytest.raises(UserError, match="n_averaged is not part of the network"):
        load_weights(model, nets / "w.pth")


def test_a_prefix_does_not_hide_what_is_wrong(nets, model):
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if name != "body.0.bias"}
    torch.save(weights, nets / "w.pth")
    with pytest.raises(UserError, match=r"not of this architecture: body\.0\.bias is missing; give the architecture"):
        load_weights(model, nets / "w.pth")


def test_quantised_networks_and_another_input_size_are_said(nets, model, recwarn):
    torch.save(model.state_dict() | {"head._packed_params.dtype": torch.qint8, "head._packed_params": None}, nets / "w.pth")
    with pytest.raises(UserError, match="head._packed_params.* of the file is quantised; expected a network of floating"):
        load_weights(model, nets / "w.pth")
    del model.pretrained_cfg
    model.body = torch.nn.Flatten()
    with pytest.raises(UserError, match=r"this size is assumed: .* pretrained_cfg = \{\"input_size\": \(3, height, width\)\}"):
        check_network(model, "x")
    model.pretrained_cfg = {"input_size": (3, 16, 16)}
    with pytest.raises(UserError, match=r"16 × 16: .*its pretrained_cfg states this size: if the network takes"):
        check_network(model, "x")
    assert not recwarn.list


def test_plain_weights_need_no_note(nets, model):
    save_file(model.state_dict(), nets / "w.safetensors")
    assert load_weights(model, nets / "w.safetensors") == ""


def test_files_that_are_not_weights_say_what_they_are(nets, model):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), nets / "script.pt")
    (nets / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n")
    (nets / "page.pth").write_text("<!DOCTYPE html><html>404</html>")
    torch.save({name: tensor * float("nan") for name, tensor in model.state_dict().items()}, nets / "nan.pth")
    torch.save({}, nets / "empty.pth")
    torch.save([torch.zeros(2)], nets / "list.pth")
    torch.save({name: tensor.to(torch.complex64) for name, tensor in model.state_dict().items()}, nets / "complex.pth")
    messages = {
        "script.pt": "a TorchScript program", "pointer.safetensors": "a pointer of Git LFS", "page.pth": "a web page",
        "nan.pth": r"body\.0\.weight contains NaN \(such tensors: 4\)", "empty.pth": "holds no tensors by name",
        "list.pth": "holds no tensors by name", "complex.pth": "is torch.complex64, expected torch.float32",
    }  # fmt: skip
    checkpoint = nets / "checkpoint-100"
    checkpoint.mkdir()
    torch.save({}, checkpoint / "scheduler.pt")
    messages["checkpoint-100"] = "none lies in it"
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as failure:
            load_weights(model, nets / name)
        assert "\n" not in str(failure.value)
    (checkpoint / "__0_0.distcp").write_bytes(b"PK")
    for path in (checkpoint, checkpoint / "__0_0.distcp"):
        with pytest.raises(UserError, match=r"part of a distributed checkpoint \(FSDP\); python -m torch.distributed"):
            load_weights(model, path)


NETWORKS = f"""
import os

import torch
from torch import nn

print("built")
torch.set_default_dtype(torch.float64)
os.chdir("/")

{SMALL}

class Batch(Small):
    def forward(self, x):
        return self.head(self.body(x) - self.body(x).mean(0))


class InPlace(Small):
    def forward(self, x):
        return self.head(self.body(x.mul_(0.5)))


class Lazy(Small):
    def __init__(self):
        super().__init__()
        self.head = nn.LazyLinear(10)


def meta():
    with torch.device("meta"):
        return Small()
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "nets.py").write_text(NETWORKS)
    return tmp_path


def test_a_change_of_a_single_file_is_another_network(small):
    before = digest_of(small, "Small")
    (small / "nets.py").write_text(NETWORKS.replace("self.head(self.body(x))", "self.head(2 * self.body(x))"))
    assert digest_of(small, "Small") != before
    (small / "nets.py").write_text(NETWORKS)
    assert digest_of(small, "Small") == before
    assert not hasattr(build_architecture("transfer_study.small_networks:inception", small), "source_digest")


def test_packages_of_an_environment_beside_the_study_are_not_its_files(small, monkeypatch):
    before, installed = digest_of(small, "Small"), small / ".venv/lib/site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_package.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(installed)
    (small / "other.py").write_text("import installed_package\nfrom nets import Small\n")
    model = build_architecture("other:Small", small)
    assert sys.modules.pop("installed_package").x == 1 and "nets" not in sys.modules
    (installed / "installed_package.py").write_text("x = 2\n")
    assert build_architecture("other:Small", small).source_digest == model.source_digest and digest_of(small, "Small") == before


def test_what_a_module_prints_and_sets_stays_its_own(small, capsys):
    before = os.getcwd()
    assert build_architecture("nets:Small", small).head.weight.dtype == torch.float64 and os.getcwd() == before != "/"
    captured = capsys.readouterr()
    assert torch.get_default_dtype() == torch.float32 and captured.out == "" and "built" in captured.err


def test_features_that_depend_on_the_batch_are_said_and_an_input_changed_in_place_is_not(small):
    assert check_network(build_architecture("nets:Small", small).float().eval(), "n") == ()
    assert check_network(build_architecture("nets:InPlace", small).float().eval(), "n") == ()
    (note,) = check_network(build_architecture("nets:Batch", small).float().eval(), "n")
    assert "depend on the images beside it" in note
    with pytest.raises(UserError, match="lazy"):
        build_architecture("nets:Lazy", small)
    large = build_architecture("nets:Small", small).float().eval()
    large.pretrained_cfg = {"input_size": (3, 16000, 16000)}
    with pytest.raises(UserError, match="16,000 × 16,000 pixels; expected at most 4,096"):
        check_network(large, "n")
    large.pretrained_cfg = {"input_size": "large"}
    with pytest.raises(UserError, match="input_size is 'large', expected three whole numbers"):
        check_network(large, "n")
    with pytest.raises(UserError, match="expected the name of a module"):
        build_architecture("../nets:Small", small)


def test_whole_numbers_infinities_and_formats_of_others_are_no_weights(small):
    state = build_architecture("nets:Small", small).float().state_dict()
    files = {
        "int.safetensors": ({name: (100 * value).to(torch.int8) for name, value in state.items()}, "whole numbers"),
        "sparse.pth": (state | {"head.weight": state["head.weight"].to_sparse()}, "sparse"),
        "inf.safetensors": (state | {"head.weight": state["head.weight"] / 0}, "infinite values"),
    }
    for name, (tensors, reason) in files.items():
        (torch.save if name.endswith(".pth") else save_file)(tensors, small / name)
        with pytest.raises(UserError, match=reason):
            build_network(Network("n", "nets:Small", small / name, 0.5, directory=small))
    for name, start, reason in (
        ("w.h5", b"\x89HDF\r\n", "HDF5"), ("w.onnx", b"\x08\x07", "onnx"), ("index.json", b"{}", "JSON"),
        ("w.msgpack", b"\x81", "Flax"),
    ):  # fmt: skip
        (small / name).write_bytes(start + bytes(200))
        with pytest.raises(UserError, match=reason):
            build_network(Network("n", "nets:Small", small / name, 0.5, directory=small))
    save_file(state, small / "right.safetensors")
    with pytest.raises(UserError, match="meta device"):
        build_network(Network("n", "nets:meta", small / "right.safetensors", 0.5, directory=small))
    with pytest.raises(UserError, match="a folder"):
        build_network(Network("n", "nets:Small", small, 0.5, directory=small))


def test_checkpoints_of_trainers_say_which_weights_are_used(nets, model):
    weights = model.state_dict()
    zeros = {name: tensor * 0 for name, tensor in weights.items()}
    for content, note in (
        ({"model_ema": weights, "epoch": 3}, "its weights under 'model_ema' are used"),
        ({"model": weights, "model_ema": zeros}, "its weights under 'model' are used, not those under 'model_ema'"),
        ({"model_state_dict": weights, "optimizer": {}, "loss": torch.tensor(1.0)}, "under 'model_state_dict' are used"),
        ({"model": weights, "optimizer": {"state": {0: {"momentum": torch.zeros(2)}}}}, ""),
    ):
        torch.save(content, nets / "w.pth")
        said = load_weights(other := build_architecture("nets:Tiny", nets), nets / "w.pth")
        assert torch.equal(other.head.weight, model.head.weight) and note in said and bool(note) == bool(said)
    torch.save({"student": weights, "teacher": zeros}, nets / "w.pth")
    save_file(dict(list(weights.items())[:1]), nets / "model-00001-of-00002.safetensors")
    (nets / "w.bin").write_bytes((nets / "model-00001-of-00002.safetensors").read_bytes())
    (nets / "onnx.bin").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100))
    for name, message in {
        "w.pth": "holds several networks, 'student', 'teacher'", "model-00001-of-00002.safetensors": "one of several parts",
        "w.bin": "body.0.bias is missing", "onnx.bin": r"a whole network \(ONNX\)",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            load_weights(model, nets / name)


def test_the_advice_on_a_checkpoint_of_student_and_teacher_works(nets, model):
    "As DINO saves it, with the options of its training as an object of argparse."
    weights = model.state_dict()
    student = {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in weights.items()}
    teacher = {f"backbone.{name}": tensor for name, tensor in weights.items()} | {"head.mlp.0.weight": torch.ones(2, 2)}
    others = {"optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(arch="x")}
    torch.save({"student": student, "teacher": teacher} | others, nets / "full.pth")
    other = build_architecture("nets:Tiny", nets)
    with pytest.raises(UserError, match="several networks, 'student', 'teacher'; save the one to use: .*, if you trust") as error:
        load_weights(other, nets / "full.pth")
    with contextlib.chdir(nets):
        exec(re.search(r"torch\.save\(.*\)(?=, if you trust)", str(error.value)).group(), {"torch": torch})
    assert "the prefix 'backbone.' of the tensors' names was removed" in load_weights(other, nets / "teacher.pth")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in other.state_dict().items())


PARTS_OF_NETWORKS = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, width=4, n=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(4 * width, n)
        self.dropout = nn.Dropout(0.5)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.head(self.body(x))


class Mirrored(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.pretrained_cfg = Tiny(), {"input_size": (3, 16, 16)}

    def forward(self, x):
        return (self.network(x) + self.network(x.flip(3))) / 2


class Patches(Mirrored):
    @torch.no_grad()
    def forward(self, x):
        return {"logits": torch.stack([self.network(part) for part in (x[..., :8, :], x[..., 8:, :], x)]).mean(0)}


class Both(Mirrored):
    def __init__(self):
        super().__init__()
        self.second = Tiny(2)

    def forward(self, x):
        return self.network(x).softmax(1) * self.second(x).softmax(1)


class Gated(Mirrored):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3, 1)

    def forward(self, x):
        return self.network(x) * self.last(x.mean((2, 3)))


class Dropouts(Tiny):
    "One classifier on the same features several times, as in multi-sample dropout."

    def forward(self, x):
        features = self.body(x)
        return torch.stack([self.head(self.dropout(features)) for _ in range(5)]).mean(0)


class Several(Tiny):
    "Two classifiers on the same features."

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(16, 3)

    def forward(self, x):
        features = self.body(x)
        return torch.cat([self.head(features), self.second(features)], 1)


class Embedding(Tiny):
    "The features of the layer before, beside the scores."

    def forward(self, x):
        features = self.body(x)
        return self.head(features.relu()), features, x.mean()


class Auxiliary(Tiny):
    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(3, 10)

    def forward(self, x):
        scores = super().forward(x)
        return (scores, self.auxiliary(x.mean((2, 3)))) if self.training else scores


class Pooled(Tiny):
    "Two views, one classifier on both."

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(torch.cat([self.body(x), self.body(x.flip(3))], 1))


def googlenet():
    import torchvision

    return torchvision.models.googlenet(init_weights=False)


def distilled():
    import timm

    return timm.create_model("deit_tiny_distilled_patch16_224")


class Library(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.pretrained_cfg = googlenet(), {"input_size": (3, 64, 64)}

    def forward(self, x):
        return self.inner(x)
"""


@pytest.fixture
def partial(tmp_path):
    (tmp_path / "nets.py").write_text(PARTS_OF_NETWORKS)
    return tmp_path


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("Mirrored", "network 'x': its classifier network.head is called twice for an image"),
        ("Patches", "network 'x': its classifier network.head is called 3 times for an image"),
        ("Both", r"network 'x': it has two classifiers side by side \(network.head, second.head\)"),
        ("Gated", "network 'x': its output depends on more than the input of last, its last linear layer"),
    ],
)
def test_a_network_of_which_a_part_would_be_dropped_is_named(partial, function, message, zero):
    "Also with a classifier that was not in the file, and so is 0."
    model = build_architecture(f"nets:{function}", partial).eval()
    if zero:
        for name in classifier_names(model):
            for parameter in model.get_submodule(name).parameters():
                torch.nn.init.zeros_(parameter)
    with pytest.raises(UserError, match=message + ".* or return features"):
        check_network(model, "x")


WHOLE = ["Tiny", "Dropouts", "Several", "Embedding", "Auxiliary", "Pooled", "googlenet", "distilled", "Library"]


@pytest.mark.parametrize("function", WHOLE)
def test_a_network_with_all_of_its_features_passes(partial, function):
    model = build_architecture(f"nets:{function}", partial).eval()
    model.pretrained_cfg = getattr(model, "pretrained_cfg", {"input_size": (3, 224, 224)})
    assert check_network(model, "x") == ()


def test_a_linear_layer_inside_of_a_block_that_gives_maps_is_no_classifier(nets):
    images, sizes = torch.rand(2, 3, 16, 16), {"Excited": 4, "convolution": 10, "flattened": 4}
    models = {name: build_architecture(f"nets:{name}", nets).eval() for name in sizes}
    assert {name: penultimate_features(model, images).shape[1] for name, model in models.items()} == sizes
    for name in ("Excited", "convolution"):
        assert classifier_names(models[name]) == [] and penultimate_features(models[name], images).equal(models[name](images))
    (note,) = check_network(models["convolution"], "x")
    assert "if these are scores of classes, put torch.nn.Identity in place of classifier" in note
    pooled = models["flattened"].excite(models["flattened"].conv(images)).mean((2, 3))
    torch.testing.assert_close(penultimate_features(models["flattened"], images), pooled)
    assert classifier_names(models["flattened"]) == ["classifier.1"] and check_network(models["flattened"], "x") == ()


def test_a_path_in_place_of_a_module_is_answered_with_its_name(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.py").write_text("")
    for path in ("models/mine.py", "models/mine", "models\\mine.py"):
        with pytest.raises(UserError, match="such as models.mine for the file models/mine.py$"):
            build_architecture(f"{path}:net", tmp_path)
    with pytest.raises(UserError, match="such as my_models for the file my_models.py$"):
        build_architecture("elsewhere/models/mine.py:net", tmp_path)
