"""How long the commands take from start to end, and what their imports cost: `python benchmarks/bench_commands.py [--quick]`.

Each command runs in a new process; what counts is its CPU time (on an idle machine little more passes by the clock), the shorter
of two. The reference of `--help` and `--version` is a process that imports pandas; that of `analyze` is one that imports what any
analysis with these libraries imports. *First start*: nothing has been compiled to bytecode yet, as after an installation without
compiling. `analyze` writes its report; the column `megabytes` is the size of that page. `--imports` adds what the
imports of `analyze` cost, by package, as `python -X importtime` counts it: by the clock, so on an idle machine only.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from bench_statistics import study
from measured import measurement, parser, report

TABLES = ((48, 12), (120, 34), (1500, 12))  # networks × datasets
START = "from transfer_study.cli.main import main; main()"
LIBRARIES = "import pandas, scipy.stats, statsmodels.api, statsmodels.formula.api, altair, jinja2"
WITHOUT_ADDRESSES = "import sys; sys.modules['rfc3987_syntax'] = None"  # as the commands have it
MODULES = ("transfer_study.statistics.analysis", "transfer_study.figures.report")  # what `analyze` imports


def cpu_seconds(code: str, *arguments: str, **variables: str) -> float:
    "Of a new interpreter that runs `code`; raises `RuntimeError` if it fails."
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    messages = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {messages.decode()[-500:]}")
    return used.ru_utime + used.ru_stime


def fastest(code: str, *arguments: str, repeat: int = 2) -> float:
    return min(cpu_seconds(code, *arguments) for _ in range(repeat))


def first_start(code: str, *arguments: str) -> float:
    "Without any bytecode."
    with tempfile.TemporaryDirectory() as empty:
        return cpu_seconds(code, *arguments, PYTHONPYCACHEPREFIX=empty)


def import_seconds(modules: tuple[str, ...]) -> dict[str, float]:
    "Seconds by package, the modules of each without those that they import from others."
    code = "; ".join([WITHOUT_ADDRESSES, *(f"import {module}" for module in modules)])
    listed = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True).stderr
    seconds: defaultdict[str, float] = defaultdict(float)
    for microseconds, module in re.findall(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)", listed):
        seconds[module.partition(".")[0]] += int(microseconds) / 1e6
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))


def measure(quick: bool) -> list[dict]:
    repeat = 1 if quick else 2
    rows, pandas = [], fastest("import pandas", repeat=repeat)
    for option in ("--help", "--version"):
        case = f"transfer-study {option} (reference: import pandas)"
        rows.append(measurement("commands", case, fastest(START, option, repeat=repeat), pandas))
    if not quick:
        case = "transfer-study --help, first start (reference: import pandas)"
        rows.append(measurement("commands", case, first_start(START, "--help"), first_start("import pandas")))
    libraries = fastest(LIBRARIES, repeat=repeat)
    with tempfile.TemporaryDirectory() as name:
        for n_networks, n_datasets in TABLES[: 1 if quick else None]:
            table, out = Path(name) / f"table{n_networks}.csv", Path(name) / f"report{n_networks}"
            study(n_networks, n_datasets).dropna(axis=1, how="all").to_csv(table, index=False)
            arguments, case = ("analyze", str(table), "--out", str(out)), f"analyze {n_networks:,} × {n_datasets}"
            seconds = fastest(START, *arguments, repeat=1 if n_networks > 1000 else repeat)
            size = {"megabytes": (out / "report.html").stat().st_size / 1e6}
            rows.append(measurement("commands", f"{case} (reference: its libraries)", seconds, libraries, **size))
        if not quick:
            arguments = ("analyze", str(Path(name) / "table48.csv"), "--out", str(Path(name) / "report48"))
            case = "analyze 48 × 12, first start (reference: its libraries)"
            rows.append(measurement("commands", case, first_start(START, *arguments), first_start(LIBRARIES)))
    return rows


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="each once, only the smallest table, no first start")
    options.add_argument("--imports", action="store_true", help="also show what the imports of analyze cost, by package")
    given = options.parse_args()
    report(measure(given.quick), given.out)
    if given.imports:
        print("seconds of the imports of analyze, by package:")
        for package, seconds in list(import_seconds(MODULES).items())[:20]:
            print(f"{package:20}{seconds:.3f}")
