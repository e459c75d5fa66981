"""What a reader of the site sees of a notebook's cells: no checks, no marks for tools, long code for figures and texts folded."""

import ast
import re

import nbformat

QUARTO = {"echo", "output", "fig-alt", "fig-cap", "code-fold", "code-summary", "label", "include", "eval", "warning", "classes"}
LONG = 4  # lines of code for a figure, or of imports, that are folded from here on
FOLDED, IMPORTS, SET_UP = "How the figure is drawn", "Imports", "Imports and set-up"
FINDING = "How this is computed"


def without_directives(source: str) -> str:
    "The source without directives that only this repository's tools read, such as `#| slow` or `#| tolerance: 0.01`."
    lines = source.splitlines()
    kept = [line for line in lines if not (m := re.match(r"#\|\s*([\w-]+)", line)) or m.group(1) in QUARTO]
    return "\n".join(kept)


def without_marks(source: str) -> str:
    "The source without comments for formatters and checkers; nothing of a cell that only sets how tables are shown."
    source = re.sub(
        r"[ \t]*#\s*(?:fmt: (?:skip|on|off)|noqa\b[^#\n]*|type: ignore[^#\n]*)(?=$|\s*#)", "", source, flags=re.M
    ).rstrip()
    return "" if re.fullmatch(r"pd\.(options\.display\.\w+ = |set_option\(\"display)[^\n]*", source) else source


def is_check(node: ast.stmt) -> bool:
    "Whether a statement only checks: an assertion, or nothing but assertions under a condition or in a loop."
    if isinstance(node, ast.If | ast.For | ast.With):
        body = [*node.body, *getattr(node, "orelse", [])]
        return any(map(is_check, body)) and all(is_check(part) or isinstance(part, ast.Assign) for part in body)
    return isinstance(node, ast.Assert)


def names_in(source: str) -> set[str]:
    return set(re.findall(r"\w+", source))


def prepared(body: list[ast.stmt]) -> set[str]:
    "The names that assignments and definitions give."
    stored = [node for part in body if isinstance(part, ast.Assign) for node in ast.walk(part) if isinstance(node, ast.Name)]
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)} | defined


