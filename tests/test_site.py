"""The inputs of the documentation site, checked without Quarto: navigation, links, alternative texts, and pages in a browser."""

import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from html import unescape
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = [p for p in sorted(NBS.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
MADE_WHEN_RENDERED = {"figures.css", "figures.js"}  # by tools/prepare_site.py
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)")
PROCESS = """
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from execnb.nbio import read_nb, write_nb
from nbdev.processors import FilterDefaults

def process(pair):
    source, target = pair
    warnings.filterwarnings("error", message="Found cells containing imports")  # nbdev runs such a cell without those above it
    try:
        notebook = read_nb(source)
        FilterDefaults()(notebook)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nb(notebook, target)
    except Exception as error:
        return f"{source}: {str(error)[-200:]}: {error.__cause__!r}"

if __name__ == "__main__":
    from process import process  # by its module's name: a notebook's shell takes the place of the main module

    nbs, out = map(Path, sys.argv[1:])
    pages = [p for p in sorted(nbs.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        failed = [line for line in pool.map(process, [(p, out / p.relative_to(nbs)) for p in pages]) if line]
    sys.exit("\\n".join(failed) or 0)
"""


def cells_of(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def prose(path: Path) -> str:
    "The Markdown of a page without its code."
    text = "\n".join(c["source"] for c in cells_of(path) if c["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def slug(heading: str) -> str:
    "The anchor that Pandoc gives a heading."
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", heading.strip().lower()))


def pictures(path: Path) -> list[tuple[str, dict]]:
    "Source and output of each cell that shows a picture."
    return [
        (cell["source"], output["data"]) for cell in cells_of(path) for output in cell.get("outputs", [])
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]  # fmt: skip


def test_what_follows_from_the_notebooks_is_current():
    done = subprocess.run([sys.executable, ROOT / "tools/make_site.py", "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in strings(part)] if isinstance(value, list) else [value]


def test_the_configuration_names_files_that_exist():
    configuration = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    sidebar = yaml.safe_load((NBS / "sidebar.yml").read_text())
    script = configuration["project"]["pre-render"].split()[1]
    assert (NBS / script).resolve().is_file()
    file = re.compile(r"[\w/.]+\.(ipynb|qmd|bib|css|js|txt|csl)")
    named = [str(text) for text in strings([configuration, sidebar]) if file.fullmatch(str(text))]
    assert "references.bib" in named and len(named) > len(NOTEBOOKS)
    assert [name for name in named if not (NBS / name).is_file() and name not in MADE_WHEN_RENDERED] == []
    assert {p.relative_to(NBS).as_posix() for p in NOTEBOOKS} <= set(named), "pages that no reader finds"


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "README.md"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = path.read_text() if path.suffix == ".md" else prose(path)
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{link} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(file), re.M)
            assert anchor in map(slug, headings), f"{link}: no such heading"


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if pictures(p)], ids=lambda p: p.relative_to(NBS).as_posix())
def test_every_picture_says_what_it_shows(path):
    for source, data in pictures(path):
        described = re.match(r'<svg role="img" aria-label="[^"]{20,}"', "".join(data.get("image/svg+xml", "")))
        assert described or re.search(r"^#\| fig-alt: .{20,}", source, re.M), f"no description (or #| fig-alt) below: {source}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Every page as nbdev hands it to Quarto, with its figures in place."
    folder = tmp_path_factory.mktemp("site")
    script = folder / "process.py"
    script.write_text(PROCESS)
    command = [sys.executable, "-W", "ignore", script, NBS, folder / "pages"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, ROOT / "tools/prepare_site.py", folder / "pages"], check=True, capture_output=True)
    return folder / "pages"


def words(cells: list[dict]) -> Counter:
    "The words that a page's Markdown and front matter show: those of links' addresses and comments do not count."
    texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    front = [yaml.safe_load(cell["source"].strip(" -\n")) for cell in cells if cell["cell_type"] == "raw"]
    texts += [str(text) for fields in front for text in fields.values()]
    text = "\n".join(texts)
    text = re.sub(r"\]\([^)]*\)|<!--.*?-->|&\w+;", " ", text, flags=re.S)
    return Counter(re.findall(r"\w+", text))


def test_words_beside_the_title_are_lost_and_noticed(tmp_path):
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor

    page = tmp_path / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\n\n> Subtitle\n\nIntroduction")]), page)
    processor = NBProcessor(page, procs=[FrontmatterProc])
    processor.process()
    assert words(cells_of(page)) - words(processor.nb.cells) == Counter(["Introduction"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())
def test_no_page_loses_words(path):
    from nbdev.process import NBProcessor
    from nbdev.processors import FilterDefaults

    steps = [step for step in FilterDefaults().procs() if step.__name__ != "exec_show_docs"]  # it changes no Markdown
    processor = NBProcessor(path, procs=steps)
    processor.process()
    assert words(cells_of(path)) - words(processor.nb.cells) == Counter()


def test_every_definition_is_documented(pages):
    silent = []
    for path in sorted(pages.rglob("*.ipynb")):
        for cell in cells_of(path):
            if re.search(r"^show_doc\(", cell["source"], re.M):
                text = "".join("".join(o.get("data", {}).get("text/markdown", "")) for o in cell["outputs"])
                if not text:
                    silent.append(f"{path.stem}: {cell['source'].splitlines()[-1]}")
    assert silent == []


def test_references_to_the_api_lead_to_its_pages(pages):
    site = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["site-url"]
    link = re.compile(re.escape(site) + r"/([^)\s#]+)")
    there, found = set(), []
    for path in sorted(pages.rglob("*.ipynb")):
        cells = cells_of(path)
        front = re.search(r"^output-file: (.+)$", cells[0]["source"], re.M)
        there.add(path.with_name(front.group(1) if front else f"{path.stem}.html").relative_to(pages).as_posix())
        found += [(path.name, name) for c in cells if c["cell_type"] == "markdown" for name in link.findall(c["source"])]
    assert found and [pair for pair in found if pair[1] not in there] == []


def rendered(page: Path) -> str:
    "A page as HTML by nbconvert, with the site's style and nothing from elsewhere."
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="basic").from_filename(str(page))
    style = next(f"{up}figures.css" for up in ("", "../", "../../") if (page.parent / up / "figures.css").is_file())
    head = f'<meta charset="utf-8"><title>page</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{style}">'
    return f'<!doctype html><html lang="en"><head>{head}</head><body class="quarto-light">{body}</body></html>'


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
        if any("image/svg+xml" in data for _, data in pictures(path)):
            page.with_suffix(".html").write_text(rendered(page), encoding="utf-8")
            names.append(page.with_suffix(".html").relative_to(pages).as_posix())
    (pages / "visit.html").write_text(VISIT % json.dumps(names))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/visit.html"
        document, console = chromium(address, milliseconds=600_000, timeout=300)
    finally:
        server.shutdown()
    text = re.search(r'<pre id="seen">(.*?)</pre>', document, re.S).group(1)
    return json.loads(unescape(text)), console


def test_every_page_shows_its_figures(in_chromium):
    seen, console = in_chromium
    assert console == []
    for path in NOTEBOOKS:
        stored = [data for _, data in pictures(path) if "image/svg+xml" in data]
        figures = seen.get(path.relative_to(NBS).with_suffix(".html").as_posix(), [])
        assert len(figures) == len(stored), path
        assert all(f["width"] > 150 and f["height"] > 60 and f["label"] for f in figures), path
        assert all(f["texts"] >= 3 and f["marks"] >= 5 for f in figures), path


def test_the_home_page_draws_its_chart_anew(in_chromium):
    figures = in_chromium[0]["index.html"]
    assert figures and figures[0]["interactive"] and figures[0]["marks"] > 80
