"""Puts the figures into the processed pages of the site: Quarto runs it before it renders (`pre-render`), in _proc/.

Pictures become part of their page, so that their text can be read and their colours follow the page's, light or dark. Where
a page stores a chart's specification too, a script draws it anew in the reader's browser; script and style lie beside the
pages, and nothing is fetched.
"""

import json
import os
import re
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import vl_convert

from transfer_study.figures.theme import VEGALITE_TYPE, theme

STYLE, SCRIPT = "figures.css", "figures.js"
# Wide pictures scroll on a phone.
_STYLE = """.figure-svg { overflow-x: auto; margin: 1rem 0 } .figure-svg svg { max-width: none } .vega-embed { width: 100% }
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
    return svg


def figure_html(cell: dict, data: dict, number: int) -> str:
    "A stored figure as a part of its page: the picture, and its specification where there is one."
    picture = with_own_names("".join(data["image/svg+xml"]), number)
    described = re.search(r"^#\| fig-alt: (.+)$", "".join(cell["source"]), re.M)
    if described and "aria-label=" not in picture[:60]:
        words = quoteattr(described.group(1).strip('"'))
        picture = picture.replace("<svg ", f'<svg role="img" aria-label={words} ', 1)
    spec = data.get(VEGALITE_TYPE)
    script = f'<script type="application/json">{json.dumps(spec).replace("</", "<" + chr(92) + "/")}</script>' if spec else ""
    return f'<div class="figure-svg">{picture}{script}</div>'


def style() -> str:
    "The site's style: on a dark page each colour of the light theme becomes that of the dark one."
    light, dark = (theme(dark) for dark in (False, True))
    pairs = {light["text"]["fill"]: dark["text"]["fill"], light["axis"]["labelColor"]: dark["axis"]["labelColor"],
             light["axis"]["gridColor"]: dark["axis"]["gridColor"]}  # fmt: skip
    rule = '.quarto-dark .figure-svg svg [{kind}="{light}"] {{ {kind}: {dark} }}'
    rules = [rule.format(kind=kind, light=a, dark=b) for a, b in pairs.items() for kind in ("fill", "stroke")]
    return _STYLE + "\n".join(rules) + "\n"


def prepare(page: Path) -> bool:
    "Rewrites a processed notebook in place; True where it holds a chart to be drawn anew."
    notebook = json.loads(page.read_text())
    shown = [(cell, output) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = [(cell, output) for cell, output in shown if "image/svg+xml" in output.get("data", {})]
    is_interactive = any(VEGALITE_TYPE in output["data"] for _, output in shown)
    for number, (cell, output) in enumerate(shown):
        output["data"] = {"text/html": figure_html(cell, output["data"], number)}
    if is_interactive:
        up = "../" * len(page.parent.relative_to(Path.cwd()).parts)
        shown[-1][1]["data"]["text/html"] += f'<script src="{up}{SCRIPT}"></script>'
    page.write_text(json.dumps(notebook, ensure_ascii=False, indent=1))
    return is_interactive


if __name__ == "__main__":
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else ".")
    interactive = [page for page in Path.cwd().rglob("*.ipynb") if prepare(page)]
    Path(STYLE).write_text(style())
    themes = json.dumps({"light": theme(), "dark": theme(dark=True)})
    Path(SCRIPT).write_text(vl_convert.javascript_bundle() + _SCRIPT % themes)
    print(f"figures are in place; drawn anew on {len(interactive)} page(s)")
