"""What tools/prepare_site.py does to cells, signatures and links, on small inputs with a known answer."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import prepare_site
import site_cells
import site_entries
import site_links
import site_reference


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def shown(*cells: dict) -> list[str]:
    return [cell["source"] for cell in site_cells.clean_cells(list(cells))]


def test_cells_that_only_check_are_hidden():
    assert shown(code("assert x == 1"), code("if x:\n    assert y\n")) == []
    assert shown(code("n = 3\nassert n == 3")) == []
    assert shown(code("def f():\n    return 3\n\n\nassert f() == 3")) == []
    assert shown(code("pd.options.display.max_colwidth = None")) == []


def test_what_a_later_cell_uses_stays_without_its_check():
    assert shown(code("n = 3\nassert n == 3"), code("print(n)")) == ["n = 3", "print(n)"]
    assert shown(code("n = 3\nassert n == 3\nn", {"data": {"text/plain": "3"}})) == ["n = 3\nn"]


def test_a_check_that_the_text_announces_stays():
    text = {"cell_type": "markdown", "source": "Both are the same:"}
    assert shown(text, code("assert a == b")) == ["Both are the same:", "assert a == b"]
    assert shown(text, code("assert a == b"), code("a")) == ["Both are the same:", "a"]
    entry = {"cell_type": "markdown", "source": "::: {.parameters}\n`a`\n:   of b\n\n:::"}
    assert shown(entry, code("assert a == b")) == [entry["source"]]


def test_marks_and_directives_for_tools_are_gone():
    source = "#| slow\n#| fig-alt: A figure of something.\nx = f(  # noqa: E501\n    1)  # fmt: skip"
    assert shown(code(source)) == ["#| fig-alt: A figure of something.\nx = f(\n    1)"]


def test_long_code_for_a_figure_and_lists_of_imports_are_folded():
    figure = {"data": {"image/svg+xml": "<svg></svg>"}}
    long = "a = 1\nb = 2\nc = 3\nchart(a, b, c)"
    assert shown(code(long, figure))[0].startswith("#| code-fold: true\n") and shown(code(long)) == [long]
    assert shown(code("chart(a)", figure)) == ["chart(a)"]
    assert shown(code("import a\n\nchart(a)", figure))[0].startswith("#| code-fold: true\n")
    assert 'code-summary: "How this is computed"' in shown(code("Markdown(f'{a}')"))[0]
    imports = "import a\nimport b\nimport c\nfrom d import e"
    assert 'code-summary: "Imports"' in shown(code(imports))[0]
    assert 'code-summary: "Imports and set-up"' in shown(code(f"{imports}\na.options.width = 120"))[0]
    assert 'code-summary: "Imports and set-up"' in shown(code(f"{imports}\n\n\ndef f():\n    return 1"))[0]
    assert shown(code(f"{imports}\nf()\ng()")) == [f"{imports}\nf()\ng()"]
    assert shown(code(imports), code(long, figure)) == [f"{shown(code(long, figure))[0].removesuffix(long)}{imports}\n\n{long}"]


def test_words_in_a_table_are_set_at_the_left_and_numbers_at_the_right():
    import pandas as pd

    table = pd.DataFrame({"name": ["a", "NaN"], "n": [1, 2], "share": [0.5, float("nan")]}).to_html()
    html = site_cells.html_as_markdown({"text/html": table})["text/markdown"]
    marked = re.findall(r'<t[hd] class="words">(.*?)</t', html)
    assert marked == ["name", "a", "NaN"] and re.findall(r"<td>(.*?)</td>", html) == ["1", "0.5", "2", "NaN"]


def test_the_name_of_an_index_stands_in_the_header_and_backticks_mark_code():
    import pandas as pd

    table = pd.DataFrame({"n": [1]}, index=pd.Index(["a `b`"], name="key")).reset_index().set_index("key").to_html()
    html = site_cells.html_as_markdown({"text/html": table.replace("<td>1", "<td>as `b`")})["text/markdown"]
    assert re.findall(r"<th[^>]*>(.*?)</th>", html)[:2] == ["key", "n"] and html.count("<tr") == 2 and "as <code>b</code>" in html


def test_cells_with_many_words_have_a_mark_with_their_length():
    table = '<table class="dataframe"><thead><tr><th>a title of many words</th></tr></thead>'
    table += "<tr><th>an index of words</th><td>17 words and more</td><td>a_name_without_an_end</td><td>few words</td></tr>"
    marked = re.findall(r'<(t[hd]) class="(?:words )?long" style="--letters: (\d+)">', site_cells.with_long_cells(table))
    assert marked == [("th", "17"), ("td", "17")]
    cells = "<td>-0.8 to 0.9</td><td>1 to n</td>"
    assert site_cells.with_whole_intervals(cells) == cells.replace("-0.8 to 0.9", "-0.8&nbsp;to&nbsp;0.9")


def test_negative_numbers_in_composed_texts_have_minus_signs():
    text = "from -0.3 to x-1 (-2), [a](b-2.html), `-1`\n| -1 |"
    assert site_cells.with_minus_signs(text) == "from −0.3 to x-1 (−2), [a](b-2.html), `-1`\n| -1 |"


def test_a_number_stays_on_one_line_with_its_sign_or_unit():
    text = "# 90 % of\n\n95 % of 5 GB, odds × 2, 3 ways, `5 %`\n```sh\n5 %\n```"
    whole = "# 90 % of\n\n95\u00a0% of 5\u00a0GB, odds ×\u00a02, 3 ways, `5 %`\n```sh\n5 %\n```"
    assert site_cells.with_whole_quantities(text) == whole
    cell = {"outputs": [{"data": {"text/markdown": "95 %"}}]}
    site_cells.clean_outputs(cell)
    assert cell["outputs"][0]["data"]["text/markdown"] == "95\u00a0%"


def test_a_text_whose_definition_is_private_ends_with_a_full_stop():
    sources = ["Of all:", "## `f` {#f}", "The rest is counted:", "## Next", "So:", "| a |\n|---|"]
    cells = site_cells.without_open_ends([{"cell_type": "markdown", "source": source} for source in sources])
    assert [cell["source"] for cell in cells] == [*sources[:2], "The rest is counted.", *sources[3:]]


def test_many_exclusions_are_folded_and_few_are_not():
    lines = "".join(f"- linear: left out net{i}: at chance\n" for i in range(3))
    text = site_cells.fold_exclusions("- linear: r = 0.93\n" + lines)
    assert "<summary>3 left out, with the reason</summary>" in text and text.startswith("- linear: r = 0.93\n")
    assert site_cells.fold_exclusions("- linear: left out a: at chance\n") == "- linear: left out a: at chance\n"


def test_a_heading_with_nothing_below_it_is_not_shown():
    text = [{"cell_type": "markdown", "source": source} for source in ("## Empty", "## Full", "Words", "### Last")]
    assert [cell["source"] for cell in site_cells.without_empty_headings(text)] == ["## Full", "Words"]


MODULE = """
@dataclass
class Options:
    "Options."
    size: Annotated[int, Field(ge=1)] = 3  # pixels
    rate: float = Field(1e-3, description="learning rate")
    names: list["str"] = field(default_factory=list)
    _cache: dict = field(default_factory=dict)  # private

    def run(self, out: "Path", *, fast: bool = False) -> "Self":
        "Runs."

    def after_batch(self):
        pass


