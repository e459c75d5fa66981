"""Makes the processed pages of the site ready: Quarto runs it before it renders (`pre-render`), in _proc/.

- Cells lose what is not for readers: checks, marks for tools, directives of this repository. Long code for a figure is folded.
- Each exported definition gets its entry (site_entries), names and terms get their links (site_links).
- Figures become part of their page, so that their text can be read and their colours follow the page's, light or dark. Where a
  page stores a chart's specification too, a script draws it anew in the reader's browser.

Script, style and the picture for previews lie beside the pages, and nothing is fetched from elsewhere.
"""

import itertools
import json
import os
import re
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import site_cells
import site_entries
import site_links
import site_reference
import vl_convert

from transfer_study.figures.theme import CHART_TYPE, theme, unpack_chart

SHOWN = re.compile(r"^show_doc\((\w+)\)", re.M)
STYLE, SCRIPT, PREVIEW = "figures.css", "figures.js", "images/preview.png"
# Pictures shrink with their column and never grow beyond their own size; on a telephone a tap shows them at that size.
_STYLE = """.figure-svg { margin: 1rem 0 } .figure-svg svg { max-width: 100%; height: auto } .vega-embed { width: 100% }
@media (max-width: 600px) { .figure-svg { overflow-x: auto } .figure-svg:focus svg { max-width: none }
  .figure-svg:not(:focus)::after { content: "Tap the figure to enlarge it."; display: block; font-size: .8em; opacity: .7 } }
"""
_SCRIPT = """
"use strict";
(() => {
const themes = %s, dark = () => document.body.classList.contains("quarto-dark"), views = new Map();
async function draw(figure) {
  const scheme = dark() ? "dark" : "light", spec = JSON.parse(figure.querySelector("script").textContent);
  const place = figure.querySelector(".interactive") || figure.appendChild(document.createElement("div"));
  place.className = "interactive";
  const drawn = await vegaEmbed(place, { ...spec, config: themes[scheme] },
    { actions: false, renderer: "svg", tooltip: { theme: scheme } });
  views.get(figure)?.finalize();
  views.set(figure, drawn.view);
  figure.querySelector(":scope > svg")?.remove();
}
const all = () => document.querySelectorAll(".figure-svg:has(> script)").forEach(draw);
document.addEventListener("DOMContentLoaded", () => { all();
  new MutationObserver(all).observe(document.body, { attributeFilter: ["class"] }); });
})();
"""


def with_own_names(svg: str, number: int) -> str:
    "The picture with names of its parts that no other on the page has: clip paths and gradients are found by them."
    for name in set(re.findall(r'\bid="([^"]+)"', svg)):
        svg = re.sub(rf'(?<=\bid="){name}(?=")|(?<=url\(#){name}(?=\))|(?<=href="#){name}(?=")', f"figure-{number}-{name}", svg)
    # Quarto lays out what has a class such as `column-title`, which Vega uses for its own purposes.
    return re.sub(r'\bclass="([^"]*)"', lambda m: 'class="' + " ".join(f"vega-{name}" for name in m.group(1).split()) + '"', svg)


def figure_html(cell: dict, data: dict, number: int) -> str:
    "A stored figure as a part of its page: the picture, and its specification where there is one."
    picture = with_own_names("".join(data["image/svg+xml"]), number)
    described = re.search(r"^#\| fig-alt: (.+)$", "".join(cell["source"]), re.M)
    if described and "aria-label=" not in picture[:60]:
        words = quoteattr(described.group(1).strip('"'))
        picture = picture.replace("<svg ", f'<svg role="img" aria-label={words} ', 1)
    spec = unpack_chart(data[CHART_TYPE]) if CHART_TYPE in data else None
    script = f'<script type="application/json">{json.dumps(spec).replace("</", "<" + chr(92) + "/")}</script>' if spec else ""
    return f'<div class="figure-svg" tabindex="0">{picture}{script}</div>'


def style() -> str:
    "The site's style: on a dark page each colour of the light theme becomes that of the dark one."
    light, dark = (theme(dark) for dark in (False, True))
    pairs = {light["text"]["fill"]: dark["text"]["fill"], light["axis"]["labelColor"]: dark["axis"]["labelColor"],
             light["axis"]["gridColor"]: dark["axis"]["gridColor"], "black": dark["axis"]["labelColor"]}  # fmt: skip
    rule = '.quarto-dark .figure-svg svg [{kind}="{light}"] {{ {kind}: {dark} }}'
    rules = [rule.format(kind=kind, light=a, dark=b) for a, b in pairs.items() for kind in ("fill", "stroke")]
    return _STYLE + "\n".join(rules) + "\n"


def in_order(cells: list[dict], module: str) -> list[dict]:
    "The cells with neighbouring `show_doc` in the order of their definitions; nbdev has the last definition of a cell first."
    lines = {name: node.lineno for name, node in site_entries.parsed(module)[1].items()} if module else {}
    place = [lines.get(m.group(1)) if (m := SHOWN.search(cell["source"])) else None for cell in cells]
    ordered = []
    for is_entry, run in itertools.groupby(zip(place, cells, strict=True), key=lambda pair: pair[0] is not None):
        ordered += [cell for _, cell in (sorted(run, key=lambda pair: pair[0]) if is_entry else run)]
    return ordered


