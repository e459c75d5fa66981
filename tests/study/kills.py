"""Faults at the file operations of a process, one after the other, and what the next run makes of the rest.

A fork of this process runs the study with an audit hook (PEP 578), which sees each file that is opened, and each directory that
is made, renamed or removed below a folder. At one of them, the process ends without any clean-up, as by `kill -9`, or the
operation fails with an error of the operating system, such as that of a network drive that is gone.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from tests.study.conftest import HERE
from transfer_study.cli.main import main
from transfer_study.study.study import Study

EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree", "shutil.move")


def _is_operation(event: str, arguments: tuple, folder: str, reads: bool) -> bool:
    "Whether an event changes a file below `folder`, or reads one."
    if event == "open":
        path, mode, flags = arguments
        writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(flags and flags & (os.O_WRONLY | os.O_RDWR))
        return (writes or reads) and str(path).startswith(folder)
    return event in EVENTS and str(arguments[0]).startswith(folder)


class Ended(NamedTuple):
    "How a fork ended."

    code: int  # 9 where it was killed
    operations: int  # that it has seen
    stderr: str  # what the command line said


def _run_command(study_file: Path, runs: Path, below: Path, at: int | None, fault: OSError | None) -> int:
    "Runs the command in this process with a fault at operation `at`; the exit code, after the number of operations on stdout."
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if _is_operation(event, arguments, str(below), fault is not None):
            count += 1
            if count == at and fault is None:
                os._exit(9)
            if count == at:
                raise OSError(fault.errno, fault.strerror, str(arguments[0]))

    sys.argv = ["transfer-study", "run", str(study_file), "--out", str(runs), "--device", "cpu", "--processes", "1"]
    sys.addaudithook(hook)
    code: int = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        print(f"Traceback {type(error).__name__}: {error}")
        code = 1
    print(f"\n{count}", flush=True)
    return code


def _forked(study_file: Path, runs: Path, below: Path, at: int | None, fault: OSError | None) -> Ended:
    "Runs the study in a fork in which operation `at` below a folder fails, or at which the process ends where there is no fault."
    log, process = runs.parent.parent / f"{runs.name}.log", os.fork()
    if process == 0:
        code = 77
        try:
            with open(log, "w") as sys.stdout:
                sys.stderr = sys.stdout
                code = _run_command(study_file, runs, below, at, fault)
        finally:
            os._exit(code or 0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    *said, count = log.read_text().splitlines() or [""]
    return Ended(code, int(count) if count.isdigit() else -1, "\n".join(said))


def _finished(runs: Path) -> dict[str, bytes]:
    "The specifications, curves and predictions of all runs, byte for byte."
    names = ("spec.json", "curve.csv", "predictions.npz")
    return {path.relative_to(runs).as_posix(): path.read_bytes() for path in sorted(runs.glob("*/[!.]*/*")) if path.name in names}


def fault_at_every(study_file: Path, folder: Path, step: int = 1, fault: OSError | None = None) -> dict:
    """A fault at every `step`-th file operation of a study; without `fault`, the process ends there.

    Gives how many operations there are, at how many there was a fault and how often the command failed, and after which of them
    the next run differed from an undisturbed one, left something in a finished run, or the command said what is not its own.
    """
    below = folder if fault else folder / "runs"
    undisturbed = _forked(study_file, folder / "runs/whole", below, None, fault)
    assert undisturbed.code == 0, undisturbed
    whole, report = _finished(folder / "runs/whole"), {"operations": undisturbed.operations, "faults": 0, "failed": 0}
    report |= {"different": [], "left_over": [], "said": {}}
    for operation in range(1, undisturbed.operations + 1, step):
        runs = folder / f"runs/fault{operation}"
        ended = _forked(study_file, runs, below, operation, fault)
        report["faults"] += 1
        report["failed"] += ended.code != 0
        if ended.code not in ((0, 1, 2) if fault else (0, 9)) or "Traceback" in ended.stderr:
            report["said"][operation] = ended
        before = _finished(runs)
        Study.from_file(study_file).run(runs, **HERE, retry_failed=True)
        after = _finished(runs)
        if after != whole or any(after[name] != data for name, data in before.items()):
            report["different"].append(operation)
        if list(runs.glob("*/[!.]*/*.tmp")):
            report["left_over"].append(operation)
        shutil.rmtree(runs)
    return report
