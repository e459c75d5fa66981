"""Writes what follows from the notebooks: navigation, the first page of the reference, the page of the commands, nbs/llms.txt,
README.md and the picture at its top.

`--check` writes nothing and ends with exit code 1 where one of them is not what the notebooks say.
"""

import json
import re
import sys
from pathlib import Path

import site_reference
import yaml

from transfer_study.figures.theme import theme

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
HOST = "https://transfer-study.github.io/transfer_study"
# Pages in reading order; a notebook of the folder that is not named here follows in alphabetical order.
PAGES = {
    "Start here": ("tutorials", ["five_minutes", "which_network", "quickstart", "fixed_features", "fine_tuning", "real_images",
                                 "still_transfer_better"]),
    "How to": ("howto", ["recommend", "use_classifier", "own_table", "own_network", "any_network", "add_dataset", "from_python",
                         "cluster", "real_data", "full_scale", "questions"]),
    "The paper": ("paper", ["headline", "still_true", "per_dataset", "rank_correlation", "settings", "settings_finetuned",
                            "fixed_against_finetuned", "convergence", "dataset_size", "near_duplicates", "augmentation",
                            "other_predictors", "transferability", "specialised_methods"]),
    "Understanding": ("explanations", ["why_log_odds", "what_we_promise", "how_fast", "glossary"]),
}  # fmt: skip


def notebook(path: Path) -> list[dict]:
    "The cells of a notebook, their sources as text."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def title_of(path: Path) -> tuple[str, str]:
    "Title and subtitle of a page; the first sentence where it has no subtitle."
    lines = notebook(path)[0]["source"].splitlines()
    subtitle = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    text = " ".join(line for line in lines[1:] if line).strip()
    return lines[0].removeprefix("# "), subtitle[0] if subtitle else re.split(r"(?<=[.?]) ", text)[0]


def group_of(path: Path) -> str:
    "Where a module stands in the reference."
    return "/".join(path.relative_to(NBS / "api").parent.parts) or "transfer_study"


def structure() -> dict[str, list[Path]]:
    "Every notebook of the site, in the order of the sidebar; the groups of the reference begin with `Reference: `."
    found = {}
    for title, (folder, order) in PAGES.items():
        pages = sorted(NBS.glob(f"{folder}/*.ipynb"))
        found[title] = sorted(pages, key=lambda p, order=order: (order.index(p.stem) if p.stem in order else len(order), p.stem))
    modules = [p for p in sorted(NBS.glob("api/**/*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    for title in sorted({group_of(p) for p in modules}, key=list(site_reference.ROOMS).index):
        found[f"Reference: {title}"] = [p for p in modules if group_of(p) == title]
    return {title: pages for title, pages in found.items() if pages}


def sidebar() -> str:
    "Quarto's navigation."
    sections, reference = [{"text": "Home", "href": "index.ipynb"}], []
    for title, pages in structure().items():
        if title.startswith("Reference: "):  # below the name of its room, a module goes by its own name
            entries = [{"text": title_of(p)[0].split(".")[-1], "href": p.relative_to(NBS).as_posix()} for p in pages]
            reference.append({"section": title.removeprefix("Reference: "), "contents": entries})
        else:
            sections.append({"section": title, "contents": [p.relative_to(NBS).as_posix() for p in pages]})
    first = [{"text": "All names and modules", "href": "api/index.qmd"}, "api/command_line.qmd"]
    sections.append({"section": "Reference", "contents": [*first, *reference]})
    settings = {"style": "floating", "collapse-level": 1, "contents": sections}
    text = yaml.safe_dump({"website": {"sidebar": settings}}, sort_keys=False)
    return "# Made by tools/make_site.py from the notebooks.\n" + text


def address(path: Path) -> str:
    "Where Quarto puts the page of a notebook: a module's without its number."
    folder, name = path.parent.relative_to(NBS).as_posix(), path.stem
    return f"{HOST}/{folder}/{name.split('_', 1)[1] if folder.split('/')[0] == 'api' else name}.html"


def llms_txt() -> str:
    "The site for readers that are programs: every page with one line of what it holds (llmstxt.org)."
    title, subtitle = title_of(NBS / "index.ipynb")
    parts = [f"# {title}", f"> {subtitle}"]
    for group, pages in structure().items():
        entries = [f"- [{name}]({address(p)}): {text}" for p in pages for name, text in [title_of(p)]]
        if group == next(name for name in structure() if name.startswith("Reference: ")):
            entries.insert(0, f"- [Command line]({HOST}/api/command_line.html): Every command with its arguments and options")
        parts.append(f"## {group}\n\n" + "\n".join(entries))
    return "\n\n".join(parts) + "\n"


def reference() -> str:
    "The first page of the reference."
    rooms = {}
    for group, pages in structure().items():
        if group.startswith("Reference: "):
            listed = [(p.relative_to(NBS / "api").as_posix(), *title_of(p)) for p in pages]
            rooms[group.removeprefix("Reference: ")] = listed
    return site_reference.landing(rooms)


def main_figure() -> tuple[str, str]:
    "The first picture that the home page stores, and what it shows in words."
    outputs = [output["data"] for cell in notebook(NBS / "index.ipynb") for output in cell.get("outputs", []) if "data" in output]
    svg = next("".join(data["image/svg+xml"]) for data in outputs if "image/svg+xml" in data)
    return svg, re.search(r'aria-label="([^"]*)"', svg).group(1)


def darkened(svg: str) -> str:
    "The same picture for a dark page."
    light, dark = theme(), theme(dark=True)
    for name, key in [("text", "fill"), ("axis", "labelColor"), ("axis", "gridColor")]:
        svg = svg.replace(light[name][key], dark[name][key])
    return svg


def readme() -> str:
    "The home page as GitHub shows it: the same text and code, the picture from its file, links into the repository."
    parts = []
    for cell in notebook(NBS / "index.ipynb"):
        source = cell["source"]
        if source.startswith(("#| hide", "#| site")):
            continue
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](nbs/\1)", source))
            continue
        data = [output.get("data", {}) for output in cell["outputs"]]
        if any("image/svg+xml" in each for each in data):
            dark = '<source media="(prefers-color-scheme: dark)" srcset="nbs/images/headline_dark.svg">'
            parts.append(f'<picture>{dark}<img alt="{main_figure()[1]}" src="nbs/images/headline.svg"></picture>')
        parts.append(f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def files() -> dict[Path, str]:
    "Everything made here."
    picture = main_figure()[0]
    return {NBS / "sidebar.yml": sidebar(), NBS / "llms.txt": llms_txt(), ROOT / "README.md": readme(),
            NBS / "api" / "index.qmd": reference(), NBS / "api" / "command_line.qmd": site_reference.command_line(),
            NBS / "images" / "headline.svg": picture, NBS / "images" / "headline_dark.svg": darkened(picture)}  # fmt: skip


if __name__ == "__main__":
    made = files()
    if "--check" in sys.argv:
        stale = [str(p.relative_to(ROOT)) for p, text in made.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
        sys.exit(f"not what the notebooks say: {', '.join(stale)}; run tools/make_site.py" if stale else 0)
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
