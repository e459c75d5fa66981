"""Rows of ImageNet belong to the scores of the same setting and seed, not to the network's name."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.tables.sources import matched_source


def long_table(rows):
    return pd.DataFrame(rows, columns=["network", "setting", "seed", "dataset", "score"])


def test_every_setting_has_its_own_source_accuracy():
    "The rows of label smoothing stand first, and the headline is about the others."
    rows = [(f"n{i}", setting, 0, dataset, score + 0.01 * i)
            for i in range(3) for setting, shift in (("label_smoothing", 0.05), ("default", 0.0))
            for dataset, score in (("imagenet", 0.7 + shift), ("pets", 0.8))]  # fmt: skip
    table = read_table(long_table(rows))
    assert table.query("setting == 'default'")["source_accuracy"].round(3).to_list() == [0.70, 0.71, 0.72]
    assert table.query("setting != 'default'")["source_accuracy"].round(3).to_list() == [0.75, 0.76, 0.77]
    assert "dataset 'imagenet' (matched by setting)" in table.attrs["reading"][0]
    wide = long_table(rows).pivot(index=["network", "setting", "seed"], columns="dataset", values="score").reset_index()
    same = read_table(wide).sort_values(["network", "setting"])["source_accuracy"].to_list()
    assert same == table.sort_values(["network", "setting"])["source_accuracy"].to_list()
    with pytest.raises(UserError, match="rows of dataset 'imagenet' with setting default, but none with setting label_smoothing"):
        read_table(long_table([row for row in rows if row[:4] != ("n1", "label_smoothing", 0, "imagenet")]))


def test_seeds_are_matched_or_averaged():
    rows = [("n", None, seed, "imagenet", score) for seed, score in enumerate((0.67, 0.70, 0.76))]
    rows += [("n", None, seed, "pets", 0.8 + 0.01 * seed) for seed in range(3)]
    assert read_table(long_table(rows))["source_accuracy"].to_list() == [0.67, 0.70, 0.76]
    single = read_table(long_table([*rows[:3], ("n", None, None, "pets", 0.8)]))
    assert single["source_accuracy"].item() == pytest.approx(expit(np.mean(logit([0.67, 0.70, 0.76]))))


def test_accuracies_that_nothing_tells_apart_are_refused():
    rows = [("n", None, None, "imagenet", 0.67), ("n", None, None, "imagenet", 0.70), ("n", None, None, "pets", 0.8)]
    with pytest.raises(UserError, match=r"network 'n' has more than one score on dataset 'imagenet' \(rows 1, 2\)"):
        read_table(long_table(rows))
    source = pd.DataFrame({"network": "n", "dataset": "imagenet", "score": [0.7, 0.6], "protocol": ["linear", "knn"]})
    scores = pd.DataFrame({"network": "n", "protocol": ["knn", "linear"]})
    assert matched_source(source, scores).to_list() == [0.6, 0.7]
    with pytest.raises(UserError, match="with protocol knn and linear, but none with protocol finetune"):
        matched_source(source, scores.assign(protocol="finetune"))
    top5 = source.assign(protocol=None, metric=["top1", "top5"])
    with pytest.raises(UserError, match="they are of 'top1' and 'top5': leave one out with --leave-out 'metric=top5'"):
        matched_source(top5, scores)
