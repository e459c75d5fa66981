"""Times of `analyze` on simulated tables: `python benchmarks/bench_statistics.py [N_BOOTSTRAP]` (default 10,000)."""

import sys
import time

import numpy as np
import pandas as pd
from scipy.special import expit

from transfer_study.results import tidy
from transfer_study.statistics.analysis import analyze

SIZES = ((16, 12), (50, 12), (200, 12), (1500, 12))  # networks × datasets


def study(n_networks: int, n_datasets: int) -> pd.DataFrame:
    "A table drawn from a mixed model with the spread that published ones have, 2,000 test images a dataset."
    generator = np.random.default_rng(0)
    x = generator.normal(1, 0.4, n_networks)
    values = x[:, None] * (1.5 + 0.6 * generator.normal(size=n_datasets)) + 0.2 * generator.normal(size=(n_networks, 1))
    values += generator.normal(size=n_datasets) + 0.4 * generator.normal(size=values.shape)
    columns = {
        "network": np.repeat([f"network{i}" for i in range(n_networks)], n_datasets),
        "source_accuracy": np.repeat(expit(x), n_datasets),
        "dataset": np.tile([f"dataset{i}" for i in range(n_datasets)], n_networks),
        "score": expit(values).ravel(),
    }
    return tidy(pd.DataFrame(columns).assign(n_test=2000))


if __name__ == "__main__":
    n_bootstrap = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    analyze(study(10, 3), n_bootstrap=100)  # imports and first calls are not what is timed
    rows = []
    for n_networks, n_datasets in SIZES:
        results, start, processor = study(n_networks, n_datasets), time.perf_counter(), time.process_time()
        analyze(results, n_bootstrap=n_bootstrap)
        seconds = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - processor}
        rows.append({"networks": n_networks, "datasets": n_datasets, "draws": n_bootstrap} | seconds)
    print(pd.DataFrame(rows).round(2).to_string(index=False))
