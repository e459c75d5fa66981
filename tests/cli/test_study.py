"""The commands of a study beside `run`: what is to be done, what came out, what can go."""

import json
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import typer

from tests.conftest import NETWORKS, write_images
from transfer_study.cli.console import interruptible
from transfer_study.study.study import Study

HERE = ("--device", "cpu", "--processes", "1")
NAMES = list(NETWORKS)[:2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights):
    "A folder with a study of two networks on one dataset, and its runs."
    folder = tmp_path_factory.mktemp("study")
    write_images(folder / "squares")
    lines = ['name = "tiny"', 'datasets = ["squares"]', "protocols.linear.n_l2 = 3"]
    for name in NAMES:
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"']
        lines += [f"source_accuracy = {NETWORKS[name]}"]
    (folder / "study.toml").write_text("\n".join(lines))
    Study.from_file(folder / "study.toml").run(folder / "runs", device="cpu", processes=1, n_workers=0, progress=False)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    "The same runs, for tests that change them."
    return shutil.copytree(finished / "runs", tmp_path / "runs")


def test_runs_of_the_same_names_and_other_code_are_said(command, finished, copied):
    for path in copied.rglob("result.json"):
        path.write_text(path.read_text().replace('"run_id": "', '"run_id": "f'))
    code, out, err = command("results", finished / "runs", copied)
    assert code == 0 and len(out.splitlines()) == 1 + 4
    assert "4 rows have the names of another row (first: " in err and "`analyze` needs one of each" in err
    assert "another row" not in command("results", finished / "runs")[2]


def test_plan_says_what_is_to_be_done_and_how_long_it_takes(command, finished, tmp_path):
    code, out, err = command("plan", finished / "study.toml", "--out", tmp_path / "new", *HERE)
    assert code == 0 and [line.split()[:2] for line in out.splitlines()[1:]] == [["extract", "1"], ["fit", "linear"]]
    assert "dataset squares: 2 classes, 20 train, 8 test\n" in err
    assert "tiny: 2 runs of 2 networks on 1 datasets, 0 done" in err and "of computing left" in err and "measuring" in err
    code, out, err = command("plan", finished / "study.toml", "--out", finished / "runs", *HERE, "--full")
    assert code == 0 and len(out.splitlines()) == 1 + 3 and all(f"{name} on squares, linear" in out for name in NAMES)
    assert "2 done" in err and "about 0 s of computing left" in err and "measuring" not in err


def test_plan_for_machines(command, finished):
    code, out, _ = command("plan", finished / "study.toml", "--out", finished / "runs", *HERE, "--json", "--networks", NAMES[0])
    plan = json.loads(out)
    assert code == 0 and (plan["study"], plan["seconds_left"], plan["missing"], plan["processes"]) == ("tiny", 0, [], 1)
    assert [(run["network"], run["dataset"], run["done"]) for run in plan["runs"]] == [(NAMES[0], "squares", True)]
    assert {task["kind"] for task in plan["tasks"]} == {"extract", "fit"}


