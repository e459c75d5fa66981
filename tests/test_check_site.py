"""The check of the built site finds what is planted in a small one made by hand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import check_site  # noqa: E402
import finish_search  # noqa: E402

HEAD = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title><link rel="icon" href="data:,"></head>'
HEAD += "<body><main>"
SOUND = f'{HEAD}<h2 id="method">Method</h2><p>All words stay. <a href="sub/more.html#rest">more</a></p></main></body></html>'
MORE = f'{HEAD}<h2 id="rest">Rest</h2><a href="../index.html#method">back</a><a href="https://arxiv.org">far</a></main></body></html>'


@pytest.fixture
def site(tmp_path):
    "Two pages that link to each other, with the notebook of the first."
    folder, notebooks = tmp_path / "site", tmp_path / "nbs"
    (folder / "sub").mkdir(parents=True)
    notebooks.mkdir()
    (folder / "index.html").write_text(SOUND)
    (folder / "sub" / "more.html").write_text(MORE)
    cells = [nbformat.v4.new_markdown_cell("## Method\n\nAll [words](sub/more.html) stay.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebooks / "index.ipynb")
    return folder


def test_a_sound_site_has_no_complaints(site):
    assert check_site.broken_links(site) == [] and check_site.lost_words(site, site.parent / "nbs") == []
    assert check_site.marks_shown(site) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [("#rest", "#gone", "no such anchor"), ("sub/more.html", "sub/gone.html", "leads nowhere"), ("#rest", "?a=b#rest", "")],
)
def test_broken_links_and_anchors_are_found(site, old, new, complaint):
    (site / "index.html").write_text(SOUND.replace(old, new))
    found = check_site.broken_links(site)
    assert len(found) == bool(complaint) and all(complaint in line and line.startswith("index.html: ") for line in found)


def test_an_anchor_that_stands_twice_is_found(site):
    (site / "index.html").write_text(SOUND.replace("</p>", '</p><a id="method"></a>'))
    assert check_site.broken_links(site) == ["index.html: #method stands twice"]


def test_lost_words_and_missing_pages_are_found(site):
    (site / "index.html").write_text(SOUND.replace("All words stay", "All stay"))
    assert check_site.lost_words(site, site.parent / "nbs") == ["index.html: words"]
    (site / "index.html").unlink()
    assert check_site.lost_words(site, site.parent / "nbs") == ["index.html: not built"]


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [("end. :::", True), ("[a](b.html)", True), ("x {.term}", True), ("## Heading", True), ("<code>x[0](y) :::</code>", False)],
)
def test_marks_of_markdown_are_found(site, text, is_shown):
    (site / "index.html").write_text(SOUND.replace("All words stay", text))
    assert [line.split(": ")[0] for line in check_site.marks_shown(site)] == ["index.html"] * is_shown


FAULTS = {
    '<div style="width: 900px">wide</div>': "too wide",
    "<pre>" + "x" * 600 + "</pre>": "too wide",
    '<div style="overflow: auto"><table><tr><td style="min-width: 3000px">scrolls</td></tr></table></div>': "",
    "<script>throw new Error('planted')</script>": "console",
    '<img alt="" src="http://127.0.0.2:9/far.png">': "fetches http://127.0.0.2:9/far.png",
    '<svg width="600" height="20" style="max-width: 100%; height: auto"><rect width="600" height="9"/></svg>': "",
}


def test_a_browser_finds_what_is_too_wide_fetched_or_said(site, tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: the page was not opened")
    for i, fault in enumerate(FAULTS):
        (site / f"{i}.html").write_text(SOUND.replace("</p>", f"</p>{fault}"))
    found = check_site.seen_in_browser(site, program, tmp_path / "pictures")
    for i, complaint in enumerate(FAULTS.values()):
        own = [line for line in found if line.startswith(f"{i}.html (400 px)")]
        assert any(complaint in line for line in own) if complaint else own == [], f"{i}: {own}"
    assert [line for line in found if line.startswith(("index.html", "sub/"))] == []
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"index_1280.png", "index_400.png"}


def test_a_folder_without_pages_is_refused(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "tools/check_site.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "no HTML pages there" in done.stderr


def test_figures_leave_the_search():
    page = '<main><p>Words 50%</p><div class="figure-svg"><svg><text>50%</text><text>A &amp; B</text></svg></div></main>'
    assert finish_search.without_figures("Words 50% 50%A &amp; B", page) == "Words 50%  "


def test_definitions_and_terms_are_entries_of_the_search():
    heading, page = '<h4 class="anchored"><code>Study.run</code></h4>', "api/study/study.html"
    words = '<p><a href="x" class="source-link">source</a></p><p>Runs <b>it</b>.</p>'
    part = f'<section id="study.run" class="level4">\n{heading}\n{words}\n</section>'
    entry = {"objectID": page, "href": page, "title": "study.study", "section": "", "text": ""}
    found = finish_search.own_entries(part + part.replace("<code>", "").replace("</code>", ""), entry)
    assert [(e["href"], e["section"], e["text"]) for e in found] == [(f"{page}#study.run", "Study.run", "Runs it.")]
    assert len(finish_search.own_entries(part.replace("<code>", ""), entry | {"href": finish_search.GLOSSARY})) == 1


def test_the_bar_marks_the_section_of_the_page():
    own = '<a class="nav-link active" href="#part">'  # the table of contents has such links too

    def bar(here: str, kind: str, up: str = "../") -> str:
        "The links as they are where `here` is the current one."
        links = []
        for name in ("tutorials/a", "paper/b", "api/index"):
            active, current = (" active", f' aria-current="{kind}"') if name == here else ("", "")
            links.append(f'<a class="nav-link{active}" href="{up}{name}.html"{current}> ')
        return own + "".join(links)

    assert finish_search.with_own_section(bar("tutorials/a", "page"), "paper/c.html") == bar("paper/b", "true")
    assert finish_search.with_own_section(bar("tutorials/a", "page"), "paper/b.html") == bar("paper/b", "page")
    deeper = finish_search.with_own_section(bar("tutorials/a", "page", "../../"), "api/study/d.html")
    assert deeper == bar("api/index", "true", "../../")
    assert finish_search.with_own_section(bar("tutorials/a", "page", ""), "index.html") == bar("", "", "")


def test_options_and_names_with_hyphens_stay_whole_in_a_text():
    html = "<p>a-b <code>transfer-study run a/b-c --out x --seed=1</code> <code>y</code></p><pre><code>--out</code></pre>"
    marked = finish_search.with_whole_names(html)
    assert re.findall(r'<span class="whole">(.*?)</span>', marked) == ["transfer-study", "--out", "--seed"]
    assert re.sub(r"</?span[^>]*>", "", marked) == html
    cell = '<tr class="odd">\n<td>{}</td>\n<td><code>runs/NAME</code></td></tr>'
    marked = finish_search.with_whole_names(cell.format("<code>runs/NAME</code> or <code>a_name_of_more_than_20_letters</code>"))
    assert re.findall(r'<span class="whole">(.*?)</span>', marked) == ["runs/NAME"]
