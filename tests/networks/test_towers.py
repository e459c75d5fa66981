"""Image towers of OpenCLIP and Transformers, built with random weights: nothing is downloaded."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import write_images
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network, describe_network, network_digest, network_structure
from transfer_study.networks.penultimate import input_configuration, input_transform, penultimate_features
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


def test_what_a_folder_lacks_is_said_and_no_connection_is_blamed(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, checkpoints in {"run": ("checkpoint-500", "checkpoint-1000"), "models": ("a", "b")}.items():
        for checkpoint in checkpoints:
            shutil.copytree(folder / "vit", tmp_path / name / checkpoint)
    for name, absent in {"bare": "preprocessor_config.json", "empty": "model.safetensors", "weights": "config.json"}.items():
        shutil.copytree(folder / "vit", tmp_path / name, ignore=shutil.ignore_patterns(absent))
    for name, file, text in (
        ("adapter", "adapter_config.json", "{}"), ("cut", "config.json", "{"),
        ("timm", "config.json", '{"architecture": "resnet18"}'),
        ("nothing", "x.txt", ""), ("other", "config.json", '{"model_type": "none"}'), ("other", "preprocessor_config.json", "{}"),
    ):  # fmt: skip
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(text)
    for name, message in {
        "run": "run holds checkpoints: give transformers:.*run/checkpoint-1000$",
        "models": "models holds networks in folders: give .*models/b$",
        "bare": r"bare has no preprocessor_config\.json; save the image processor .* \(processor\.save_pretrained\(FOLDER\)\)$",
        "empty": r"empty has no weights, such as model\.safetensors", "weights": "weights has weights but no config.json",
        "adapter": "adapter of PEFT", "cut": r"config\.json is not JSON",
        "timm": 'a network of timm; give architecture = "resnet18" and weights',
        "nothing": "nothing has no config.json; give a folder of model.save_pretrained", "other": "other",
        "nothing/x.txt": "is a file; give its folder", "./absent": "no such folder",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            build_architecture(f"transformers:{name}", tmp_path, pretrained=True)
        assert "\n" not in str(error.value) and "connection" not in str(error.value) and "huggingface.co" not in str(error.value)
    assert build_architecture("transformers:run/checkpoint-500", tmp_path, pretrained=True).num_features == 24


def difference(model, own, width: int, height: int) -> float:
    "The largest difference of pixels of a noisy picture between the model's transform and the library's, in steps of 8 bits."
    pixels = np.random.default_rng(0).integers(64, 192, (height, width, 3), dtype=np.uint8)  # nothing that resizing would cut off
    image = Image.fromarray(pixels)
    ours, theirs = input_transform(model)(image), torch.as_tensor(own(image))
    assert ours.shape == theirs.shape[-3:]
    return float(((ours - theirs).abs() * torch.tensor(input_configuration(model)["std"])[:, None, None]).max()) * 255


PROCESSORS = {
    "ViTImageProcessor": {},
    "SiglipImageProcessor": {},
    "DeiTImageProcessor": {},  # to a square of 256, of which the middle is used
    "CLIPImageProcessor": {},
    "BitImageProcessor": {"size": {"shortest_edge": 225}, "crop_size": {"height": 192, "width": 192}},  # 192 / (192 / 225) < 225
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}},
    "ConvNextImageProcessor ": {"size": {"shortest_edge": 384}},  # to a square from here on
    "LevitImageProcessor": {},
    "PoolFormerImageProcessor": {},
    "EfficientNetImageProcessor": {"size": {"height": 224, "width": 224}},
    "MobileNetV1ImageProcessor": {},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_input_transform_is_the_processor_s(folder, tmp_path, name):
    import transformers

    shutil.copy(folder / "vit" / "config.json", tmp_path)
    processor = getattr(transformers, name.strip())(**PROCESSORS[name])
    processor.save_pretrained(tmp_path)
    model = build_architecture(f"transformers:{tmp_path}")
    for size in ((300, 200), (200, 300), (720, 480)):
        assert difference(model, lambda image: processor(image, return_tensors="pt")["pixel_values"][0], *size) < 2.01


def test_a_transform_that_does_not_change_keeps_its_configuration(folder):
    "As at earlier checkouts, because it is part of keys and ids."
    model = build_architecture(f"transformers:{folder}/vit")
    expected = {"input_size": (3, 32, 32), "crop_pct": 32 / 36, "interpolation": "bicubic"}
    assert model.pretrained_cfg.keys() == expected.keys() | {"mean", "std"} and expected.items() <= model.pretrained_cfg.items()


@pytest.mark.parametrize(
    ("processor", "options", "message"),
    [
        ("MobileViTImageProcessor", {}, "gives other pixels than its settings say, by 0.1"),  # blue first
        ("DetrImageProcessor", {}, "resizes to .*'longest_edge': 1333.*; expected height and width, or shortest_edge alone"),
        ("CLIPImageProcessor", {"do_center_crop": False}, r"gives images of the shape \(1, 3, 224, 358\)"),
    ],
)
def test_a_preprocessing_that_cannot_be_repeated_is_refused(folder, tmp_path, processor, options, message):
    import transformers

    shutil.copy(folder / "vit" / "config.json", tmp_path)
    getattr(transformers, processor)(**options).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        build_architecture(f"transformers:{tmp_path}")
    assert "\n" not in str(error.value) and f"network 'transformers:{tmp_path}'" in str(error.value)


def test_the_input_transform_is_that_of_the_weights_of_open_clip():
    open_clip = pytest.importorskip("open_clip", reason="OpenCLIP (extra clip) is not installed")
    model = build_architecture("open_clip:PE-Core-T-16-384/meta@projection")  # resizes to a square, mean 0.5
    settings = {
        key: value for key, value in open_clip.get_pretrained_cfg("PE-Core-T-16-384", "meta").items() if value is not None
    }
    preset = open_clip.transform.merge_preprocess_dict({"size": 384}, settings)
    own = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**preset), is_train=False)
    assert input_configuration(model)["crop_mode"] == "squash" and difference(model, own, 300, 200) == 0


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
    projected = build_architecture("open_clip:ViT-B-32/openai@projection")
    assert network_structure(projected) != network_structure(model), "else both have one key of cached features"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("open_clip:ViT-B-33/openai", "unknown OpenCLIP model 'ViT-B-33'; did you mean ViT-B-32"),
        ("open_clip:ViT-B-32", "name its weights, as in open_clip:ViT-B-32/"),
        ("open_clip:RN50/openai", "no separate projection; use open_clip:RN50/openai@projection"),
        ("ViT-B-32", "write open_clip:ViT-B-32/openai; its weights are .* more, as open_clip.list_pretrained_tags_by_model"),
        ("ViT-B/32", "write open_clip:ViT-B-32/openai"),
        ("ViT-B-32/laion2b_e16", "write open_clip:ViT-B-32/laion2b_e16;"),
        ("transformers:nobody/nothing", "'transformers:nobody/nothing': cannot be loaded"),
    ],
)
def test_mistakes_are_one_line(architecture, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message) as error:
        build_architecture(architecture)
    assert "\n" not in str(error.value)