def with_entries(cells: list[dict], notebook: Path) -> list[dict]:
    "The cells with the entry of a definition in the place of nbdev's `show_doc`."
    module, shown, level = site_links.module_of(notebook), [], 2
    for cell in in_order(cells, module):
        if cell["cell_type"] == "markdown":
            level = max([len(marks) for marks in re.findall(r"^(#+) ", cell["source"], re.M)][-1:] or [level])
        names = re.findall(r"^show_doc\(([\w.]+)\)", cell["source"], re.M) if cell["cell_type"] == "code" else []
        if not names:
            shown.append(cell)
        elif module and "." not in names[0] and not names[0].startswith("_"):
            above = next((c["source"] for c in reversed(shown) if c["cell_type"] == "markdown"), "")
            repeated = above.strip().strip("#` ").lower() == names[0].lower()
            text = site_entries.entry(module, names[0], level + 1)
            if command := site_reference.command_of(module, names[0]) if module.startswith("cli.") else "":
                options = f"Usage, arguments and options: [`transfer-study {command}`](../command_line.html#{command})."
                text = re.sub(r"```python\n.*?\n```", options, text, flags=re.S)
            if repeated:  # a section that has no words but the name of its only entry
                shown.remove(next(c for c in reversed(shown) if c["cell_type"] == "markdown"))
            shown.append({"cell_type": "markdown", "id": cell["id"], "metadata": {}, "source": text})
    return shown


def with_own_anchors(cells: list[dict]) -> list[dict]:
    "The cells with another anchor for a heading, such as `Provenance`, that has the same one as the entry of a definition."
    taken = set(re.findall(r"^#+ `[^`\n]+` \{#([^}\n]+)\}$", "\n".join(c["source"] for c in cells), re.M))

    def heading(match: re.Match) -> str:
        anchor = re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", match.group(1).strip().lower()))
        return f"{match.group(0)} {{#about-{anchor}}}" if anchor in taken else match.group(0)

    for cell in cells:
        if cell["cell_type"] == "markdown":
            parts = re.split(r"(```.*?```)", cell["source"], flags=re.S)
            parts[::2] = [re.sub(r"^#+ ([^{\n]+)$", heading, part, flags=re.M) for part in parts[::2]]
            cell["source"] = "".join(parts)
    return cells


def with_figures(cells: list[dict], page: Path, page_name: str) -> bool:
    "Puts the figures in place; True where there is a chart to be drawn anew."
    drawn = [(cell, output) for cell in cells for output in cell.get("outputs", []) if "image/svg+xml" in output.get("data", {})]
    is_interactive = any(CHART_TYPE in output["data"] for _, output in drawn)
    for number, (cell, output) in enumerate(drawn):
        output["data"] = {"text/html": figure_html(cell, output["data"], number)}
    if is_interactive:
        drawn[-1][1]["data"]["text/html"] += f'<script src="{site_links.relative(SCRIPT, page_name)}"></script>'
    return is_interactive


def prepare(page: Path, notebook: Path) -> bool:
    "Rewrites a processed notebook in place; True where it holds a chart to be drawn anew."
    processed, name, done = json.loads(page.read_text(encoding="utf-8")), site_links.page_of(notebook), set()
    for cell in processed["cells"]:
        cell["source"] = "".join(cell["source"])
    cells = site_cells.without_empty_headings(site_cells.clean_cells(with_entries(processed["cells"], notebook)))
    cells = site_cells.without_open_ends(with_own_anchors(cells))
    is_interactive = with_figures(cells, page, name)
    for cell in cells:
        site_cells.clean_outputs(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = site_links.link_terms(site_links.link_names(cell["source"], name), name, done)
            cell["source"] = site_cells.with_whole_quantities(site_links.link_tests(cell["source"]))
    processed["cells"] = cells
    page.write_text(site_cells.dump(processed), encoding="utf-8")
    return is_interactive


def prepare_all(root: Path) -> int:
    "Prepares every page below a directory; the number of pages with charts to be drawn anew."
    pages = [page for page in sorted(root.rglob("*.ipynb")) if ".ipynb_checkpoints" not in page.parts]
    return sum(prepare(page, site_links.NBS / page.relative_to(root)) for page in pages)


if __name__ == "__main__":
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else ".")
    n_interactive = prepare_all(Path.cwd())
    Path(STYLE).write_text(style())
    themes = json.dumps({"light": theme(), "dark": theme(dark=True)})
    Path(SCRIPT).write_text(vl_convert.javascript_bundle() + _SCRIPT % themes)
    Path(PREVIEW).parent.mkdir(exist_ok=True)
    Path(PREVIEW).write_bytes(vl_convert.svg_to_png((site_links.NBS / "images/headline.svg").read_text(), scale=1.5))
    print(f"pages are ready; charts are drawn anew on {n_interactive} of them")
