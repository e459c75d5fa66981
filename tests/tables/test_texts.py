"""Rows of text files: no row is lost without a word, and no cell gets digits that are not its own."""

import csv

import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.tables.texts import decode, delimited_records

CHINESE = "not UTF-8, read as Chinese (GB18030); if names look wrong, save it as UTF-8"
LATIN = "not UTF-8, read as Latin-1 (Windows-1252); if names look wrong, save it as UTF-8"
ROWS = ["network,source_accuracy,pets,birds,notes", *(f"n{i},0.{60 + i},0.{80 + i},0.{50 + i},ok" for i in range(8))]
SCORES = {f"n{i}": (round(0.8 + i / 100, 6), round(0.5 + i / 100, 6)) for i in range(8)}


def scores(path, **options):
    "Scores on pets and birds by network, and what is said on reading."
    rows = read_table(path, **options)
    wide = rows.pivot(index="network", columns="dataset", values="score").round(6)
    return {name: (row["pets"], row["birds"]) for name, row in wide.iterrows()}, " | ".join(rows.attrs["reading"])


def changed(row, old, new):
    return "\n".join(line.replace(old, new) if i == row else line for i, line in enumerate(ROWS)) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(4, ",ok", ',"best run, see log'), "line 5: a quote opens in this row and is never closed"),
        (changed(4, ",ok", ',"best run').replace(",", "\t"), "line 5: a quote opens in this row and is never closed"),
        (changed(4, "n3", '"n3'), "line 5: a quote opens in this row and is never closed"),
        (changed(4, "0.83", '"0.83'), "line 5: a quote opens in this row and is never closed"),
        (changed(4, ",ok", ',"best run').replace("0.57,ok", '0.57,"a, b"'), "line 5: a quote .* is closed in line 9"),
        (changed(4, ",ok", ',"best run').replace("0.54,ok", '0.54,"fine"'), "line 5: a quote .* is closed in line 6"),
        (changed(4, ",ok", ',"best run').replace("n4,", '"n4",'), "line 5: a quote .* is closed in line 6"),
        (changed(4, ",ok", ',"' + "x" * 200_000), "line 5: a cell of more than 131,072 characters"),
    ],
)
def test_a_quote_that_is_not_closed_never_swallows_rows(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    for percent in (False, True):
        with pytest.raises(UserError, match=message) as error:
            read_table(tmp_path / "t.csv", percent=percent)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        changed(4, ",ok", ',"best run,\nsee log, page 3"'),
        changed(4, ",ok", ',"best\nrun"').replace("n4,", '"n4",'),
        changed(4, ",ok", ',"old" weights').replace("0.55,ok", '0.55,14" disk'),
        changed(0, "network", '"net\nwork"').replace("net\nwork", "network\n"),
        changed(8, ",ok", ',"he said ""no"""').rstrip("\n"),
        changed(3, "n2", '"n2\n"'),
    ],
)
def test_quotes_as_people_and_spreadsheets_write_them(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert scores(tmp_path / "t.csv")[0] == SCORES


def test_a_row_of_several_lines_has_its_first_line():
    records, _ = delimited_records('a,b\nx,"1\n2\n3"\ny,4\n', "t.csv")
    assert [line for line, _ in records] == [1, 2, 5] and csv.field_size_limit() == 131_072


def page(rows, head="<tr><th>network<th>source_accuracy<th>pets<th>birds</tr>"):
    body = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows]
    return f"<html><table><thead>{head}</thead>{''.join(body)}</table>"


CELLS = [line.split(",")[:4] for line in ROWS[1:]]


def formula(number, spread=""):
    "A number as LaTeXML writes it, with its copies for programs."
    shown = f"<mrow><mn>{number}</mn><mo>±</mo><mn>{spread}</mn></mrow>" if spread else f"<mn>{number}</mn>"
    copy = f"<annotation-xml><cn>{number}</cn></annotation-xml><annotation>{number}</annotation>"
    return f'<math alttext="{number}"><semantics>{shown}{copy}</semantics></math>'


def test_formulas_of_a_page_are_read_once(tmp_path):
    rows = [[name, source, formula(pets), formula(birds, ".003")] for name, source, pets, birds in CELLS]
    (tmp_path / "t.html").write_text(page(rows))
    read, said = scores(tmp_path / "t.html")
    assert read == SCORES and "spreads such as ± 0.3 are not read" in said
    copy = '<span aria-hidden="true"><span><span>{}</span></span></span>'  # as KaTeX writes it
    rows = [[name, source, formula(pets) + copy.format(pets), copy.format(birds)] for name, source, pets, birds in CELLS]
    (tmp_path / "t.html").write_text(page(rows))
    assert scores(tmp_path / "t.html")[0] == SCORES


