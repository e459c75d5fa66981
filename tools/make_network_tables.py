"""Writes data/networks.csv, data/timm_architectures.csv and data/published/pytorchcv_imagenet_top1.csv by looking and measuring.

Names, checkpoints and top-1 come from the installed libraries and the published tables; feature dimensions, input sizes and
parameters from the networks themselves, built without weights on PyTorch's `meta` device, where they take no memory.
"""

import csv
import re
import warnings
from importlib.metadata import metadata
from pathlib import Path

import pandas as pd
import timm
import torch
from pytorchcv.models.common.model_store import get_model_metainfos_file_path
from timm.models import get_arch_name, get_pretrained_cfg
from timm.models._registry import _model_to_module
from torchvision.models import get_model_weights

from transfer_study.networks.architectures import build_architecture, split_architecture
from transfer_study.networks.networks import describe_network

DATA = Path(__file__).resolve().parent.parent / "data"

# Name, title in the paper, family, default checkpoint, further architectures whose checkpoints can stand in for it.
PAPER = [
    ("inception_v1", "Inception v1 (GoogLeNet, with BN)", "Inception", "torchvision:googlenet", []),
    ("bn_inception", "BN-Inception (Inception v2)", "Inception", "pytorchcv:bninception", []),
    ("inception_v3", "Inception v3", "Inception", "inception_v3.tv_in1k", ["pytorchcv:inceptionv3"]),
    ("inception_v4", "Inception v4", "Inception", "inception_v4.tf_in1k", ["pytorchcv:inceptionv4"]),
    ("inception_resnet_v2", "Inception-ResNet v2", "Inception", "inception_resnet_v2.tf_in1k", ["pytorchcv:inceptionresnetv2"]),
    ("resnet50", "ResNet-50 (v1)", "ResNet", "resnet50.tv_in1k", ["pytorchcv:resnet50b"]),
    ("resnet101", "ResNet-101 (v1)", "ResNet", "resnet101.tv_in1k", ["pytorchcv:resnet101b"]),
    ("resnet152", "ResNet-152 (v1)", "ResNet", "resnet152.tv_in1k", ["pytorchcv:resnet152b"]),
    ("densenet121", "DenseNet-121", "DenseNet", "densenet121.tv_in1k", ["pytorchcv:densenet121"]),
    ("densenet169", "DenseNet-169", "DenseNet", "densenet169.tv_in1k", ["pytorchcv:densenet169"]),
    ("densenet201", "DenseNet-201", "DenseNet", "densenet201.tv_in1k", ["pytorchcv:densenet201"]),
    ("mobilenet_v1", "MobileNet v1", "MobileNet", "pytorchcv:mobilenet_w1", ["mobilenetv1_100"]),
    ("mobilenet_v2", "MobileNet v2", "MobileNet", "torchvision:mobilenet_v2", ["mobilenetv2_100"]),
    ("mobilenet_v2_140", "MobileNet v2 (1.4)", "MobileNet", "mobilenetv2_140.ra_in1k", []),
    ("nasnet_mobile", "NASNet-A Mobile", "NASNet", "pytorchcv:nasnet_4a1056", []),
    ("nasnet_large", "NASNet-A Large", "NASNet", "nasnetalarge.tf_in1k", ["pytorchcv:nasnet_6a4032"]),
]


def checkpoints(architecture: str) -> list[str]:
    "Every public checkpoint of an architecture in its library, trained or fine-tuned on ImageNet-1k."
    library, name = split_architecture(architecture)
    if library == "timm":
        found = timm.list_pretrained(f"{get_arch_name(name)}.*")
        return sorted(each for each in found if get_pretrained_cfg(each).num_classes == 1000)
    if library == "torchvision":
        return [f"torchvision:{name}.{weights.name}" for weights in get_model_weights(name)]
    return [architecture]


def pytorchcv_top1() -> pd.DataFrame:
    "Top-1 of pytorchcv's ImageNet-1k checkpoints, from the table in the package's own description."
    with open(get_model_metainfos_file_path(), encoding="utf-8") as file:
        known = {row["model_name"]: row for row in csv.DictReader(file) if row["test_dataset"] == "in1k"}
    row = re.compile(r"^\| [^|]+\| *([\d.]+) *\|[^|]*\| *([\d,]+) *\|.*/(\w+)-(\d{4})-([0-9a-f]{8})\.pth\.log", re.MULTILINE)
    text = metadata("pytorchcv").get_payload() or metadata("pytorchcv")["Description"]
    found = {}
    for top1_error, parameters, name, top5_error, checksum in row.findall(text):
        if name in known and known[name]["error_value"] == top5_error and known[name]["checksum"].startswith(checksum):
            found[name] = {"network": name, "imagenet_top1": round(1 - float(top1_error) / 100, 4),
                           "num_params": int(parameters.replace(",", "")), "checksum": checksum}  # fmt: skip
    return pd.DataFrame(found.values())


def published_top1(checkpoint: str) -> tuple[float, str]:
    "Top-1 and whose figure it is: whoever published the weights, so torchvision's for those that timm took from there."
    library, name = split_architecture(checkpoint)
    torchvision = pd.read_csv(DATA / "published" / "torchvision_imagenet_top1.csv", index_col="network")["imagenet_top1"]
    if library == "torchvision" or name.removesuffix(".tv_in1k") in torchvision:
        return torchvision[name.removesuffix(".tv_in1k")], "torchvision"
    if library == "pytorchcv":
        return pytorchcv_top1().set_index("network")["imagenet_top1"][name], "pytorchcv"
    table = pd.read_csv(DATA / "published" / "timm_imagenet_top1.csv").query("model == @name").sort_values("img_size")
    return round(table["top1"].iloc[0] / 100, 5), "timm"


def paper_networks() -> pd.DataFrame:
    "The paper's networks, in its order."
    rows = []
    for name, title, family, checkpoint, further in PAPER:
        facts = describe_network(build_architecture(checkpoint))
        alternatives = [each for architecture in [checkpoint, *further] for each in checkpoints(architecture)]
        same = {checkpoint, f"{checkpoint}.IMAGENET1K_V1"}
        top1, source = published_top1(checkpoint)
        rows.append({
            "name": name, "title": title, "family": family, "library": split_architecture(checkpoint)[0],
            "checkpoint": checkpoint, "alternatives": ";".join(each for each in alternatives if each not in same),
            "n_features": facts["n_features"], "input_size": facts["input_size"], "parameters": facts["parameters"],
            "imagenet_top1": top1, "imagenet_top1_source": source,
        })  # fmt: skip
    return pd.DataFrame(rows)


def timm_architectures() -> pd.DataFrame:
    "A row for each architecture of timm's results: its module, default checkpoint, feature dimension and parameters."
    models = pd.read_csv(DATA / "published" / "timm_imagenet_top1.csv")["model"]
    rows = []
    for architecture in sorted(set(models.map(get_arch_name))):
        with torch.device("meta"):
            facts = describe_network(timm.create_model(architecture))
        rows.append({
            "architecture": architecture, "family": _model_to_module[architecture],
            "default_tag": get_pretrained_cfg(architecture).tag, "n_features": facts["n_features"],
            "parameters": facts["parameters"],
        })  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    pytorchcv_top1().to_csv(DATA / "published" / "pytorchcv_imagenet_top1.csv", index=False)
    timm_architectures().to_csv(DATA / "timm_architectures.csv", index=False)
    paper_networks().to_csv(DATA / "networks.csv", index=False)
