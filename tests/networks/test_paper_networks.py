"""The paper's 16 networks: built without a download, features that their classifier sees, facts that are measured again."""

import random
from importlib.metadata import metadata

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg

from transfer_study.core import UserError, data_path
from transfer_study.networks.architectures import build_architecture, split_architecture
from transfer_study.networks.networks import Network, build_network, describe_network, network_digest
from transfer_study.networks.penultimate import classifier_names, input_configuration, input_transform, penultimate_features
from transfer_study.networks.table import default_checkpoint, imagenet_top1, known_networks, paper_networks
from transfer_study.source_accuracy import known_source_accuracies

# Name, penultimate features and input size of the networks of Kornblith et al. 2019, in the paper's order.
PAPER = [
    ("inception_v1", 1024, 224), ("bn_inception", 1024, 224), ("inception_v3", 2048, 299), ("inception_v4", 1536, 299),
    ("inception_resnet_v2", 1536, 299), ("resnet50", 2048, 224), ("resnet101", 2048, 224), ("resnet152", 2048, 224),
    ("densenet121", 1024, 224), ("densenet169", 1664, 224), ("densenet201", 1920, 224), ("mobilenet_v1", 1024, 224),
    ("mobilenet_v2", 1280, 224), ("mobilenet_v2_140", 1792, 224), ("nasnet_mobile", 1056, 224), ("nasnet_large", 4032, 331),
]  # fmt: skip
NAMES = [name for name, *_ in PAPER]
SMALL = {"bn_inception": 224, "mobilenet_v1": 224, "nasnet_mobile": 224, "inception_v3": 96, "inception_v4": 96,
         "inception_resnet_v2": 96}  # pytorchcv pools over a fixed window; the Inceptions' stems do not pad  # fmt: skip
TOTALS = {"bn_inception": 11_295_240, "nasnet_mobile": 5_289_978, "resnet50": 25_557_032, "inception_v1": 6_624_904}


def calibrated(model: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    "`model` in evaluation mode with this batch's statistics, so that random weights give activations of ordinary size."
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum  # part of the printed structure, which the digest covers
    return model.eval()


def test_the_table_is_the_papers():
    table = paper_networks()
    assert list(zip(table["name"], table["n_features"], table["input_size"], strict=True)) == PAPER
    assert table["imagenet_top1"].between(0.69, 0.83).all() and table["title"].is_unique


@pytest.mark.parametrize("name", NAMES)
def test_features_are_what_the_classifier_sees_and_survive_saving(name, tmp_path):
    torch.manual_seed(0)
    row, size = paper_networks().set_index("name").loc[name], SMALL.get(name, 64)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        model = calibrated(build_architecture(name), images)
    with torch.inference_mode():
        features, scores = penultimate_features(model, images), model(images)
        classifier = model.get_submodule(classifier_names(model)[-1])
        assert features.shape == (2, row["n_features"]) and scores.shape == (2, 1000)
        assert features.std() > 0.01 and (features[0] - features[1]).abs().max() > 0.01
        assert torch.allclose(classifier(features), scores, atol=1e-5)
        assert not torch.allclose(classifier(features.flip(0)), scores, atol=1e-5)
        assert not torch.allclose(classifier(features.relu() * 1.01), scores, atol=1e-5)

    assert describe_network(model) == {key: row[key] for key in ("n_features", "input_size", "parameters")}
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == TOTALS.get(name, total) == row["parameters"] + sum(p.numel() for p in classifier.parameters())

    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = build_network(Network(name, name, tmp_path / "weights.safetensors"))
    (tmp_path / "weights.safetensors").unlink()  # up to 340 MB
    with torch.inference_mode():
        assert torch.equal(penultimate_features(again, images), features)
    assert network_digest(again) == network_digest(model) and input_configuration(again) == input_configuration(model)


@pytest.mark.parametrize(("name", "n_features", "size"), PAPER)
def test_at_the_papers_input_size(name, n_features, size):
    with torch.device("meta"):
        model = build_architecture(name).eval()
        assert input_configuration(model)["input_size"] == (3, size, size)
        assert penultimate_features(model, torch.empty(4, 3, size, size)).shape == (4, n_features)


@pytest.mark.parametrize("name", ["inception_v1", "bn_inception", "inception_v4", "resnet50", "mobilenet_v2", "nasnet_large"])
def test_the_protocols_transform(name):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    with torch.device("meta"):
        model = build_architecture(name)
    size = paper_networks().set_index("name").loc[name, "input_size"]
    width = int(size * 410 / 300)
    resized = Image.fromarray(pixels).resize((width, size), Image.Resampling.BICUBIC)
    left = round((width - size) / 2)
    crop = np.asarray(resized.crop((left, 0, left + size, size)), dtype=np.float32) / 255
    mean, std = (0.5, 0.5) if name in ("inception_v1", "inception_v4", "nasnet_large") else (
        np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]))  # fmt: skip
    given = input_transform(model)(Image.fromarray(pixels)).numpy()
    assert np.abs(given - ((crop - mean) / std).transpose(2, 0, 1)).max() < 1e-5


