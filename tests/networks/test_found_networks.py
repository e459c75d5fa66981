"""Networks of one's own that are packages, and files of weights as programs leave them: used, or what is wrong in one line."""

import gzip
import pickle
import zipfile
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.networks.sources import SMALL
from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.loading import load_weights
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.penultimate import input_configuration, penultimate_features


@pytest.fixture
def tiny(tmp_path):
    "A folder with a network, and the network."
    (tmp_path / "nets.py").write_text(f"from torch import nn\n\n{SMALL}")
    return tmp_path, build_architecture("nets:Small", tmp_path).eval()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "architecture module 'parts': SyntaxError"),
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import torch\n\ntorch.nothing\n", "AttributeError"),
        ("raise SystemExit(2)\n", "SystemExit: 2"),
        ("from . import nothing\n", "ImportError: cannot import name 'nothing'"),
    ],
)
def test_a_package_that_fails_is_one_line(tmp_path, text, message):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text(text)
    with pytest.raises(UserError, match=message):
        build_architecture("parts:f", tmp_path)


OF_TORCH_HUB = (
    "facebookresearch/dinov2", "facebookresearch/dino:main/dino_vits16", "pytorch/vision:v0.10.0/resnet18", "torch.hub:a/b/c",
    "hub:a/b", "rwightman/gen-efficientnet-pytorch:efficientnet_b0",
)  # fmt: skip


