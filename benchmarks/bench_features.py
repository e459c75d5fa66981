"""Feature extraction: back ends against eager timm, the loader's share on large photographs, and what the options cost.

`python benchmarks/bench_features.py [--quick] [--out FOLDER] [--parts backends loader predictions] [--networks NAME …]`

backends: seconds of processor time per image, of one thread, for a batch that lies in memory: eager timm on normalised
images (the reference), our PyTorch and, where it is installed, OpenVINO, both from 8-bit pixels. The three take turns, and the
shortest time of each counts. Weights are random: no time depends on them. `ratio` is reference / ours.
loader: seconds per photograph for decoding and resizing, `decode = "fast"` (ours) against the full decoding (the reference), and
the share that each has of a pass with MobileNet v2 by PyTorch. Photographs of 1 to 12 megapixels are mosaics of real ones where
../shared/real is there, else of noise.
predictions: test predictions of the logistic regression that change with an option. Needs ../shared/real. For the decoding the
photographs are enlarged eight times and get fine grain (standard deviation 4 of 255), because the real ones are small.

Writes features_backends.csv, features_loader.csv and features_predictions.csv, network by network. Rows of the same benchmark and
case are replaced, and others are kept.
"""

import argparse
import io
import os
import platform
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from transfer_study.classifiers.linear_probe import linear_probe
from transfer_study.core import UserError
from transfer_study.features.extraction import extract_features
from transfer_study.features.inference import keep_freed_memory, prepare_network
from transfer_study.features.loading import network_view
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.decoding import decode, reduced_scale
from transfer_study.images.splits import split_images
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.openvino import is_installed
from transfer_study.networks.penultimate import input_configuration, penultimate_features
from transfer_study.networks.table import paper_networks
from transfer_study.statistics.paired_tests import exact_binomial_test

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
SIZES = {"mobilenetv1_025": 128, "mobilenetv1_050": 160, "mobilenetv1_075": 192, "mobilenetv1_100": 224, "mobilenetv2_100": 224}
# Of today's networks, those that somebody without a GPU would take.
TODAY = (
    "mobilenetv3_large_100", "mobilenetv4_conv_small", "mobilenetv4_conv_medium", "efficientnet_b0",
    "tf_efficientnet_lite0", "tf_efficientnetv2_b0", "convnext_tiny", "convnextv2_nano",
    "regnety_016", "repvit_m1_1", "vit_small_patch16_224", "fastvit_t12",
)  # fmt: skip
MOBILE = ("mobile", "efficientnet_lite", "efficientnet_b0")
LARGEST = 60_000_000  # parameters of a network of the paper that is CPU-sized
MEGAPIXELS = {1: (1152, 864), 2: (1632, 1224), 4: (2304, 1728), 8: (3264, 2448), 12: (4000, 3000)}


def machine() -> dict[str, object]:
    "The columns that say where and with what a figure was measured."
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    names = ("torch", "timm", "pillow", *["openvino"] * is_installed())
    packages = "; ".join(f"{package} {version(package)}" for package in names)
    instructions = torch.backends.cpu.get_cpu_capability() + (f" (ONEDNN_MAX_CPU_ISA={limited})" if limited else "")
    return {"threads": 1, "processor": f"{name}, {os.cpu_count()} cores", "instruction_set": instructions, "versions": packages}


def shortest(functions: dict[str, object], n: int) -> dict[str, float]:
    "The shortest processor time of each of the functions, which take turns `n` times after a first call that does not count."
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(n + 1):
        for name, function in functions.items():
            started = time.process_time()
            function()
            if turn:
                times[name].append(time.process_time() - started)
    return {name: min(values) for name, values in times.items()}


def cases(quick: bool) -> list[str]:
    "The CPU-sized networks of the paper, and today's."
    paper = paper_networks()
    names = paper.loc[paper["parameters"] < LARGEST, "name"].tolist()
    return ["mobilenet_v1", TODAY[1]] if quick else [*names, *TODAY]


