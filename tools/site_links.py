"""Which words of a page lead where: names of the package to their entries, terms of the glossary to their definitions.

A name in backticks becomes a link where it can mean one thing only: a name of the public face, a method with its class
(`Study.run`), a module (`statistics.analysis`), or a name that one module alone exports and that the code uses for nothing else.
A column such as `count_mismatch` or a command such as `networks` stays as it is. A term is linked where a page uses it first.
"""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import site_entries

import transfer_study

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
GLOSSARY = "explanations/glossary"
PROTECTED = re.compile(
    r"(```.*?```|^`[^`\n]+`$|^(?:#|:::|> |\|)[^\n]*$|!?\[(?:[^\[\]]|\[[^\]]*\])*\]\([^)]*\)|<[^>]+>|\$[^$\n]+\$)", re.M | re.S
)  # code, parameters, headings, fences, quotes, tables, links, HTML, formulas


@dataclass(frozen=True)
class Term:
    "An entry of the glossary."

    name: str
    anchor: str
    meaning: str
    forms: tuple[str, ...] = field(default=())  # other ways to write it
    is_telling: bool = field(default=True)  # whether a single word means this, and not what everybody means by it


def module_of(notebook: Path) -> str:
    "The module that a notebook of nbs/api exports, by its dotted path below the package; nothing for other pages."
    if notebook.is_relative_to(NBS / "api"):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if match := re.match(r"#\| default_exp (\S+)", "".join(cell["source"])):
                return match.group(1)
    return ""


def page_of(notebook: Path) -> str:
    "Where Quarto puts the page of a notebook, below the site's root: a module's without its number."
    folder, name = notebook.parent.relative_to(NBS).as_posix(), notebook.stem
    return f"{folder}/{re.sub(r'^[0-9]+_', '', name) if folder.split('/')[0] == 'api' else name}.html".removeprefix("./")


@cache
def modules() -> dict[str, str]:
    "Page of each module."
    notebooks = [p for p in sorted(NBS.glob("api/**/*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    return {module_of(p): page_of(p) for p in notebooks if module_of(p)}


@cache
def used_as_text() -> set[str]:
    "Names that the code also uses as text: columns, keys, commands."
    words = set()
    for path in site_entries.PACKAGE.rglob("*.py"):
        if path.name not in ("__init__.py", "_modidx.py"):
            text = re.sub(r"^__all__ = \[.*?\]", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
            words |= set(re.findall(r"[\"'](\w+)[\"']", text))
    return words


@cache
def names() -> dict[str, str]:
    "Address, below the site's root, of every name that means one thing only."
    everywhere: dict[str, set[str]] = {}
    addresses = {module: page for module, page in modules().items() if "." in module}
    for module, page in modules().items():
        for name, anchor in site_entries.anchors(module).items():
            addresses[f"{module}.{name}"] = f"{page}#{anchor}"
            everywhere.setdefault(name, set()).add(f"{page}#{anchor}")
    for name, places in everywhere.items():
        is_telling = "." in name or name.lower() != name or ("_" in name and name not in used_as_text())
        if len(places) == 1 and is_telling:
            addresses[name] = next(iter(places))
    face = {name: module for name, module in transfer_study._MODULE_OF.items() if name in site_entries.parsed(module)[1]}
    return addresses | {name: f"{modules()[module]}#{name.lower()}" for name, module in face.items() if module in modules()}


@cache
def terms() -> tuple[Term, ...]:
    "The glossary's entries: a heading, other forms in its attributes, the first sentence below it."
    page = NBS / f"{GLOSSARY}.ipynb"
    if not page.is_file():
        return ()
    text = "\n\n".join(
        "".join(c["source"]) for c in json.loads(page.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown"
    )
    listed = []
    for name, anchor, attributes, body in re.findall(r"^### (.+?) \{#([\w-]+)([^}]*)\}\n+(.+?)(?=\n\n|\Z)", text, re.M | re.S):
        forms = re.search(r'forms="([^"]*)"', attributes)
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", " ".join(body.split()))
        meaning = re.match(r".*?[.:](?= [A-ZÀ-Ž]|$)", plain)
        others = tuple(forms.group(1).split(", ")) if forms else ()
        listed.append(Term(name, anchor, meaning.group(0) if meaning else plain, others, ".common" not in attributes))
    return tuple(sorted(listed, key=lambda term: -len(term.name)))  # `source accuracy` before `accuracy`


def relative(address: str, page: str) -> str:
    "A link from one page of the site to an address below its root."
    target, hash_, anchor = address.partition("#")
    path = "" if target == page else os.path.relpath(target, Path(page).parent or ".").replace(os.sep, "/")
    return f"{path}{hash_}{anchor}"


def outside(pattern: re.Pattern, replace, text: str) -> str:
    "Replaces what a pattern matches outside code blocks, links, headings, tables and formulas."
    parts = PROTECTED.split(text)
    return "".join(part if i % 2 else pattern.sub(replace, part) for i, part in enumerate(parts))


def link_names(text: str, page: str) -> str:
    "Markdown with its names in backticks linked to their entries."

    def linked(match: re.Match) -> str:
        name = match.group(1).removeprefix("ts.").removeprefix("transfer_study.").removesuffix("()")
        address = names().get(name)
        if not address or (page.startswith("api/cli/") and "." not in name and "_" not in name):
            return match.group(0)
        where = relative(address, page)
        return f"[{match.group(0)}]({where})" if where else match.group(0)

    return outside(re.compile(r"(?<!`)`([A-Za-z_][\w.]*(?:\(\))?)`(?!`)"), linked, text)


def link_tests(text: str) -> str:
    "Markdown with tests in backticks, `tests/FILE.py::NAME`, linked to their file in the repository; lines break between words."

    def linked(match: re.Match) -> str:
        name = re.sub(r"([/_]|(?=::))", r"\1<wbr>", match.group(1)).replace("_", r"\_")
        return f'<a class="test" href="{site_entries.SOURCE}/{match.group(2)}"><code>{name}</code></a>'

    return re.sub(r"(?<!\[)`((tests/[\w/]+\.py)::\w+)`", linked, text)


def term_pattern(term: Term) -> re.Pattern:
    "What counts as a use of a term, as group 1: its name or another form, with a capital too, or `code:` forms in backticks."
    words = [form for form in (term.name, *term.forms) if not form.startswith("code:") and (term.is_telling or " " in form)]
    words = sorted({*words, *(form[0].upper() + form[1:] for form in words)}, key=len, reverse=True)
    named = [f"`{form.removeprefix('code:')}`" for form in term.forms if form.startswith("code:")]
    plain = rf"(?<![\w`-])(?:{'|'.join(map(re.escape, words))})(?![\w`-])" if words else "(?!)"
    return re.compile(rf"({'|'.join([*map(re.escape, named), plain])})|`[^`\n]*`")


def link_terms(text: str, page: str, done: set[str]) -> str:
    "Markdown with the first use of each term linked to the glossary; `done` has the terms that the page has linked already."
    for term in terms() if page != f"{GLOSSARY}.html" else ():
        if term.anchor in done:
            continue
        meaning, where = term.meaning.replace('"', "'"), relative(f"{GLOSSARY}.html#{term.anchor}", page)

        def linked(match: re.Match, term: Term = term, meaning: str = meaning, where: str = where) -> str:
            if not match.group(1) or term.anchor in done:
                return match.group(0)
            done.add(term.anchor)
            return f'[{match.group(0)}]({where} "{meaning}"){{.term}}'

        text = outside(term_pattern(term), linked, text)
    return text
