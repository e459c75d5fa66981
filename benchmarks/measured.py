"""What all benchmarks write: one row per case, with the ratio to the reference and the machine

The rows of benchmarks/results have the columns of `COLUMNS`: seconds of ours and of the reference in one process and their ratio
(above 1: ours is faster), threads, processor, instruction set and versions.
"""

import argparse
import math
import os
from pathlib import Path

import pandas as pd

COLUMNS = (
    "benchmark", "case", "ratio", "seconds_ours", "seconds_reference", "threads", "processor", "instruction_set", "versions",
)  # fmt: skip
RESULTS = Path(__file__).resolve().parent / "results"


def machine(threads: int) -> dict:
    "The columns that say where it was measured."
    import torch

    from transfer_study.core import provenance

    where = provenance("cpu")
    names = ("transfer_study", "python", "torch", "numpy", "scipy", "scikit-learn")
    return {
        "threads": threads, "processor": where["processor"], "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "versions": " ".join(f"{name}={where['versions'][name]}" for name in names),
    }  # fmt: skip


def measurement(benchmark: str, case: str, ours: float, reference: float = math.nan, **more) -> dict:
    "A row without the machine; `more` are columns of this benchmark only."
    seconds = {"ratio": reference / ours, "seconds_ours": ours, "seconds_reference": reference}
    return {"benchmark": benchmark, "case": case} | seconds | more


def parser(description: str) -> argparse.ArgumentParser:
    "With the option that all benchmarks have."
    made = argparse.ArgumentParser(description=description.partition("\n")[0])
    made.add_argument("--out", type=Path, help="CSV file for the rows, such as benchmarks/results/NAME.csv")
    return made


def report(rows: list[dict], out: Path | None, threads: int | None = None) -> pd.DataFrame:
    "Prints the rows, and writes them with the machine to `out`."
    table = pd.DataFrame(rows).assign(**machine(threads or int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))))
    table = table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]
    constant = ["threads", "processor", "instruction_set", "versions"]
    print(table.drop(columns=constant).to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3g}"))
    print("; ".join(f"{name} {table[name].iloc[0]}" for name in constant))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False, float_format="%.4g")
    return table
