"""Does the package compute on this machine's GPU as it should, and how fast? `python tools/check_gpu.py [CHECK …]`

    python tools/check_gpu.py --out gpu.json     everything, in less than eight minutes on one GPU
    python tools/check_gpu.py --device cpu       the same with tiny inputs, to see that the script itself works
    python tools/check_gpu.py path memory        two of the checks

It needs `pip install .` and no network: images are generated and weights are random. Every check runs in a process of its own, so
that one that fails, hangs or loses the GPU does not stop the others. The table shows for each case our seconds, those of the
reference and their ratio (above 1: ours is faster), and where there is a bound on a difference, both. A case that this machine
cannot run is `skipped` and says why. The exit code is 1 if any case failed.
"""

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import gpu_checks
import torch
from gpu_checks import CHECKS, LIMITS, TINY, Sizes, generate_photographs, on_gpu, row

from transfer_study.core import UserError, provenance
from transfer_study.features.inference import resolve_device

TOTAL = 450  # seconds on a GPU


def attempt(name: str, rows: Iterator[dict]) -> Iterator[dict]:
    "The rows of a check, and one more for an error."
    try:
        yield from rows
    except gpu_checks.Skip as reason:
        yield row(name, status="skipped", note=str(reason))
    except Exception as error:
        message = next(iter(str(error).splitlines()), "")
        yield row(name, status="failed", note=f"{type(error).__name__}: {message}", traceback=traceback.format_exc())


def work(sender, name: str, folder: Path, sizes: Sizes, device: str) -> None:
    "Sends the rows of a check, each when it is known."
    if hasattr(os, "setsid"):
        os.setsid()  # a process group of its own, so that all of it can be ended
    warnings.filterwarnings("ignore")
    for values in attempt(name, CHECKS[name](folder, sizes, device)):
        sender.send(values)
    sender.send(None)


def end(process: multiprocessing.Process) -> None:
    "Ends a process and those that it has started."
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def received(receiver, process: multiprocessing.Process, name: str, limit: float) -> Iterator[dict]:
    "The rows of a check as they come, and one more if it did not reach its end within `limit` seconds."
    last = time.monotonic() + limit
    while receiver.poll(max(0.0, last - time.monotonic()) if limit < math.inf else None):
        try:
            values = receiver.recv()
        except EOFError:
            process.join(30)
            yield row(name, status="failed", note=f"its process ended with exit code {process.exitcode}")
            return
        if values is None:
            return
        yield values
    if limit < LIMITS.get(name, math.inf):
        yield row(name, status="skipped", note=f"the {TOTAL} s for all checks were used up")
    else:
        yield row(name, status="failed", note=f"it took more than {limit:.0f} s")


def run(name: str, folder: Path, sizes: Sizes, device: str, limit: float) -> list[dict]:
    "The rows of a check from a process of its own, which is ended after `limit` seconds."
    # A process that is forked has all imports, but it could not use a GPU that this one has looked at.
    context = multiprocessing.get_context("spawn" if on_gpu(device) or not hasattr(os, "fork") else "fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, name, folder, sizes, device))
    process.start()
    sender.close()
    try:
        return [{"check": name} | values for values in received(receiver, process, name, limit)]
    finally:
        end(process)  # also after Ctrl-C


def show(rows: list[dict]) -> None:
    "Prints the table."
    columns = {"seconds_ours": 10, "seconds_reference": 11, "ratio": 8, "value": 10, "bound": 9}
    print(f"{'check':12}{'status':8}{'ours, s':>10}{'reference':>11}{'ratio':>8}{'value':>10}{'bound':>9}  case")
    for values in rows:
        numbers = [("" if values.get(name) is None else f"{values[name]:.3g}").rjust(width) for name, width in columns.items()]
        note = f" ({values['note']})" if values.get("note") else ""
        print(f"{values['check']:12}{values['status']:8}{''.join(numbers)}  {values['case']}{note}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}; all where none is given")
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, cpu (with tiny inputs) or auto")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file for the results (default: gpu.json)")
    given = parser.parse_args(arguments)
    if unknown := set(given.checks) - set(CHECKS):
        parser.error(f"unknown check {sorted(unknown)[0]!r}; known: {', '.join(CHECKS)}")
    try:
        device = resolve_device(given.device)
    except UserError as error:
        parser.error(str(error))
    device = "cpu" if device == "mps" else f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device
    sizes, start, rows = Sizes() if on_gpu(device) else TINY, time.monotonic(), []
    facts = {"provenance": provenance(device), "sizes": vars(sizes)}
    print(f"{facts['provenance']['processor']}, torch {torch.__version__}, {device}", file=sys.stderr)
    if not on_gpu(device):
        import transfer_study.training.callbacks  # noqa: F401  once, and not in each process
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        generate_photographs(Path(folder) / "photographs", sizes)
        for name in [name for name in CHECKS if name in (given.checks or CHECKS)]:
            print(f"{name}: {CHECKS[name].__doc__}", file=sys.stderr, flush=True)
            left = TOTAL - (time.monotonic() - start)
            limit = max(1.0, min(LIMITS[name], left)) if on_gpu(device) else math.inf
            rows += run(name, Path(folder), sizes, device, limit)
            given.out.write_text(json.dumps(facts | {"seconds": round(time.monotonic() - start), "rows": rows}, indent=1))
    show(rows)
    failed = sum(values["status"] == "failed" for values in rows)
    print(f"{failed} of {len(rows)} cases failed; {given.out}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