def test_subscripts_and_superscripts_are_no_digits_of_the_number(tmp_path):
    for below in ("<sub>±.003</sub>", "<sub>3</sub>", "<math><msub><mn></mn><mn>3</mn></msub></math>"):
        noted = [[name, source, f"{pets}<sup>2</sup>", f"{birds}{below}"] for name, source, pets, birds in CELLS]
        (tmp_path / "t.html").write_text(page(noted))
        read, said = scores(tmp_path / "t.html")
        assert read == SCORES and "superscripts are not read" in said and "spreads such as ± 0.3 are not read" in said
    for other in ("<sub>.3</sub>", "<p>3</p>", "<div>3</div>"):
        (tmp_path / "t.html").write_text(page([[*CELLS[0][:3], f"{CELLS[0][3]}{other}"], *CELLS[1:]]))
        with pytest.raises(UserError, match=r"score '0.50 \.?3' of network 'n0' on dataset 'birds': expected a number"):
            read_table(tmp_path / "t.html")


def test_headings_within_a_page_are_no_networks(tmp_path):
    rows = ["<td>" + "<td>".join(row) for row in CELLS]
    rows = "<tr>".join(["", "<td colspan=4><b>Small</b></td>", *rows[:4], "<td colspan=4>Large", *rows[4:]])
    (tmp_path / "t.html").write_text(page([]).replace("</table>", rows + "</table>"))
    read, said = scores(tmp_path / "t.html")
    assert read == SCORES and "2 row(s) of a single cell are headings or notes: 'Small', 'Large'" in said


def test_tables_that_pandas_pivots_and_writes(tmp_path):
    wide = pd.DataFrame(SCORES, ["pets", "birds"]).T.rename_axis("network").rename_axis("dataset", axis=1)
    (tmp_path / "t.html").write_text(wide.to_html())
    read, _ = scores(tmp_path / "t.html", source_accuracy={f"n{i}": 0.6 + i / 100 for i in range(8)})
    assert read == SCORES
    pasted = f"dataset,pets,birds\nnetwork,,\n{wide.to_csv(header=False)}"  # such as a page that was pasted into a spreadsheet
    (tmp_path / "t.csv").write_text(pasted)
    assert scores(tmp_path / "t.csv", source_accuracy={f"n{i}": 0.6 + i / 100 for i in range(8)})[0] == SCORES
    both = pd.concat({"linear": wide, "finetune": wide + 0.1}, names=["protocol", "dataset"], axis=1).rename_axis("network")
    for name, written in (("t.csv", both.to_csv()), ("t.html", both.to_html())):
        (tmp_path / name).write_text(written)
        rows = read_table(tmp_path / name, source_accuracy={f"n{i}": 0.6 + i / 100 for i in range(8)})
        assert len(rows) == 32 and set(rows["protocol"]) == {"linear", "finetune"} and set(rows["network"]) == set(SCORES)


def test_a_web_archive_is_refused_by_its_name(tmp_path):
    head = 'From: <Saved by Blink>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n\tboundary="x"\r\n\r\n'
    (tmp_path / "t.mhtml").write_text(f"{head}Content-Transfer-Encoding: quoted-printable\r\n\r\n{page(CELLS)}")
    with pytest.raises(UserError, match=r"\(MHTML\), which is not read; save the page as HTML only"):
        read_table(tmp_path / "t.mhtml")


def test_markdown_without_outer_bars_has_empty_cells_at_both_ends(tmp_path):
    lines = [" | ".join(row) for row in (["network", "source_accuracy", "pets", "birds"], *CELLS)]
    lines[3] = lines[3].removesuffix("0.52")
    (tmp_path / "t.md").write_text("\n".join([lines[0], "--- | --- | --- | ---", *lines[1:]]))
    read, said = scores(tmp_path / "t.md")
    assert read["n3"] == SCORES["n3"] and read["n2"][0] == 0.82 and pd.isna(read["n2"][1]) and "1 of 16 scores are empty" in said


