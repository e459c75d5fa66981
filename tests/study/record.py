"A task that writes down that it is performed, in a module that a process imports quickly."

import os
import signal
from pathlib import Path

from transfer_study.core import UserError, committed_directory
from transfer_study.study.locks import Outcome, attempt
from transfer_study.study.tasks import Task


def record(folder: Path, log: Path, task: Task, device: str) -> Outcome:
    "Writes down that it is performed; kills its process where the task says so, once or always."

    def compute() -> str:
        with log.open("a") as stream:
            stream.write(f"{task.id}\n")
        tries = log.read_text().split().count(task.id)
        if task.label == "always killed" or (task.label == "killed once" and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.label == "fails":
            raise UserError("it cannot be")
        if task.label == "full":
            raise OSError(28, "No space left on device")
        with committed_directory(task.output):
            return "done"

    return attempt(task, compute, folder / "locks", folder / "failed")
