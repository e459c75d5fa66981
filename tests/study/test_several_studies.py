"""Runs of several studies are analysed together only if a name means the same in all of them."""

import json

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import merged_results, read_runs, write_run
from transfer_study.statistics.analysis import analyze
from transfer_study.study.study import analyze_runs


def write(folder, network, dataset, fingerprint="f", **different):
    "A run of network 0 to 5 on a dataset; the score follows from both."
    result = {
        "network": f"n{network}", "dataset": dataset, "protocol": "linear", "metric": "top1", "run_id": f"{network}{dataset}",
        "score": 0.7 + 0.03 * network + 0.05 * (dataset == "a"), "n_test": 1000, "seed": 0, "n_train_per_class": None,
        "setting": "default", "n_classes": 10, "n_train": 500, "n_val": 100,
        "source_accuracy": 0.6 + 0.04 * network, "architecture": f"timm:{network}",
    } | different  # fmt: skip
    folder.mkdir(exist_ok=True)
    spec = {"dataset_fingerprint": dataset + fingerprint}
    write_run(folder / result["run_id"], spec, result, {"y_true": np.arange(5)}, pd.DataFrame({"l2": [1.0]}))


@pytest.fixture
def runs(tmp_path):
    for i in range(5):
        for dataset in "ab":
            write(tmp_path / ("one" if i < 3 else "two"), i, dataset)
    return tmp_path


def test_a_run_that_two_studies_share_counts_once(runs):
    alone = analyze_runs(runs, n_bootstrap=100)
    write(runs / "two", 0, "a")
    shared = analyze_runs(runs, n_bootstrap=100)
    assert len(read_runs(runs)) == len(shared.rows) == 10 and shared.messages == alone.messages


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"score": 0.6}, r"run 0a \(n0 on a, linear\) has score 0.75 in .*/one/0a and 0.6 in .*/two/0a"),
        ({"run_id": "other"}, r"/two/other: two runs of network 'n0' on dataset 'a' \(linear, setting default, seed 0\)"),
        ({"seed": 1, "run_id": "x", "architecture": "timm:9"}, r"'n0' is not the same in both .*architecture timm:0 and timm:9"),
        ({"seed": 1, "run_id": "x", "n_classes": 20}, r"dataset 'a' is not the same in both .*n classes 10 and 20"),
        ({"seed": 1, "run_id": "x", "fingerprint": "g"}, r"'a' is not the same in both .*dataset fingerprint af and ag"),
        ({"dataset": "c", "source_accuracy": 0.7}, r"network 'n0' is not the same in both .*source accuracy 0.6 and 0.7"),
    ],
)
def test_names_that_mean_two_things_are_refused(runs, different, message):
    write(runs / "two", **{"network": 0, "dataset": "a"} | different)
    with pytest.raises(UserError, match=message):
        analyze_runs(runs)


def test_a_table_of_such_runs_is_refused(runs):
    write(runs / "two", 0, "a", run_id="other")
    with pytest.raises(UserError, match="network 'n0' has two scores on dataset 'a' .*: runs 0a and other"):
        analyze(merged_results([runs]))


def test_a_source_accuracy_that_was_measured_twice_may_differ_in_its_last_digits(runs):
    write(runs / "two", 0, "c", source_accuracy=0.6001)
    write(runs / "two", 1, "c")
    analysis = analyze_runs(runs, n_bootstrap=100)
    assert json.dumps(analysis.to_json()) and analysis.networks["source_accuracy"].iloc[0] == pytest.approx(0.6, abs=2e-4)
