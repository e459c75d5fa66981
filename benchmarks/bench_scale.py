"""Plan, schedule and resume a study of 1,500 networks × 100 datasets × 3 protocols, with tasks that compute nothing.

`python benchmarks/bench_scale.py [--sizes 15x10 150x10 …] [--disk N] [--ray [N …]] [--out FILE.csv]`

Three parts, each against the number of tasks. *Plan*: from a study file with its networks and datasets to runs, tasks and the
table of runs. *Schedule*: every task is handed out and finished in memory, as an executor does, and half of them again as after
an interruption. *Write*: the engine itself (locks, atomic directories, failures) with tasks that write what a run leaves; then a
second start; then a process that finds every task done by another (*found done*). There, every operation on the file system is
counted: on a shared one, each is a request to its server. Peak memory is that of a process of its own for each size. Networks and
datasets are stand-ins: nothing is read or computed. *Ray*: the first N tasks of a study on a cluster of two cores;
seconds are the processor time of all its processes and of this one, without the start.
"""

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from measured import measurement, parser, report

from transfer_study.images.datasets import ImageDataset
from transfer_study.networks.networks import Network
from transfer_study.study.execute import RunContext
from transfer_study.study.executors import LocalExecutor
from transfer_study.study.file import StudyFile
from transfer_study.study.locks import Outcome, attempt
from transfer_study.study.plan import Plan, make_plan
from transfer_study.study.progress import Progress
from transfer_study.study.resolve import ResolvedNetwork
from transfer_study.study.study import runs_table
from transfer_study.study.tasks import Task, pending

SIZES = ((15, 10), (150, 10), (150, 100), (1500, 100))  # networks × datasets
PROTOCOLS = {"linear": {}, "knn": {}, "finetune": {"n_learning_rates": 1, "n_weight_decays": 0}}


def stand_in_dataset(name: str) -> ImageDataset:
    "Forty images of two classes that exist only in the table."
    n = 40
    columns = {"split": np.where(np.arange(n) % 4 == 3, "test", "train"), "class": np.array(["a", "b"])[np.arange(n) % 2]}
    images = pd.DataFrame(columns | {"label": np.arange(n) % 2, "name": [f"{name}/{i}.jpg" for i in range(n)]})
    return ImageDataset(name, Path(name), images, fingerprint=f"{name:0>64}")


def stand_in_network(name: str) -> ResolvedNetwork:
    return ResolvedNetwork(Network(name, "resnet50", Path(f"{name}.safetensors"), 0.75), f"{name:0>16}", "resnet50", 224, 2048)


def study(n_networks: int, n_datasets: int, out: Path) -> Plan:
    "The plan of a study with three protocols."
    networks, datasets = [f"network{i}" for i in range(n_networks)], [f"dataset{i}" for i in range(n_datasets)]
    common = {"architecture": "resnet50", "source_accuracy": 0.75}
    entries = [common | {"name": name, "weights": f"{name}.safetensors"} for name in networks]
    file = StudyFile(name="large", networks=entries, datasets=datasets, protocols=PROTOCOLS)
    return make_plan(file, [*map(stand_in_network, networks)], [*map(stand_in_dataset, datasets)], out)


def finish_at_once(task: Task, device: str) -> Outcome:
    return Outcome(task.id, "finished", "0.500", kind=task.kind, label=task.label)


def in_memory(tasks: list[Task]) -> float:
    "Seconds of handing out and finishing every task, with the progress kept."
    started, state = time.process_time(), Progress(tasks, len(tasks), 0, {})
    for event in LocalExecutor().run(tasks, finish_at_once):
        state.update(event)
    if state.left:
        raise RuntimeError(f"{len(state.left)} tasks were not handed out")
    return time.process_time() - started