def backend_rows(name: str, n_rounds: int, n: int) -> list[dict]:
    "A row for each back end."
    torch.manual_seed(0)
    model = build_architecture(name).eval()
    height, width = input_configuration(model)["input_size"][1:]
    pixels = torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8)
    normalised = (pixels.permute(0, 3, 1, 2) / 255 - 0.5).contiguous()
    prepared = {"torch": prepare_network(model)}
    try:
        prepared |= {"openvino": prepare_network(model, backend="openvino")} if is_installed() else {}
    except UserError as error:
        print(error)

    def eager() -> None:
        with torch.no_grad():
            penultimate_features(model, normalised)

    def ours(network) -> None:
        with keep_freed_memory():
            network(pixels)

    functions = {key: lambda network=network: ours(network) for key, network in prepared.items()}
    times = shortest({"eager": eager} | functions, n_rounds)
    rows = [
        {"benchmark": f"features, {key}", "case": name, "seconds_ours": times[key] / n, "seconds_reference": times["eager"] / n}
        for key in prepared
    ]  # fmt: skip
    for row in rows:
        speed, ratio = 1 / row["seconds_ours"], row["seconds_reference"] / row["seconds_ours"]
        print(f"{row['benchmark']:20} {name:28} {speed:8.1f} images/s, ratio {ratio:.2f}", flush=True)
    return rows


def photographs(n: int) -> list[Image.Image]:
    "Real photographs, or coarse noise where there are none."
    if REAL.is_dir():
        dataset = image_folder(REAL / "images" / "caltech101.tar")
        return [decode(dataset.read(int(i))) for i in np.linspace(0, len(dataset.images) - 1, n)]
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).resize((200, 160)) for _ in range(n)]


def mosaic(size: tuple[int, int], tiles: list[Image.Image]) -> bytes:
    "A JPEG file of `size` that is covered with the tiles, each enlarged twice."
    image, i = Image.new("RGB", size), 0
    for top in range(0, size[1], 320):
        for left in range(0, size[0], 320):
            image.paste(tiles[i % len(tiles)].resize((320, 320), Image.Resampling.LANCZOS), (left, top))
            i += 1
    image.save(buffer := io.BytesIO(), "jpeg", quality=90)
    return buffer.getvalue()


def loader_rows(n_rounds: int) -> list[dict]:
    "A row for each size of photographs."
    tiles, rows, model = photographs(120), [], build_architecture("mobilenetv2_100").eval()
    view, network = network_view(model)[0], prepare_network(model)
    for megapixels, size in MEGAPIXELS.items():
        data = mosaic(size, tiles)
        pixels = torch.zeros((1, 224, 224, 3), dtype=torch.uint8)
        times = shortest({
            "full": lambda data=data: view.pixels(decode(data)),
            "fast": lambda data=data: view.pixels(decode(data, scale=reduced_scale(data, 2 * view.resized))),
            "network": lambda pixels=pixels: network(pixels),
        }, n_rounds)  # fmt: skip
        shares = {kind: times[kind] / (times[kind] + times["network"]) for kind in ("full", "fast")}
        texts = [f"{kind} {times[kind]:.4f} s ({share:.0%} of a pass)" for kind, share in shares.items()]
        print(f"{megapixels:2} megapixels:", *texts, flush=True)
        rows.append({
            "benchmark": "loader, decode = fast", "case": f"{megapixels} megapixels",
            "seconds_ours": times["fast"], "seconds_reference": times["full"],
            "share_ours": shares["fast"], "share_reference": shares["full"],
        })  # fmt: skip
    return rows


def enlarged(dataset: ImageDataset, folder: Path) -> ImageDataset:
    "The same photographs, eight times as large, with fine grain."
    random = np.random.default_rng(0)
    for row, (split, label) in enumerate(dataset.images[["split", "class"]].itertuples(index=False)):
        image = decode(dataset.read(row))
        large = np.asarray(image.resize((8 * image.width, 8 * image.height), Image.Resampling.LANCZOS), dtype=np.float32)
        grain = random.normal(0, 4, large.shape[:2])[..., None].astype(np.float32)
        path = folder / split / label / f"{row:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return image_folder(folder, f"{dataset.name}, enlarged")


def real_network(name: str) -> torch.nn.Module:
    "A network with its published weights."
    weights = REAL / "weights" / f"{name}_{SIZES[name]}_tfq.safetensors"
    return build_network(Network(name, f"mobilenets:{name}", weights, directory=REAL))


