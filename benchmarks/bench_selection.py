"""Regret and cost of the recommendation, beside simple rules: real networks on real images.

    python benchmarks/bench_selection.py [--real ../shared/real] [--features FOLDER] [--out data/results/selection]

The truth is the full grid: the features of all images under every network, and the test accuracy of the exact λ path. Regret is
the test accuracy of the best network minus that of the network which a rule takes. The rules:

- `recommend`: the procedure of `transfer_study.selection` with `--prefer accuracy`, given 30 % of the seconds of the grid's
  extraction as its budget; its prior is fitted to the published table alone, as the package's own table has scores of these sets
- `recommend_speed`: the same with `--prefer speed`, the default: the fastest network that the images cannot tell from the best
- `imagenet_top1`: the network with the highest published ImageNet accuracy
- `static_list`: the network with the highest mean log-odds on the other data sets of the grid, which a user does not have

Seconds are of the processor, one thread. Features are computed once; their seconds count for the images that a rule looks at.
FOLDER holds features that are there already: SET/NETWORK_train.npz and SET/NETWORK_test.npz with `features` and `labels`, and
tables extraction*.csv with network, dataset, n_images and seconds_extraction.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from transfer_study.classifiers.linear_probe import linear_probe
from transfer_study.classifiers.logistic import LogisticPath
from transfer_study.core import one_thread
from transfer_study.features.extraction import extract_features
from transfer_study.images.datasets import image_folder
from transfer_study.networks.networks import Network, build_network
from transfer_study.networks.table import LITE, imagenet_top1, lite_weights
from transfer_study.selection.candidates import transfer_prior
from transfer_study.selection.evidence import learning_curve, training_variance
from transfer_study.selection.halving import Comparison, choose
from transfer_study.selection.recommend import NEAR_L2
from transfer_study.selection.recommendation import pick
from transfer_study.statistics.log_odds import half_count
from transfer_study.study.file import read_study_file
from transfer_study.study.resolve import resolve_networks

SHARE = 0.3  # of the seconds of the grid's extraction; classifiers and test images come on top, up to half of the grid


def networks_of(real: Path) -> list[Network]:
    "The networks of the study file and those of the extra lite."
    installed = [name for name in LITE if lite_weights(name)]
    return resolve_networks(read_study_file(real / "study.toml"), real) + [
        Network(name.removeprefix("lite:"), name, source_accuracy=imagenet_top1(name)) for name in installed
    ]


def extract(real: Path, folder: Path) -> None:
    "Features of every network on every set that `folder` does not hold yet."
    for network in networks_of(real):
        model = build_network(network)
        for tar in sorted((real / "images").glob("*.tar")):
            target = folder / tar.stem / f"{network.name}_test.npz"
            if target.is_file():
                continue
            dataset, start = image_folder(tar), time.process_time()
            (features,) = extract_features([model], dataset, device="cpu")
            seconds = time.process_time() - start
            target.parent.mkdir(parents=True, exist_ok=True)
            split, label = (dataset.images[name].to_numpy() for name in ("split", "label"))
            for part in ("train", "test"):
                rows = split == part
                np.savez(
                    target.with_name(f"{network.name}_{part}.npz"), features=np.asarray(features.X)[rows], labels=label[rows]
                )
            row = pd.DataFrame(
                [(network.name, tar.stem, len(split), seconds)], columns=["network", "dataset", "n_images", "seconds_extraction"]
            )
            row.to_csv(
                folder / "extraction_bench.csv", mode="a", index=False, header=not (folder / "extraction_bench.csv").exists()
            )


def read(folder: Path, dataset: str, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    "Features and labels of one set, by network: X, y, X_test, y_test."
    parts = {}
    for name in names:
        train, test = (np.load(folder / dataset / f"{name}_{part}.npz") for part in ("train", "test"))
        parts[name] = {"X": train["features"], "y": train["labels"], "X_test": test["features"], "y_test": test["labels"]}
    return parts


def grid_row(part: dict[str, np.ndarray]) -> dict[str, float]:
    "Test accuracy of the exact path, λ chosen on a fifth of the training images, and its seconds."
    start, y = time.process_time(), part["y"]
    split = np.full(len(y), "train", dtype=object)
    for label in np.unique(y):
        rows = np.random.default_rng([0, int(label)]).permutation(np.flatnonzero(y == label))
        split[rows[: max(1, round(0.2 * len(rows)))]] = "val"
    X = np.concatenate([part["X"], part["X_test"]])
    probe = linear_probe(X, np.r_[y, part["y_test"]], np.r_[split, np.full(len(part["y_test"]), "test")])
    return {"accuracy": probe.score, "seconds_classifier": time.process_time() - start}


def recommended(parts: dict, seconds: pd.Series, top1: dict[str, float]) -> dict:
    "The network that the procedure takes, its seconds and what it looked at."
    start, looked = time.process_time(), dict.fromkeys(parts, 0)
    y = next(iter(parts.values()))["y"]
    n_test = len(next(iter(parts.values()))["y_test"])

    def features(names: list[str], rows: np.ndarray) -> dict[str, np.ndarray]:
        looked.update({name: max(looked[name], len(rows)) for name in names})
        return {name: parts[name]["X"][rows] for name in names}

    budget = SHARE * float(seconds.sum()) * (len(y) + n_test)
    prior = transfer_prior(published_only=True)
    choice = choose(Comparison(features, y, np.arange(len(y)), seconds.to_dict(), top1, budget, transfer=prior))
    table = choice.table.assign(milliseconds=1000 * choice.table["network"].map(seconds))
    name = pick(table, "accuracy")
    part, validation = parts[name], choice.validations[name]
    head = LogisticPath(np.array([validation.l2])).fit(part["X"], y)
    training_variance(part["X"], y, np.arange(len(y)), part["X_test"], part["y_test"], validation.l2)
    learning_curve(part["X"], y, choice.fold, np.arange(len(y)), choice.order, validation.l2 * NEAR_L2)
    accuracy = float((head.predict(part["X_test"])[0] == part["y_test"]).mean())
    classifier = time.process_time() - start
    extraction = sum(seconds[one] * n for one, n in looked.items()) + seconds[name] * n_test
    return {
        "recommend": name,
        "recommend_speed": pick(table, "speed"),
        "seconds": extraction + classifier,
        "accuracy": accuracy,
        "tied": len(choice.tie),
        "to_the_end": len(choice.validations),
    }


def static_list(grid: pd.DataFrame, dataset: str) -> str:
    "The network with the highest mean log-odds on the other sets."
    others = grid[grid["dataset"] != dataset]
    score = logit(half_count(others["accuracy"].to_numpy(), others["n_test"].to_numpy()))
    return str(others.assign(score=score).groupby("network")["score"].mean().idxmax())


def compare(grid: pd.DataFrame, chosen: pd.DataFrame, top1: dict[str, float]) -> pd.DataFrame:
    "One row per set: what each rule takes, its regret, and the seconds."
    rows = []
    for dataset, here in grid.groupby("dataset", sort=False):
        accuracy, mine = here.set_index("network")["accuracy"], chosen.set_index("dataset").loc[dataset]
        taken = {
            "recommend": mine["recommend"],
            "recommend_speed": mine["recommend_speed"],
            "imagenet_top1": max(top1, key=lambda name: top1[name]),
            "static_list": static_list(grid, str(dataset)),
        }
        regret = {f"regret_{rule}": round(float(accuracy.max() - accuracy[name]), 5) for rule, name in taken.items()}
        total = float((here["seconds_extraction"] + here["seconds_classifier"]).sum())
        sizes = {name: int(here[name].iloc[0]) for name in ("n_train", "n_test")}
        best = {"best": accuracy.idxmax(), "best_accuracy": round(float(accuracy.max()), 5)}
        looked = {name: int(mine[name]) for name in ("tied", "to_the_end")}
        cost = {"seconds": round(float(mine["seconds"]), 1), "seconds_grid": round(total, 1)}
        cost["share"] = round(float(mine["seconds"]) / total, 3)
        rows.append({"dataset": dataset} | sizes | best | taken | regret | looked | cost)
    return pd.DataFrame(rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--real", type=Path, default=Path(__file__).resolve().parent.parent.parent / "shared" / "real")
    options.add_argument("--features", type=Path, default=Path("runs/bench_selection"))
    options.add_argument("--out", type=Path, help="write grid.csv and regret.csv to this folder")
    options.add_argument("--computed-only", action="store_true", help="only sets with features of every network; compute none")
    options.add_argument("--grid", type=Path, help="a grid.csv of an earlier run: its test accuracies are not computed again")
    given = options.parse_args()
    networks = networks_of(given.real)
    names, top1 = (
        [network.name for network in networks],
        {network.name: float(network.source_accuracy or 0) for network in networks},
    )
    if not given.computed_only:
        extract(given.real, given.features)
    sets = [tar.stem for tar in sorted((given.real / "images").glob("*.tar"))]
    sets = [name for name in sets if all((given.features / name / f"{network}_test.npz").is_file() for network in names)]
    timed = pd.concat([pd.read_csv(path) for path in sorted(given.features.glob("extraction*.csv"))])
    timed = timed.sort_values("seconds_extraction")  # of two runs the longer one: the other read features of the first
    timed = timed.drop_duplicates(["network", "dataset"], keep="last").set_index(["dataset", "network"])
    known = pd.read_csv(given.grid).set_index(["dataset", "network"])[["accuracy", "seconds_classifier"]] if given.grid else None
    grid, chosen = [], []
    with one_thread():
        for dataset in sets:
            parts, seconds = read(given.features, dataset, names), timed.loc[dataset]["seconds_extraction"].loc[names]
            for name, part in parts.items():
                row = {
                    "network": name,
                    "source_accuracy": top1[name],
                    "dataset": dataset,
                    "n_train": len(part["y"]),
                    "n_test": len(part["y_test"]),
                }
                measured = (
                    known.loc[(dataset, name)].to_dict()
                    if known is not None and (dataset, name) in known.index
                    else grid_row(part)
                )
                grid.append(row | measured | {"seconds_extraction": round(float(seconds[name]), 2)})
            per_image = seconds / timed.loc[dataset]["n_images"].loc[names]
            chosen.append({"dataset": dataset} | recommended(parts, per_image, top1))
            print(grid[-1]["dataset"], chosen[-1], flush=True)
    table, compared = pd.DataFrame(grid).round(5), compare(pd.DataFrame(grid), pd.DataFrame(chosen), top1)
    print(compared.to_string(index=False))
    for rule in ("recommend", "recommend_speed", "imagenet_top1", "static_list"):
        regret = 100 * compared[f"regret_{rule}"]
        print(f"mean regret of {rule}: {regret.mean():.2f} points, at most {regret.max():.2f}")
    seconds, total = compared["seconds"].sum(), compared["seconds_grid"].sum()
    print(f"seconds: {seconds:.0f} of {total:.0f}, a share of {seconds / total:.2f}")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(given.out / "grid.csv", index=False)
        compared.to_csv(given.out / "regret.csv", index=False)


if __name__ == "__main__":
    main()
