"""Finishes the rendered site: Quarto runs it after it rendered (`post-render`).

- The numbers and labels of figures leave the search. It is for words; the ticks of an axis are found everywhere and mean nothing.
- Each definition of the reference and each term of the glossary becomes an entry of its own, which its name finds first. Quarto
  has one for each section of the second level only.
- The bar at the top marks the section of the page. Where all sections share a sidebar, Quarto marks the first one on each page.
- Names with hyphens and options within a text, such as `--out`, and short names in the first column of a table are marked: they
  stay whole at the end of a line.
"""

import json
import os
import posixpath
import re
import sys
from html import escape, unescape
from pathlib import Path

GLOSSARY = "explanations/glossary.html"
PART = re.compile(  # a section of the third to fifth level: its anchor, its heading, and what follows up to the next section
    r'<section id="([^"]+)" class="level[345][^"]*"[^>]*>\s*<h[345][^>]*>(.*?)</h[345]>(.*?)(?=<section |</section>)', re.S
)
FIGURE = re.compile(r'<div class="figure-svg"[^>]*>.*?</svg>', re.S)


def text_of(html: str) -> str:
    "The text of a piece of HTML, without its tags."
    return unescape(re.sub(r"<[^>]*>", "", html)).strip()


def without_figures(text: str, page: str) -> str:
    "What the index has of a page, or of a section, without what its figures say."
    for figure in FIGURE.findall(page):
        for shown in {text_of(figure), escape(text_of(figure), quote=False), escape(text_of(figure))} - {""}:
            text = text.replace(shown, " ")
    return text


def with_own_section(html: str, page: str) -> str:
    "A page, by its address below the site's root, whose bar marks the link to the page's own section."

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), match.group(1)))
        is_own = "/" in page and target.split("/")[0] == page.split("/")[0]
        current = f' aria-current="{"page" if target == page else "true"}"' if is_own else ""
        return f'<a class="nav-link{" active" if is_own else ""}" href="{match.group(1)}"{current}>'

    return re.sub(r'<a class="nav-link(?: active)?" href="([^"#:]+)"(?: aria-current="[^"]*")?>', link, html)


def with_whole_names(html: str) -> str:
    "A page whose short names in code have the class `whole`: in a text those with hyphens, in the first column of a table all."
    hyphened = re.compile(r"(?<![\w/.-])(?=[\w-]{3,20}(?![\w/.-]))-{0,2}\w+(?:-\w+)*")

    def marked(name: re.Match) -> str:
        return f'<span class="whole">{name.group()}</span>' if "-" in name.group() else name.group()

    def first_cell(cell: re.Match) -> str:
        return re.sub(r"(?<=<code>)[^<\s]{3,20}(?=</code>)", r'<span class="whole">\g<0></span>', cell.group())

    parts = re.split(r"(<pre\b.*?</pre>)", html, flags=re.S)
    parts[::2] = [re.sub(r"<tr[^>]*>\s*<t[dh]\b.*?</t[dh]>", first_cell, part, flags=re.S) for part in parts[::2]]
    parts[::2] = [re.sub(r"(?<=<code>)[^<]+(?=</code>)", lambda m: hyphened.sub(marked, m.group()), part) for part in parts[::2]]
    return "".join(parts)


def finish_pages(site: Path) -> None:
    "Rewrites the pages of a rendered site."
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        path.write_text(with_whole_names(with_own_section(html, path.relative_to(site).as_posix())), encoding="utf-8")


def own_entries(html: str, entry: dict) -> list[dict]:
    "An entry for each definition or term on a page; `entry` is the page's own one. The words are those up to the next heading."
    page, found = entry["href"].split("#")[0], []
    for anchor, heading, rest in PART.findall(html):
        if page == GLOSSARY or "<code>" in heading:
            rest = re.sub(r'<a [^>]*class="source-link">.*?</a>', "", rest)
            name, words = text_of(heading), " ".join(text_of(rest).split())[:300]
            found.append(entry | {"objectID": f"{page}#{anchor}", "href": f"{page}#{anchor}", "section": name, "text": words})
    return found


def finish(site: Path) -> int:
    "Rewrites search.json of a rendered site; the number of entries that changed."
    index = site / "search.json"
    entries, parts, changed = json.loads(index.read_text(encoding="utf-8")), [], 0
    for entry in entries:
        page = site / entry["href"].split("#")[0]
        text = without_figures(entry["text"], page.read_text(encoding="utf-8")) if page.is_file() else entry["text"]
        changed += text != entry["text"]
        entry["text"] = text
        is_first = "#" not in entry["href"] and entry["href"].startswith(("api/", GLOSSARY)) and page.is_file()
        parts += own_entries(page.read_text(encoding="utf-8"), entry) if is_first else []
    listed = {entry["objectID"] for entry in entries}
    entries += [part for part in parts if part["objectID"] not in listed]
    index.write_text(json.dumps(entries, ensure_ascii=False, indent=2), encoding="utf-8")
    return changed


if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "."))
    if (site / "search.json").is_file():
        print(f"figures are out of the search: {finish(site)} entries")
        finish_pages(site)
