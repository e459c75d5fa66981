"""Images per second of feature extraction against the plain timm way, and what it costs in accuracy.

`python benchmarks/bench_extraction.py [--out DIRECTORY] [--images N] [--rounds N] [--compile]`; with `--rounds 0` only accuracy.

The plain way is what a user writes with timm: a DataLoader with timm's own transform on PIL images, float32, batches of 64,
one network at a time. Both ways run one after the other in every round, in one process (the plain way with the C library's
own memory settings), and the ratio is that of the medians. Real images and networks are taken from ../shared/real where they
are; otherwise images are generated and weights are random.
"""

import argparse
import io
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image

from transfer_study.classifiers.linear_probe import linear_probe
from transfer_study.features.extraction import extract_features
from transfer_study.features.inference import keep_freed_memory, prepare_network, resolve_device
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.decoding import decode
from transfer_study.images.splits import split_images
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.penultimate import input_configuration, input_transform, penultimate_features
from transfer_study.statistics.paired_tests import exact_binomial_test

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
SIZES = {"mobilenetv1_025": 128, "mobilenetv1_050": 160, "mobilenetv1_075": 192, "mobilenetv1_100": 224, "mobilenetv2_100": 224}
ACCURACY_ON = "flowers5"
KINDS = {"float32": {}, "bfloat16": {"precision": "bfloat16"}, "float16 stored": {"storage": "float16"}}


def processor() -> str:
    "The processor's name, its cores, and what of AVX2, AVX-512 and AMX it has."
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {' '.join(has)}; torch {torch.__version__}"


def networks() -> dict[str, torch.nn.Module]:
    "The five real MobileNets, or timm's nearest with random weights."
    if REAL.is_dir():
        files = {name: REAL / "weights" / f"{name}_{size}_tfq.safetensors" for name, size in SIZES.items()}
        return {name: build_network(Network(name, f"mobilenets:{name}", files[name], directory=REAL)) for name in SIZES}
    torch.manual_seed(0)
    names = ("mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv1_100", "mobilenetv2_050", "mobilenetv2_100")
    return {name: timm.create_model(name).eval() for name in names}