def test_chinese_of_spreadsheets_is_read_and_said(tmp_path):
    text = "\n".join(ROWS).replace("network", "模型").replace("pets", "花卉").replace("birds", "鸟类")
    (tmp_path / "t.csv").write_bytes(text.encode("gbk"))
    rows = read_table(tmp_path / "t.csv", network="模型")
    assert set(rows["dataset"]) == {"花卉", "鸟类"} and CHINESE in rows.attrs["reading"]
    for western in ("modèle,Größe", "vögel,±0.3,5°", "Точность,Вид", "ÀÉ,naïf"):
        data = western.encode("cp1251" if western[0] == "Т" else "latin-1")
        assert decode(data, "t.csv") == (data.decode("cp1252"), (LATIN,))


NAMES = {"cp932": "猫", "cp949": "애완동물", "cp1251": "Питомцы", "cp1250": "Zwierzęta", "big5": "寵物"}


@pytest.mark.parametrize(("encoding", "name"), NAMES.items())
def test_an_assumed_encoding_is_said_in_errors_too(tmp_path, encoding, name):
    text = "\n".join(ROWS).replace("pets", name)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert any("save it as UTF-8" in line for line in read_table(tmp_path / "t.csv").attrs["reading"])
    for broken in (text.replace("0.83", "0.x83"), text.replace("network", "netz"), f"{text},1,2,3"):
        (tmp_path / "t.csv").write_bytes(broken.encode(encoding))
        with pytest.raises(UserError, match="not UTF-8, read as .*; if names look wrong, save it as UTF-8"):
            read_table(tmp_path / "t.csv")


def test_letters_and_row_numbers_of_a_saved_sheet_are_no_part_of_the_table(tmp_path):
    cells = "".join(f"<tr><th>{i + 2}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for i, row in enumerate(CELLS))
    frozen = '<tr><th class="freezebar-cell"></th><td></td><td></td><td></td><td></td></tr>'
    header = "<tr><th>1</th><td>network</td><td>source_accuracy</td><td>pets</td><td>birds</td></tr>"
    letters = "<thead><tr><th></th><th>A</th><th>B</th><th>C</th><th>D</th></tr></thead>"
    last = "<tr><th>99</th><td></td><td></td><td></td><td></td></tr>"
    for rows in (header + cells, header + frozen + cells, header + cells + last):
        (tmp_path / "t.html").write_text(f"<table>{letters}<tbody>{rows}</tbody></table>")
        assert scores(tmp_path / "t.html")[0] == SCORES
    (tmp_path / "t.html").write_text((tmp_path / "t.html").read_text().replace("0.83", "0.x83"))
    with pytest.raises(UserError, match=r"score '0.x83' of network 'n3' on dataset 'pets': .* \(row 5\)"):
        read_table(tmp_path / "t.html")


def test_a_page_in_one_line_counts_rows(tmp_path):
    (tmp_path / "t.html").write_text("".join(page([*CELLS, CELLS[0]]).split("\n")))
    with pytest.raises(UserError, match=r"more than one score on dataset 'pets' \(rows 2, 10\)"):
        read_table(tmp_path / "t.html")
    (tmp_path / "t.html").write_text("".join(2 * page(CELLS).split("\n")))
    with pytest.raises(UserError, match="2 tables; give the number of the one to read"):
        read_table(tmp_path / "t.html")


def test_links_of_a_leaderboard_are_their_texts(tmp_path):
    link = '"<a target=""_blank"" href=""https://example.org/{0}"" style=""color: red"">{0}</a>"'
    text = "\n".join([ROWS[0], *(",".join([link.format(row.split(",")[0]), *row.split(",")[1:]]) for row in ROWS[1:])])
    (tmp_path / "t.csv").write_text(text)
    assert scores(tmp_path / "t.csv")[0] == SCORES


@pytest.mark.parametrize("name", [r"`resnet50`\*", r"resnet50\*", "`resnet50`*", r"resnet50 \*"])
def test_names_of_markdown_keep_no_marks_of_it(tmp_path, name):
    text = f"| Model | ImageNet | pets |\n|---|---|---|\n| {name} | 76.1 | 91.5\\* |\n| `vit_b` | 81.0 | 93.0 |\n"
    (tmp_path / "zoo.md").write_text(text)
    rows = read_table(tmp_path / "zoo.md", percent=True)
    assert rows["network"].str.replace(" ", "").tolist() == ["resnet50*", "vit_b"]
    assert rows["score"].tolist() == [0.915, 0.93]