def planned(n_networks: int, n_datasets: int, sender) -> None:
    "Sends seconds of planning, scheduling and resuming, the number of tasks and the peak memory."
    out = Path("nowhere")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    plan = study(n_networks, n_datasets, out)
    table = runs_table(plan)
    planning = time.process_time() - started
    scheduling = in_memory(pending(plan.tasks))
    resuming = in_memory(plan.tasks[len(plan.tasks) // 2 :])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gibibytes = [kilobytes * (1 if sys.platform != "darwin" else 1 / 1024) / 2**20 for kilobytes in (before, peak)]
    sender.send((planning, scheduling, resuming, len(plan.tasks), len(table), *gibibytes))


def in_process(function, *arguments):
    "What `function` sends, from a process of its own."
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(*arguments, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


OPERATIONS = ("open", "stat", "lstat", "mkdir", "rename", "replace", "unlink", "remove", "rmdir", "scandir", "listdir", "chmod")


@contextmanager
def counted():
    "Counts the calls of the functions of `os` that are requests to a file server; yields the counter."
    import builtins
    import io

    counter, originals = Counter(), {name: getattr(os, name) for name in OPERATIONS}

    def counting(name, function):
        def call(*arguments, **options):
            counter[name] += 1
            return function(*arguments, **options)

        return call

    for name, function in originals.items():
        setattr(os, name, counting(name, function))
    opened = builtins.open
    builtins.open = io.open = counting("open", opened)
    try:
        yield counter
    finally:
        builtins.open = io.open = opened
        for name, function in originals.items():
            setattr(os, name, function)


class Writer:
    "Runs a task by the engine's rules; it writes what a run leaves, with an empty result."

    def __init__(self, context: RunContext):
        self.context = context

    def __call__(self, task: Task, device: str) -> Outcome:
        from transfer_study.core import committed_directory

        def compute() -> str:
            with committed_directory(task.output) as temporary:
                for name in ("spec.json", "result.json", "predictions.npz", "curve.csv"):
                    (temporary / name).write_text(json.dumps({"label": task.label}))
            return "0.500"

        return attempt(task, compute, self.context.out / ".locks", self.context.failures)


def on_disk(n_networks: int, n_datasets: int, sender) -> None:
    "Sends seconds and operations of a first start with all tasks, of a second that finds them done, and the largest directory."
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "runs"
        plan, context = study(n_networks, n_datasets, out), RunContext(out, "large")
        results = []
        for listed in (pending, pending, list):  # the last as a process that started at the same time as another, and lags behind
            with counted() as counter:
                started, tasks = time.process_time(), listed(plan.tasks)
                n_left = len(tasks)
                for event in LocalExecutor().run(tasks, Writer(context)):
                    if event.kind == "failed":
                        raise RuntimeError(event.message)
                results.append((time.process_time() - started, dict(counter), n_left))
        largest = max((len(folders) + len(files), Path(folder).name) for folder, folders, files in os.walk(out))
        sender.send((results, len(plan.tasks), largest))


class StandIn:
    "Finishes a task at once; like a study's own, it carries what all tasks need."

    def __init__(self, payloads: dict):
        self.payloads = payloads

    def __call__(self, task: Task, device: str) -> Outcome:
        return Outcome(task.id, "finished", str(len(self.payloads)), kind=task.kind, label=task.label)


def processor_time(known: dict[tuple[int, float], float]) -> float:
    "Seconds of this process and of all below it; `known` keeps those of processes that have ended since the last call."
    import psutil

    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            known[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
    return sum(known.values())


def ray_rows(sizes: list[int]) -> list[dict]:
    "A row for each number of tasks, all on one cluster."
    if not find_spec("ray"):
        print("Ray: left out, because it is not installed")
        return []
    import ray

    from transfer_study.study.ray import RayExecutor

    plan, rows = study(-(-max(sizes) // 30), 10, Path("nowhere")), []
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        list(RayExecutor().run(plan.tasks[:50], StandIn({})))  # starts its processes
        for n_tasks in sizes:
            tasks = plan.tasks[:n_tasks]
            run_task = StandIn({task.id: plan.payloads[task.id] for task in tasks})
            before, started, ended = processor_time(known := {}), time.perf_counter(), 0
            for event in RayExecutor().run(tasks, run_task):
                ended += event.kind == "finished"
                if event.kind == "finished" and ended % 500 == 0:
                    processor_time(known)
            seconds, wall = processor_time(known) - before, time.perf_counter() - started
            if ended != n_tasks:
                raise RuntimeError(f"{ended} of {n_tasks} tasks were finished")
            print(f"Ray, {n_tasks:,} tasks: {wall:.1f} s, processor time {seconds:.1f} s")
            more = {"tasks": n_tasks, "microseconds_per_task": 1e6 * seconds / n_tasks}
            rows.append(measurement("scale", f"Ray: {n_tasks:,} tasks", seconds, **more))
    finally:
        ray.shutdown()
    return rows


def scale(sizes: list[tuple[int, int]], disk: int) -> list[dict]:
    rows = []
    for n_networks, n_datasets in sizes:
        planning, scheduling, resuming, n_tasks, n_runs, before, peak = in_process(planned, n_networks, n_datasets)
        case = f"{n_networks:,} networks × {n_datasets} datasets × 3 protocols"
        more = {"tasks": n_tasks, "runs": n_runs, "peak_gib": peak, "operations_per_task": float("nan")}
        for what, seconds in {"plan": planning, "schedule": scheduling, "resume from the middle": resuming}.items():
            rows.append(measurement("scale", f"{what}: {case}", seconds, **more, microseconds_per_task=1e6 * seconds / n_tasks))
        if n_tasks <= disk:
            results, n_tasks, largest = in_process(on_disk, n_networks, n_datasets)
            for what, (seconds, counts, n_left) in zip(("write", "second start", "found done"), results, strict=True):
                listed = ", ".join(f"{name} {n / n_tasks:.2f}" for name, n in counts.items())
                print(f"{case}, {what}: {n_left:,} tasks left; per task {listed}")
                more |= {"operations_per_task": sum(counts.values()) / n_tasks, "microseconds_per_task": 1e6 * seconds / n_tasks}
                rows.append(measurement("scale", f"{what}: {case}", seconds, **more))
            print(f"{case}: the largest directory has {largest[0]:,} entries ({largest[1]})")
    return rows


if __name__ == "__main__":
    options = parser(__doc__)
    default = ["x".join(map(str, size)) for size in SIZES[:3]]
    options.add_argument("--sizes", nargs="+", default=default, help="networks x datasets; 1500x100 is the largest")
    options.add_argument("--disk", type=int, default=5_000, help="most tasks that are also written to disk")
    options.add_argument("--ray", type=int, nargs="*", default=[1_000, 10_000], help="numbers of tasks on a Ray cluster")
    given = options.parse_args()
    rows = scale([tuple(map(int, size.split("x"))) for size in given.sizes], given.disk)
    report(rows + (ray_rows(given.ray) if given.ray else []), given.out, threads=1)
