"""Makes three published tables from the libraries and repositories that print their figures.

`tools/make_published_tables.py` writes data/published/torchvision_imagenet_top1.csv from the installed torchvision.
`tools/make_published_tables.py TIMM MMSELFSUP` also writes data/published/timm_distribution_shift.csv and
data/published/self_supervised.csv from clones of huggingface/pytorch-image-models and open-mmlab/mmselfsup (branch main). Figures
are copied as they are; per cent become proportions.
"""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent / "data/published"
# Test sets with the labels of ImageNet on other photographs, drawings or renditions (timm, results/README.md).
SHIFTS = {
    "imagenet": "results-imagenet.csv", "imagenet_v2": "results-imagenetv2-matched-frequency.csv",
    "imagenet_sketch": "results-sketch.csv", "imagenet_r": "results-imagenet-r.csv", "imagenet_a": "results-imagenet-a.csv",
}  # fmt: skip
ALGORITHMS = (
    "byol", "deepcluster", "densecl", "mocov2", "npid", "odc", "relative_loc", "rotation_pred", "simclr", "simsiam", "swav",
)  # fmt: skip
# Heading of a table of a README, its column, and the name of the score here.
FIGURES = [
    ("ImageNet Linear Evaluation", "Feature5", "imagenet"), ("Places205 Linear Evaluation", "Feature5", "places205"),
    ("VOC SVM", "SVM", "voc2007"), ("COCO2017", "mAP(Box)", "coco_boxes"), ("COCO2017", "mAP(Mask)", "coco_masks"),
    ("Pascal VOC 2012", "mIOU", "voc2012_segmentation"),
]  # fmt: skip


def content(repository: Path, path: str) -> str:
    "A file at the newest commit of a clone, which may have no work tree."
    return subprocess.run(["git", "-C", repository, "show", f"HEAD:{path}"], check=True, capture_output=True, text=True).stdout


def distribution_shift(timm: Path) -> pd.DataFrame:
    "A row per checkpoint and input size that timm tested on every set: network, parameters in millions, and top-1 on each set."
    columns = {}
    for name, file in SHIFTS.items():
        table = pd.read_csv(StringIO(content(timm, f"results/{file}")), thousands=",").drop_duplicates(["model", "img_size"])
        table = table.set_index(table["model"] + "@" + table["img_size"].astype(str))  # some were tested at several sizes
        columns[name] = (table["top1"] / 100).round(5)
        columns.setdefault("parameters", table["param_count"])
    table = pd.DataFrame(columns).dropna().rename_axis("network").sort_index().reset_index()
    return table[["network", "parameters", *SHIFTS]]


def rows_of(readme: str, heading: str) -> dict[str, dict[str, str]]:
    "The first Markdown table below a heading: cells by column, by the configuration in the first column."
    match = re.search(rf"#### {re.escape(heading)}[^\n]*\n(.*?)(?=\n####|\Z)", readme, re.DOTALL)
    lines = [line for line in (match.group(1) if match else "").splitlines() if line.startswith("|")]
    cells = [[re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell).strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def self_supervised(mmselfsup: Path) -> pd.DataFrame:
    "A row per pre-trained ResNet-50 that was tested on ImageNet and elsewhere: network, and its scores in [0, 1]."
    rows = {}
    for algorithm in ALGORITHMS:
        readme = content(mmselfsup, f"configs/selfsup/{algorithm}/README.md")
        for heading, column, name in FIGURES:
            for configuration, cells in rows_of(readme, heading).items():
                network = f"{algorithm} {configuration.removeprefix('sobel_').removeprefix('resnet50_')}"
                if cells.get(column):
                    rows.setdefault(network, {})[name] = round(float(cells[column]) / 100, 4)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network").reset_index()
    elsewhere = [name for _, _, name in FIGURES if name != "imagenet"]
    return table.dropna(subset="imagenet").dropna(subset=elsewhere, how="all").sort_values("network", ignore_index=True)


def torchvision_top1() -> pd.DataFrame:
    "A row per network with first weights (IMAGENET1K_V1) in torchvision: its ImageNet top-1 in [0, 1] and number of parameters."
    from torchvision import models

    rows = []
    for name in models.list_models(module=models):
        weights = models.get_model_weights(name).__members__.get("IMAGENET1K_V1")
        if weights is not None:
            top1 = round(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, 5)
            rows.append({"network": name, "imagenet_top1": top1, "num_params": weights.meta["num_params"]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    torchvision_top1().to_csv(ROOT / "torchvision_imagenet_top1.csv", index=False)
    if len(sys.argv) == 1:
        sys.exit()
    timm, mmselfsup = map(Path, sys.argv[1:])
    distribution_shift(timm).to_csv(ROOT / "timm_distribution_shift.csv", index=False)
    self_supervised(mmselfsup).to_csv(ROOT / "self_supervised.csv", index=False)
