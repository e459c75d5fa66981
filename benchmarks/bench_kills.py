"""Ends a small study at each of its file operations, and compares what the next run makes of the rest with an undisturbed run.

    python benchmarks/bench_kills.py [STEP]
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.conftest import write_images
from tests.study.kills import kill_at_every

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
        report = kill_at_every(folder / "study.toml", folder, int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(
        f"{report['operations']} file operations, ended at {report['kills']}: {len(report['different'])} times another result, "
        f"{len(report['left_over'])} times something left in a finished run"
    )
