"""Installs the built wheel into an empty virtual environment and uses it outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Run against the installed package: with the newest of every dependency, a study must still go from images to a report.
TESTS = ("__init__.py", "conftest.py", "study/__init__.py", "study/test_study.py", "cli/__init__.py", "cli/test_main.py")


def run(*command: str | Path, **options) -> str:
    "Standard output of `command`, which must succeed."
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options).stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, stderr=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=True)
        python, command = folder / "venv/bin/python", folder / "venv/bin/transfer-study"
        run(python, "-m", "pip", "install", "--quiet", wheel, "pytest")
        outside = {"cwd": folder, "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}}
        analysis = json.loads(run(command, "analyze", "embeddings_benchmark_16shot", "--json", **outside))
        assert analysis["protocols"]["linear"]["n_networks"] == 41, analysis
        assert "resnet50" in run(command, "networks", "--search", "resnet50", **outside)
        for test in TESTS:
            (folder / "tests" / test).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "tests" / test, folder / "tests" / test)
        subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], check=True, **outside)
        print(f"{wheel.name}: installs and runs outside the checkout")
