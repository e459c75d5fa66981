"""A study on a Ray cluster of two nodes, one of which dies in the middle."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.study.conftest import N_TASKS, RUN
from transfer_study.core import UserError
from transfer_study.results import read_runs
from transfer_study.study.ray import RayExecutor
from transfer_study.study.study import Study

pytest.importorskip("ray", reason="Ray is not installed: pip install \"transfer_study[ray]\"")
KINDS = ("ray::extract ", "ray::fit ", "ray::grid ", "ray::refit ")  # what Ray calls a process while it computes a task
DEADLINE = 900  # seconds; ends a test that hangs, also on a slow and busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(monkeypatch):
    "Address of a cluster of two `ray start` nodes on loopback, and the nodes' processes."
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a head asks for the token that Ray left in ~/.ray, which no node sends
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the paths of Ray's sockets must be short
    # Workers as urgent as this process: Ray's own niceness of 15 leaves them nothing beside a test on the other core.
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_DASHBOARD": "1", "RAY_worker_niceness": "0"}
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--block"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    commands = [
        [*ray, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}", *common],
        [*ray, f"--address=127.0.0.1:{port}", *common],
    ]
    nodes = []
    for command in commands:
        log = (folder / f"node{len(nodes)}.log").open("w")
        nodes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        text, node = Path(log.name).read_text, nodes[-1]
        wait_for(lambda text=text, node=node: "Ray runtime started" in text() or node.poll() is not None, "a node does not start")
        assert node.poll() is None, text()
    yield f"127.0.0.1:{port}", nodes
    for node in nodes:
        kill_tree(node.pid)
    shutil.rmtree(folder, ignore_errors=True)


def kill_tree(pid: int) -> None:
    "kill -9 to a process and all below it: a machine that loses its power."
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def kill_worker(worker: psutil.Process) -> None:
    worker.kill()


def wait_for(condition, message: str):
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, message
        time.sleep(0.02)  # a loop without a pause would take a core from the nodes that it waits for
    return found


def busy_workers(node: subprocess.Popen) -> list[psutil.Process]:
    "Processes of the node that compute a task at this moment."
    found = []
    for process in psutil.Process(node.pid).children(recursive=True):
        try:
            if (process.cmdline() or [""])[0].startswith(KINDS):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_a_worker_and_a_node_are_lost_and_no_run_is(cluster, training_study, finished, tmp_path):
    address, nodes = cluster
    study = training_study
    arguments = [*RUN, "run", str(study), "--out", str(tmp_path / "runs"), "--executor", "ray", "--address", address, "--json"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for node, kill in ((nodes[0], kill_worker), (nodes[1], lambda worker: kill_tree(nodes[1].pid))):
        busy = wait_for(lambda node=node: busy_workers(node) or process.poll() is not None, "a node computes nothing")
        assert process.poll() is None, process.communicate()[1]
        kill(busy[0])
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    events = pd.DataFrame([json.loads(line) for line in err.splitlines() if line.startswith("{")])
    ended = events[events["event"].isin(["finished", "present"])]["task"].value_counts()
    assert len(ended) == sum(N_TASKS.values()) and set(ended) == {1}
    there = Study.from_file(study).results(tmp_path / "runs")
    assert there.to_csv(index=False) == read_runs(finished.runs).to_csv(index=False)


def test_no_cluster_is_one_line(study_file, tmp_path):
    with pytest.raises(UserError, match="executor ray: no cluster at 127.0.0.1:1"):
        Study.from_file(study_file).run(tmp_path / "runs", device="cpu", progress=False, executor=RayExecutor("127.0.0.1:1"))
