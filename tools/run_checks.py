"""Everything that must hold before a change is merged: `tools/run_checks.py`, or `make test`.

The quick checks come first and the run over all pages last. A check that fails does not stop the ones after it; what failed is
listed at the end, in one place.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHECKS = {
    "lint": [BIN / "ruff", "check", "."],
    "types": [BIN / "mypy"],
    "export": [sys.executable, "tools/check_notebooks.py"],
    "tests": [
        sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder",  # as tests/conftest.py has it
        "--max-worker-restart", "0", "--durations", "20", "--basetemp={folder}/t",  # short: sockets have short paths
    ],
    "wheel": ["make", "--no-print-directory", "build/.wheel-checked"],
    "pages": [sys.executable, "-W", "ignore", "tools/check_pages.py"],
}  # fmt: skip
# Two processes work side by side, each on its own core.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def run(name: str) -> bool:
    "True where the check passes. Its output goes to the terminal; the temporary files that it leaves are deleted."
    started = time.monotonic()
    print(f"\n== {name}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [str(part).format(folder=folder) for part in CHECKS[name]]
        passed = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | {"TMPDIR": folder}).returncode == 0
    print(f"== {name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return passed


if __name__ == "__main__":
    names = sys.argv[1:] or list(CHECKS)
    if unknown := set(names) - set(CHECKS):
        sys.exit(f"unknown check {sorted(unknown)[0]!r}; known: {', '.join(CHECKS)}")
    failed = [name for name in names if not run(name)]
    if failed:
        sys.exit(f"\nfailed: {', '.join(failed)}; the output is above; `tools/run_checks.py {failed[0]}` runs one alone")
    print(f"\nall checks passed: {', '.join(names)}")
