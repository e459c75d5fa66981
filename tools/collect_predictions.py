"""Predictions and λ curves of studies that differ in one thing, as two tables.

`tools/collect_predictions.py DIRECTORY NAME=RUNS [NAME=RUNS …]` writes predictions.csv (a row a test image, a column for each
network and name) and curves.csv (a row for each run and λ). Studies with different test images end it with an error.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from transfer_study.results import complete_runs, read_predictions


def collect(name: str, runs: Path) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    "Of each run its answers, indexed by image, and its path of λ."
    answers, curves = [], []
    for directory, result in complete_runs(runs):
        stored, column = read_predictions(directory), f"{result['network']} {name}"
        table = pd.DataFrame({"image": stored["image"], "y_true": stored["y_true"], column: stored["y_pred"]})
        answers.append(table.assign(dataset=result["dataset"]).set_index(["dataset", "image", "y_true"]))
        curve = pd.read_csv(directory / "curve.csv")[["l2", "validation_score"]]
        named = {"network": result["network"], "dataset": result["dataset"], "study": name}
        curves.append(curve.assign(**named, chosen=np.isclose(curve["l2"], result["l2"])))
    return answers, curves


if __name__ == "__main__":
    directory, *named = sys.argv[1:]
    collected = [collect(name, Path(runs)) for name, runs in (one.split("=", 1) for one in named)]
    by_column: dict[str, list[pd.DataFrame]] = {}
    for table in (table for answers, _ in collected for table in answers):
        by_column.setdefault(table.columns[0], []).append(table)
    predictions = pd.concat([pd.concat(tables) for _, tables in sorted(by_column.items())], axis=1).sort_index()
    if predictions.isna().any(axis=None):
        sys.exit(f"{int(predictions.isna().any(axis=1).sum())} test images are not in all studies; compare like with like")
    predictions.to_csv(Path(directory) / "predictions.csv")
    curves = pd.concat([table for _, tables in collected for table in tables])
    order = ["dataset", "network", "study", "l2", "validation_score", "chosen"]
    ordered = curves[order].sort_values(order[:4])
    ordered.to_csv(Path(directory) / "curves.csv", index=False, float_format="%.6g")
