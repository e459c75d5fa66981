"""The first page of the reference and the page of the commands, made from the modules and from the commands' own help."""

import re
from typing import Any

import site_entries
import site_links
import typer

import transfer_study

# What a user needs first: the order of the reference's sections, with a word on each.
ROOMS = {
    "study": "A study: file, plan, runs, results",
    "statistics": "From a table of results to correlations, intervals and comparisons",
    "transfer_study": "The results table, and what all modules share",
    "tables": "Tables of others: files, cells, columns, metrics",
    "figures": "Charts and the report",
    "selection": "Which network for your images, and the classifier that comes of it",
    "cli": "The commands",
    "classifiers": "Classifiers on fixed features",
    "features": "Features of images, by one pass for many networks",
    "images": "Image sets: folders, tar files, official and drawn datasets",
    "networks": "Networks by name, with checked weights",
    "training": "Fine-tuning, training from scratch, and source networks",
    "duplicates": "Near-duplicates, and scores without them",
}
# Modules that users need for what is not a name of the package: keys, columns, commands.
FOR_USERS = {"study.file", "statistics.columns", "results"}
MADE = "<!-- Made by tools/make_site.py. -->"


def front(title: str, description: str) -> str:
    return f'---\ntitle: "{title}"\ndescription: "{description}"\n---\n\n{MADE}'


def face_of(module: str) -> list[str]:
    "The names of a module that `import transfer_study` gives."
    return [name for name, place in transfer_study._MODULE_OF.items() if place == module]


def is_for_users(module: str) -> bool:
    return bool(face_of(module)) or module in FOR_USERS


def page_of(module: str) -> str:
    "The page of a module, from the first page of the reference."
    return site_links.relative(site_links.modules()[module], "api/index.html")


def landing(groups: dict[str, list[tuple[str, str, str]]]) -> str:
    "The first page of the reference; `groups` has file name, title and subtitle of the modules of each room."
    parts = [
        front("Reference", "Every module, what users need first"),
        "`import transfer_study as ts` gives the names in the first table. Elsewhere: [the commands](command_line.qmd), "
        f"[the keys of a study file]({page_of('study.file')}), and [the columns of the tables of an "
        f"analysis]({page_of('statistics.columns')}).",
        "## Names of the package",
        "| name | for |\n|:-----|:---------------|\n"
        + "\n".join(face_row(name, module) for name, module in transfer_study._MODULE_OF.items()),
        "## Modules",
        "Those marked *internal* are what the others are made of. Each page is also the notebook that is the module's source. "
        "Names that begin with an underscore are private; the notebook shows their code.",
    ]
    for room, modules in groups.items():
        rows = [
            f"| [{title}]({file}){'' if is_for_users(title) else ' *internal*'} | {subtitle} |"
            for file, title, subtitle in modules
        ]
        parts.append(
            f"### {ROOMS.get(room, room)} {{#{room}}}\n\n| module | content |\n|:------|:--------------|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def face_row(name: str, module: str) -> str:
    "A row of the table of names: the name, linked to its entry, and the first sentence of its docstring."
    _, definitions = site_entries.parsed(module)
    node = definitions.get(name)
    where = f"{page_of(module)}#{name.lower()}"
    words = site_entries.docstring(node).splitlines()[0].rstrip(".") if node else "re-exported"
    methods = {called: anchor for called, anchor in site_entries.anchors(module).items() if called.startswith(f"{name}.")}
    listed = ", ".join(f"[`.{called.split('.')[1]}`]({page_of(module)}#{anchor})" for called, anchor in methods.items())
    return f"| [`{name}`]({where}) | {words.replace('|', chr(92) + '|')}{f'. Methods: {listed}' if listed else ''} |"


def literal(text: str) -> str:
    "A help text as Markdown that shows it as it is: no emphasis, no dash in the place of `--`, no curly quotes."
    return re.sub(r"""([\\`*_<>|$~^@#"'\[\]]|--)""", lambda match: "".join(f"\\{sign}" for sign in match.group(1)), text)


def option(parameter: Any, context: Any) -> str:
    "An argument or option of a command, as a definition in the words of its help."
    name, words = parameter.get_help_record(context)
    name = re.sub(r" <list\[\w+\]>$", "", name)  # Typer names the type as Python does
    words = re.sub(r"\s*\[((?:default|x|required|[0-9<>=. ]+)[^\]]*)\]$", r" (\1)", " ".join(words.split()))
    return f"`{name}`\n:   {literal(words) or '—'}"


def command_entry(name: str, command: Any) -> str:
    "The entry of a command: usage, what it does, arguments and options."
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([f"transfer-study {name}", *command.collect_usage_pieces(context)])
    listed = [option(p, context) for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    parts = [f"## {name} {{#{name}}}", f"```sh\n{usage}\n```", literal(re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or ""))]
    return "\n\n".join([*parts, "::: {.parameters}\n" + "\n\n".join(listed) + "\n\n:::"] if listed else parts)


def commands() -> dict[str, Any]:
    "The commands by name, in the order of the help."
    from transfer_study.cli.main import app

    return dict(typer.main.get_command(app).commands)


def command_of(module: str, name: str) -> str:
    "The command that a function of a module is; nothing for other functions."
    callbacks = {command.callback: command_name for command_name, command in commands().items()}
    return next((c for f, c in callbacks.items() if f.__module__ == f"transfer_study.{module}" and f.__name__ == name), "")


def command_line() -> str:
    "The page of the commands, from the help that each of them shows."
    parts = [
        front("Command line", "Every command of transfer-study with its arguments and options, in the words of its help"),
        "Results go to stdout and messages to stderr. `--json` prints results for programs. The exit code is 0 for success, 1 if "
        "runs of a study failed or for an error in the package, 2 for a mistake in the input, and 130 after Ctrl-C.",
    ]
    return "\n\n".join(parts + [command_entry(name, command) for name, command in commands().items()]) + "\n"
