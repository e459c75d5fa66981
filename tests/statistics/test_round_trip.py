"""The rows of an analysis, analysed again, give the same analysis: in memory, and from results.csv."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.tables.test_filled import CHANCE, LONG, NETWORKS, WIDE
from transfer_study.cli.console import write_analysis
from transfer_study.statistics.analysis import analyze

FINETUNED = LONG.assign(score=LONG["score"] + np.arange(18) % 5, protocol="finetune")
BOTH = pd.concat([LONG.assign(protocol="linear"), FINETUNED])
OWN = (
    LONG[["network", "source_accuracy"]].drop_duplicates().rename(columns={"source_accuracy": "score"}).assign(dataset="imagenet")
)
OWN_OF_PROTOCOLS = [OWN.assign(protocol="linear"), OWN.assign(protocol="finetune", score=OWN["score"] + 1)]
OWN_OF_SEEDS = [OWN.assign(seed=seed, score=OWN["score"] + seed) for seed in range(3)]
SEEDS = pd.concat([LONG.assign(seed=seed, score=LONG["score"] + np.arange(18) * seed % 3 / 10) for seed in range(3)])
TABLES = {
    "not stated": (LONG, {}),
    "protocol": (LONG, {"protocol": "finetune"}),
    "n_classes": (CHANCE, {"n_classes": {"cars": 196}}),
    "n_classes in the table": (CHANCE.assign(n_classes=CHANCE["dataset"].map({"Cars": 196})), {}),
    "metric": (LONG, {"metric": {"Pets": "auc"}}),
    "metrics": (LONG, {"metric": "auc"}),
    "setting": (pd.concat([LONG, LONG.assign(setting="augreg", score=LONG["score"] + 2)]).fillna({"setting": "default"}), {}),
    "size": (pd.concat([LONG.assign(n_train_per_class=5, score=LONG["score"] - 9), LONG.assign(n_train_per_class="all")]), {}),
    "size of a protocol": (BOTH.assign(n_train_per_class=["all"] * 18 + [5] * 18), {}),
    "seeds": (SEEDS, {}),
    "source_per_dataset": (
        LONG.assign(source_accuracy=LONG["source_accuracy"] - 2 * (LONG["dataset"] == "Cars")),
        {"source_per_dataset": True},
    ),
    "source matched by protocol": (
        pd.concat([BOTH.drop(columns="source_accuracy"), *OWN_OF_PROTOCOLS]),
        {},
    ),
    "source matched by seed": (
        pd.concat([SEEDS.drop(columns="source_accuracy"), *OWN_OF_SEEDS]),
        {},
    ),
    "source_accuracy": (
        LONG.drop(columns="source_accuracy"),
        {"source_accuracy": {name: 0.7 + 0.01 * i for i, name in enumerate(NETWORKS)}},
    ),
    "looked up": (LONG.drop(columns="source_accuracy"), {}),
    "datasets": (WIDE, {"datasets": "Pets,Cars"}),
    "leave_out": (WIDE, {"leave_out": "Pets,model=resnet34"}),
    "source": (WIDE.rename(columns={"ImageNet": "before"}), {"source": "before"}),
    "network": (WIDE.assign(model="net", b=NETWORKS), {"network": "model,b"}),
    "mean": (LONG.replace({"dataset": {"Pets": "mean"}}), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_an_analysis_of_its_own_rows_is_the_same(tmp_path, name):
    table, options = TABLES[name]
    analysis = analyze(table, percent=True, n_bootstrap=100, **options)
    write_analysis(analysis, tmp_path, "table")
    for rows in (analysis.rows, tmp_path / "results.csv"):
        again = analyze(rows, n_bootstrap=100)
        first, second = ({k: v for k, v in part.to_json().items() if k != "reading"} for part in (analysis, again))
        assert json.dumps(first) == json.dumps(second)
        same = again.rows.reset_index(drop=True)[list(analysis.rows)]
        pd.testing.assert_frame_equal(same, analysis.rows.reset_index(drop=True), check_dtype=False)


def test_what_is_left_out_stays_left_out(tmp_path):
    analysis = analyze(CHANCE, percent=True, n_bootstrap=100, n_classes={"cars": 196})
    assert analysis.rows.groupby("dataset")["n_classes"].first().dropna().to_dict() == {"Cars": 196}
    write_analysis(analysis, tmp_path, "table")
    again = analyze(tmp_path / "results.csv", n_bootstrap=100).to_json()["protocols"]["linear"]
    assert again["r"] == pytest.approx(0.9165, abs=5e-5) and again["r_all"] == pytest.approx(-0.3126, abs=5e-5)
    assert "protocol: not stated" in analyze(tmp_path / "results.csv", n_bootstrap=100).reading[0]