def changed(name: str, dataset: ImageDataset, option: str, X: np.ndarray, X_option: np.ndarray) -> dict:
    "How many test predictions change with the option, from features (n, d) without and with it."
    y, split = dataset.images["label"].to_numpy(), split_images(dataset)
    truth, l2 = y[split == "test"], np.logspace(-6, 5, 45)
    full, ours = (linear_probe(features, y, split, dataset.metric, l2).y_pred for features in (X, X_option))
    p_value, only_ours, only_full = exact_binomial_test(full == truth, ours == truth)
    return {
        "benchmark": f"predictions, {option}", "case": f"{name} on {dataset.name}",
        "n_test": len(truth), "changed": int((full != ours).sum()),
        "accuracy_ours": (ours == truth).mean(), "accuracy_reference": (full == truth).mean(), "only_right_ours": only_ours,
        "only_right_reference": only_full, "p_value": p_value,
        "largest_difference": np.abs(X - X_option).max() / np.abs(X).max(),
        "mean_difference": np.abs(X - X_option).mean() / np.abs(X).mean(),
    }  # fmt: skip


def option_rows(names: list[str], dataset: ImageDataset, option: str, **options) -> list[dict]:
    "A row for each network, from one pass over the images without and one with the options."
    plain, ours = (extract_features([*map(real_network, names)], dataset, **given) for given in ({}, options))
    return [
        changed(name, dataset, option, np.asarray(a.X), np.asarray(b.X)) for name, a, b in zip(names, plain, ours, strict=True)
    ]


def prediction_rows(quick: bool) -> list[dict]:
    "A row for each network and option."
    if not REAL.is_dir():
        print("predictions: left out, because ../shared/real is not there")
        return []
    flowers, names = image_folder(REAL / "images" / "flowers5.tar"), list(SIZES)[: 1 if quick else None]
    rows = option_rows(names, flowers, "openvino", backend="openvino") if is_installed() else []
    if quick:
        flowers = replace(flowers, images=flowers.images.iloc[::20].reset_index(drop=True), fingerprint="some")
    with tempfile.TemporaryDirectory() as folder:
        rows += option_rows(names, enlarged(flowers, Path(folder)), "decode = fast", decode="fast")
    print(pd.DataFrame(rows).drop(columns=["benchmark"]).to_string(index=False))
    return rows


def save(rows: list[dict], path: Path | None) -> pd.DataFrame:
    "The rows with ratio and machine; in the file they take the place of those with the same benchmark and case."
    table = pd.DataFrame(rows).assign(**machine())
    if "seconds_ours" in table:
        table.insert(2, "ratio", table["seconds_reference"] / table["seconds_ours"])
    if path is not None and len(table):
        path.parent.mkdir(parents=True, exist_ok=True)
        before = pd.read_csv(path) if path.exists() else table[:0]
        new = set(zip(table["benchmark"], table["case"], strict=True))
        kept = [key not in new for key in zip(before["benchmark"], before["case"], strict=True)]
        pd.concat([before[kept], table]).to_csv(path, index=False, float_format="%.5g")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two networks and few images: a check of the script")
    parser.add_argument("--out", type=Path, help="folder for the tables; none are written without it")
    parser.add_argument("--parts", nargs="*", default=["backends", "loader", "predictions"])
    parser.add_argument("--networks", nargs="*", help="instead of the networks of the paper and today's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="images in the batch of each network")
    given = parser.parse_args()
    torch.set_num_threads(1)
    n_rounds, names = (1 if given.quick else given.rounds), given.networks or cases(given.quick)
    paths = {part: given.out and given.out / f"features_{part}.csv" for part in given.parts}
    if "backends" in given.parts:
        table = pd.concat([save(backend_rows(name, n_rounds, given.batch), paths["backends"]) for name in names])
        print(table.groupby("benchmark")["ratio"].describe()[["count", "min", "50%", "max"]].to_string())
        is_mobile = table["case"].str.contains("|".join(MOBILE))
        print("mobile networks, median:", table[is_mobile].groupby("benchmark")["ratio"].median().to_dict())
    if "loader" in given.parts:
        save(loader_rows(n_rounds), paths["loader"])
    if "predictions" in given.parts:
        save(prediction_rows(given.quick), paths["predictions"])


if __name__ == "__main__":
    main()
