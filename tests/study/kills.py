"""Ends a process at its file operations, one after the other, and compares what the next run makes of the rest.

A fork of this process runs the study with an audit hook (PEP 578), which sees each file that is opened for writing, and each
directory that is made, renamed or removed below the runs directory. At one of them, the process ends without any clean-up, as by
`kill -9`.
"""

import os
import shutil
import sys
from pathlib import Path

from tests.study.conftest import HERE
from transfer_study.study.study import Study

EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree", "shutil.move")


def _is_operation(event: str, arguments: tuple, runs: str) -> bool:
    "Whether an event changes a file below `runs`."
    if event == "open":
        path, mode, flags = arguments
        writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(flags and flags & (os.O_WRONLY | os.O_RDWR))
        return writes and str(path).startswith(runs)
    return event in EVENTS and str(arguments[0]).startswith(runs)


def _forked(study: Study, runs: Path, die_at: int | None) -> int:
    "Runs the study in a fork that ends at operation `die_at`; the number of operations, or -1 where it was ended."
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        count = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal count
            if _is_operation(event, arguments, str(runs)):
                count += 1
                if count == die_at:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            study.run(runs, **HERE)
            os.write(writing, str(count).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, 9), status
    return int(text) if status == 0 else -1


def _finished(runs: Path) -> dict[str, bytes]:
    "The specifications, curves and predictions of all runs, byte for byte."
    names = ("spec.json", "curve.csv", "predictions.npz")
    return {path.relative_to(runs).as_posix(): path.read_bytes() for path in sorted(runs.glob("*/[!.]*/*")) if path.name in names}


def kill_at_every(study_file: Path, folder: Path, step: int = 1) -> dict:
    "Ends a study at every `step`-th file operation; how often, and after which the next run differed or left something."
    study = Study.from_file(study_file)
    n_operations = _forked(study, folder / "whole", None)
    whole, report = _finished(folder / "whole"), {"operations": n_operations, "kills": 0, "different": [], "left_over": []}
    for operation in range(1, n_operations + 1, step):
        runs = folder / f"killed{operation}"
        assert _forked(study, runs, operation) == -1
        report["kills"] += 1
        before = _finished(runs)
        study.run(runs, **HERE)
        after = _finished(runs)
        if after != whole or any(after[name] != data for name, data in before.items()):
            report["different"].append(operation)
        if list(runs.glob("*/[!.]*/*.tmp")):
            report["left_over"].append(operation)
        shutil.rmtree(runs)
    return report
