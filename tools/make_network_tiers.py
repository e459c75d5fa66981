"""Writes data/network_tiers.csv: for each size a few networks of several families to choose among, from timm's own tables.

A tier is a range of parameters. Among checkpoints with a published ImageNet top-1, the best of each architecture family goes in,
the best families first. Networks pre-trained without labels or with captions have no such figure; the largest of each kind goes
in. Checkpoints whose licence allows research only stay in the table, marked, and are left out unless asked for.
"""

import warnings
from pathlib import Path

import pandas as pd
import timm
import torch
from timm.models import get_pretrained_cfg

from transfer_study.networks.networks import describe_network
from transfer_study.selection.candidates import RESEARCH_ONLY

DATA = Path(__file__).resolve().parent.parent / "data"
TIERS = {"tiny": (0, 6e6), "small": (6e6, 30e6), "base": (30e6, 100e6), "large": (100e6, 400e6)}
N_FAMILIES, LARGEST_INPUT = 6, 288  # families a tier; side in pixels, beyond which a network takes long for its parameters
KINDS = {"DINO": ("dinov2", ".dino"), "CLIP": ("clip", "siglip")}  # in the names of checkpoints without labels


def pretraining(name: str) -> str:
    "Kind of the source training, judged by the checkpoint's name."
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "self-supervised" if any(word in name for word in ("mim", "mae", "ssl", "lejepa", "fcmae")) else "supervised"


def published() -> pd.DataFrame:
    "Checkpoints with a published top-1, at their own input size, with family, parameters and licence."
    results = (
        pd.read_csv(DATA / "published" / "timm_imagenet_top1.csv").sort_values("img_size", kind="stable").drop_duplicates("model")
    )
    facts = pd.read_csv(DATA / "timm_architectures.csv", index_col="architecture")
    table = results.assign(architecture=results["model"].str.split(".").str[0]).join(facts, on="architecture")
    table = table[table["model"].map(timm.is_model) & (table["img_size"] <= LARGEST_INPUT) & table["parameters"].notna()]
    return pd.DataFrame({
        "name": table["model"], "family": table["family"], "parameters": table["parameters"].astype(int),
        "input_size": table["img_size"],
        "imagenet_top1": (table["top1"] / 100).round(5),
    })  # fmt: skip


def without_labels() -> pd.DataFrame:
    "Checkpoints of the kinds above that have no classifier for ImageNet."
    rows = []
    for name in timm.list_pretrained():
        config = get_pretrained_cfg(name)
        if pretraining(name) not in KINDS or config.num_classes == 1000 or config.input_size[-1] > LARGEST_INPUT:
            continue
        with torch.device("meta"):
            facts = describe_network(timm.create_model(name.split(".")[0], num_classes=1000))
        rows.append(
            (name, timm.models._registry._model_to_module[name.split(".")[0]], facts["parameters"], config.input_size[-1], None)
        )
    return pd.DataFrame(rows, columns=["name", "family", "parameters", "input_size", "imagenet_top1"])


def tiers() -> pd.DataFrame:
    "The table."
    labelled, others, parts = published(), without_labels(), []
    for table in (labelled, others):
        table["pretraining"] = table["name"].map(pretraining)
        table["licence"] = [get_pretrained_cfg(name).license or "not stated" for name in table["name"]]
        table["research_only"] = table["licence"].isin(RESEARCH_ONLY)
    for tier, (low, high) in TIERS.items():
        here = labelled[labelled["parameters"].between(low, high, inclusive="left") & ~labelled["research_only"]]
        best = here.sort_values("imagenet_top1", ascending=False, kind="stable").drop_duplicates("family").head(N_FAMILIES)
        research = labelled[labelled["parameters"].between(low, high, inclusive="left") & labelled["research_only"]]
        research = research.sort_values("imagenet_top1", ascending=False, kind="stable").head(1)
        unlabelled = others[others["parameters"].between(low, high, inclusive="left") & ~others["research_only"]]
        unlabelled = unlabelled.sort_values(["parameters", "name"], ascending=[False, True]).drop_duplicates("pretraining")
        parts += [part.assign(tier=tier) for part in (best, unlabelled, research)]
    columns = ["tier", "name", "family", "parameters", "input_size", "imagenet_top1", "pretraining", "licence", "research_only"]
    return pd.concat(parts, ignore_index=True)[columns]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tiers().to_csv(DATA / "network_tiers.csv", index=False)
