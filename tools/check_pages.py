"""Runs every notebook once, as nbdev_test does, and compares what it shows with what is stored.

`tools/check_pages.py [NOTEBOOK …]`, without names all of nbs/. An error in a cell, and an output other than the stored one (apart
from the last digit of a number), end it with exit code 1. Cells with a flag of settings.ini are neither run nor compared.

Training amplifies the last digits of a processor's arithmetic, so a cell that shows the outcome of one says how far its numbers
may lie from the stored ones: `#| tolerance: 0.05`. What follows from such numbers is not compared in that cell: ids made of
digests, and the shapes and coordinates of its charts. Its words are. A cell that starts with `#| varies: true` and those below it
are run but not compared: they show a reader's own machine.
"""

import gc
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from multiprocessing import get_context, set_start_method
from pathlib import Path

from execnb.nbio import read_nb
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d{1,3})?(?!\w)")  # in words
COORDINATE = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d{1,3})?")  # in a picture, where letters and commas stand between them
# Addresses, names that a picture's parts have by their number, and pictures made of pixels within a drawing.
CHANGING = re.compile(r"0x[0-9a-f]{6,}|(?<=clip)\d+|(?<=;base64,)[\w+/=]+")
IDENTIFIER = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{16,64}\b")  # a digest, such as a run's
LETTERS = re.compile(r"(?s)<(style|script|metadata).*?</\1>|<[^>]*>")  # what of a picture is not text
COMPARED = ("text/plain", "text/html", "text/markdown", "image/svg+xml")
PIXELS = 0.5  # by which a point of a picture may move
# Imported once for all pages; not fastai, whose import changes how pandas shows tables.
LIBRARIES = ["altair", "pandas", "pydantic", "sklearn.linear_model", "statsmodels.api", "timm"]


def shown(outputs: list) -> list[tuple[str, str]]:
    "Kind and text of what a cell shows, in order; of a picture made of pixels its kind alone."
    found = []
    for output in outputs:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            text = "".join(output["text"])
            if found and found[-1][0] == "stdout":  # how often a cell's output is flushed does not matter
                text = found.pop()[1] + text
            found.append(("stdout", text))
        data = output.get("data", {})
        rich = [kind for kind in sorted(data) if kind in COMPARED[1:] or kind.startswith("image/")]
        for kind in rich or [kind for kind in COMPARED if kind in data]:  # plain text only where it is what a reader sees
            found.append((kind, "".join(data[kind]) if kind in COMPARED else ""))
    found = [(kind, CHANGING.sub("#", text).rstrip()) for kind, text in found]
    # A shell's width decides where a line of plain text breaks.
    return [(kind, " ".join(text.split()) if kind == "text/plain" else text) for kind, text in found]


def tolerance(number: str, kind: str) -> float:
    "How far another run's number may lie from this one: its last digit; in a picture, less than can be seen."
    digits, _, exponent = number.partition("e")
    decimals = len(digits.partition(".")[2])
    last = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0
    rounding = 1e-9 * abs(value(number))  # what lies below it is a processor's
    return max(PIXELS, last) if kind == "image/svg+xml" else max(1.01 * last, rounding)


def value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def words_of_picture(svg: str) -> str:
    "Titles and labels of a chart, without the numbers at its axes."
    lines = [line.strip() for line in LETTERS.sub("\n", svg).split("\n")]
    return " ".join(line for line in lines if line and not NUMBER.fullmatch(line.strip(" %")))


