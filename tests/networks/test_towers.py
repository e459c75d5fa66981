"""Image towers of OpenCLIP and Transformers, built with random weights: nothing is downloaded."""

import pytest
import torch

from tests.conftest import write_images
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import (
    Network,
    build_network,
    describe_network,
    input_transform,
    network_digest,
    penultimate_features,
)
from transfer_study.study.resolve import meta_network
from transfer_study.study.study import Study
from transfer_study.training.callbacks import replace_classifier

STUDY = """
name = "towers"
datasets = ["squares"]

[[networks]]
name = "vit"
architecture = "transformers:vit"
source_accuracy = 0.5

[[networks]]
name = "resnet"
architecture = "transformers:resnet"
source_accuracy = 0.6

[protocols.linear]
n_l2 = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Two small networks with random weights, as `save_pretrained` writes them, and a few images."
    transformers = pytest.importorskip("transformers", reason="Transformers (extra hf) is not installed")
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    small |= {"image_size": 32, "patch_size": 8}
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    models = {
        "vit": transformers.ViTModel(transformers.ViTConfig(**small), add_pooling_layer=False),
        "resnet": transformers.ResNetModel(transformers.ResNetConfig(**resnet)),
        "clip": transformers.CLIPModel(transformers.CLIPConfig(text_config=small | {"vocab_size": 50}, vision_config=small)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        processor = transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
        processor.save_pretrained(folder / name)
    write_images(folder / "squares")
    return folder


@pytest.mark.parametrize(("name", "n_features"), [("vit", 24), ("resnet", 16), ("clip", 24)])
def test_a_saved_network_gives_its_features_and_takes_a_classifier(folder, name, n_features):
    network = Network(name, f"transformers:{name}", directory=folder)
    model = build_network(network)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = penultimate_features(model, images)
    assert features.shape == (2, n_features) and describe_network(model)["n_features"] == n_features
    planned = describe_network(meta_network(network))  # its configuration does not say that the checkpoint lacks a pooling layer
    assert describe_network(model)["input_size"] == planned["input_size"] == 32 and planned["n_features"] == n_features
    replace_classifier(model, 3)
    loss = torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 2]))
    loss.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.tower.parameters())


def test_a_pooling_layer_that_the_checkpoint_lacks_is_not_used(folder):
    "The library would fill it with random weights, other ones each time."
    model = build_network(Network("vit", "transformers:vit", directory=folder))
    assert network_digest(model) == network_digest(build_network(Network("vit", "transformers:vit", directory=folder)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(penultimate_features(model, images), model.tower(pixel_values=images).last_hidden_state[:, 0])


def test_a_study_runs_on_saved_networks(folder, tmp_path):
    (folder / "study.toml").write_text(STUDY)
    study = Study.from_file(folder / "study.toml")
    study.run(tmp_path / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    assert study.results(tmp_path / "runs")["network"].tolist() == ["resnet", "vit"]


def test_open_clip_towers_agree_with_the_library():
    open_clip = pytest.importorskip("open_clip", reason="OpenCLIP (extra clip) is not installed")
    torch.manual_seed(0)
    model = build_architecture("open_clip:ViT-B-32/openai").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features = penultimate_features(model, images)
        assert torch.allclose(features @ model.tower.proj, model.tower(images), atol=1e-5)
    assert features.shape == (1, describe_network(model)["n_features"]) == (1, 768)
    assert input_transform(model).transforms[-1].mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert describe_network(meta_network(Network("clip", "open_clip:ViT-B-32/openai"))) == describe_network(model)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("open_clip:ViT-B-33/openai", "unknown OpenCLIP model 'ViT-B-33'; did you mean ViT-B-32"),
        ("open_clip:ViT-B-32", "unknown weights of OpenCLIP's ViT-B-32 ''"),
        ("open_clip:RN50/openai", "no separate projection; use open_clip:RN50/openai@projection"),
        ("transformers:nobody/nothing", "'transformers:nobody/nothing': cannot be loaded"),
    ],
)
def test_mistakes_are_one_line(architecture, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message) as error:
        build_architecture(architecture)
    assert "\n" not in str(error.value)