def test_plan_of_a_part_of_the_papers_study_names_the_datasets_that_are_missing(command, tmp_path):
    part = ("--networks", "mobilenet_v1", "--datasets", "dtd,oxford_pets", "--protocols", "linear")
    code, out, err = command("plan", "kornblith2019", *part, "--data-root", tmp_path / "data", "--out", tmp_path / "runs", *HERE)
    assert code == 0 and "fit" in out and "grid" not in out and "1 networks on 2 datasets, 0 done" in err
    missing = [line for line in err.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 2 and all(any(name in line for line in missing) for name in ("dtd", "oxford_pets"))
    code, _, err = command("plan", "kornblith2019", "--datasets", "oxford_pest", "--out", tmp_path / "runs")
    assert code == 2 and err.count("\n") == 1 and "oxford_pest" in err and "Traceback" not in err


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_results_of_two_directories_are_one_table(command, finished, copied, tmp_path, suffix, read):
    "Of the two runs one is in both directories and one in the first only."
    _, second = sorted(path.parent for path in copied.glob("tiny/[!.]*/result.json"))
    shutil.rmtree(second)
    code, out, err = command("results", finished / "runs", copied, "--to", tmp_path / f"results.{suffix}", "--provenance")
    rows = read(tmp_path / f"results.{suffix}")
    expected = Study.from_file(finished / "study.toml").results(finished / "runs")
    assert code == 0 and out == "" and "2 rows" in err and rows["machine"].notna().all() and rows["version_torch"].notna().all()
    assert rows[["run_id", "score"]].equals(expected[["run_id", "score"]].astype(rows[["run_id", "score"]].dtypes))


def test_results_that_contradict_each_other_are_named(command, finished, copied, tmp_path):
    path = sorted(copied.glob("tiny/[!.]*/result.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"score": 0.123}))
    code, out, err = command("results", finished / "runs", copied, "--to", tmp_path / "results.csv")
    assert code == 2 and out == "" and err.count("\n") == 1 and f"run {path.parent.name}" in err and "0.123" in err
    assert not (tmp_path / "results.csv").exists()
    code, _, err = command("results", finished / "runs", "--to", tmp_path / "results.xls")
    assert code == 2 and "expected a name that ends in .csv or .parquet" in err


def test_clean_says_what_it_frees_and_leaves_results(command, finished, copied):
    before = command("results", copied, "--json")[1]
    code, out, err = command("clean", copied)
    assert code == 0 and "features: " in out and "MB freed; results" in err and not list(copied.glob(".[fit]*"))
    assert command("results", copied, "--json")[1] == before
    _, _, err = command("plan", finished / "study.toml", "--out", copied, *HERE)
    assert "2 done" in err and "about 0 s of computing left" in err, "a cache that nothing needs is not left to do"
    assert json.loads(command("clean", copied, "--json")[1]) == []


def test_an_unknown_source_accuracy_is_said_before_the_runs(command, finished, tmp_path):
    "And all that is wrong with the names of parts, the home in an option, and directories in an unusual order."
    text = (finished / "study.toml").read_text()
    file = tmp_path / "study.toml"
    kept = [line for line in text.splitlines() if "source_accuracy" not in line]
    file.write_text("\n".join(kept).replace("squares", f"{finished}/squares"))
    code, _, err = command("results", tmp_path / "runs" / "tiny")
    assert code == 2 and "no such directory of runs; check the path, or make it with `transfer-study run STUDY`" in err
    code, _, err = command("run", file, "--networks", "a,b", *HERE)
    assert code == 2 and err.count("study tiny: unknown network") == 2
    code, out, err = command("run", file, "--out", tmp_path / "runs", "--log", "csv,csv", *HERE)
    lines = err.splitlines()
    assert code == 0 and lines[0].startswith(f"source accuracy unknown: {', '.join(NAMES)}; without it there is no correlation")
    code, _, err = command("run", tmp_path / "runs" / "tiny", *HERE)
    assert code == 2 and f"the runs of a study; give its study file, or `transfer-study report {tmp_path}/runs/tiny`" in err


BUSY = """
import signal, threading
from transfer_study.cli.console import interruptible
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as not under nohup
try:
    with interruptible("all is kept"):
        print("busy", flush=True)
        threading.Event().wait()
finally:
    threading.Event().wait()  # cleaning up for ever
"""


@pytest.mark.parametrize(("first", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_said_and_a_second_ctrl_c_ends_at_once(first, code):
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(first)
    assert process.stderr.readline() == "interrupted; all is kept\n" and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == code and process.communicate() == ("", "")


@pytest.fixture
def hangup():
    "Sets what SIGHUP does, and sets it back."
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_closed_terminal_ends_nothing(hangup):
    hangup(signal.SIG_IGN)
    with interruptible("all is kept"):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_closing_terminal_may_send_its_signal_twice(hangup):
    unseen, cleaned = [], []
    hangup(handler := lambda *_: unseen.append(1))
    with pytest.raises(typer.Exit) as stop, interruptible("all is kept"):
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGHUP)  # while cleaning up
            cleaned.append(1)
    assert cleaned and not unseen and stop.value.exit_code == 129 and signal.getsignal(signal.SIGHUP) is handler


def test_results_do_not_lie_among_the_class_folders(command, weights, tmp_path, monkeypatch):
    "A study beside its class folders is refused before anything is written; results there are used once they are moved."
    photos, name = tmp_path / "photos", NAMES[0]
    shutil.copytree(write_images(tmp_path / "squares", train=4, test=0) / "train", photos)
    lines = ['name = "tiny"', 'datasets = [{ folder = ".", test_share = 0.25 }]', "protocols.linear.n_l2 = 3"]
    lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"', "source_accuracy = 0.5"]
    (photos / "s.toml").write_text("\n".join(lines))
    monkeypatch.chdir(photos)
    for order in ("plan", "run"):
        code, _, err = command(order, "s.toml", *HERE)
        assert code == 2 and "datasets[1]: runs/tiny: results would lie in " in err and "; give --out (out=) a directory" in err
        assert not (photos / "runs").exists() and len(err.splitlines()) == 1
    code, table, _ = command("run", "s.toml", "--out", "../results", *HERE)
    assert code == 0
    (tmp_path / "results").rename(photos / "runs")  # as earlier versions wrote them
    for order in (("run", "s.toml", *HERE), ("keep", "runs/tiny", name, "folder:.")):
        code, _, err = command(*order)
        assert code == 2 and "results lie in " in err and "among the folders of its classes; move " in err
    code, _, err = command("plan", "s.toml", "--out", "../elsewhere", *HERE)
    assert code == 2 and "'runs' is no class, but holds results of transfer-study (runs/tiny/study.json); move it" in err
    (photos / "runs").rename(tmp_path / "moved")
    code, again, err = command("run", "s.toml", "--out", "../moved", *HERE)
    assert (code, again) == (0, table) and "features of" not in err


def test_python_m_is_the_command(finished):
    process = subprocess.run(
        [sys.executable, "-m", "transfer_study", "results", finished / "runs"], capture_output=True, text=True, check=True
    )
    assert len(process.stdout.splitlines()) == 1 + 2