def draw(a: int, b: int = 2,  # or 3, of <b>
         *args: str, c: str = "x",  # of c
         **options: Any) -> None:  # fmt: skip
    "Draws; see https://a.org/b."
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(MODULE)
    monkeypatch.setattr(site_entries, "PACKAGE", tmp_path)
    site_entries.parsed.cache_clear()
    yield "made"
    site_entries.parsed.cache_clear()


def test_a_comment_belongs_to_the_last_parameter_of_its_line(module):
    text = site_entries.entry(module, "draw")
    assert 'draw(a: int, b: int = 2, *args: str, c: str = "x", **options: Any) -> None' in text
    assert re.findall(r"^`(\w+)`\n:   (.*)$", text, re.M) == [("b", r"`2` or 3, of \<b>"), ("c", "of c")]
    assert "Draws; see <https://a.org/b>." in text


def test_signs_of_markdown_in_a_comment_are_shown_as_they_are():
    assert site_entries.plain("`a*b@c` or @d, e*, --f") == r"`a*b@c` or \@d, e\*, \-\-f"


def test_entries_stand_in_the_order_of_their_definitions(module):
    cells = [{"cell_type": "code", "source": f"#| echo: false\nshow_doc({name})"} for name in ("draw", "Options")]
    assert prepare_site.in_order([*cells, {"cell_type": "code", "source": "1"}], module)[:2] == cells[::-1]


