"""A fault at each file operation of a small study, and whether the next run gives what an undisturbed run gives.

    python benchmarks/bench_kills.py [STEP [FAULT]]

FAULT: kill (the process ends there), or the name of an error of the operating system, such as ESTALE, EIO, ENOSPC or EROFS.
"""

import errno
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.conftest import write_images
from tests.study.kills import fault_at_every

STUDY = """
name = "s"
datasets = ["squares"]
[[networks]]
name = "n"
architecture = "odd:Tiny"
weights = "w.safetensors"
source_accuracy = 0.5
[protocols.linear]
n_l2 = 3
"""

if __name__ == "__main__":
    import torch
    from safetensors.torch import save_file

    from tests.study.test_promises import ODD

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "odd.py").write_text(ODD)
        namespace: dict = {}
        exec(ODD, namespace)
        save_file(namespace["Tiny"]().state_dict(), folder / "w.safetensors")
        write_images(folder / "squares", train=6, test=4)
        (folder / "study.toml").write_text(STUDY)
        step, fault = [*sys.argv[1:], "1", "kill"][0], [*sys.argv[2:], "kill"][0]
        error = None if fault == "kill" else OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
        report = fault_at_every(folder / "study.toml", folder, int(step), error)
    print(
        f"{report['operations']} file operations, {fault} at {report['faults']}: ended with an error {report['failed']} times, "
        f"{len(report['said'])} times without a line of its own; afterwards {len(report['different'])} times another result, "
        f"{len(report['left_over'])} times something left in a finished run"
    )
