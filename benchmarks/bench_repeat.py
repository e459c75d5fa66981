"""Does another processor repeat a study? Runs it with all instruction sets of this processor, and with AVX2 alone.

`python benchmarks/bench_repeat.py` runs the quick study as its file says, again with PyTorch and oneDNN limited to AVX2 from
outside, and a third time without the file's `instruction_set`. The first two must agree to the last digit; the third shows
how far rounding alone moves source accuracies, scores and correlations. `--only-compare` compares the runs that are in
`--out` already. With `--save FOLDER` it writes repeat.csv, the comparisons, and results_all_instructions.csv, the third
run's table.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from transfer_study.core import data_path
from transfer_study.statistics.analysis import analyze

STUDY = data_path("studies/quickstart.toml")

# What PyTorch's own kernels and those of oneDNN may use; a processor without AVX-512 has no more than this.
LOWERED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CELL = ["network", "setting", "dataset", "protocol", "n_train_per_class", "seed"]
# What two processors may differ by: source accuracies, scores (in standard errors, for this share of them, and at most), r.
SOURCE, N_ERRORS, SHARE, SCORE, R = 0.02, 3, 0.97, 0.06, 0.02


def run(study: Path, out: Path, environment: dict[str, str]) -> float:
    "Runs the study; the seconds it took."
    started = time.monotonic()
    command = [Path(sys.executable).parent / "transfer-study", "run", study, "--out", out, "--device", "cpu", "--json"]
    subprocess.run([str(part) for part in command], env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    "The rows of both tables side by side, by network, setting, dataset, protocol, images per class and seed."
    keep = [*CELL, "score", "source_accuracy", "n_test"]
    sizes = [table["n_train_per_class"].fillna(0).astype(int) for table in (first, second)]  # 0: all images
    tables = [table[keep].assign(n_train_per_class=size) for table, size in zip((first, second), sizes, strict=True)]
    both = tables[0].merge(tables[1], on=CELL, how="outer", validate="1:1", suffixes=("_first", "_second"))
    if both.isna().any(axis=None):
        sys.exit(f"the two runs are not of one study: {both.isna().any(axis=1).sum()} rows stand in one of them only")
    p, n = both[["score_first", "score_second"]].mean(axis=1), both["n_test_first"]
    both["difference"] = both["score_second"] - both["score_first"]
    both["standard_errors"] = both["difference"].abs() / np.sqrt(p * (1 - p) / n).clip(lower=1 / n)
    return both


def correlations(table: pd.DataFrame) -> pd.Series:
    "Headline r by protocol."
    found = analyze(table, n_bootstrap=100).correlations.query("dataset == 'mean' and method == 'pearson'")
    return found.set_index("protocol")["estimate"]


def comparison(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    "A row per question: what was compared, how many, the largest and median difference, what is allowed, and whether it holds."
    both = paired(first, second)
    sources = both.groupby(["network", "setting"])[["source_accuracy_first", "source_accuracy_second"]].first()
    source = (sources.iloc[:, 0] - sources.iloc[:, 1]).abs()
    rows = [("source accuracy", len(source), source.max(), source.median(), SOURCE, bool(source.max() <= SOURCE))]
    for protocol, part in both.groupby("protocol"):
        size = part["difference"].abs()
        rows.append((f"{protocol}: score", len(size), size.max(), size.median(), SCORE, bool(size.max() <= SCORE)))
    within = float((both["standard_errors"] <= N_ERRORS).mean())
    rows.append((f"share of scores within {N_ERRORS} standard errors", len(both), within, within, SHARE, within >= SHARE))
    r = pd.concat([correlations(first), correlations(second)], axis=1, keys=["first", "second"])
    for protocol, row in r.iterrows():
        moved = abs(row["first"] - row["second"])
        rows.append((f"{protocol}: r, {row['first']:.3f} and {row['second']:.3f}", 1, moved, moved, R, bool(moved <= R)))
    return pd.DataFrame(rows, columns=["what", "n", "largest", "median", "allowed", "holds"])


def unlimited(out: Path) -> Path:
    "The quick study's file without its instruction set."
    lines = [line for line in STUDY.read_text().splitlines() if not line.startswith("instruction_set")]
    (out / "all_instructions").mkdir(parents=True, exist_ok=True)
    path = out / "all_instructions" / STUDY.name
    path.write_text("\n".join(lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/repeat"), help="folder of the runs")
    parser.add_argument("--only-compare", action="store_true", help="compare the runs that are there")
    parser.add_argument("--save", type=Path, help="folder for repeat.csv and results_all_instructions.csv")
    arguments = parser.parse_args()
    if not arguments.only_compare:
        runs = {"as_is": (STUDY, {}), "avx2": (STUDY, LOWERED), "all_instructions": (unlimited(arguments.out), {})}
        for name, (study, environment) in runs.items():
            print(f"{name}: {run(study, arguments.out / name, environment):.0f} s", flush=True)
    tables = {path.parent.parent.name: pd.read_csv(path) for path in arguments.out.glob("*/quickstart/results.csv")}
    compared = {name: comparison(tables["as_is"], table) for name, table in tables.items() if name != "as_is"}
    table = pd.concat(compared, names=["compared_with"]).reset_index(level=0)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if arguments.save:
        table.to_csv(arguments.save / "repeat.csv", index=False, float_format="%.4f")
        tables["all_instructions"].to_csv(arguments.save / "results_all_instructions.csv", index=False)
    sys.exit(0 if "avx2" not in compared or compared["avx2"]["holds"].all() else 1)


if __name__ == "__main__":
    main()
