"""Nothing is lost and nothing is done twice: kills, two processes at once, failures, Ctrl-C, a full disk."""

import errno
import io
import json
import os
import resource
import shutil
import signal
import threading
import time
import warnings
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import NETWORKS, command_line, interrupt_at_work
from tests.study.conftest import HERE, N_TASKS, RUN
from tests.study.record import record
from transfer_study.core import UserError, committed_directory
from transfer_study.results import read_runs, write_plan
from transfer_study.study.execute import FailedRuns, RunContext, compute, local_executor
from transfer_study.study.executors import PAUSE, DiskFull, LocalExecutor
from transfer_study.study.locks import read_failures, try_lock
from transfer_study.study.study import Study, clean
from transfer_study.study.tasks import Schedule, Task, pending


def run_study(file: Path, out: Path) -> None:
    Study.from_file(file).run(out, **HERE)


def test_fifty_kills_at_random_moments_end_in_the_same_table(training_study, finished, start_process, tmp_path):
    random, out, killed = np.random.default_rng(0), tmp_path / "round0", 0
    while killed < 50:
        process, _, err = start_process(partial(run_study, training_study, out))
        process.join(random.exponential(0.4))  # the moment of the kill, wherever the study is then
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            out = out.with_name(f"{out.name}+")
        assert process.exitcode in (0, -signal.SIGKILL), err.read_text()
    run_study(training_study, out)
    for out in tmp_path.glob("round*"):
        table = Study.from_file(training_study).results(out)
        assert table.to_csv(index=False) == read_runs(finished.runs).to_csv(index=False)
        for run_id in table["run_id"]:
            first, second = (np.load(place / "tiny" / run_id / "predictions.npz") for place in (finished.runs, out))
            assert all(np.array_equal(first[name], second[name]) for name in first.files)


def test_two_at_once_compute_each_task_once(training_study, start_process, tmp_path):
    options = ["--out", tmp_path / "runs", "--device", "cpu", "--processes", "1", "--json"]
    both, events = [start_process(partial(command_line, "run", training_study, *options)) for _ in range(2)], []
    for process, _, err in both:
        process.join()
        assert process.exitcode == 0, err.read_text()
        events += [json.loads(line) for line in err.read_text().splitlines() if line.startswith("{")]
    performed = pd.DataFrame(events).query("event == 'finished'")["task"].value_counts()
    assert len(performed) == sum(N_TASKS.values()) and set(performed) == {1}
    assert len(Study.from_file(training_study).results(tmp_path / "runs")) == 6


def tasks_of(folder: Path, **labels: str) -> list[Task]:
    "A task for each label, and one that needs them all."
    tasks = [Task(name, "kind", label, folder / name) for name, label in labels.items()]
    return [*tasks, Task("last", "kind", "needs all", folder / "last", needs=tuple(labels))]


def run_tasks(folder: Path, tasks: list[Task], n: int) -> tuple[pd.Series, list[str]]:
    "What happened last to each task, and what was performed."
    log = folder / "log"
    log.touch()
    events = list(LocalExecutor(("cpu",) * n).run(tasks, partial(record, folder, log)))
    return pd.Series({event.task.id: event.kind for event in events}), sorted(log.read_text().split())


@pytest.mark.parametrize("n", [1, 2])
def test_what_fails_stops_only_what_needs_it(tmp_path, n):
    tasks = [*tasks_of(tmp_path, a="works", b="fails"), Task("other", "kind", "works", tmp_path / "other")]
    ended, performed = run_tasks(tmp_path, tasks, n)
    assert ended.to_dict() == {"a": "finished", "b": "failed", "last": "dropped", "other": "finished"}
    assert performed == ["a", "b", "other"] and read_failures(tmp_path / "failed")["b"].message == "it cannot be"
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["b.lock"]  # what is done needs no lock


def test_a_killed_process_is_tried_once_more(tmp_path):
    ended, performed = run_tasks(tmp_path, tasks_of(tmp_path, a="killed once", b="works", c="works"), 2)
    assert set(ended) == {"finished"} and performed == ["a", "a", "b", "c", "last"]


