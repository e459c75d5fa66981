"""How long tasks take beside what was estimated: `python benchmarks/bench_costs.py [--out TABLE.csv]`.

A part of the quick study, one task after the other in this process, in seconds of the processor, which other programs do not
disturb much. The first task of each kind also imports what it needs; it is done once before and does not count.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from transfer_study.core import provenance
from transfer_study.study.costs import measure_speeds, task_seconds
from transfer_study.study.execute import RunContext, TaskRunner
from transfer_study.study.plan import Plan
from transfer_study.study.study import Study
from transfer_study.study.tasks import Task

NETWORKS, DATASETS = ("resnet_10", "mobilenet_v2", "inception_wide"), ("drawn:symbols", "drawn:digits")


def performed(plan: Plan, out: Path) -> list[tuple[Task, float]]:
    "Each task of the plan and its seconds."
    run_task, seconds = TaskRunner(RunContext(out, "quickstart"), plan.payloads), []
    for task in plan.tasks:
        started = time.process_time()
        outcome = run_task(task, "cpu")
        if outcome.status != "finished":
            raise RuntimeError(f"{task.label}: {outcome.message}\n{outcome.traceback}")
        seconds.append((task, time.process_time() - started))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where the table goes, as CSV")
    arguments = parser.parse_args()
    study = Study.from_file("quickstart")
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as directory:
        performed(study.part(["mobilenet_v1"], DATASETS[:1]).tasks(warm, "cpu"), Path(warm))
        out = Path(directory)
        plan = study.part(NETWORKS, DATASETS).tasks(out, "cpu")
        speeds = measure_speeds(plan, out, "cpu")
        rows = [(task.kind, task.protocol, task_seconds(task, speeds), seconds) for task, seconds in performed(plan, out)]
    table = pd.DataFrame(rows, columns=["kind", "protocol", "estimated_seconds", "seconds"])
    groups = table.assign(tasks=1).groupby(["kind", "protocol"], sort=False).sum().reset_index()
    total = groups.select_dtypes("number").sum().to_frame().T.assign(kind="all", protocol="")
    groups = pd.concat([groups, total], ignore_index=True).astype({"tasks": int})
    groups["estimated_to_measured"] = groups["estimated_seconds"] / groups["seconds"]
    where = provenance("cpu")
    groups = groups.assign(machine=f"{where['processor']}, 1 thread").round(3)
    print(groups.to_string(index=False))
    if arguments.out:
        groups.to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