def test_a_class_shows_public_fields_and_methods(module):
    text = site_entries.entry(module, "Options")
    assert re.findall(r"^`(\w+)`\n:   (.*)$", text, re.M) == [
        ("size", "`int`, default `3`: pixels"),
        ("rate", "`float`, default `1e-3`: learning rate"),
        ("names", "`list[str]`, default `[]`"),
    ]
    assert (
        "after_batch" not in text
        and "#### `Options.run` {#options.run}" in text
        and "Options.run(out: Path, *, fast: bool = False) -> Options" in text
    )


def test_names_are_linked_where_they_mean_one_thing():
    text = site_links.link_names(
        "`Study.run`, `analyze`, `statistics.analysis`, `networks`, `results` and `count_mismatch`", "a/b.html"
    )
    assert (
        "[`Study.run`](../api/study/study.html#study.run)" in text
        and "[`analyze`](../api/statistics/analysis.html#analyze)" in text
    )
    assert "[`statistics.analysis`](../api/statistics/analysis.html)" in text
    link = site_links.link_tests("| a | `tests/a/test_b.py::test_c` |")
    assert '/main/tests/a/test_b.py"><code>tests/<wbr>a/' in link and link.replace("<wbr>", "").endswith(
        r"::test\_c</code></a> |"
    )
    assert text.endswith("`networks`, `results` and `count_mismatch`")
    code = "```python\n`analyze`\n```\n# `analyze`\n[`analyze`](x.html)"
    assert site_links.link_names(code, "a/b.html") == code


def test_a_term_is_linked_once_and_not_within_code():
    done: set[str] = set()
    text = site_links.link_terms("`log-odds` and log-odds and log-odds", "paper/headline.html", done)
    assert (
        text.count("](../explanations/glossary.html#log-odds ") == 1
        and text.startswith("`log-odds` and [log-odds](")
        and done == {"log-odds"}
    )


def test_help_is_shown_as_it_is():
    assert site_reference.literal("such as 'a*,b*'; no --x") == r"such as \'a\*,b\*\'; no \-\-x"


def test_the_page_of_the_commands_has_every_option_with_its_help():
    page = site_reference.command_line()
    assert "list[" not in page and "[[" not in page, "a type of Python in the place of a word"
    for name, command in site_reference.commands().items():
        section = page.split(f"## {name} {{#{name}}}")[1].split("\n## ")[0]
        options = [option for p in command.params if p.param_type_name == "option" and p.name != "help" for option in p.opts]
        assert options and all(re.search(rf"`[^`\n]*{re.escape(option)}\b", section) for option in options), name
        assert not re.search(r"^:   —$", section, re.M), f"{name}: an option without help"
    assert site_reference.command_of("cli.main", "analyze") == "analyze" and not site_reference.command_of(
        "statistics.analysis", "analyze"
    )