def test_a_process_that_is_always_killed_is_a_failure_and_its_neighbour_is_not(tmp_path):
    ended, performed = run_tasks(tmp_path, tasks_of(tmp_path, a="always killed", b="works", c="works"), 2)
    assert ended.to_dict() == {"a": "failed", "b": "finished", "c": "finished", "last": "dropped"}
    assert performed == ["a", "a", "b", "c"]


@pytest.mark.parametrize("n", [1, 2])
def test_a_full_disk_ends_everything(tmp_path, n):
    with pytest.raises(DiskFull, match="disk full while writing"):
        run_tasks(tmp_path, tasks_of(tmp_path, a="full"), n)
    assert not read_failures(tmp_path / "failed")


def test_a_locked_task_is_waited_for(tmp_path):
    "Another process has locked the first task, and finishes it after the second is done."
    tasks, log = tasks_of(tmp_path, a="works", b="works"), tmp_path / "log"
    log.touch()
    with try_lock(tmp_path / "locks", "a"):
        events = LocalExecutor().run(tasks, partial(record, tmp_path, log))
        seen = [next(events) for _ in range(4)]
        assert [(event.kind, event.task.id) for event in seen] == [
            ("started", "a"), ("waiting", "a"), ("started", "b"), ("finished", "b")]  # fmt: skip
        with committed_directory(tmp_path / "a"):
            pass
    rest = [(event.kind, event.task.id) for event in events if event.kind != "started"]
    assert rest == [("present", "a"), ("finished", "last")] and log.read_text().split() == ["b", "last"]


def test_a_failed_run_is_recorded_and_tried_again_on_request(training_study, tmp_path):
    out, study = tmp_path / "runs", Study.from_file(training_study)
    out.mkdir()
    (out / ".images").write_text("in the way of the cache of decoded images")
    for _ in range(2):
        with pytest.raises(FailedRuns, match="6 failed; 2 that depend on them were not run") as error:
            study.run(out, **HERE)
        assert all(".images: file exists; " in failure.message and failure.traceback for failure in error.value.failures)
    assert set(study.results(out)["protocol"]) == {"linear"}
    (out / ".images").unlink()
    with pytest.raises(FailedRuns):  # not tried again before somebody asks
        study.run(out, **HERE)
    assert len(study.run(out, **HERE, retry_failed=True)) == 6 and not read_failures(out / "tiny" / ".failed")


def test_a_failed_run_is_exit_code_1_and_a_list(command, training_study, tmp_path):
    text = training_study.read_text()
    (tmp_path / "broken").mkdir()
    (tmp_path / "squares" / "test" / "dim" / "0.png").rename(tmp_path / "kept.png")
    (tmp_path / "squares" / "test" / "dim" / "0.png").write_bytes(b"not an image")
    training_study.write_text(text.replace('["squares"]', '["squares", "packed.tar"]').split("[protocols.finetune]")[0])
    arguments = ("run", training_study, "--out", tmp_path / "runs", "--device", "cpu", "--processes", 1, "--bootstrap", 100)
    code, out, err = command(*arguments)
    assert code == 1 and "packed" in out and "1 failed; 2 that depend on them were not run" in err
    assert "squares: test/dim/0.png cannot be decoded" in err and "--retry-failed" in err and "Traceback" not in err
    assert command(*arguments)[0] == 1
    (failure,) = read_failures(tmp_path / "runs" / "tiny" / ".failed").values()
    assert failure.kind == "extract" and failure.machine and failure.when


def limited(n_bytes: int, *arguments) -> None:
    "The command line; no file of its process may grow beyond that, which the system reports like a full disk."
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    command_line(*arguments)


@pytest.mark.parametrize("n_bytes", [4_000, 40_000])
def test_a_full_disk_is_one_line_and_tears_nothing(training_study, finished, start_process, tmp_path, n_bytes):
    options = "--out", tmp_path / "runs", "--device", "cpu", "--processes", 1
    process, _, err = start_process(partial(limited, n_bytes, "run", training_study, *options))
    process.join()
    errors = [line for line in err.read_text().splitlines() if not line.startswith("[")]
    assert process.exitcode == 2 and len(errors) == 1 and "disk full" in errors[0], err.read_text()
    complete = Study.from_file(training_study).run(tmp_path / "runs", **HERE)
    assert complete.to_csv() == read_runs(finished.runs).to_csv()