def test_names_of_other_programs_say_how_to_write_them(tiny):
    for name, message in {
        "nets.py:Small": "expected the name of a module, such as nets for the file nets.py",
        "keras:resnet": "'keras': not found", "facebook/dinov2-base": "write transformers:facebook/dinov2-base",
        "hf-hub:timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k$",
        "hf_hub:timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k$",
        "timm/resnet50.a1_in1k": "; write timm:resnet50.a1_in1k", "hf-hub:laion/x": "write transformers:laion/x",
        "https://huggingface.co/timm/resnet18.a1_in1k": "a web address; write timm:resnet18.a1_in1k$",
        "https://huggingface.co/google/vit-base-patch16-224/tree/main": "write transformers:google/vit-base-patch16-224$",
        "https://download.pytorch.org/models/resnet18.pth": "a web address; give the name of the architecture, and a file",
        **{name: r"of torch.hub, write module:function .* torch.hub.load\(" for name in OF_TORCH_HUB},
        "dinov2_vits14": "timm has its weights as vit_small_patch14_dinov2.lvd142m$",
        "dino_vits16": r"timm's networks of dino are .*vit_small_patch16_224\.dino", "resnet5O": "did you mean resnet50",
        "vit_b_16": "of torchvision: write torchvision:vit_b_16$", "Swin-T": "of torchvision: write torchvision:swin_t$",
        "ViT-B_16": "write torchvision:vit_b_16$", "torchvision.models.resnet50": "write torchvision:resnet50$",
        "ResNet50_Weights.DEFAULT": "write torchvision:resnet50/IMAGENET1K_V2$",
        "resnet50/IMAGENET1K_V1": "write torchvision:resnet50/IMAGENET1K_V1$",
        "torchvision:ResNet50_Weights.IMAGENET1K_V2": "write torchvision:resnet50/IMAGENET1K_V2$",
        "torchvision:ResNet-50": "write torchvision:resnet50$",
        "zzqx": r"unknown network 'zzqx' \(`transfer-study networks --search WORD`",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            build_network(Network("n", name, directory=tiny[0]))


def test_any_prefix_of_all_names_is_removed_and_two_networks_are_refused(tiny, monkeypatch):
    folder, model = tiny
    weights = model.state_dict()
    zeros = {name: 0 * tensor for name, tensor in weights.items()}
    torch.save({f"net.{name}": tensor for name, tensor in weights.items()} | {"loss.weight": torch.zeros(2)}, folder / "w.pth")
    note = load_weights(other := build_architecture("nets:Small", folder), folder / "w.pth")
    assert torch.equal(other.body[0].weight, model.body[0].weight) and torch.equal(other.head.weight, model.head.weight)
    assert "the prefix 'net.' of the tensors' names was removed; 1 other tensors are not used, first: loss.weight" in note
    pair = {f"q.{name}": tensor for name, tensor in weights.items()} | {f"k.{name}": tensor for name, tensor in zeros.items()}
    torch.save({"state_dict": pair}, folder / "w.pth")
    with pytest.raises(UserError, match=r"holds several networks, 'q\.', 'k\.'; save the tensors of the one to use: ") as error:
        load_weights(model, folder / "w.pth")
    monkeypatch.chdir(folder)
    exec(str(error.value).partition("to use: ")[2])  # the advice is Python that works
    assert load_weights(other := build_architecture("nets:Small", folder), folder / "q.pth") == ""
    assert torch.equal(other.head.weight, model.head.weight)
    torch.save({"checkpoint": {"weights": weights}}, folder / "w.pth")
    with pytest.raises(UserError, match=r"holds 'checkpoint', no tensors by name; .* torch.save\(model.state_dict\(\), NAME\)$"):
        load_weights(model, folder / "w.pth")


def test_numbers_of_numpy_and_paths_beside_the_weights_are_read(tiny):
    folder, model = tiny
    others = {"best": np.float64(0.7), "epoch": np.int64(3), "hyper_parameters": {"data": Path("x/y")}}  # Lightning saves paths
    torch.save({"state_dict": model.state_dict(), **others}, folder / "w.pth")
    load_weights(other := build_architecture("nets:Small", folder), folder / "w.pth")
    assert torch.equal(other.head.weight, model.head.weight)


def test_a_network_in_a_wrapper_is_refused(tiny):
    folder, _ = tiny
    text = "import torch\nfrom nets import Small\n\n\ndef parallel():\n    return torch.nn.DataParallel(Small())\n"
    (folder / "wrapped.py").write_text(text)
    with pytest.raises(UserError, match="returned a network wrapped in DataParallel; return the network without"):
        build_architecture("wrapped:parallel", folder)


def test_packed_files_wrong_names_and_addresses(tiny):
    folder, model = tiny
    torch.save(model.state_dict(), folder / "w.pth")
    save_file(model.state_dict(), folder / "right.safetensors")
    (folder / "w.pth.gz").write_bytes(gzip.compress((folder / "w.pth").read_bytes()))
    (folder / "wrong.safetensors").write_bytes((folder / "w.pth").read_bytes())
    with zipfile.ZipFile(folder / "w.zip", "w") as packed:
        packed.write(folder / "right.safetensors", "right.safetensors")
    with zipfile.ZipFile(folder / "stopped.pth", "w") as packed:  # as torch.save leaves it if an object cannot be pickled
        for name, content in (("version", "3\n"), ("byteorder", "little"), (".data/serialization_id", "0" * 40)):
            packed.writestr(f"stopped/{name}", content)
    for name, message in {
        "w.pth.gz": "a packed file; unpack it", "w.zip": "a zip that torch.save did not write; unpack it",
        "stopped.pth": "torch.save was stopped before it wrote the tensors; save them again",
        "https:/example.com/w.pth": "an address, not a file",
        ".": r"a folder, .* give the file in it, such as .*right\.safetensors$",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            load_weights(model, folder / name)
    (folder / "blob").write_bytes((folder / "right.safetensors").read_bytes())  # as in the cache of the Hugging Face hub
    assert [load_weights(model, folder / name) for name in ("right.safetensors", "wrong.safetensors", "blob")] == [""] * 3


def test_names_that_timm_has_replaced_give_the_network_of_the_new_name(recwarn):
    old, new = build_architecture("resnetv2_50x1_bitm"), build_architecture("resnetv2_50x1_bit.goog_in21k_ft_in1k")
    assert old.pretrained_cfg == new.pretrained_cfg and str(old) == str(new)
    assert old.notes == (
        "architecture resnetv2_50x1_bitm: timm now calls this network resnetv2_50x1_bit.goog_in21k_ft_in1k, which is used",
    )
    assert not recwarn.list


def test_networks_of_other_tasks_and_files_in_place_of_names_are_said():
    with pytest.raises(UserError, match=r"of torchvision.models.detection; expected one that classifies images"):
        build_architecture("torchvision:fasterrcnn_resnet50_fpn")
    with pytest.raises(UserError, match=r"'a.safetensors'; a file of weights, not a name"):
        build_architecture("a.safetensors")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(4000), "damaged or truncated; download or copy it again"),
        (
            b"notes on the training\n" * 50,
            "not a file of weights, neither torch.save nor safetensors wrote it; "
            "give that file, or download it again if this should be it",
        ),
        (
            b"PK\x03\x04" + bytes(4000),
            "damaged or truncated (PytorchStreamReader failed reading zip archive: failed finding central directory); "
            "download or copy it again",
        ),
    ],
)
def test_the_reason_why_a_file_cannot_be_read_is_short(tiny, content, reason):
    folder, model = tiny
    (folder / "w.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_weights(model, folder / "w.pth")
    assert str(caught.value) == f"weights {folder / 'w.pth'}: {reason}"


@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainers_save_beside_the_weights_is_not_read_and_does_not_matter(tiny, zipped):
    "fastai's learn.save keeps the state of the optimiser in a list of its own."
    from fastcore.foundation import L

    folder, model = tiny
    others = {
        "opt": {"hypers": L([{"lr": 0.1}])},
        "rng": np.random.default_rng(0),
        "when": datetime.now(),
        "table": np.arange(3),
        "best": defaultdict(int),
    }
    torch.save({"model": model.state_dict(), **others}, folder / "learn.pth", _use_new_zipfile_serialization=zipped)
    assert load_weights(other := build_architecture("nets:Small", folder), folder / "learn.pth") == ""
    assert torch.equal(other.head.weight, model.head.weight)


def test_objects_in_place_of_tensors_are_named(tiny, monkeypatch):
    from fastai.learner import Learner

    folder, model = tiny
    learner = Learner.__new__(Learner)
    learner.__dict__["model"] = model.head
    for content, held, saved in [
        (model.head, "torch.nn.modules.linear.Linear", "model"),
        (learner, "fastai.learner.Learner", "learn.model"),
    ]:
        for place in (content, {"model": content, "epoch": 3}, {**model.state_dict(), "more": content}):
            torch.save(place, folder / "w.pth")
            refused = rf"not a plain state dict, it holds {held}; .* rejected; .*torch.save\({saved}.state_dict\(\), NAME\)"
            with pytest.raises(UserError, match=refused) as error:
                load_weights(model, folder / "w.pth")
            how = str(error.value).partition("if you trust the file, with ")[2].removesuffix(" where its code can be imported")
            assert bool(how) == (not isinstance(place, dict) or "more" not in place)
            if how and content is model.head:  # the advice is Python that works
                monkeypatch.chdir(folder)
                exec(how, {"torch": torch})
                assert torch.equal(torch.load(folder / "weights.pth")["weight"], content.weight)
    (folder / "w.pkl").write_bytes(pickle.dumps(model.state_dict()))
    with pytest.raises(UserError, match=r"a pickle, not a file of torch.save; .* torch.save\(model.state_dict\(\), NAME\)$"):
        load_weights(model, folder / "w.pkl")


def test_the_tensors_of_a_learner_of_fastai_are_read_where_their_network_is_built(tmp_path):
    "Of a body of timm, they have timm's names."
    code = "from fastai.vision.learner import create_timm_model, create_vision_model\nfrom torchvision.models import resnet18\n\n"
    code += "def learner():\n    return create_vision_model(resnet18, 3, pretrained=False)\n\n"
    (tmp_path / "nets.py").write_text(f"{code}def of_timm():\n    return create_timm_model('resnet18', 3, pretrained=False)[0]\n")
    torch.manual_seed(0)
    learner, of_timm = (build_architecture(f"nets:{name}", tmp_path).eval() for name in ("learner", "of_timm"))
    torch.save(learner.state_dict(), tmp_path / "learner.pth")
    torch.save(of_timm.state_dict(), tmp_path / "timm.pth")
    with pytest.raises(UserError, match=r"as of a learner of fastai; .* create_vision_model\(resnet18, n_out, pre"):
        build_network(Network("x", "torchvision:resnet18", tmp_path / "learner.pth"))
    model = build_network(Network("x", "nets:learner", tmp_path / "learner.pth", directory=tmp_path)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(penultimate_features(model, images), learner[1][:-1](learner[0](images)))
        named = build_network(Network("x", "timm:resnet18", tmp_path / "timm.pth")).eval()
        torch.testing.assert_close(penultimate_features(named, images), of_timm[0](images).mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "head", "width", "message"),
    [
        ("vit_b_16", "heads", 768, ""), ("efficientnet_b0", "classifier", 1280, ""), ("resnet18", "fc", 512, ""),
        ("mobilenet_v3_small", "classifier", 576, "classifier.0.weight is missing"),
    ],
)  # fmt: skip
def test_a_head_that_stands_in_the_place_of_the_old_one_or_of_what_is_around_it_is_not_used(tmp_path, name, head, width, message):
    "Where a hidden layer is gone with the old head, the features are others, and the file is refused."
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name).eval()
    setattr(model, head, torch.nn.Linear(width, 3))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    network = Network("x", f"torchvision:{name}", tmp_path / "w.pth")
    if message:
        with pytest.raises(UserError, match=message):
            build_network(network)
        return
    read, images = build_network(network).eval(), torch.rand(2, 3, *input_configuration(model)["input_size"][1:])
    assert ("its classifier has other names" in "".join(read.notes)) == (head != "fc") and not read.classifier_loaded
    setattr(model, head, torch.nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(penultimate_features(read, images), model(images))
