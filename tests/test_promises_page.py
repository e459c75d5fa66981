"""Every promise on the page *What we promise* names a test that exists."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "nbs" / "explanations" / "what_we_promise.ipynb"


def test_each_promise_names_a_test():
    text = "\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text())["cells"] if cell["cell_type"] == "markdown")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    named = [re.search(r"`(tests/\S+\.py)::(\w+)` \|$", row) for row in rows]
    assert len(rows) > 25 and all(named), [row for row, name in zip(rows, named, strict=True) if not name]
    for file, test in (name.groups() for name in named if name):
        functions = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"{file} has no {test}"
