"""Files of weights for image towers of OpenCLIP and Transformers, under the names that these libraries give."""


import pytest
import torch
from safetensors.torch import load_file, save_file

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.loading import load_weights
from transfer_study.networks.networks import Network, build_network, network_digest


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "A small model of OpenCLIP and its folder with files of one set of weights, under the names of different programs."
    open_clip = pytest.importorskip("open_clip", reason="OpenCLIP (extra clip) is not installed")
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32").visual
    tower = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    text = {"positional_embedding": torch.zeros(77, 8), "text_projection": torch.zeros(8, 8), "logit_scale": torch.zeros(())}
    text |= {"transformer.resblocks.0.ln_1.weight": torch.zeros(8)}  # a name of the image tower, too
    whole = {f"visual.{name}": tensor for name, tensor in tower.items()} | text
    save_file(whole, folder / "open_clip_model.safetensors")
    save_file(tower, folder / "visual.safetensors")
    save_file({f"tower.{name}": tensor for name, tensor in tower.items()}, folder / "ours.safetensors")
    for prefix in ("module.", "model."):
        state = {f"{prefix}{name}": tensor for name, tensor in whole.items()}
        torch.save({"epoch": 2, "name": "run", "state_dict": state, "optimizer": {}}, folder / f"{prefix}pt")
    return folder, tower


@pytest.mark.parametrize(
    ("file", "note"),
    [
        ("visual.safetensors", ""),
        ("ours.safetensors", ""),
        (
            "open_clip_model.safetensors",
            "the prefix 'visual.' of the tensors' names was removed; 4 other tensors are not used, first: ",
        ),
        ("module.pt", "the prefix 'visual.' of the tensors' names was removed; 4 other tensors are not used"),
        ("model.pt", "the prefix 'model.visual.' of the tensors' names was removed; 4 other tensors are not used"),
    ],
)
def test_files_of_open_clip_are_read(clip, file, note):
    folder, tower = clip
    model = build_architecture("open_clip:ViT-B-32/openai")
    said = load_weights(model, folder / file)
    assert note in said and bool(said) == bool(note)
    assert all(torch.equal(tensor, tower[name]) for name, tensor in model.tower.state_dict().items())


def test_a_model_of_which_open_clip_has_no_weights_needs_no_tag_for_a_file(clip):
    build_architecture("open_clip:ViT-S-32")
    with pytest.raises(UserError, match=r"OpenCLIP has no weights of this model; .* \"open_clip:ViT-S-32\" and weights ="):
        build_architecture("open_clip:ViT-S-32", pretrained=True)
    folder, _ = clip
    with pytest.raises(UserError, match="not of this architecture") as caught:
        load_weights(build_architecture("open_clip:ViT-S-32"), folder / "visual.safetensors")
    assert "tower." not in str(caught.value) and "class_embedding is (768,), expected (384,)" in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            "open_clip:ViT-B-32",
            'name its weights, as in open_clip:ViT-B-32/openai; .*architecture = "open_clip:ViT-B-32/openai", whose .* weights =',
        ),
        ("open_clip:ViT-B-32/b.pt", "unknown weights of OpenCLIP's ViT-B-32 'b.pt'.*for a file of your own"),
        (
            "open_clip:local-dir:x",
            "unknown OpenCLIP model 'local-dir:x'.*in a folder or on the hub, give the name of its architecture",
        ),
    ],
)
def test_how_to_give_a_file_is_said(architecture, message):
    pytest.importorskip("open_clip", reason="OpenCLIP (extra clip) is not installed")
    with pytest.raises(UserError, match=message):
        build_architecture(architecture)


@pytest.fixture
def vit(tmp_path):
    "A classification network of the Transformers library: its tensors have the prefix vit, and it has no pooling layer."
    transformers = pytest.importorskip("transformers", reason="Transformers (extra hf) is not installed")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    small = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    }
    transformers.ViTForImageClassification(transformers.ViTConfig(**small)).save_pretrained(tmp_path / "vit")
    transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path / "vit"
    )
    return tmp_path


def test_the_file_of_a_whole_network_gives_what_its_folder_gives(vit):
    folder = build_network(Network("vit", "transformers:vit", directory=vit))
    given = build_network(Network("vit", "transformers:vit", vit / "vit" / "model.safetensors", directory=vit))
    assert network_digest(given) == network_digest(folder)
    half = {name: tensor.half() for name, tensor in load_file(vit / "vit" / "model.safetensors").items()}
    save_file(half, vit / "half.safetensors")
    rounded = build_network(Network("vit", "transformers:vit", vit / "half.safetensors", directory=vit))
    assert rounded.notes == (
        f"network 'vit': weights {vit / 'half.safetensors'}: 2 tensors are not used, first: classifier.bias",
    )
    assert rounded.tower.pooler is None and not any(".pooler" in name for name in half)
    for name, tensor in rounded.tower.state_dict().items():
        assert torch.equal(tensor, folder.tower.state_dict()[name].half().float()), name
    half["vit.embeddings.cls_token"] = torch.zeros(1, 1, 12)
    save_file(half, vit / "narrow.safetensors")
    with pytest.raises(
        UserError, match=r"not of this architecture: embeddings.cls_token is \(1, 1, 12\), expected \(1, 1, 24\); give "
    ):
        build_network(Network("vit", "transformers:vit", vit / "narrow.safetensors", directory=vit))
    save_file({"x": torch.zeros(2)}, vit / "other.safetensors")
    with pytest.raises(UserError, match="not of this architecture: embeddings.cls_token is missing; .*the file holds 'x'"):
        build_network(Network("vit", "transformers:vit", vit / "other.safetensors", directory=vit))


def test_a_folder_in_the_home_directory(vit, monkeypatch):
    monkeypatch.setenv("HOME", str(vit))
    assert network_digest(build_architecture("transformers:~/vit", pretrained=True)) == network_digest(
        build_architecture("transformers:vit", vit, pretrained=True)
    )


def test_program_code_of_a_network_is_not_run(vit, capfd, monkeypatch):
    import json

    settings = json.loads((vit / "vit" / "config.json").read_text())
    settings |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "configuration_mine.Config", "AutoModel": "modeling_mine.Model"},
    }
    (vit / "vit" / "config.json").write_text(json.dumps(settings))
    for name in ("configuration_mine", "modeling_mine"):
        (vit / "vit" / f"{name}.py").write_text(f"from pathlib import Path\n\nPath({str(vit / 'was_run')!r}).touch()\n")
    answers = iter("yyyy")
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    for pretrained in (False, True):
        with pytest.raises(UserError, match="program code of its own .* is not run") as caught:
            build_architecture("transformers:vit", vit, pretrained=pretrained)
        assert "\n" not in str(caught.value)
    assert not (vit / "was_run").exists() and "".join(capfd.readouterr()) == ""
