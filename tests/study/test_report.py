"""Correlations of own runs beside those of the results that ship with the package."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import data_path, provenance
from transfer_study.results import read_table, write_run
from transfer_study.statistics.analysis import analyze
from transfer_study.study.report import compare_correlations, how_to_repeat, report_runs


def write_runs(directory: Path, rows: pd.DataFrame) -> Path:
    "Finished runs with these rows of a results table."
    for row in rows.to_dict("records"):
        result = {name: None if pd.isna(value) else value for name, value in row.items()}
        result |= {"n_classes": 24, "n_train": 96, "n_val": 24, "count_mismatch": ""}
        predictions, curve = {"y_true": np.zeros(1), "y_pred": np.zeros(1)}, pd.DataFrame({"l2": [1.0]})
        write_run(directory / result["run_id"], {}, result, predictions, curve)
    return directory


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    "The committed rows of logistic regression with the default setting."
    rows = read_table(data_path("results/quickstart/results.csv"))
    return rows[(rows["protocol"] == "linear") & (rows["setting"] == "default")]


def test_the_committed_runs_agree_with_themselves(command, committed, tmp_path):
    runs = write_runs(tmp_path / "quickstart", committed)
    code, out, err = command("report", runs, "--bootstrap", 500)
    line = next(line for line in out.splitlines() if " here, " in line)
    here, there = line.removeprefix("- linear: ").removesuffix(" committed: they agree within their intervals").split(" here, ")
    assert code == 0 and here == there, err
    code, out, _ = command("report", runs, "--bootstrap", 500, "--json")
    result = json.loads(out)
    (row,) = result["committed"]
    assert row["agree"] is True and row["r"] == row["committed_r"] == pytest.approx(result["protocols"]["linear"]["r"])
    assert row["committed_low"] == pytest.approx(result["protocols"]["linear"]["r_low"])
    assert "committed: they agree within their intervals." in (runs / "report.html").read_text()


def test_other_scores_do_not_agree(command, committed, tmp_path):
    order = committed.groupby("network")["source_accuracy"].first().rank(ascending=False, pct=True)
    reverse = committed.assign(score=0.3 + 0.6 * committed["network"].map(order) + 0.01 * np.sin(np.arange(len(committed))))
    code, out, _ = command("report", write_runs(tmp_path / "quickstart", reverse), "--bootstrap", 500)
    assert code == 0 and "committed: they do not agree within their intervals" in out


def test_a_part_is_compared_with_the_same_part(committed, tmp_path):
    part = committed[committed["network"].isin(sorted(committed["network"].unique())[:-2])]
    comparison = report_runs(write_runs(tmp_path / "quickstart", part), n_bootstrap=200).comparison
    whole = analyze(committed, n_bootstrap=200).to_json()["protocols"]["linear"]["r"]
    assert comparison["committed_r"].item() == comparison["r"].item() != whole


def test_the_report_of_runs_that_may_not_be_written_to_lies_elsewhere(command, committed, tmp_path):
    runs = write_runs(tmp_path / "quickstart", committed)
    (runs / "results.csv").mkdir()  # also root cannot write a file there
    code, _, err = command("report", runs, "--bootstrap", 100)
    assert code == 2 and "results.csv" in err
    code, _, err = command("report", runs, "--bootstrap", 100, "--out", tmp_path / "report")
    assert code == 0 and f"report: {tmp_path / 'report' / 'report.html'}" in err
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "analysis.json",
        "report.html",
        "results.csv",
        "results.parquet",
    }
    assert {path.name for path in runs.iterdir() if path.is_file()} == {"analysis.json"}


def test_a_study_without_committed_results_has_no_comparison(command, committed, tmp_path):
    runs = write_runs(tmp_path / "own", committed)
    assert report_runs(runs, n_bootstrap=200).comparison.empty
    code, out, _ = command("report", runs, "--bootstrap", 200, "--json")
    assert code == 0 and "committed" not in json.loads(out)


def test_intervals_decide(committed):
    own = analyze(committed, n_bootstrap=200)
    moved = analyze(committed.assign(score=committed["score"] * 0.95), n_bootstrap=200)
    (row,) = compare_correlations(own, moved).to_dict("records")
    inside = row["r_low"] <= row["committed_r"] <= row["r_high"] and row["committed_low"] <= row["r"] <= row["committed_high"]
    assert row["agree"] == inside and row["r"] != row["committed_r"]


def test_the_cpu_instructions_are_part_of_how_to_repeat(monkeypatch):
    import torch

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    text = how_to_repeat([{"seed": 0, "provenance": provenance()}], "quickstart")
    capability = torch.backends.cpu.get_cpu_capability()
    assert f"PyTorch with {capability} instructions, ONEDNN_MAX_CPU_ISA=AVX2" in text
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert "ONEDNN" not in how_to_repeat([{"seed": 0, "provenance": provenance()}], "quickstart")
