"""The entry of a function or a class in the reference, made from the text of its module.

A signature is shown as it is written, with one parameter a line where it is long; what a comment says of a parameter stands in a
list below it. A class shows its fields, and each of its public methods has an entry of its own.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "transfer_study"
SOURCE = "https://github.com/transfer-study/transfer_study/blob/main"
WIDTH = 88
Function = ast.FunctionDef | ast.AsyncFunctionDef
EMPTY = {"list": "[]", "dict": "{}", "tuple": "()", "set": "set()"}


@dataclass(frozen=True)
class Parameter:
    "A parameter of a function, or a field of a class."

    name: str  # with its stars
    annotation: str = ""
    default: str = ""
    meaning: str = ""
    keyword_only: bool = False

    @property
    def text(self) -> str:
        "As it stands in a signature."
        if not self.annotation:
            return self.name + (f"={self.default}" if self.default else "")
        return f"{self.name}: {self.annotation}" + (f" = {self.default}" if self.default else "")


@cache
def parsed(module: str) -> tuple[str, dict[str, ast.AST]]:
    "Text and definitions of a module, by its dotted path below the package."
    text = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    return text, {node.name: node for node in ast.parse(text).body if isinstance(node, Function | ast.ClassDef)}


def comment(text: str, line: int) -> str:
    "What the comment at the end of a line says; nothing for a formatter's mark."
    match = re.search(r"\s#\s+(.*)$", text.splitlines()[line - 1])
    return "" if not match or match.group(1).startswith(("fmt:", "noqa", "type:")) else match.group(1)


class WithoutChecks(ast.NodeTransformer):
    "The type in the place of each `Annotated`."

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node = self.generic_visit(node)
        return node.slice.elts[0] if ast.unparse(node.value) == "Annotated" else node


def code(node: ast.AST | None, text: str = "") -> str:
    "A type or name as code; one that is quoted because it is not imported yet loses its quotes, and `Annotated` its checks."
    if node is None:
        return ""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.expr) and "Annotated" in ast.unparse(node):
        node, text = WithoutChecks().visit(ast.parse(ast.unparse(node), mode="eval")).body, ""
    shown = written(node, text)
    return shown if "Literal[" in shown else re.sub(r'(?<=[\[ ])"([\w.]+)"(?=[\], ])', r"\1", shown)


def written(node: ast.AST | None, text: str = "") -> str:
    "An expression as it is written in the text."
    segment = ast.get_source_segment(text, node) if node is not None and text else None
    return "" if node is None else re.sub(r"\s*\n\s*", " ", segment or ast.unparse(node))


def parameters(node: Function, text: str) -> list[Parameter]:
    "The parameters of a function; a comment belongs to the last parameter of its line."
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    listed = [(name, "", default, False) for name, default in zip(plain, defaults, strict=True)]
    listed += [(arguments.vararg, "*", None, False)] if arguments.vararg else []
    listed += [(name, "", default, True) for name, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    listed += [(arguments.kwarg, "**", None, False)] if arguments.kwarg else []
    ends = [(default or name).end_lineno for name, _, default, _ in listed]
    found = []
    for i, (name, star, default, keyword_only) in enumerate(listed):
        meaning = comment(text, ends[i]) if ends[i] not in ends[i + 1 :] else ""
        found.append(Parameter(star + name.arg, code(name.annotation, text), written(default, text), meaning, keyword_only))
    return [parameter for parameter in found if parameter.name not in ("self", "cls")]


def keywords(node: ast.AST | None) -> dict[str, ast.AST]:
    return {word.arg: word.value for word in node.keywords if word.arg} if isinstance(node, ast.Call) else {}


def fields(node: ast.ClassDef, text: str) -> list[Parameter]:
    "The public fields of a dataclass or pydantic model, with those of the classes of the module that it extends."
    inherited = [definition for base in node.bases for definition in [parsed_class(text, code(base))] if definition]
    listed = {field.name: field for base in inherited for field in fields(base, text)}
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.target.id.startswith("_"):
            continue
        if code(line.annotation).startswith("ClassVar"):  # no field
            continue
        default, options = line.value, keywords(line.value)
        if isinstance(default, ast.Call) and getattr(default.func, "id", "") in ("Field", "field"):
            factory = options.get("default_factory")
            default = default.args[0] if default.args else options.get("default")
            shown = EMPTY.get(code(factory), f"{code(factory)}()") if factory else written(default, text)
        else:
            shown = written(default, text)
        meaning = code(options.get("description")) or comment(text, line.end_lineno)
        name = line.target.id
        listed[name] = Parameter(name, code(line.annotation, text), "" if shown == "..." else shown, meaning)
    return list(listed.values())


def parsed_class(text: str, name: str) -> ast.ClassDef | None:
    return next((node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name), None)


def signature(name: str, listed: list[Parameter], returns: str = "") -> str:
    "A call of `name`, on one line where it fits."
    texts = []
    for i, parameter in enumerate(listed):
        starred = any(p.name.startswith("*") and not p.name.startswith("**") for p in listed[:i])
        if parameter.keyword_only and not starred and "*" not in texts:
            texts.append("*")
        texts.append(parameter.text)
    arrow = f" -> {returns}" if returns else ""
    line = f"{name}({', '.join(texts)}){arrow}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in texts), f"){arrow}"])


def plain(comment: str) -> str:
    "A comment as Markdown: outside code, `@` begins no citation, `*` no emphasis, `<` no tag, and `--` is no dash."
    return re.sub(r"(`[^`]*`)|([@*<])|--", lambda m: m.group(1) or (f"\\{m.group(2)}" if m.group(2) else r"\-\-"), comment)


def meanings(listed: list[Parameter], always: bool = False) -> str:
    "A list of the parameters that a comment explains; of all with their types if `always`."
    lines = []
    for parameter in listed:
        default = f", default `{parameter.default}`" if parameter.default else ""
        kind = f"`{parameter.annotation}`{default}" if always else ""
        if kind or parameter.meaning:
            # What begins with "or" goes on from the default, which stands in the signature.
            first = f"`{parameter.default}` " if parameter.meaning.startswith("or ") and not kind else ""
            lines.append(f"`{parameter.name}`\n:   {': '.join(filter(None, [kind, first + plain(parameter.meaning)]))}")
    return "\n\n".join(lines)


def link(module: str, node: ast.AST) -> str:
    "Where the definition stands in the repository."
    path = f"transfer_study/{module.replace('.', '/')}.py"
    return f"[source]({SOURCE}/{path}#L{node.lineno}){{.source-link}}"


def anchor(module: str, name: str) -> str:
    "The anchor of an entry: the name in lower case; a class that a function of its module would share it with has another."
    is_shared = name != name.lower() and name.lower() in parsed(module)[1]
    return name.lower() + "-class" * is_shared


def heading(module: str, name: str, level: int) -> str:
    return f"{'#' * level} `{name}` {{#{anchor(module, name)}}}"


def docstring(node: ast.AST) -> str:
    "The docstring as Markdown: outside code, `<class>` is no tag, and an address is a link."
    text = (ast.get_docstring(node) or "").strip()
    pattern = r"(```.*?```|`[^`]*`|\]\([^)]*\)|<https?://[^>]*>)|(https?://[^\s)>]*[^\s)>.,;])|<"
    return re.sub(pattern, lambda m: m.group(1) or (f"<{m.group(2)}>" if m.group(2) else r"\<"), text, flags=re.S)


def decorators(node: Function) -> set[str]:
    return {code(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list}


def function_entry(module: str, node: Function, name: str = "", level: int = 3, owner: str = "") -> str:
    "The entry of a function, or of a method of the class `owner`."
    text, _ = parsed(module)
    called, kinds = name or node.name, decorators(node)
    if kinds & {"property", "cached_property"}:
        returns = code(node.returns, text)
        parts = [f"```python\n{called}" + (f": {returns}" if returns else "") + "\n```", "*Property.* " + docstring(node)]
        return "\n\n".join([heading(module, called, level), link(module, node), *parts])
    listed = parameters(node, text)
    parts = [
        f"```python\n{signature(called, listed, code(node.returns, text).replace('Self', owner or 'Self'))}\n```",
        docstring(node),
    ]
    explained = meanings(listed)
    parts += [f"::: {{.parameters}}\n{explained}\n\n:::"] if explained else []
    return "\n\n".join([heading(module, called, level), link(module, node), *filter(None, parts)])


def is_shown(node: ast.AST) -> bool:
    "Whether a part of a class has an entry: public methods, and what makes an object callable, if there are words on it."
    return isinstance(node, Function) and (not node.name.startswith("_") or node.name == "__call__") and bool(docstring(node))


def class_entry(module: str, node: ast.ClassDef, level: int = 3) -> str:
    "The entry of a class: its fields or the arguments of its constructor, then an entry for each method."
    text, _ = parsed(module)
    made = [n for n in node.body if isinstance(n, Function) and n.name == "__init__"]
    bases = [code(base) for base in node.bases]
    if made:
        listed = parameters(made[0], text)
        explained = meanings(listed)
    else:
        listed = fields(node, text)
        explained = meanings(listed, always=True)
    extends = f"  # extends {', '.join(bases)}" if bases and not bases[0].startswith("_") else ""
    first = f"class {node.name}{extends}" if not made else f"class {signature(node.name, listed)}{extends}"
    parts = [f"```python\n{first}\n```", docstring(node)]
    parts += [f"::: {{.parameters}}\n{explained}\n\n:::"] if explained else []
    entry = "\n\n".join([heading(module, node.name, level), link(module, node), *filter(None, parts)])
    methods = [function_entry(module, n, f"{node.name}.{n.name}", level + 1, node.name) for n in node.body if is_shown(n)]
    return "\n\n".join([entry, *methods])


def entry(module: str, name: str, level: int = 3) -> str:
    "The entry of `name` of a module, such as `study.study` and `Study`, as Markdown."
    node = parsed(module)[1][name]
    return class_entry(module, node, level) if isinstance(node, ast.ClassDef) else function_entry(module, node, level=level)


def public_names(module: str) -> list[str]:
    "The functions and classes in `__all__` of a module."
    text, definitions = parsed(module)
    exported = re.search(r"^__all__ = (\[.*?\])", text, re.M | re.S)
    return [name for name in ast.literal_eval(exported.group(1)) if name in definitions] if exported else []


def anchors(module: str) -> dict[str, str]:
    "What has an entry on the page of a module, `Study.run` for example, and its anchor."
    names = {}
    for name in public_names(module):
        node = parsed(module)[1][name]
        names[name] = anchor(module, name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{name}.{part.name}": f"{name}.{part.name}".lower() for part in node.body if is_shown(part)}
    return names