def difference(kind: str, stored: str, found: str, allowed: float = 0.0) -> str | None:
    """The first place where two texts differ, or None where only last digits do.

    With `allowed` above 0 numbers may lie that far apart, and neither digests nor the coordinates of a picture count.
    """
    pattern = COORDINATE if kind == "image/svg+xml" and not allowed else NUMBER
    if allowed:
        stored, found = (IDENTIFIER.sub("#", words_of_picture(t) if kind == "image/svg+xml" else t) for t in (stored, found))
    old, new = pattern.split(stored), pattern.split(found)
    numbers = list(zip(pattern.findall(stored), pattern.findall(found), strict=False))
    for i, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return f"{a[-60:]!r} is now {b[-60:]!r}"
        if i < len(numbers) and abs(value(numbers[i][0]) - value(numbers[i][1])) > max(allowed, tolerance(numbers[i][0], kind)):
            return f"{a[-40:]!r} {numbers[i][0]} is now {numbers[i][1]}"
    return None if len(old) == len(new) else f"{len(old)} numbers and texts are now {len(new)}"


def compare(stored: list, found: list, allowed: float = 0.0) -> str | None:
    "How what a cell shows differs from what is stored; numbers may lie `allowed` apart."
    old, new = shown(stored), shown(found)
    if [kind for kind, _ in old] != [kind for kind, _ in new]:
        return f"{[kind for kind, _ in old]} is now {[kind for kind, _ in new]}"
    return next((text for (kind, a), (_, b) in zip(old, new, strict=True) if (text := difference(kind, a, b, allowed))), None)


def skipped(cell) -> bool:
    "As nbdev_test has it: flagged, or not to be evaluated."
    directives = getattr(cell, "directives_", None) or {}
    flagged = set(get_config().tst_flags.split()) & directives.keys()
    return cell.cell_type != "code" or bool(flagged) or directives.get("eval:", [""])[0].lower() == "false"


def check(path: Path) -> list[str]:
    "Runs a notebook; what is wrong with it, a line each."
    os.environ |= {"IN_TEST": "1", "COLUMNS": "120"}
    gc.freeze()  # what is imported already needs no visit by each collection of garbage
    set_start_method(None, force=True)  # a page that starts processes does it the platform's own way, not as this one was started
    sys.path.insert(0, str(ROOT))
    notebook, stored = NBProcessor(path, procs=FrontmatterProc, process=True).nb, read_nb(path)
    shell, wrong, varies = CaptureShell(path), [], False
    with chdir(path.parent):
        for cell, before in zip(notebook.cells[-len(stored.cells) :], stored.cells, strict=True):
            if skipped(cell):
                continue
            directives = getattr(cell, "directives_", None) or {}
            varies, allowed = varies or "varies:" in directives, float(directives.get("tolerance:", [0])[0])
            cell.outputs = []
            shell.cell(cell)
            if shell.exc:
                return [*wrong, shell.prettytb(fname=path)]
            if not varies and (text := compare(before.get("outputs", []), cell.outputs, allowed)):
                wrong.append(f"{path.relative_to(ROOT)}: below {cell.source.splitlines()[0]!r}: {text}")
    return wrong


def timed(path: Path) -> tuple[list[str], float]:
    "What is wrong with a notebook, and how many seconds it took."
    started = time.monotonic()
    return check(path), time.monotonic() - started


if __name__ == "__main__":
    pages = sorted(str(p) for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    names = sys.argv[1:] or pages[::-1]  # tutorials, which take longest, come first, so that both processes end at the same time
    # A fresh process for each, since a notebook's shell takes the place of the main module. They are forked from one process that
    # has imported the libraries, but nothing of the package, so that not every page imports torch; for a few it is no gain.
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", *(LIBRARIES if len(names) > 3 else [])])
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        wrong = []
        for name, (lines, seconds) in zip(names, pool.map(timed, [Path(name).resolve() for name in names]), strict=True):
            outcome = "differs" if lines else "as stored"
            print(f"{Path(name).resolve().relative_to(ROOT)}: {outcome} ({seconds:.0f} s)", flush=True)
            wrong += lines
    if wrong:
        advice = "what pages store is not what they show: tools/run_notebooks.py, then look at the difference"
        sys.exit("\n".join([*wrong, advice]))
    print(f"{len(names)} notebooks run and show what they store")
