"""Builds the wheel, installs it into an empty virtual environment and uses it outside the checkout.

`tools/check_wheel.py [PYTHON …]` does so with each Python given, such as `python3.12` or a path; without one, with the Python
that runs this script. pip chooses the newest version of every dependency, as for a user. torch and what it needs of CUDA are
5 GB: where this script's environment has them they are linked, and pip replaces those that have a newer version. `--wheel FILE`
checks a wheel that is already built. Otherwise the wheel is built from the source distribution, so that one that lacks a file
fails here.
"""

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Run against the installed package: with the newest of every dependency, a study must still go from images to a report.
TESTS = (
    "__init__.py", "conftest.py", "test_face.py",
    "study/__init__.py", "study/test_study.py", "cli/__init__.py", "cli/test_main.py",
)  # fmt: skip
PACKED = (
    "transfer_study/py.typed", "transfer_study/data/networks.csv", "transfer_study/data/studies/kornblith2019.toml",
    "transfer_study/data/published/embeddings_benchmark_16shot.csv", "transfer_study/data/results/quickstart/results.csv",
)  # fmt: skip
WHERE = "import json, sys, sysconfig; print(json.dumps([sys.version, sysconfig.get_path('purelib')]))"
LARGE = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
FACE = """
import transfer_study as ts

analysis = ts.analyze(ts.data_path("published/embeddings_benchmark_16shot.csv"))
assert analysis.networks["network"].nunique() == 41, analysis.networks
assert ts.headline(analysis).to_dict()["$schema"]
"""


def run(*command: str | Path, **options) -> str:
    "Standard output of `command`, which must succeed."
    return subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def build(folder: Path) -> Path:
    "The wheel, built from the source distribution."
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, stderr=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    "Ends the program where a file that users need is not in the wheel."
    missing = set(PACKED) - set(zipfile.ZipFile(wheel).namelist())
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(missing))}")


def link(source: Path, target: Path) -> None:
    "One file under two names; a symbolic link where the two lie on different file systems."
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        target.symlink_to(source)


def link_large_libraries(python: Path) -> None:
    "Gives the environment of `python` the distributions `LARGE` of this one, if both have the same version of Python."
    version, site = json.loads(run(python, "-c", WHERE))
    if version != sys.version:
        return
    for distribution in distributions():
        if distribution.name.startswith(LARGE):
            for file in distribution.files or ():
                if ".." not in file.parts:  # not the programs beside the interpreter
                    link(Path(distribution.locate_file(file)), Path(site) / file)


def check(wheel: Path, interpreter: str) -> None:
    "Installs `wheel` with `interpreter` and uses the command line, the Python names and a part of the tests."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(interpreter, "-m", "venv", folder / "venv")
        python, command = folder / "venv/bin/python", folder / "venv/bin/transfer-study"
        link_large_libraries(python)
        newest = ["--upgrade", "--upgrade-strategy", "eager"]
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", *newest, wheel, "pytest", "pytest-xdist")
        outside = {"cwd": folder, "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}}
        version = run(python, "-c", "import sys; print(*sys.version_info[:3], sep='.')").strip()
        analysis = json.loads(run(command, "analyze", "embeddings_benchmark_16shot", "--json", **outside))
        assert analysis["protocols"]["linear"]["n_networks"] == 41, analysis
        assert "resnet50" in run(command, "networks", "--search", "resnet50", **outside)
        run(python, "-c", FACE, **outside)
        for test in TESTS:
            (folder / "tests" / test).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "tests" / test, folder / "tests" / test)
        options = ["-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
        subprocess.run([python, "-m", "pytest", *options, "tests"], check=True, **outside)
        print(f"{wheel.name}: installs and runs outside the checkout on Python {version}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--wheel", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wheel = arguments.wheel.resolve() if arguments.wheel else build(Path(name))
        check_contents(wheel)
        for interpreter in arguments.pythons:
            check(wheel, interpreter)