def test_ctrl_c_leaves_no_process_behind(waiting_study, tmp_path):
    study, reached = waiting_study
    arguments = [*RUN, "run", str(study), "--out", str(tmp_path / "runs"), "--device", "cpu", "--processes", "2"]
    process, err = interrupt_at_work(arguments, reached)
    assert process.returncode == 130 and "the same command continues" in err and "Traceback" not in err
    deadline = time.monotonic() + 900
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)


def test_what_is_done_needs_no_cache(training_study, finished, tmp_path):
    study, before = Study.from_file(training_study), read_runs(finished.runs)
    shutil.copytree(finished.runs, tmp_path / "runs")
    removed = clean(tmp_path / "runs")
    assert {"features", "decoded images", "locks"} <= set(removed["removed"])
    assert not list((tmp_path / "runs").glob(".[fit]*"))
    assert study.tasks(tmp_path / "runs").table().query("kind in ('fit', 'refit')")["done"].all()
    pd.testing.assert_frame_equal(before, study.run(tmp_path / "runs", **HERE))
    assert not list((tmp_path / "runs").glob(".[fit]*"))


@pytest.mark.parametrize("what", ["result.json", "*"])
def test_files_that_were_deleted_to_make_room_are_computed_again(command, training_study, finished, tmp_path, what):
    "The scratch file system of a cluster deletes old files and leaves their folders."
    study, out = Study.from_file(training_study), tmp_path / "runs"
    shutil.copytree(finished.runs, out)
    for directory in [*sorted(out.glob("tiny/[!.]*/"))[:3], *out.glob(".training/*/*/"), *out.glob(".features/task-*/")]:
        for path in [path for path in directory.glob(what) if path.is_file()]:
            path.unlink()
    assert study.plan(out, device="cpu")["done"].sum() == 3
    code, _, err = command("results", out, "--to", tmp_path / "some.csv")
    assert code == 0 and "3 of 6 planned runs have no result yet" in err and len(pd.read_csv(tmp_path / "some.csv")) == 3
    pd.testing.assert_frame_equal(study.run(out, **HERE), finished.results)
    assert "no result yet" not in command("results", out, "--to", tmp_path / "all.csv")[2]


def test_a_task_of_another_process_is_said_once(study_file, tmp_path):
    study, out, said = Study.from_file(study_file), tmp_path / "runs", io.StringIO()
    (first, *_) = study.tasks(out, "cpu").tasks
    running = threading.Thread(target=lambda: study.run(out, **HERE | {"progress": "auto"}))
    with redirect_stderr(said), try_lock(out / ".locks", first.id):
        running.start()
        deadline = time.monotonic() + 300
        while "waiting" not in said.getvalue() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(5 * PAUSE)
    with redirect_stderr(said):
        running.join()
    lines = [line for line in said.getvalue().splitlines() if "waiting" in line]
    assert len(lines) == 1 and lines[0].startswith(f"[0/6] {first.label}: waiting: another process is computing it")


def test_a_file_system_without_locks_is_one_line(command, study_file, tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr("fcntl.flock", flock)
    arguments = ("run", study_file, "--out", tmp_path / "runs", "--device", "cpu", "--processes", 1, "--bootstrap", 100)
    refused = errno.ENOLCK
    code, _, err = command(*arguments)
    assert code == 2 and err.count("\n") == 1 and "no file can be locked there (no locks available)" in err
    shutil.rmtree(tmp_path / "runs")
    refused = errno.ENOSYS  # the file itself is the lock
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert command(*arguments)[0] == 0
    assert not [warning for warning in warned if "flock" in str(warning.message)]


def test_nothing_is_cleaned_under_a_running_study(tmp_path):
    write_plan(pd.DataFrame({"run_id": ["a"]}), tmp_path / "tiny")
    with try_lock(tmp_path / ".locks", "task"), pytest.raises(UserError, match="a study is running there"):
        clean(tmp_path)


def test_pending_tasks_and_their_order(tmp_path):
    tasks = tasks_of(tmp_path, a="x", b="y")
    assert [task.id for task in pending(tasks)] == ["a", "b", "last"]
    (tmp_path / "a").mkdir()
    assert [task.id for task in pending(tasks)] == ["b", "last"]
    (tmp_path / "last").mkdir()
    assert pending(tasks) == []
    schedule = Schedule(tasks)
    first = schedule.take()
    assert [task.id for task in schedule.drop(first)] == ["last"] and schedule.left == {"b"}


def test_runs_of_another_version_are_not_misread(training_study, finished, tmp_path):
    study = Study.from_file(training_study)
    shutil.copytree(finished.runs, tmp_path / "runs")
    plan = tmp_path / "runs" / "tiny" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"format": 1, "transfer_study": "0.0.1"}))
    for use in (study.results, partial(study.run, **HERE)):
        with pytest.raises(UserError, match=r"written by transfer_study 0\.0\.1 in format 1, but this version reads format 2"):
            use(tmp_path / "runs")
    plan.unlink()
    (tmp_path / "runs" / "tiny" / "plan.csv").write_text("run_id\n")
    with pytest.raises(UserError, match="older version"):
        study.results(tmp_path / "runs")


