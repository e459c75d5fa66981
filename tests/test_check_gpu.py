"The script for a GPU, on a CPU with tiny inputs: every check passes or says why not, and one that fails stops no other."

import importlib
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
# Left out: processes and Ray start interpreters, each of which imports torch.
REAL_CHECKS = ["predictions", "path", "memory", "resume", "training", "decoding", "features"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "A process that is forked cannot use the threads of this one."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def script():
    "tools/check_gpu.py and the module of its checks."
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("check_gpu"), importlib.import_module("gpu_checks")
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def photographs(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    script[1].generate_photographs(folder / "photographs", script[1].TINY)
    return folder


@pytest.mark.parametrize("check", REAL_CHECKS)
def test_every_check_passes_on_a_cpu(script, photographs, check):
    check_gpu, gpu_checks = script
    rows = list(check_gpu.attempt(check, gpu_checks.CHECKS[check](photographs, gpu_checks.TINY, "cpu")))
    assert rows and all(row["status"] == "passed" or (row["status"] == "skipped" and row["note"]) for row in rows), rows
    timed = [row for row in rows if row.get("seconds_reference") and not row["case"].endswith("ready tensors")]
    assert all(row["ratio"] == pytest.approx(row["seconds_reference"] / row["seconds_ours"]) for row in timed)
    assert len(timed) >= {"path": 2, "training": 2, "decoding": 1, "features": 2}.get(check, 0)
    assert all(row["value"] <= row["bound"] for row in rows if "bound" in row)


def fails(folder, sizes, device):
    "Raises an error after one row."
    import gpu_checks

    yield gpu_checks.row("one row", value=2, bound=1)
    raise ValueError("out of order\nmore")


def dies(folder, sizes, device):
    "Ends its process."
    os._exit(3)
    yield


def skips(folder, sizes, device):
    "Cannot run."
    import gpu_checks

    raise gpu_checks.Skip("no decoder here")
    yield


def works(folder, sizes, device):
    "Reads what the script has made."
    import gpu_checks

    yield gpu_checks.row("photographs", value=len(gpu_checks.photographs(folder).images))


@pytest.fixture
def finished(script, monkeypatch, tmp_path):
    "Exit code, stdout, stderr and results of the script with checks of which some do not work."
    out, err = StringIO(), StringIO()
    for check in (fails, dies, skips, works):
        monkeypatch.setitem(script[1].CHECKS, check.__name__, check)
    with redirect_stdout(out), redirect_stderr(err):
        code = script[0].main(["--device", "cpu", "--out", str(tmp_path / "gpu.json"), "fails", "dies", "skips", "works"])
    return code, out.getvalue(), err.getvalue(), json.loads((tmp_path / "gpu.json").read_text())


def test_a_check_that_fails_does_not_stop_the_others(finished):
    code, out, err, written = finished
    above, error, dead, skipped, working = written["rows"]
    assert code == 1 and above["status"] == error["status"] == dead["status"] == "failed"
    assert error["note"] == "ValueError: out of order" and "out of order" in error["traceback"]
    assert "exit code 3" in dead["note"] and (skipped["status"], skipped["note"]) == ("skipped", "no decoder here")
    assert (working["check"], working["status"], working["value"]) == ("works", "passed", written["sizes"]["n_images"])
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["check", "status"] and len(lines) == 1 + 5
    assert err.splitlines()[-1].startswith("3 of 5 cases failed") and written["provenance"]["versions"]["torch"]


def test_a_wrong_name_is_one_line(script, capsys):
    with pytest.raises(SystemExit, match="2"):
        script[0].main(["--device", "cpu", "paths"])
    assert "unknown check 'paths'; known: predictions, path" in capsys.readouterr().err.splitlines()[-1]
