"""Decodes 500 damaged images of every format (tests/images/damaged.py): how many are bad, the longest time, the memory.

python benchmarks/bench_damaged.py [NUMBER [SEED]]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.images.test_damaged import decoded_in_a_process

if __name__ == "__main__":
    number, seed = (int(value) for value in (sys.argv[1:] + ["500", "0"][len(sys.argv) - 1 :]))
    result = decoded_in_a_process(number, seed)
    print(
        f"{number} damaged files, seed {seed}: {result['decoded']} decoded, {result['bad']} bad with a reason in one line, "
        f"{len(result['failed'])} without; longest {result['seconds']:.2f} s of processor time, "
        f"{result['kilobytes'] / 1024:.0f} MB"
    )