def compute_shards(file: Path, out: Path) -> None:
    plan = Study.from_file(file).tasks(out, "cpu", shard_size=4, n_together=2)
    compute(plan, RunContext(out, "tiny", 0), local_executor("cpu", 2), progress="json")


def features_of(out: Path) -> list[np.ndarray]:
    return [np.load(path) for path in sorted(out.glob(".features/*/features/features.npy"))]


def test_shards_of_a_large_dataset_are_tasks_of_their_own(study_file, start_process, tmp_path):
    "Two processes are killed in the middle, one goes on, and the features are those that a single task computes."
    text = study_file.read_text().replace('"squares", "packed.tar"', '"squares"').rsplit("[[networks]]", 1)[0]
    study_file.write_text(text)
    study, out, whole = Study.from_file(study_file), tmp_path / "runs", tmp_path / "whole"
    plan = study.tasks(out, "cpu", shard_size=4, n_together=2)
    shards = [task for task in plan.tasks if task.kind == "extract" and not task.needs]
    assert len(shards) == 7 and len(plan.tasks) == 7 + 1 + 2
    process, *_ = start_process(partial(compute_shards, study_file, out))
    while sum(task.done for task in shards) < 2 and process.is_alive():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and sum(task.done for task in shards) >= 2
    compute(plan, RunContext(out, "tiny", 0), LocalExecutor(), progress="none")
    assert pending(plan.tasks) == [] and plan.table()["done"].all()
    together = study.tasks(whole, "cpu", shard_size=4, n_together=7)
    assert len(together.tasks) == 1 + 2
    compute(together, RunContext(whole, "tiny", 0), LocalExecutor(), progress="none")
    assert study.results(out).to_csv() == study.results(whole).to_csv()
    pairs = list(zip(features_of(out), features_of(whole), strict=True))
    assert len(pairs) == 2 and all(np.array_equal(first, second) for first, second in pairs)
    assert not list(out.glob(".features/*/shards"))


def test_a_folder_without_a_study_is_not_cleaned(tmp_path):
    (tmp_path / "photos" / ".editor.tmp").mkdir(parents=True)
    (tmp_path / ".images").mkdir()
    with pytest.raises(UserError, match=r"no study in it, so nothing is removed; give the directory"):
        clean(tmp_path)
    assert (tmp_path / "photos" / ".editor.tmp").is_dir() and (tmp_path / ".images").is_dir()


def test_weights_that_are_replaced_while_a_study_runs_give_no_result(training_study, weights, tmp_path):
    first, *_ = NETWORKS
    last = Path(shutil.copy(weights / f"{first}.safetensors", tmp_path / "last.safetensors"))
    training_study.write_text(training_study.read_text().replace(str(weights / f"{first}.safetensors"), str(last)))
    study, context = Study.from_file(training_study), RunContext(tmp_path / "runs", "tiny", n_workers=0)
    plan = study.tasks(context.out, "cpu")
    save_file({name: tensor + 1 for name, tensor in load_file(last).items()}, last)
    with pytest.raises(FailedRuns) as error:
        compute(plan, context, local_executor("cpu", 1), progress="none")
    messages = {failure.message for failure in error.value.failures}
    (message,) = messages
    assert message.startswith(f"network {first!r}: its weights, {last}, changed while the study ran; run the same command again")
    finished = read_runs(context.out)
    assert set(finished.loc[finished["network"] == first, "protocol"]) == {"scratch"}
    assert "finetune" in set(finished["protocol"])  # of the other network
