"""No damaged file crashes, hangs or fills the memory: it is an image, or it is bad, and the reason is one line."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.images.damaged import damaged_files, whole_files
from transfer_study.images.decoding import BadImage, decode

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS, GIGABYTE = 5, 1 << 30
N_DAMAGED = 90  # benchmarks/bench_damaged.py decodes 500


def decode_all(n: int, seed: int) -> dict:
    "Decodes `n` damaged files: how many are images and how many bad, the longest time, and the memory beyond the start."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"decoded": 0, "bad": 0, "seconds": 0.0, "failed": []}
    for name, data in damaged_files(n, seed):
        signal.alarm(SECONDS)
        started = time.process_time()
        try:
            assert decode(data).mode == "RGB"
            counts["decoded"] += 1
        except BadImage as error:
            counts["bad"] += 1
            counts["failed"] += [name] * (not str(error) or "\n" in str(error))
        counts["seconds"] = max(counts["seconds"], time.process_time() - started)
        signal.alarm(0)
    counts["kilobytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return counts


def decoded_in_a_process(n: int, seed: int = 0) -> dict:
    "`decode_all` in a process of its own, which a crash or an alarm would end."
    code = f"import json; from tests.images.test_damaged import decode_all; print(json.dumps(decode_all({n}, {seed})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-500:]}"
    return json.loads(done.stdout)


def test_damaged_files_end_in_a_line():
    counts = decoded_in_a_process(N_DAMAGED)
    assert counts["decoded"] + counts["bad"] == N_DAMAGED and counts["bad"] > N_DAMAGED / 3 and not counts["failed"]
    assert counts["kilobytes"] * 1024 < GIGABYTE


@pytest.mark.parametrize("kind", whole_files())
def test_the_whole_files_can_be_decoded(kind):
    assert decode(whole_files()[kind]).size == (80, 96)
