"""The pages of the site as nbdev and tools/prepare_site.py hand them to Quarto: entries, links, cells, figures in a browser."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = [p for p in sorted(NBS.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
LINK = re.compile(r"\]\(<?([^)\s>]+)[^)]*\)")


def cells_of(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def pictures(path: Path) -> list[dict]:
    "Each output of a page that is a picture in SVG."
    outputs = [output.get("data", {}) for cell in cells_of(path) for output in cell.get("outputs", [])]
    return [data for data in outputs if "image/svg+xml" in data]


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.S)


def markdown(path: Path) -> str:
    "What stands on a page as Markdown: its cells, or its text."
    if path.suffix == ".qmd":
        return path.read_text(encoding="utf-8").split("---\n", 2)[2]
    return "\n\n".join(cell["source"] for cell in cells_of(path) if cell["cell_type"] == "markdown")


def anchors(text: str) -> set[str]:
    "The anchors that Pandoc gives the headings, or that they have of their own."
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", without_code(text), re.M):
        own = re.search(r"\{#([^ }]+)[^}]*\}\s*$", heading)
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
        found.add(own.group(1) if own else re.sub(r"\s+", "-", re.sub(r"^[^a-z]+|[^\w\s.-]", "", plain)))
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Every page as Quarto gets it."
    from execnb.nbio import read_nb, write_nb
    from nbdev.processors import FilterDefaults

    folder = tmp_path_factory.mktemp("site")
    for path in NOTEBOOKS:
        page = folder / path.relative_to(NBS)
        page.parent.mkdir(parents=True, exist_ok=True)
        notebook = read_nb(path)
        FilterDefaults()(notebook)
        write_nb(notebook, page)
    for path in NBS.rglob("*.qmd"):
        (folder / path.relative_to(NBS)).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "tools/prepare_site.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def addresses(pages):
    "Every page by its address below the site's root."
    listed = {}
    for path in [*pages.rglob("*.ipynb"), *pages.rglob("*.qmd")]:
        front = re.search(r"^output-file: (.+)$", cells_of(path)[0]["source"], re.M) if path.suffix == ".ipynb" else None
        listed[path.with_name(front.group(1) if front else f"{path.stem}.html").relative_to(pages).as_posix()] = path
    return listed


def test_every_public_definition_and_method_with_words_has_an_entry(addresses):
    import ast

    missing = []
    for notebook in sorted(NBS.glob("api/**/*.ipynb")):
        named = [m.group(1) for c in cells_of(notebook) if (m := re.match(r"#\| default_exp (\S+)", c["source"]))]
        if not named:
            continue
        tree = ast.parse((ROOT / "transfer_study" / f"{named[0].replace('.', '/')}.py").read_text())
        page = f"api/{notebook.parent.relative_to(NBS / 'api').as_posix()}/{named[0].split('.')[-1]}.html".replace("/./", "/")
        there = anchors(markdown(addresses[page]))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                parts = node.body if isinstance(node, ast.ClassDef) else []
                methods = [n.name for n in parts if isinstance(n, ast.FunctionDef) and ast.get_docstring(n)]
                names = [node.name, *(f"{node.name}.{name}" for name in methods if not name.startswith("_"))]
                missing += [f"{named[0]}.{name}" for name in names if name.lower() not in there]
    assert missing == []


def test_every_link_and_anchor_leads_somewhere(addresses, pages):
    known = {address: anchors(markdown(path)) for address, path in addresses.items()}
    broken, n_anchors = [], 0
    for address, path in addresses.items():
        for link in LINK.findall(without_code(markdown(path))):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            target, _, anchor = link.partition("#")
            place = (Path("/") / Path(address).parent / target).resolve().relative_to("/").as_posix() if target else address
            if place not in known:  # a link to a notebook or another input, which Quarto turns into one to its page
                by_input = {p.relative_to(pages).as_posix(): a for a, p in addresses.items()}
                place = by_input.get(place, place)
            n_anchors += bool(anchor)
            if place not in known or (anchor and anchor not in known[place]):
                broken.append(f"{address}: {link}")
    assert broken == [] and n_anchors > 300


def test_every_citation_has_its_source(addresses):
    known = set(re.findall(r"^@\w+\{([^,\s]+),", (NBS / "references.bib").read_text(encoding="utf-8"), re.M))
    for address, path in addresses.items():
        text = re.sub(r"`[^`]*`", "", without_code(markdown(path)))
        assert set(re.findall(r"(?<![\w\\/])@(\w[\w:.-]*\w)", text)) <= known, address


def test_no_anchor_stands_twice(addresses):
    "Pandoc numbers headings that repeat each other, but not those that repeat an anchor of their own."
    for address, path in addresses.items():
        headings = re.findall(r"^#+ +(.+)$", without_code(markdown(path)), re.M)
        own = Counter(m.group(1) for heading in headings if (m := re.search(r"\{#([^ }]+)[^}]*\}\s*$", heading)))
        others = anchors("\n".join(f"# {heading}" for heading in headings if not heading.rstrip().endswith("}")))
        assert set(own) & others == set() and all(n == 1 for n in own.values()), address


def test_signatures_are_readable(addresses):
    for address, path in addresses.items():
        if address.startswith("api/"):
            text = markdown(path)
            signatures = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
            assert [s for s in signatures if "](" in s or "Annotated[" in s or re.match(r"class \w+\(self", s)] == [], address
            assert re.findall(r"^`_\w+`\n:", text, re.M) == [], address


def test_texts_are_stored_as_lists_of_lines(addresses):
    "Quarto joins the lines of Markdown without their ends where a page stores them as one string."
    for address, path in addresses.items():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if path.suffix == ".ipynb" else []:
            shown = [data.get("text/markdown", []) for data in (output.get("data", {}) for output in cell.get("outputs", []))]
            assert all(isinstance(text, list) for text in [cell["source"], *shown]), address


def test_a_fence_stands_apart_from_the_text_above_it(addresses):
    "Pandoc takes a fence right below a definition for a part of its text."
    n_fences = 0
    for address, path in addresses.items():
        lines = ["", *without_code(markdown(path)).splitlines()]
        fences = [i for i, line in enumerate(lines) if line.startswith(":::")]
        n_fences += len(fences)
        assert [lines[i - 1] for i in fences if lines[i - 1].strip() and not lines[i - 1].startswith(":::")] == [], address
    assert n_fences > 100


def test_words_of_the_prose_are_not_taken_for_names(addresses):
    for address, path in addresses.items():
        wrong = re.findall(r"\[`(?:networks|datasets|count_mismatch|plan|run|results|overlap)`\]\([^)]*\)", markdown(path))
        assert wrong == [] or address == "api/index.html", address
    places = {a for text in map(markdown, addresses.values()) for a in re.findall(r"\[`analyze`\]\(([^)]*)\)", text)}
    assert (
        places
        and [place for place in places if not re.search(r"(^#analyze|analysis\.html#analyze|\d_analysis\.ipynb)$", place)] == []
    )


def test_readers_see_no_checks_and_no_marks_for_tools(addresses):
    for address, path in addresses.items():
        above = ""
        for cell in cells_of(path) if path.suffix == ".ipynb" else []:
            announced, above = above.rstrip().endswith(":"), cell["source"]
            if cell["cell_type"] == "code":
                lines = cell["source"].splitlines()
                code = [line for line in lines if not line.startswith("#|")]
                assert code or cell["outputs"], address
                assert not re.search(r"# (fmt: |noqa|type: ignore)", cell["source"]), f"{address}: {cell['source']}"
                assert [line for line in lines if re.match(r"#\| *(slow|gpu|network|tolerance|varies|site|hide)", line)] == [], (
                    address
                )
                assert announced or not code or cell["outputs"] or not all(line.startswith("assert ") for line in code), code


def test_no_heading_is_empty(addresses):
    empty = []
    for address, path in addresses.items():
        cells = cells_of(path) if path.suffix == ".ipynb" else [{"cell_type": "markdown", "source": markdown(path)}]
        blocks = [c["source"] if c["cell_type"] == "markdown" else "CODE" for c in cells if c["cell_type"] != "raw"]
        text = without_code(re.sub(r"<!--.*?-->", "", "\n\n".join(b for b in blocks if b.strip())))
        parts = re.split(r"^(#+) +(.+)$", text, flags=re.M)[1:]
        for level, heading, body, following in zip(parts[::3], parts[1::3], parts[2::3], [*parts[3::3], ""], strict=True):
            if not body.strip() and len(following) <= len(level):
                empty.append(f"{address}: {heading}")
    assert empty == []


def test_outputs_need_nothing_from_elsewhere(addresses):
    "Quarto adds scripts from elsewhere to a page with an output in HTML or JavaScript."
    for address, path in addresses.items():
        for cell in cells_of(path) if path.suffix == ".ipynb" else []:
            for data in [output.get("data", {}) for output in cell.get("outputs", [])]:
                assert not {"text/html", "application/javascript"} & set(data), address
                html = "".join(data.get("text/markdown", ""))
                assert not re.search(r"<(?:script|img|link)[^>]*(?:src|href)=.?(?:https?:)?//", html), address
                assert not re.search(r'class="(?![^"]*vega-)[^"]*column-', html), f"{address}: a class that Quarto lays out"


def test_a_term_is_explained_where_a_page_uses_it_first(addresses):
    glossary = anchors(markdown(NBS / "explanations" / "glossary.ipynb"))
    linked = Counter()
    for address, path in addresses.items():
        uses = Counter(re.findall(r'glossary\.html#([\w-]+) "[^"]+"\)\{\.term\}', markdown(path)))
        assert set(uses) <= glossary and all(n == 1 for n in uses.values()), address
        linked += uses
    for term in ("log-odds", "effect", "protocol", "moreys-standard-error", "robust-standard-deviation"):
        assert linked[term], term


def rendered(page: Path) -> str:
    "A page as HTML by nbconvert, with the site's style and nothing from elsewhere."
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(page, as_version=4)
    for output in [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]:
        raw = re.fullmatch(r"```\{=html\}\n(.*)\n```\n", output["data"].get("text/markdown", ""), re.S)
        if raw:  # Pandoc's way to write HTML within Markdown
            output["data"] = {"text/html": raw.group(1)}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    root = next(folder for folder in page.parents if (folder / "figures.css").is_file())
    up = "../" * len(page.parent.relative_to(root).parts)
    rules = (NBS / "styles/site.scss").read_text(encoding="utf-8").split("/*-- scss:rules --*/")[1]
    head = (
        f'<meta charset="utf-8"><title>page</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{up}figures.css">'
    )
    style = f"<style>pre {{ white-space: pre-wrap }} {rules}</style>"  # Quarto's `code-overflow: wrap`
    return (
        f'<!doctype html><html lang="en"><head>{head}{style}</head><body class="quarto-light"><main>{body}</main></body></html>'
    )


# Opens each page in a frame, waits for its charts, and notes what can be seen of each.
VISIT = """<!doctype html><link rel="icon" href="data:,"><pre id="seen"></pre><script>
const names = %s, seen = {}, wait = ms => new Promise(done => setTimeout(done, ms));
async function visit(name) {
  const frame = Object.assign(document.createElement("iframe"), { src: name, width: 1000, height: 800 });
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  const inner = frame.contentDocument;
  const count = selector => inner.querySelectorAll(selector).length;
  for (let i = 0; i < 100 && count(".figure-svg:has(> script)") > count(".interactive svg"); i++) await wait(50);
  seen[name] = [...inner.querySelectorAll(".figure-svg svg")].map(svg => { const box = svg.getBoundingClientRect();
    return { width: box.width, height: box.height, interactive: !!svg.closest(".interactive"),
      texts: svg.querySelectorAll("text").length, marks: svg.querySelectorAll("path, line, rect, image").length,
      label: svg.closest("[aria-label]")?.getAttribute("aria-label") }; });
  frame.remove();
}
(async () => { for (const name of names) await visit(name);
  document.getElementById("seen").textContent = JSON.stringify(seen); document.title = "done"; })();
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def in_chromium(pages, chromium):
    "What a browser shows of every page with figures, and what went to its console."
    names = []
    for path in NOTEBOOKS:
        page = pages / path.relative_to(NBS)
        if pictures(path):
            page.with_suffix(".html").write_text(rendered(page), encoding="utf-8")
            names.append(page.with_suffix(".html").relative_to(pages).as_posix())
    (pages / "visit.html").write_text(VISIT % json.dumps(names))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/visit.html"
        document, console = chromium(address, milliseconds=600_000, timeout=900)
    finally:
        server.shutdown()
    text = re.search(r'<pre id="seen">(.*?)</pre>', document, re.S).group(1)
    return json.loads(unescape(text)), console


def test_every_page_shows_its_figures(in_chromium):
    seen, console = in_chromium
    assert console == []
    for path in NOTEBOOKS:
        stored = pictures(path)
        figures = seen.get(path.relative_to(NBS).with_suffix(".html").as_posix(), [])
        assert len(figures) == len(stored), path
        assert all(f["width"] > 150 and f["height"] > 60 and f["label"] for f in figures), path
        assert all(f["texts"] >= 3 and f["marks"] >= 5 for f in figures), path


def test_the_home_page_draws_its_chart_anew(in_chromium):
    figures = in_chromium[0]["index.html"]
    assert figures and figures[0]["interactive"] and figures[0]["marks"] > 80


def test_figures_and_tables_stay_within_their_column(in_chromium, pages):
    "At the width of a desk and of a telephone; what is wider scrolls within itself."
    sys.path.insert(0, str(ROOT / "tools"))
    import check_site

    names = [path.relative_to(pages).as_posix() for path in pages.rglob("*.html") if path.name != "visit.html"]
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert len(names) > 20
    assert check_site.seen_in_browser(pages, program, only=names) == []