def test_a_librarys_name_has_the_librarys_transform():
    with torch.device("meta"):
        found = {name: input_configuration(build_architecture(name)) for name in (
            "resnet50", "resnet50.tv_in1k", "timm:resnet50", "torchvision:resnet50", "torchvision:resnet50.IMAGENET1K_V2",
            "pytorchcv:bninception", "pytorchcv:nasnet_6a4032")}  # fmt: skip
    assert {name: round(each["input_size"][1] / each["crop_pct"]) for name, each in found.items()} == {
        "resnet50": 224, "resnet50.tv_in1k": 256, "timm:resnet50": 236, "torchvision:resnet50": 256,
        "torchvision:resnet50.IMAGENET1K_V2": 232, "pytorchcv:bninception": 256, "pytorchcv:nasnet_6a4032": 378,
    }  # fmt: skip
    assert found["resnet50"]["interpolation"] == "bicubic" and found["torchvision:resnet50"]["interpolation"] == "bilinear"


def test_one_networks_configuration_leaves_the_next_ones_alone():
    with torch.device("meta"):
        first, second = build_architecture("resnet50"), build_architecture("resnet50.tv_in1k")
    assert input_configuration(first)["crop_pct"] == 1 and input_configuration(second)["crop_pct"] == 0.875
    assert get_pretrained_cfg("resnet50.tv_in1k").crop_pct == 0.875


def test_what_torchvision_does_inside_googlenet_is_done_before_it():
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        model = calibrated(build_architecture("inception_v1").double(), pixels * 2 - 1)
        theirs = torchvision.models.GoogLeNet(aux_logits=False, transform_input=True, init_weights=False).double().eval()
        theirs.load_state_dict(model.state_dict())
        mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        expected = theirs((pixels - mean.double()) / std.double())
        assert torch.allclose(model((pixels - 0.5) / 0.5), expected, atol=1e-4)
        assert not torch.allclose(model((pixels - mean) / std), expected, atol=1e-2)


def test_torchvisions_own_file_with_auxiliary_classifiers(tmp_path, monkeypatch):
    "From a local file, and from the place where torchvision keeps what it has downloaded."
    torch.manual_seed(0)
    complete = torchvision.models.GoogLeNet(aux_logits=True, init_weights=False).eval()
    images, url = torch.randn(1, 3, 64, 64), torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.url
    cached = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    torch.save(complete.state_dict(), cached)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with torch.no_grad():
        expected = complete(images)
        for weights in (cached, None):
            assert torch.equal(build_network(Network("v1", "inception_v1", weights))(images), expected)


def test_pytorchcvs_own_file(tmp_path, monkeypatch):
    "Its download cannot run here, so that one function gives a local file; what is read from it is real."
    torch.manual_seed(0)
    original = build_architecture("pytorchcv:bninception").eval()
    torch.save(original.state_dict(), tmp_path / "bninception.pth")
    monkeypatch.setattr("pytorchcv.models.common.model_store.get_model_file", lambda name: str(tmp_path / f"{name}.pth"))
    assert network_digest(build_network(Network("bn", "bn_inception"))) == network_digest(original)


def test_weights_that_cannot_be_fetched_are_one_line_each(tmp_path, monkeypatch, capsys):
    nobody = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    for name, value in {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path), "HOME": str(tmp_path), **nobody}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the proxies of its first call in a process
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    places = {"resnet50": "resnet50.tv_in1k", "inception_v1": "torchvision:googlenet", "bn_inception": "pytorchcv:bninception"}
    for name, place in places.items():
        with pytest.raises(UserError, match="cannot download its weights") as error:
            build_network(Network(name, name))
        line = str(error.value)
        assert place in line and 'weights = "…"' in line and "\n" not in line
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("nasnet_mobil", "did you mean nasnet_mobile"),
        ("torchvision:googelnet", "unknown torchvision network 'googelnet'; did you mean googlenet"),
        ("torchvision:resnet50.IMAGENET1K_V3", "did you mean IMAGENET1K_V"),
        ("pytorchcv:bninceptoin", "unknown pytorchcv network .* did you mean bninception"),
        ("pytorchcv:resnet20_cifar10", "unknown pytorchcv network"),
        ("pytorchcv:resnet200", "pytorchcv has no weights of this network"),
    ],
)
def test_unknown_names(architecture, message):
    with pytest.raises(UserError, match=message):
        build_network(Network("x", architecture))


