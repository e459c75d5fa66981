"""How long a search for near-duplicates takes at 100,000 × 100,000 images, and how much of what was planted it finds.

`python benchmarks/bench_overlap.py [--out DIRECTORY] [--images N] [--copies N] [--network]`

Times are processor seconds of all cores together, which a busy machine changes less than seconds on the wall. A search of either
kind runs once at its full size; reading and aligning, which grow with the number of images and of pairs, on a part.
Photographs are taken from ../shared/real where they are: the threshold is chosen on the first two sets and measured on the
others. Elsewhere images are drawn.
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from transfer_study.classifiers.knn import nearest
from transfer_study.duplicates.alignment import VIEWS, align, pattern, perceptual_hashes, thumbnails
from transfer_study.duplicates.planted import choose_similarity, plant_duplicates, recall_and_precision
from transfer_study.duplicates.search import find_overlap
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.decoding import decode
from transfer_study.images.drawn import drawn_dataset

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
CHOSEN_ON, MEASURED_ON = ("clothing", "stanford_cars"), ("flowers5", "caltech101", "dtd10", "cifar10", "gtsrb")
N_HASH, N_DESCRIPTOR, N_NEIGHBORS = 2, 38, 5  # searches of `find_overlap`, and pairs that it aligns for each target image


def processor_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def datasets(names: tuple[str, ...]) -> list[ImageDataset]:
    if REAL.is_dir():
        return [image_folder(REAL / "images" / f"{name}.tar") for name in names]
    drawn = ("scenes", "glyphs") if names == CHOSEN_ON else ("symbols", "textures")
    return [drawn_dataset(name, n_train_per_class=15, n_test_per_class=5, size=64) for name in drawn]


def large(dataset: ImageDataset, n: int, size: tuple[int, int] = (500, 375)) -> ImageDataset:
    "The first `n` images as JPEGs of the usual size of ImageNet's."
    files = []
    for i in range(n):
        decode(dataset.read(i)).resize(size).save(buffer := io.BytesIO(), "jpeg", quality=90)
        files.append(buffer.getvalue())
    return ImageDataset("500 × 375", Path(), dataset.images[:n], "", reader=files.__getitem__)


def reading(dataset: ImageDataset, n: int) -> pd.DataFrame:
    "Milliseconds an image to read, decode and shrink."
    rows = []
    for name, one in (("as stored", dataset), ("500 × 375, JPEG of quality 90", large(dataset, n))):
        taken = np.arange(min(n, len(one.images)))
        size = np.median([decode(one.read(i)).size for i in taken[:50]], axis=0).astype(int)
        cost = min(processor_seconds(lambda one=one, taken=taken: thumbnails(one, taken)) for _ in range(3)) / len(taken)
        rows.append({"images": name, "width": size[0], "height": size[1], "milliseconds": 1e3 * cost})
    return pd.DataFrame(rows)


def whole_search(n: int, ms_read: float) -> pd.DataFrame:
    "Processor seconds of each step of `find_overlap` for n × n images."
    random = np.random.default_rng(0)
    X, Y = (random.standard_normal((n, 64), dtype=np.float32) for _ in range(2))
    bits = [np.where(random.random((n, 256), dtype=np.float32) < 0.5, np.float32(-1), np.float32(1)) for _ in range(2)]
    T = random.integers(0, 256, (2, 1024, 32, 32), dtype=np.uint8)
    steps = {
        "read, decode, shrink": 2 * n * ms_read / 1e3,
        "hash searches": N_HASH * processor_seconds(lambda: nearest(*bits, N_NEIGHBORS)),
        "hashes": processor_seconds(lambda: perceptual_hashes(T[0])) / len(T[0]) * 2 * n,
        "descriptors": processor_seconds(lambda: pattern(T[0], VIEWS[1], 12)) / len(T[0]) * 2 * N_DESCRIPTOR * n,
        "descriptor searches": N_DESCRIPTOR * processor_seconds(lambda: nearest(X, Y, N_NEIGHBORS)),
        "alignments": processor_seconds(lambda: align(T[0], T[1])) / len(T[0]) * N_NEIGHBORS * n,
    }
    steps["all"] = sum(steps.values())
    table = pd.DataFrame({"step": steps.keys(), "processor_seconds": steps.values()})
    return table.assign(minutes_on_two_cores=table["processor_seconds"] / 120)


def found_in(sets: list[ImageDataset], n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Pairs above a low threshold and the truth, of planted copies of `n` images of each set."
    tables = []
    for dataset in sets:
        source, target, truth = plant_duplicates(dataset, n_source=min(n, len(dataset.images) // 2))
        pairs = find_overlap(source, target, similarity=0.5).pairs
        tables.append((pairs.assign(dataset=dataset.name), truth.assign(dataset=dataset.name)))
    pairs, truth = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    for table in (pairs, truth):  # names are unique within a dataset only
        for side in ("source_image", "target_image"):
            table[side] = (table["dataset"] + "/" + table[side]).where(table[side].notna())
    return pairs, truth


def by_network(dataset: ImageDataset, n: int, threshold: float) -> pd.DataFrame:
    "Recall and precision with the features of a real network in place of the descriptor."
    from transfer_study.features.extraction import extract_features
    from transfer_study.networks.networks import Network, build_network

    weights = REAL / "weights" / "mobilenetv1_025_128_tfq.safetensors"
    model = build_network(Network("mobilenetv1_025", "mobilenets:mobilenetv1_025", weights, directory=REAL))
    source, target, truth = plant_duplicates(dataset, n_source=n)
    features = tuple(extract_features([model], one)[0] for one in (source, target))
    pairs = find_overlap(source, target, features=features, similarity=threshold).pairs
    return recall_and_precision(pairs, truth).assign(found_by_features=(pairs["found_by"] == "features").sum())


def report(tables: dict[str, pd.DataFrame], notes: list[str], out: Path | None) -> None:
    "Prints every table, and writes each as CSV and all as one Markdown page."
    page = ["# Near-duplicates\n", "\n".join(notes) + "\n"]
    for name, table in tables.items():
        page += [f"## {name.replace('_', ' ')}\n", "```", table.to_string(index=False, float_format="{:.4g}".format), "```\n"]
    print("\n".join(page))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "overlap.md").write_text("\n".join(page))
        for name, table in tables.items():
            table.to_csv(out / f"overlap_{name}.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="directory for the tables")
    parser.add_argument("--images", type=int, default=100_000, help="images in either set")
    parser.add_argument("--copies", type=int, default=200, help="images of each set that are copied, each in seven kinds")
    parser.add_argument("--network", action="store_true", help="also with a network's features, where real ones are")
    given = parser.parse_args()
    chosen_on, measured_on = datasets(CHOSEN_ON), datasets(MEASURED_ON)
    tables = {"reading": reading(chosen_on[0], 500)}
    tables["whole_search"] = whole_search(given.images, tables["reading"]["milliseconds"].iloc[-1])
    threshold, F1 = choose_similarity(*found_in(chosen_on, given.copies))
    for dataset in measured_on:
        tables[f"copies_{dataset.name}"] = recall_and_precision(*found_in([dataset], given.copies), threshold)
    if given.network and REAL.is_dir():
        tables["copies_flowers5_network"] = by_network(measured_on[0], given.copies, threshold)
    kind = "photographs" if REAL.is_dir() else "drawn images"
    notes = [
        f"- {kind}, {os.cpu_count()} cores; {given.images:,} × {given.images:,} images",
        f"- threshold chosen on {' and '.join(one.name for one in chosen_on)}: {threshold:.3f}, where F₁ is {F1:.4f}",
    ]
    report(tables, notes, given.out)
