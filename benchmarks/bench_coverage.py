"""How often 95 % intervals contain the true value, in simulated studies.

`python benchmarks/bench_coverage.py [REPLICATES] [--out NAME]`; with 1,000 replicates it takes a few minutes.

The r of one study follows from its networks: their source logits and their deviations from a line are drawn from a normal
distribution, or from Student's t distribution with three degrees of freedom. In the distribution `t3 tables`, the deviation of a
network is, in equal parts of variance, its own (t3) and the mean of those of 12 datasets (t3).

The second table is about slopes and about other datasets: whole tables of networks × datasets with normal random effects.
"""

import argparse
from collections.abc import Iterable

import numpy as np
import pandas as pd

from transfer_study.statistics.correlation import bca_interval, bootstrap_counts, correlation_interval, pearson
from transfer_study.statistics.log_odds import LogOddsTable
from transfer_study.statistics.regression import (
    cells_of,
    coefficient_table,
    fit_means,
    fit_mixed,
    fit_ols,
    fit_robust,
    satterthwaite,
)
from transfer_study.statistics.resampling import other_datasets_interval

N_NETWORKS, R = (3, 4, 5, 8, 12, 16, 25, 40, 80, 200), (0.0, 0.4, 0.7, 0.9, 0.99)
N_BOOTSTRAP, BLOCK = 1_000, 100


