"The script for a GPU, on a CPU with tiny inputs: every check passes or says why not, and one that fails stops no other."

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Left out: `training` is a part of `resume`, and processes and Ray start interpreters, each of which imports torch.
REAL_CHECKS = ["predictions", "path", "memory", "resume", "decoding", "features"]
WITH_BROKEN_CHECKS = """
import os, sys
sys.path.insert(0, "tools")
import check_gpu, gpu_checks

def fails(folder, sizes, device):
    "Raises an error after one row."
    yield gpu_checks.row("one row", value=2, bound=1)
    raise ValueError("out of order\\nmore")

def dies(folder, sizes, device):
    "Ends its process."
    os._exit(3)
    yield

def skips(folder, sizes, device):
    "Cannot run."
    raise gpu_checks.Skip("no decoder here")
    yield

try:
    check_gpu.main(["--device", "cpu", "paths"])
except SystemExit as error:
    print("exit code", error.code, file=sys.stderr)
gpu_checks.CHECKS.update({"fails": fails, "dies": dies, "skips": skips} | {n: gpu_checks.CHECKS.pop(n) for n in sys.argv[2:]})
sys.exit(check_gpu.main(["--device", "cpu", "--out", sys.argv[1], "fails", "dies", "skips", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "The process, and what it wrote."
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, "-c", WITH_BROKEN_CHECKS, str(out), *REAL_CHECKS]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return process, json.loads(out.read_text()) if out.is_file() else {}


def rows_of(written: dict, check: str) -> list[dict]:
    return [row for row in written["rows"] if row["check"] == check]


@pytest.mark.parametrize("check", REAL_CHECKS)
def test_every_check_passes_on_a_cpu(finished, check):
    process, written = finished
    rows = rows_of(written, check)
    assert rows, process.stderr
    assert all(row["status"] == "passed" or (row["status"] == "skipped" and row["note"]) for row in rows), rows


def test_rows_show_seconds_ratios_and_bounds(finished):
    rows = rows_of(finished[1], "path")
    timed = [row for row in rows if "ratio" in row]
    assert len(timed) == 2
    assert all(row["ratio"] == pytest.approx(row["seconds_reference"] / row["seconds_ours"]) for row in timed)
    assert all(row["value"] <= row["bound"] for row in rows)


def test_a_check_that_fails_does_not_stop_the_others(finished):
    process, written = finished
    assert process.returncode == 1
    above, error = rows_of(written, "fails")
    assert above["status"] == error["status"] == "failed" and error["note"] == "ValueError: out of order"
    assert "out of order" in error["traceback"]
    (dead,), (skipped,) = rows_of(written, "dies"), rows_of(written, "skips")
    assert dead["status"] == "failed" and "exit code 3" in dead["note"]
    assert skipped["status"] == "skipped" and skipped["note"] == "no decoder here"
    assert [row["check"] for row in written["rows"]].index("features") > 3  # after the broken ones


def test_the_table_and_the_machine_are_shown(finished):
    process, written = finished
    lines = process.stdout.splitlines()
    assert lines[0].split()[:2] == ["check", "status"] and len(lines) == 1 + len(written["rows"])
    assert "3 of " in process.stderr.splitlines()[-1]
    assert written["provenance"]["versions"]["torch"] and written["sizes"]["n_images"] == 48


def test_a_wrong_name_is_one_line(finished):
    lines = finished[0].stderr.splitlines()
    assert any("unknown check 'paths'; known: predictions, path" in line for line in lines) and "exit code 2" in lines