def test_every_checkpoint_exists_in_its_library():
    timms = set(timm.list_pretrained())
    table = paper_networks()
    for checkpoint in [*table["checkpoint"], *table["alternatives"].explode().dropna()]:
        library, name = split_architecture(checkpoint)
        if library == "timm":
            assert name in timms
        elif library == "torchvision":
            network, _, tag = name.partition(".")
            assert (tag or "IMAGENET1K_V1") in {weights.name for weights in torchvision.models.get_model_weights(network)}
        else:
            assert imagenet_top1(checkpoint) is not None  # only checkpoints stand in that table
    assert table.set_index("name")["alternatives"].map(len)["resnet50"] > 10


def test_alternatives_are_of_the_same_architecture():
    table, seen = paper_networks(), set()
    for row in table.itertuples():
        for alternative in row.alternatives:
            architecture = alternative.split(".")[0]
            if architecture not in seen and architecture != row.checkpoint.split(".")[0]:
                seen.add(architecture)
                with torch.device("meta"):
                    facts = describe_network(build_architecture(alternative))
                assert (facts["n_features"], facts["parameters"]) == (row.n_features, row.parameters), alternative
    assert len(seen) > 8


def test_top1_is_looked_up():
    timms = pd.read_csv(data_path("published/timm_imagenet_top1.csv")).set_index(["model", "img_size"])["top1"]
    table = paper_networks().set_index("name")
    assert imagenet_top1("nasnet_large") == pytest.approx(timms["nasnetalarge.tf_in1k", 331] / 100)
    assert imagenet_top1("resnet50.tv2_in1k") == pytest.approx(timms["resnet50.tv2_in1k", 176] / 100)
    assert imagenet_top1("inception_v1") == imagenet_top1("torchvision:googlenet.IMAGENET1K_V1") == 0.69778
    assert imagenet_top1("torchvision:resnet50.IMAGENET1K_V2") is None and imagenet_top1("my_models:small") is None
    known = known_source_accuracies()
    assert all(known[name] == table.loc[name, "imagenet_top1"] == imagenet_top1(name) for name in NAMES)
    assert known["convnext_nano"] == known[default_checkpoint("convnext_nano")] != known["convnext_nano.d1h_in1k"]
    assert imagenet_top1("convnext_tiny") == known[default_checkpoint("convnext_tiny")] != known["convnext_tiny"]


def test_a_plain_name_is_torchvisions_where_it_has_the_network():
    known, n = known_source_accuracies(), 0
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name).__members__.get("IMAGENET1K_V1")
        if weights is not None:
            top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
            assert 100 * known[name] == 100 * imagenet_top1(f"torchvision:{name}") == pytest.approx(top1), name
            n += 1
    assert n > 70 and known["resnet18"] == 0.69758 and imagenet_top1("resnet18") == known["resnet18.a1_in1k"] == 0.71504


def test_top1_of_pytorchcv_is_what_the_package_says():
    description = str(metadata("pytorchcv").get_payload())
    titles = {"BN-Inception": "bninception", "NASNet-A 4@1056": "nasnet_4a1056", "MobileNet x1.0": "mobilenet_w1"}
    for title, name in titles.items():
        line = next(line for line in description.splitlines() if line.startswith(f"| {title} |"))  # ImageNet's table is the first
        assert float(line.split("|")[2]) == pytest.approx(100 * (1 - imagenet_top1(f"pytorchcv:{name}")))


def test_the_size_at_which_timm_measured_is_the_checkpoints_own():
    table = known_networks().iloc[16:].set_index("name")
    twice = pd.read_csv(data_path("published/timm_imagenet_top1.csv"))["model"]
    for name in twice[twice.duplicated()].unique():
        assert table.loc[name, "input_size"] == get_pretrained_cfg(name).input_size[-1], name
    assert len(table) == twice.nunique()


def test_timms_default_checkpoints_are_still_the_pinned_ones():
    table = pd.read_csv(data_path("timm_architectures.csv"))
    found = {name: get_pretrained_cfg(name).tag for name in table["architecture"]}
    assert found == dict(zip(table["architecture"], table["default_tag"], strict=True))


def test_facts_of_timm_architectures_measured_again():
    table = pd.read_csv(data_path("timm_architectures.csv"), index_col="architecture")
    small = table[table["parameters"] < 30e6].index
    for name in [*random.Random(0).sample(list(small), 6), "levit_128", "mobilenetv3_large_100"]:
        with torch.device("meta"):
            model = timm.create_model(name).eval()
            size = input_configuration(model)["input_size"]
            assert penultimate_features(model, torch.empty(2, *size)).shape == (2, table.loc[name, "n_features"]), name
        assert describe_network(model)["parameters"] == table.loc[name, "parameters"]