def without_checks(source: str, has_output: bool, later: set[str]) -> str:
    """The source without its checks, and nothing where nothing else remains.

    What a cell without output prepares for its checks goes with them, unless a later cell uses it.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a shell command, for example
        return source
    checks = [node for node in body if is_check(node)]
    if not checks:
        return source
    rest = [node for node in body if node not in checks]
    if not has_output and all(isinstance(node, ast.Assign | ast.FunctionDef) for node in rest) and not prepared(rest) & later:
        return ""
    lines = source.splitlines()
    for node in reversed(checks):
        del lines[node.lineno - 1 : node.end_lineno]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def prelude(source: str) -> str:
    "What a cell that only imports is called, with one more line of set-up and a function or without; nothing for other cells."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return ""
    helpers = [node for node in body if isinstance(node, ast.FunctionDef)]
    others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)]
    is_set_up = [isinstance(node, ast.Assign | ast.Expr) and node.lineno == node.end_lineno for node in others]
    n_imports = len(body) - len(others) - len(helpers)
    if n_imports < LONG - len(others) or len(others) > 1 or len(helpers) > 1 or not all(is_set_up):
        return ""
    return SET_UP if others or helpers else IMPORTS


def writes_words(source: str) -> bool:
    "Whether a cell ends with a text that it composes."
    try:
        last = ast.parse(source).body[-1]
    except (SyntaxError, IndexError):
        return False
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and getattr(last.value.func, "id", "") == "Markdown"


def folded(source: str, has_figure: bool) -> str:
    "The source, folded where it composes a text, or where it is long, or imports something, and draws a figure or only imports."
    code = [line for line in source.splitlines() if line.strip() and not line.startswith("#|")]
    summary = FOLDED if has_figure else FINDING if writes_words(source) else prelude(source)
    is_long = len(code) >= LONG or (has_figure and any(line.startswith(("import ", "from ")) for line in code))
    if not (is_long or summary == FINDING) or "#| code-fold" in source or not summary:
        return source
    return f'#| code-fold: true\n#| code-summary: "{summary}"\n{source}'


def has_figure(cell: dict) -> bool:
    return any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", []))


def clean_cells(cells: list[dict]) -> list[dict]:
    "The code cells that the site shows, as it shows them."
    shown = []
    for i, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            shown.append(cell)
            continue
        later = set().union(*(names_in("".join(c["source"])) for c in cells[i + 1 :] if c["cell_type"] == "code"))
        source = without_directives("".join(cell["source"]))
        above = "".join(cells[i - 1]["source"]).rstrip() if i > 0 and cells[i - 1]["cell_type"] == "markdown" else ""
        is_last = i + 1 == len(cells) or cells[i + 1]["cell_type"] != "code"  # another cell shows what the text announces
        announced = above.endswith(":") and not above.endswith(":::") and is_last
        if not (announced and not cell.get("outputs")):
            source = without_checks(source, bool(cell.get("outputs")), later)
        source = folded(without_marks(source), has_figure(cell))
        if source.strip() or cell.get("outputs"):
            shown.append(cell | {"source": source})
    return joined(shown)


def joined(cells: list[dict]) -> list[dict]:
    "The cells; imports right above the code of a figure are folded together with it, so that one line is above the figure."
    kept: list[dict] = []
    for cell in cells:
        above = kept[-1] if kept else {"source": ""}
        is_import = above["source"].startswith(f'#| code-fold: true\n#| code-summary: "{IMPORTS}"') and not above.get("outputs")
        if is_import and cell["source"].startswith(f'#| code-fold: true\n#| code-summary: "{FOLDED}"'):
            fold, code = cell["source"].splitlines()[:2], cell["source"].splitlines()[2:]
            options = [line for line in code if line.startswith("#|")]
            lines = [*fold, *options, *above["source"].splitlines()[2:], "", *(line for line in code if line not in options)]
            kept[-1] = cell | {"source": "\n".join(lines)}
        else:
            kept.append(cell)
    return kept


def heading_level(cell: dict) -> int:
    "The level of the heading that a cell begins with; 0 where it begins with something else."
    match = re.match(r"\s*(#+) ", "".join(cell["source"])) if cell["cell_type"] == "markdown" else None
    return len(match.group(1)) if match else 0


def without_empty_headings(cells: list[dict]) -> list[dict]:
    "The cells without headings that have nothing below them: what stood there is private, or hidden."
    kept: list[dict] = []
    for cell in reversed(cells):
        is_heading = re.fullmatch(r"\s*#+ [^\n]+\s*", "".join(cell["source"])) and cell["cell_type"] == "markdown"
        if not (is_heading and (not kept or 0 < heading_level(kept[-1]) <= heading_level(cell))):
            kept.append(cell)
    return kept[::-1]


def without_open_ends(cells: list[dict]) -> list[dict]:
    "The cells; a text that ends with a colon, but is followed by no code, entry or table, ends with a full stop."
    for cell, following in zip(cells, [*cells[1:], {"cell_type": "markdown", "source": ""}], strict=True):
        text, goes_on = "".join(cell["source"]), "".join(following["source"]).lstrip()
        is_entry = re.match(r"#+ `[^`\n]+` \{#", goes_on)
        is_listed = is_entry or goes_on.startswith(("|", "```", "- ", "1. "))
        is_text = cell["cell_type"] == following["cell_type"] == "markdown"
        if is_text and not is_listed and re.search(r"[^:]:\s*$", text):
            cell["source"] = text.rstrip()[:-1] + "."
    return cells


NUMERIC = re.compile(r"[-−+]?[\d,.]+(?:e[-+]?\d+)?%?|–|NaN|None|NaT|&lt;NA&gt;|True|False|inf|")


def with_words_at_left(table: str) -> str:
    "A table of pandas whose columns of words have the class `words`, so that they are not set at the right as numbers are."
    rows = re.findall(r"<tr[^>]*>.*?</tr>", table, flags=re.S)
    cells = [re.findall(r"<td>(.*?)</td>", row, flags=re.S) for row in rows]
    width = max(map(len, cells), default=0)
    if "colspan" in table or any(len(row) not in (0, width) for row in cells):
        return table
    columns = list(zip(*filter(None, cells), strict=True))
    of_words = [not all(NUMERIC.fullmatch(cell.strip()) for cell in column) for column in columns]

    def marked(row: str) -> str:
        kind = "td" if "<td>" in row else "th"
        parts = re.split(f"(<{kind}>)", row)
        places = range(1, len(parts), 2)[-width:] if width else []
        for place, is_words in zip(places, of_words, strict=False):
            parts[place] = f'<{kind} class="words">' if is_words and len(places) == width else parts[place]
        return "".join(parts)

    return re.sub(r"<tr[^>]*>.*?</tr>", lambda m: marked(m.group(0)), table, flags=re.S)


def with_one_header(table: str) -> str:
    "A table of pandas with the name of its index in the empty first cell of the header, not in a row of its own."
    rows = re.findall(r"<tr[^>]*>.*?</tr>", table.partition("</thead>")[0], flags=re.S)
    cells = [re.findall(r"<th>(.*?)</th>", row, flags=re.S) for row in rows]
    if len(rows) != 2 or cells[0][0] or not cells[1][0] or any(cells[1][1:]) or len(cells[0]) != len(cells[1]):
        return table
    merged = rows[0].replace("<th></th>", f'<th class="words">{cells[1][0]}</th>', 1)
    return table.replace(rows[0], merged, 1).replace(rows[1], "", 1)


def with_code(table: str) -> str:
    "A table whose cells show what stands in backticks as code."
    return re.sub(r"<td[^>]*>[^<]*</td>", lambda cell: re.sub(r"`([^`]+)`", r"<code>\1</code>", cell.group(0)), table)


def with_long_cells(table: str) -> str:
    "A table whose cells with many words are marked as `long`, with their number of letters, so that they can be given room."

    def marked(cell: re.Match) -> str:
        kind, words, text = cell.groups()
        if len(text) <= 16 or " " not in text.strip():
            return cell.group(0)
        return f'<{kind} class="{"words " if words else ""}long" style="--letters: {len(text)}">{text}</{kind}>'

    head, end, body = table.partition("</thead>")
    return head + end + re.sub(r'<(t[dh])( class="words")?>([^<]*)</\1>', marked, body)


def with_whole_intervals(table: str) -> str:
    "A table in which an interval such as `0.8 to 0.9` stays on one line."
    return re.sub(r"(?<=>)([-−]?[\d.]+) to ([-−]?[\d.]+)(?=<)", r"\1&nbsp;to&nbsp;\2", table)


def shown_table(match: re.Match) -> str:
    return with_code(with_whole_intervals(with_long_cells(with_one_header(with_words_at_left(match.group(0))))))


def html_as_markdown(data: dict) -> dict:
    "An output in HTML as raw HTML within Markdown: for HTML outputs Quarto has pages fetch require.js and jQuery."
    if "text/html" not in data:
        return data
    html = re.sub(r"\s*<style scoped>.*?</style>", "", "".join(data["text/html"]), flags=re.S)
    html = re.sub(r'<table border="1" class="dataframe">', '<table class="dataframe">', html).strip()
    html = re.sub(r'<table class="dataframe">.*?</table>', shown_table, html, flags=re.S)
    return {"text/markdown": f"```{{=html}}\n{html}\n```\n"}


def fold_exclusions(text: str) -> str:
    "The findings of an analysis with what is left out folded, where more than two scores are."
    pattern = re.compile(r"(?:^- [^\n]*\bleft out [^\n]*(?:\n|\Z)){3,}", re.M)

    def details(match: re.Match) -> str:
        n = match.group(0).count("\n- ") + 1
        return f"\n<details><summary>{n} left out, with the reason</summary>\n\n{match.group(0).strip()}\n\n</details>\n\n"

    return pattern.sub(details, text)


def with_minus_signs(text: str) -> str:
    "Composed text with minus signs before its negative numbers, outside code, links and tables."
    parts = re.split(r"(`[^`]*`|\]\([^)]*\)|^\|.*$|https?://\S+)", text, flags=re.M)
    parts[::2] = [re.sub(r"(?<![\w.)\]-])-(?=\d)", "−", part) for part in parts[::2]]
    return "".join(parts)


def with_whole_quantities(text: str) -> str:
    "Markdown whose numbers stay on one line with the sign or unit behind them, outside code and headings."
    parts = re.split(r"(```.*?```|`[^`]*`|^#+ [^\n]*)", text, flags=re.S | re.M)
    parts[::2] = [re.sub(r"(?<=\d) (?=%|[kMG]B\b)|(?<=×) (?=\d)", "\u00a0", part) for part in parts[::2]]
    return "".join(parts)


def clean_outputs(cell: dict) -> None:
    "Rewrites the outputs of a cell in place."
    for output in cell.get("outputs", []):
        if "data" in output:
            output["data"] = data = html_as_markdown(output["data"])
            if "text/markdown" in data:
                text = "".join(data["text/markdown"])
                composed = with_whole_quantities(with_minus_signs(fold_exclusions(text)))
                data["text/markdown"] = text if text.startswith("```") else composed


def dump(notebook: dict) -> str:
    """The text of a processed notebook, without the widgets that nbdev notes: a page needs none.

    nbformat writes each text as a list of lines: where it is one string, Quarto joins the lines of Markdown without their ends.
    """
    notebook["metadata"].pop("widgets", None)
    return nbformat.writes(nbformat.from_dict(notebook))
