"""The report's table of source-training settings."""

import pandas as pd
import pytest
from scipy.special import expit

from transfer_study.figures.report import settings_table
from transfer_study.statistics.analysis import analyze


def test_every_dataset_counts_once_under_each_setting():
    "n0 with label smoothing has no score on the hard dataset, and the default has three seeds on the easy one."
    rows = []
    for i in range(4):
        for setting, gain in (("default", 0.0), ("label_smoothing", 0.5)):
            for dataset, base in (("easy", 2.0), ("hard", 0.0)):
                for seed in range(3 if (setting, dataset) == ("default", "easy") else 1):
                    if not (i == 0 and setting != "default" and dataset == "hard"):
                        score = expit(base + gain + 0.3 * i)
                        rows.append((f"n{i}", 0.6 + 0.05 * i, setting, dataset, seed, score))
    table = pd.DataFrame(rows, columns=["network", "source_accuracy", "setting", "dataset", "seed", "score"])
    shown = settings_table(analyze(table, n_bootstrap=100)).set_index(["network", "setting"])["Fixed features %"]
    for i in range(4):
        assert shown[f"n{i}", "default"] == pytest.approx(100 * expit(1 + 0.3 * i))
        assert shown[f"n{i}", "label_smoothing"] == pytest.approx(100 * expit(1.5 + 0.3 * i))