def generated(n: int) -> ImageDataset:
    "Noise in JPEG files of about 250 pixels."
    folder, random = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for i in range(n):
        coarse = random.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        path = folder / ("train" if i % 3 else "test") / str(i % 4 // 2) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((250, 200)).save(path, quality=90)
    return image_folder(folder, "generated")


def some(dataset: ImageDataset, n: int) -> ImageDataset:
    "`n` images spread over the dataset."
    rows = np.unique(np.linspace(0, len(dataset.images) - 1, n).astype(int))
    images = dataset.images.iloc[rows].reset_index(drop=True)
    return replace(dataset, images=images, fingerprint=f"{dataset.fingerprint} {n}")


class Plain(torch.utils.data.Dataset):
    "What a user of timm writes."

    def __init__(self, dataset: ImageDataset, transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset.images)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(Image.open(io.BytesIO(self.dataset.read(i))).convert("RGB"))


def plain(model: torch.nn.Module, dataset: ImageDataset, device: str, n_workers: int, batch_size: int = 64) -> np.ndarray:
    "Features the plain way."
    loader = torch.utils.data.DataLoader(Plain(dataset, input_transform(model)), batch_size=batch_size, num_workers=n_workers)
    model = model.to(device)
    with torch.no_grad():
        return np.concatenate([penultimate_features(model, images.to(device)).cpu().numpy() for images in loader])


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def speeds(models: dict, dataset: ImageDataset, device: str, n_rounds: int, n_workers: int, **options) -> pd.DataFrame:
    "Images per second both ways, each network alone and all in one pass."
    n, times = len(dataset.images), []
    jobs = {name: [model] for name, model in models.items()} | {"all in one pass": list(models.values())}
    for _ in range(n_rounds):
        for name, group in jobs.items():
            ours = seconds(lambda group=group: extract_features(group, dataset, device=device, **options))
            theirs = sum(seconds(lambda model=model: plain(model, dataset, device, n_workers)) for model in group)
            times.append({"network": name, "plain": theirs, "ours": ours})
    middle = pd.DataFrame(times).groupby("network", sort=False).median()
    spread = pd.DataFrame(times).assign(ratio=lambda t: t["plain"] / t["ours"]).groupby("network", sort=False)["ratio"]
    return pd.DataFrame({
        "plain_images_per_second": n / middle["plain"], "images_per_second": n / middle["ours"],
        "ratio": middle["plain"] / middle["ours"], "lowest_ratio": spread.min(), "highest_ratio": spread.max(),
    }).reset_index()  # fmt: skip


def accuracies(models: dict, dataset: ImageDataset, device: str) -> pd.DataFrame:
    "Test accuracy on features of the plain way, of ours, in bfloat16 and stored in float16, each paired with the plain way's."
    y, split, rows = dataset.images["label"].to_numpy(), split_images(dataset), []
    truth, l2 = y[split == "test"], np.logspace(-6, 5, 45)
    for name, model in models.items():
        base = plain(model, dataset, device, 0)
        kinds = {"plain": base}
        for kind, options in KINDS.items():
            kinds[kind] = np.asarray(extract_features([model], dataset, device=device, **options)[0].X, np.float32)
        reference = linear_probe(base, y, split, dataset.metric, l2).y_pred
        for kind, X in kinds.items():
            predicted = linear_probe(X, y, split, dataset.metric, l2).y_pred
            p_value, only_this, only_plain = exact_binomial_test(reference == truth, predicted == truth)
            rows.append({
                "network": name, "dataset": dataset.name, "features": kind,
                "accuracy": (predicted == truth).mean(), "n_test": len(truth),
                "changed_predictions": int((predicted != reference).sum()), "only_right_here": only_this,
                "only_right_plain": only_plain, "p_value": p_value,
                "largest_difference": np.abs(X - base).max() / np.abs(base).max(),
                "mean_difference": np.abs(X - base).mean() / np.abs(base).mean(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def on_synthetic_tensors(models: dict, dataset: ImageDataset, device: str, n_rounds: int, **options) -> pd.DataFrame:
    "Extraction's share of the speed that the same prepared network has on tensors that lie on the device."
    rows, batch_size, precision = [], 256 if device != "cpu" else 32, options.get("precision", "float32")
    for name, model in models.items():
        network = prepare_network(model, device, precision)
        height, width = input_configuration(model)["input_size"][1:]
        images = torch.randint(0, 256, (batch_size, height, width, 3), dtype=torch.uint8).to(device)
        n_batches = max(1, len(dataset.images) // batch_size)

        def forward(network=network, images=images, n_batches=n_batches) -> None:
            with keep_freed_memory():
                for _ in range(n_batches):
                    X = network(images)
                X.cpu()

        forward()
        bare = np.median([seconds(forward) for _ in range(n_rounds)]) / (n_batches * batch_size)

        def whole(model=model) -> None:
            extract_features([model], dataset, device=device, **options)

        real = np.median([seconds(whole) for _ in range(n_rounds)]) / len(dataset.images)
        speed = {"synthetic_images_per_second": 1 / bare, "images_per_second": 1 / real, "share": bare / real}
        rows.append({"network": name} | speed)
    return pd.DataFrame(rows)


def decoding(dataset: ImageDataset, model: torch.nn.Module) -> pd.DataFrame:
    "Milliseconds an image of each step before the network, one thread."
    from transfer_study.features.loading import network_view

    view, transform = network_view(model)[0], input_transform(model)
    data = [dataset.read(i) for i in range(len(dataset.images))]
    images = [decode(one) for one in data]
    steps = {
        "read": lambda: [dataset.read(i) for i in range(len(data))], "decode": lambda: [decode(one) for one in data],
        "resize and crop": lambda: [view.pixels(image) for image in images],
        "timm's whole transform": lambda: [transform(image) for image in images],
    }  # fmt: skip
    best = {step: min(seconds(function) for _ in range(3)) for step, function in steps.items()}
    return pd.DataFrame({"step": best.keys(), "milliseconds": [1e3 * time / len(data) for time in best.values()]})


def report(tables: dict[str, pd.DataFrame], notes: list[str], out: Path | None) -> None:
    "Prints every table, and writes each as CSV and all as one Markdown page."
    page = [f"# Feature extraction\n\n{chr(10).join(notes)}\n"]
    for name, table in tables.items():
        text = table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        page.append(f"## {name.replace('_', ' ')}\n\n```\n{text}\n```\n")
    print("\n".join(page))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "extraction.md").write_text("\n".join(page))
        for name, table in tables.items():
            table.to_csv(out / f"extraction_{name}.csv", index=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="directory for the tables")
    parser.add_argument("--images", type=int, default=512, help="images that speed is measured on")
    parser.add_argument("--accuracy-images", type=int, default=650, help="images that accuracy is measured on; 0 to leave it out")
    parser.add_argument("--rounds", type=int, default=3, help="how often speed is measured; 0 to leave it out")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes of the plain way")
    parser.add_argument("--networks", nargs="*", help="names; all five where not given")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    device, options = resolve_device(given.device), {"precision": given.precision, "compile": given.compile}
    models = {name: model for name, model in networks().items() if not given.networks or name in given.networks}
    real = REAL.is_dir()
    dataset = some(image_folder(REAL / "images" / "caltech101.tar"), given.images) if real else generated(given.images)
    tables = {}
    if given.rounds:
        extract_features(list(models.values()), some(dataset, 32), device=device)  # first calls are not what is timed
        tables["steps_before_the_network"] = decoding(dataset, list(models.values())[-1])
        tables["speed"] = speeds(models, dataset, device, given.rounds, given.workers, **options)
        tables["against_synthetic_tensors"] = on_synthetic_tensors(models, dataset, device, given.rounds, **options)
    if given.accuracy_images:
        images = image_folder(REAL / "images" / f"{ACCURACY_ON}.tar") if real else generated(given.accuracy_images)
        tables["accuracy"] = accuracies(models, some(images, given.accuracy_images), device)
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else "none"
    kind = "real images and weights" if real else "generated images, random weights (accuracies mean nothing)"
    notes = [f"- processor: {processor()}", f"- GPU: {gpu}"]
    notes.append(f"- {kind}; speed on {len(dataset.images)} images in {given.rounds} rounds")
    ours = f"{given.precision}{', compiled' if given.compile else ''}"
    notes.append(f"- plain way: {given.workers} processes decode, batches of 64; ours: {ours}")
    report(tables, notes, given.out)
    sys.exit(0)