def deviations(distribution: str, shape: tuple[int, int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Source logits and deviations from the line, both of variance 1."
    if distribution == "normal":
        return tuple(generator.normal(size=(2, *shape)))
    source, own = generator.standard_t(3, size=(2, *shape)) / np.sqrt(3)
    if distribution == "t3 tables":
        cells = generator.standard_t(3, size=(12, *shape)).mean(axis=0) * np.sqrt(12 / 3)
        own = (own + cells) / np.sqrt(2)
    return source, own


def coverage(distribution: str, n: int, true: float, replicates: int, seed: int = 0) -> dict:
    "Shares of the studies whose percentile, BCa and reported interval contain the true r, and the median width of the last."
    generator, inside, widths = np.random.default_rng([seed, n, int(100 * true)]), [], []
    for block in range(0, replicates, BLOCK):
        source, own = deviations(distribution, (BLOCK, n), generator)
        transfer = true * source + np.sqrt(1 - true**2) * own
        counts, one = bootstrap_counts(n, N_BOOTSTRAP, seed + block), np.ones(n)
        draws = np.array([pearson(x, y, counts) for x, y in zip(source, transfer, strict=True)])
        r = np.array([float(pearson(x, y, one)) for x, y in zip(source, transfer, strict=True)])
        left_out = [pearson(x, y, 1 - np.eye(n)) for x, y in zip(source, transfer, strict=True)]
        bca = np.array([bca_interval(*study) for study in zip(r, draws, left_out, strict=True)]).T
        reported = correlation_interval(r, draws, n)
        percentile = np.nanquantile(draws, [0.025, 0.975], axis=1)
        inside.append([(low <= true) & (true <= high) for low, high in (percentile, bca, reported)])
        widths.append(reported[1] - reported[0])
    shares = np.concatenate(inside, axis=1).mean(axis=1)
    return dict(zip(("percentile", "bca", "reported"), shares, strict=True)) | {"width": np.median(np.concatenate(widths))}


SLOPE, SOURCE, NETWORK, DATASET_SLOPE, CELL = 1.0, 0.5, 0.25, 0.3, 0.3  # log-odds; standard deviations but for the first


def table(n_networks: int, n_datasets: int, seed: int) -> LogOddsTable:
    "A table drawn from the mixed model."
    generator = np.random.default_rng(seed)
    x = SOURCE * generator.normal(size=n_networks)
    slopes = SLOPE + DATASET_SLOPE * generator.normal(size=n_datasets)
    values = x[:, None] * slopes + NETWORK * generator.normal(size=(n_networks, 1)) + generator.normal(size=n_datasets)
    values += CELL * generator.normal(size=values.shape)
    names, datasets = [f"network{i:03}" for i in range(n_networks)], [f"dataset{j:02}" for j in range(n_datasets)]
    return LogOddsTable(pd.Series(x, index=names), pd.DataFrame(values, index=names, columns=datasets))


def contains(interval: Iterable[float], true: float) -> bool:
    low, high = interval
    return bool(low <= true <= high)


def correlation_of(slope: float, n_datasets: int) -> float:
    "The r of the means over datasets whose mean slope is `slope`."
    return slope * SOURCE / np.sqrt((slope * SOURCE) ** 2 + NETWORK**2 + CELL**2 / n_datasets)


def table_coverage(n_networks: int, n_datasets: int, replicates: int) -> dict:
    "Shares of the tables whose intervals contain the true slope, and the true r of other networks and other datasets."
    true_r, found = correlation_of(SLOPE, n_datasets), []
    for seed in range(replicates):
        study = table(n_networks, n_datasets, seed)
        cells, counts = cells_of(study), bootstrap_counts(n_networks, N_BOOTSTRAP, seed)
        mixed = fit_mixed(cells)[0]
        fits = {
            "mixed, normal": coefficient_table(mixed, ""),
            "mixed, Satterthwaite": coefficient_table(mixed, "", freedom=satterthwaite(mixed)),
            "clustered": coefficient_table(fit_ols(cells), ""),
            "robust, t": coefficient_table(fit_robust(study), "", freedom=n_networks - 2),
        }
        ends = {name: fit.set_index("term").loc["source_logit", ["low", "high"]] for name, fit in fits.items()}
        row = {name: contains(interval, SLOPE) for name, interval in ends.items()}
        # The line of the means, and the first interval of r, are those of these datasets.
        own = own_slope(n_datasets, n_networks, seed)
        own_r = correlation_of(own, n_datasets)
        row["means, t"] = contains(fit_means(study).conf_int().loc["source_logit"], own)
        x, y = study.source.to_numpy(), study.network_effects["mean_logit"].to_numpy()
        first = correlation_interval(float(pearson(x, y, np.ones(n_networks))), pearson(x, y, counts), n_networks)
        second = other_datasets_interval(study, counts, first, seed)
        row |= {"r, other networks": contains(first, own_r), "r, other datasets too": contains(second, true_r)}
        found.append(row)
    return pd.DataFrame(found).mean().to_dict()


def own_slope(n_datasets: int, n_networks: int, seed: int) -> float:
    "The mean slope of the datasets that `table` draws."
    generator = np.random.default_rng(seed)
    generator.normal(size=n_networks)
    return float((SLOPE + DATASET_SLOPE * generator.normal(size=n_datasets)).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replicates", nargs="?", type=int, default=1_000, help="studies a row, and a quarter as many tables")
    parser.add_argument("--out", help="write both tables, to NAME_r.csv and NAME_tables.csv")
    arguments = parser.parse_args()
    n_studies = arguments.replicates
    rows = [
        {"distribution": name, "networks": n, "r": r, "studies": n_studies} | coverage(name, n, r, n_studies)
        for name in ("normal", "t3", "t3 tables") for n in N_NETWORKS for r in R
    ]  # fmt: skip
    by_r = pd.DataFrame(rows).round(3)
    n_tables = max(n_studies // 4, 10)
    sizes = [(3, 12), (5, 12), (8, 12), (16, 12), (40, 12), (6, 5), (16, 3)]
    by_size = [{"networks": n, "datasets": d, "tables": n_tables} | table_coverage(n, d, n_tables) for n, d in sizes]
    tables = pd.DataFrame(by_size).round(3)
    print(by_r.to_string(index=False), tables.to_string(index=False), sep="\n\n")
    if arguments.out:
        by_r.to_csv(f"{arguments.out}_r.csv", index=False)
        tables.to_csv(f"{arguments.out}_tables.csv", index=False)
