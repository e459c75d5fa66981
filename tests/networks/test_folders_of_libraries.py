"""Folders and files as timm, torchvision and the Transformers library write them: read as these do, or named in one line."""

import errno
import os
import re

import pytest
import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import save_file

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.penultimate import input_configuration
from transfer_study.networks.weights import write_weights


@pytest.fixture
def folder(tmp_path):
    "As timm's save_for_hf writes it, with its own preprocessing and five classes."
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 48, 48), "mean": (0.5, 0.5, 0.5), "num_classes": 5}
    save_for_hf(model, tmp_path / "F", safe_serialization="both")
    return tmp_path / "F"


def refused(architecture, directory, weights=None) -> str:
    with pytest.raises(UserError) as caught:
        build_network(Network("n", architecture, weights, directory=directory))
    return str(caught.value)


@pytest.mark.parametrize("architecture", ["timm:local-dir:F", "local-dir:F"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_timm_brings_its_preprocessing(folder, architecture, file):
    model = build_network(Network("n", architecture, folder / file, directory=folder.parent))
    assert input_configuration(model)["input_size"] == (3, 48, 48) and input_configuration(model)["mean"] == (0.5, 0.5, 0.5)
    assert model.num_classes == 5 and torch.equal(model.fc.weight, torch.load(folder / "pytorch_model.bin")["fc.weight"])
    assert not getattr(model, "notes", ())


def test_a_configuration_beside_the_weights_that_is_not_used_is_said(folder):
    (note,) = build_network(Network("n", "test_resnet", folder / "model.safetensors")).notes
    assert re.search(r"F/config.json has another input_size; architecture = \"timm:local-dir:.*F\" uses it", note)


def test_the_advice_names_the_file_that_is_there(folder):
    for file in ("model.safetensors", "pytorch_model.bin"):
        message = refused("transformers:F", folder.parent)
        assert f'architecture = "timm:local-dir:{folder}" and weights = "{folder / file}"' in message
        assert f'weights = "{folder / file}"' in refused("local-dir:F", folder.parent)
        (folder / file).unlink()
    (folder / "config.json").write_text("{}")
    assert "timm cannot build it" in refused("local-dir:F", folder.parent, folder / "w")
    assert "no such file; expected a folder of timm's" in refused("local-dir:G", folder.parent)


def test_a_wrapper_of_timm_and_a_network_for_text_are_named(tmp_path):
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertModel, TimmWrapperConfig, TimmWrapperForImageClassification, ViTImageProcessor

    model = TimmWrapperForImageClassification(TimmWrapperConfig(architecture="test_resnet", num_labels=5))
    model.save_pretrained(tmp_path / "wrapped")
    ViTImageProcessor().save_pretrained(tmp_path / "wrapped")
    message = refused("transformers:wrapped", tmp_path)
    architecture, weights = re.search('architecture = "(.*)" and weights = "(.*)"', message).groups()
    loaded = build_network(Network("n", architecture, weights))
    assert torch.equal(loaded.conv1[0].weight, model.timm_model.conv1[0].weight)
    small = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30)
    BertModel(small).save_pretrained(tmp_path / "bert")
    assert "a network for text, not images (bert)" in refused("transformers:bert", tmp_path)


def test_a_folder_or_its_file_given_for_something_else_leads_to_what_reads_it(folder):
    "A name that is a folder, weights under another architecture, weights in parts and their index."
    pytest.importorskip("transformers")
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    saved = folder.parent / "saved"
    small = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    ViTForImageClassification(small).save_pretrained(saved, max_shard_size="10KB")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(saved)
    part = sorted(saved.glob("*-of-*"))[0]
    for architecture, weights in [
        (str(saved), None),
        *(("test_resnet", file) for file in (part, saved, saved / "model.safetensors.index.json")),
    ]:
        message = refused(architecture, folder.parent, weights)
        advice = message.rpartition("give ")[2].removesuffix(", without weights")
        assert build_network(Network("n", advice)).num_features == 16
    assert f"for one of the Transformers library, give transformers:{saved}" in refused("local-dir:saved", folder.parent)
    timm_words = f'give architecture = "timm:local-dir:{folder}" and weights = "{folder / "model.safetensors"}"'
    for architecture, weights in ((str(folder), None), ("resnet18", folder / "pytorch_model.bin")):
        assert timm_words in refused(architecture, folder.parent, weights)
    (folder / "config.json").write_text('{"learning_rate": 0.1}')
    assert refused("resnet18", folder.parent, folder / "pytorch_model.bin").endswith(
        'a function that builds it (architecture = "module:function")'
    )
    assert refused(str(folder), folder.parent).endswith(f"write transformers:{folder}")


@pytest.mark.parametrize("architecture", ["torchvision:densenet121", "timm:densenet121"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_old_densenet_files_are_read_as_torchvision_does(tmp_path, architecture, prefix):
    torch.manual_seed(0)
    new = torchvision.models.densenet121(weights=None).state_dict()
    old = {prefix + re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor for name, tensor in new.items()}
    assert f"{prefix}features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    save_file(new, tmp_path / "new.safetensors")
    files = (tmp_path / name for name in ("densenet121-a639ec97.pth", "new.safetensors"))
    model, expected = (build_network(Network("n", architecture, file)) for file in files)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert "its old names of DenseNet's tensors" in model.notes[0] and not getattr(expected, "notes", ())


def test_a_module_in_a_package_that_is_not_there_is_named_by_its_path(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "src" / "models" / "net.py"))):
        build_architecture("src.models.net:small", tmp_path)


OWN = """
from transformers import ViTConfig, ViTForImageClassification


def build():
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 16}
    model = ViTForImageClassification(ViTConfig(**small, image_size=32, num_labels=3))
    model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return model
"""


def test_an_own_function_of_a_model_of_transformers_reads_the_file_that_the_library_wrote(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "nets.py").write_text(OWN)
    torch.manual_seed(0)
    trained = build_architecture("nets:build", tmp_path)
    trained.save_pretrained(tmp_path / "best")
    (tmp_path / "best/model.safetensors").rename(tmp_path / "best.safetensors")  # without its folder
    torch.manual_seed(1)
    network = build_network(Network("mine", "nets:build", tmp_path / "best.safetensors", directory=tmp_path))
    values = trained.state_dict()
    assert all(torch.equal(tensor, values[name]) for name, tensor in network.state_dict().items()) and network.classifier_loaded


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_while_weights_are_written_is_an_error_of_the_system(number, tmp_path, monkeypatch):
    def full(*arguments):
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="w.safetensors") as error:
        write_weights({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    assert error.value.errno == number
    monkeypatch.setattr("safetensors.torch.save_file", lambda *arguments: (_ for _ in ()).throw(SafetensorError("another")))
    with pytest.raises(SafetensorError, match="another"):
        write_weights({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
