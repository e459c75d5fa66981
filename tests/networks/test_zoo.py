"""The smallest networks of some of timm's modules pass the checks of benchmarks/bench_zoo.py, which runs over all modules."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("bench_zoo", ROOT / "benchmarks" / "bench_zoo.py")
bench_zoo = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench_zoo)


@pytest.mark.parametrize(
    ("module", "name", "pooling"),
    [
        ("vision_transformer", "test_vit", "avg token token+avg"),
        ("convnext", "test_convnext", ""),
        ("byobnet", "test_byobnet", ""),
        ("nfnet", "test_nfnet", ""),
        ("mobilevit", "mobilevit_xxs", ""),
    ],
)
def test_a_small_network_of_the_module_passes_every_check(module, name, pooling):
    row = bench_zoo.check(module, name, 1)
    assert {check: row[check] for check in bench_zoo.CHECKS} == dict.fromkeys(bench_zoo.CHECKS, True), row["note"]
    assert row["pooling"] == pooling and row["note"] == ""


def test_a_head_that_sees_more_than_the_features_is_told_apart():
    "A network of its own kind: its output is the classifier's plus something of the image."
    checks = bench_zoo.Checks("test_resnet")
    forward = checks.model.forward
    checks.model.forward = lambda images: forward(images) + images.mean(dim=(1, 2, 3))[:, None] * torch.arange(10)
    row = checks.run()
    assert row["classifier_input"] is False and "stands more than the classifier" in row["note"]


def test_every_failure_in_the_committed_table_has_its_reason():
    table = pd.read_csv(bench_zoo.RESULTS, keep_default_na=False).astype(str)
    assert table["module"].is_unique and set(table["module"]) <= set(timm.list_modules())
    failed = table[(table[bench_zoo.CHECKS] != "True").any(axis=1)]
    assert (failed["note"] != "").all(), failed.loc[failed["note"] == "", "network"].tolist()


def test_a_check_that_held_before_and_fails_now_is_reported():
    before = pd.DataFrame([{"network": "a", **dict.fromkeys(bench_zoo.CHECKS, True)}])
    now = before.assign(trains=False, note="no gradient")
    assert bench_zoo.lost_checks(now, before) == ["a: trains fails (no gradient)"]
    assert bench_zoo.lost_checks(before.assign(note=""), now) == []
