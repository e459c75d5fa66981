"""The inputs of the documentation site, checked without Quarto: navigation, links, alternative texts, and words."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = [p for p in sorted(NBS.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
MADE_WHEN_RENDERED = {"figures.css", "figures.js", "images/preview.png"}  # by tools/prepare_site.py
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)")


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
    "Source and output of each cell that shows a reader a picture."
    return [
        (cell["source"], output["data"]) for cell in cells_of(path) for output in cell.get("outputs", [])
        if any(kind.startswith("image/") for kind in output.get("data", {})) and not cell["source"].startswith("#| hide")
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
    scripts = [configuration["project"][step].split()[1] for step in ("pre-render", "post-render")]
    assert all((NBS / script).resolve().is_file() for script in scripts)
    file = re.compile(r"[\w/.]+\.(ipynb|qmd|bib|s?css|js|txt|csl|png)")
    named = [str(text) for text in strings([configuration, sidebar]) if file.fullmatch(str(text))]
    assert "references.bib" in named and len(named) > len(NOTEBOOKS)
    assert [name for name in named if not (NBS / name).is_file() and name not in MADE_WHEN_RENDERED] == []
    assert {p.relative_to(NBS).as_posix() for p in NOTEBOOKS} <= set(named), "pages that no reader finds"


def test_every_public_table_has_its_place_on_the_page_that_compares_them():
    "Tables with many networks, by the names under which `read_table` knows them; and our own two studies."
    page = "\n".join(cell["source"] for cell in cells_of(NBS / "paper" / "still_true.ipynb"))
    listed = ["embeddings_benchmark_16shot", "sfda_finetune_supervised", "timm_distribution_shift", "self_supervised"]
    assert [name for name in [*listed, "results/quickstart", "results/mobilenets"] if name not in page] == []
    paper = next(part for part in yaml.safe_load((NBS / "sidebar.yml").read_text())["website"]["sidebar"]["contents"]
                 if part.get("section") == "The paper")  # fmt: skip
    assert paper["contents"][:2] == ["paper/headline.ipynb", "paper/still_true.ipynb"]


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
            own = re.findall(r"^#+ .+\{#([\w-]+)[^}]*\}$", prose(file), re.M)
            assert anchor in [*map(slug, headings), *own], f"{link}: no such heading"


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if pictures(p)], ids=lambda p: p.relative_to(NBS).as_posix())
def test_every_picture_says_what_it_shows(path):
    for source, data in pictures(path):
        described = re.match(r'<svg role="img" aria-label="[^"]{20,}"', "".join(data.get("image/svg+xml", "")))
        assert described or re.search(r"^#\| fig-alt: .{20,}", source, re.M), f"no description (or #| fig-alt) below: {source}"


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

    processor = NBProcessor(path, procs=FilterDefaults().procs())
    processor.process()
    assert words(cells_of(path)) - words(processor.nb.cells) == Counter()


def test_nothing_is_fetched_when_the_site_is_read():
    "Themes would fetch fonts, and formulas a script, from elsewhere."
    html = yaml.safe_load((ROOT / "_quarto.yml").read_text())["format"]["html"]
    assert html["html-math-method"] in ("mathml", "plain")
    styles = {name for theme in html["theme"].values() for name in theme if name.endswith(".scss")}
    assert styles and all(style in theme for style in styles for theme in html["theme"].values())
    for style in styles:
        text = (NBS / style).read_text()
        assert re.search(r"^\$web-font-path: false;", text, re.M) and "http" not in text and "@import" not in text
