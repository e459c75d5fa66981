"""Tables in every kind of file that people have: the same scores, or one clear line."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table

ROOT = Path(__file__).parents[2]
PLAIN = """network,flowers,birds,pets,mushrooms
mobilenet_v2,91.2,58.1,86.0,72.4
resnet34,92.0,60.5,88.1,73.0
resnet50,94.1,66.3,90.4,77.9
densenet121,93.5,63.9,89.3,78.8
resnet101,94.6,68.2,91.5,79.1
densenet201,95.3,67.0,92.0,81.6
"""
LINES = PLAIN.splitlines()
SCORES = np.array([[float(cell) / 100 for cell in line.split(",")[1:]] for line in LINES[1:]])


def in_german(text):
    return text.replace(",", ";").replace(".", ",")


def quoted(line, columns=(1, 2, 3, 4)):
    "A line with decimal commas in some of its cells."
    cells = line.split(",")
    return ",".join(f'"{cell.replace(".", ",")}"' if i in columns else cell for i, cell in enumerate(cells))


def markdown(text):
    header, *rows = [f"| {line.replace(',', ' | ')} |" for line in text.splitlines()]
    return "\n".join(["Table 2: accuracies.", "", header, "|" + "---|" * 5, *rows, "", "in per cent"])


def in_zip(*names):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as packed:
        for name in names:
            packed.writestr(name, PLAIN)
    return buffer.getvalue()


def html(text):
    rows = ["".join(f"<td>{cell}</td>" for cell in line.split(",")) for line in text.splitlines()]
    return "<html><body><table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table></body></html>"


IN_PANDAS = pd.read_csv(io.StringIO(PLAIN))
TEXTS = {
    "as it is": PLAIN,
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "utf-32": PLAIN.encode("utf-32"),
    "gzip": gzip.compress(PLAIN.encode()),
    "tabs": PLAIN.replace(",", "\t"),
    "windows lines": PLAIN.replace("\n", "\r\n"),
    "old mac lines": PLAIN.replace("\n", "\r"),
    "semicolons and decimal commas": in_german(PLAIN),
    "quoted decimal commas": "\n".join([LINES[0], *map(quoted, LINES[1:])]),
    "per cent signs": "\n".join([LINES[0], *(line.replace(",", "%,").replace("%", "", 1) + "%" for line in LINES[1:])]),
    "a spread in one column": PLAIN.replace(",58.1", ",58.1 ± 0.3").replace(",60.5", ",60.5±0.2"),
    "decimal commas in one column": "\n".join([LINES[0], *(quoted(line, [2]) for line in LINES[1:])]),
    "bold best": PLAIN.replace("95.3", "**95.3**").replace("81.6", "81.6*"),
    "row numbers of pandas": "\n".join([f",{LINES[0]}", *(f"{i},{line}" for i, line in enumerate(LINES[1:]))]),
    "row numbers of R": "\n".join([f'"",{LINES[0]}', *(f'"{i}",{line}' for i, line in enumerate(LINES[1:]))]),
    "row names of R": "\n".join([LINES[0].removeprefix("network,"), *LINES[1:]]),
    "row names without a header": PLAIN.removeprefix("network"),
    "a comment": "# my results, 2025\n" + PLAIN,
    "a comment of as many cells": "# run 3, seed 0, lr 0.1, May, 2 h\n" + PLAIN,
    "two comments of as many cells": "# run 3, seed 0, May, 2 h, a\n# by x, y, z, v, w\n" + PLAIN,
    "a header as numpy writes it": "# " + PLAIN,
    "a number sign over row numbers": "\n".join([f"#,{LINES[0]}", *(f"{i},{line}" for i, line in enumerate(LINES[1:]))]),
    "two titles": "My results\nspring\n\n" + PLAIN,
    "joined files": "\n".join([*LINES[:4], LINES[0], *LINES[4:], ""]),
    "joined files of R": "\n".join([*LINES[:4], LINES[0], *LINES[4:], ""]).replace("network,", ""),
    "a comma at the end": PLAIN.replace("\n", ",\n"),
    "spaces": PLAIN.replace(",", " , "),
    "another name of the network": PLAIN.replace("network", "Model name"),
    "a network twice in a comment of the name": PLAIN.replace("resnet34", " resnet34 "),
    "markdown": markdown(PLAIN),
    "html": html(PLAIN),
    **{f"json {orient}": IN_PANDAS.to_json(orient=orient) for orient in ("records", "columns", "index")},
    "json lines": IN_PANDAS.to_json(orient="records", lines=True),
    "json by network": IN_PANDAS.set_index("network").to_json(orient="index"),
    "json of lists": json.dumps(IN_PANDAS.to_dict("list")),
}  # fmt: skip


@pytest.fixture
def table(tmp_path):
    def write(content, name="table.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


@pytest.mark.parametrize("kind", TEXTS)
def test_the_same_table_in_every_way_of_writing_it(table, kind):
    rows = read_table(table(TEXTS[kind]), percent=True)
    wide = rows.pivot(index="network", columns="dataset", values="score")
    expected = pd.DataFrame(SCORES, [line.split(",")[0] for line in LINES[1:]], LINES[0].split(",")[1:])
    pd.testing.assert_frame_equal(wide.loc[expected.index, expected.columns], expected, check_names=False)


def test_cells_with_a_sign_need_no_option(table):
    assert read_table(table(TEXTS["per cent signs"]))["score"].max() == pytest.approx(0.953)


def test_latin_1_is_read_and_said(table):
    text = '{"résnet": {"pets": 0.8, "imagenet": 0.7}, "b": {"pets": 0.85, "imagenet": 0.75}}'
    rows = read_table(table(text.encode("latin-1")))
    assert "résnet" in set(rows["network"]) and any("read as Latin-1" in line for line in rows.attrs["reading"])
    rows = read_table(table(PLAIN.replace("birds", "vögel").encode("latin-1")), percent=True)
    said = "not UTF-8, read as Latin-1 (Windows-1252); if names look wrong, save it as UTF-8"
    assert "vögel" in set(rows["dataset"]) and said in rows.attrs["reading"]


def test_parquet_with_the_networks_as_index(tmp_path):
    pd.DataFrame({"pets": [0.8, 0.9]}, pd.Index(["resnet34", "resnet50"], name="network")).to_parquet(tmp_path / "table.parquet")
    assert read_table(tmp_path / "table.parquet")["score"].tolist() == [0.8, 0.9]


def test_excel(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl, of the extra `excel`, is not installed")
    frame = pd.DataFrame({"network": ["resnet34", "resnet50"], "pets": [0.8, 0.9]})
    with pd.ExcelWriter(tmp_path / "table.csv.xlsx") as book:
        frame.to_excel(book, sheet_name="first", index=False)
        frame.to_excel(book, sheet_name="second", index=False)
    (tmp_path / "table.csv.xlsx").rename(tmp_path / "table.csv")  # known by its content
    rows = read_table(tmp_path / "table.csv")
    assert rows["score"].tolist() == [0.8, 0.9]
    assert "sheet 'first' is read; not 'second'; 'FILE#SHEET' reads another" in rows.attrs["reading"]


def test_several_lines_of_header(table):
    text = ",pets,,birds,\n,linear,finetune,linear,finetune\nmodel,,,,\nresnet34,80,90,50,60\nresnet50,82,92,52,66\n"
    rows = read_table(table(text), percent=True)
    assert set(rows["dataset"]) == {"pets", "birds"} and set(rows["protocol"]) == {"linear", "finetune"}
    assert rows.query("network == 'resnet50' and dataset == 'birds' and protocol == 'finetune'")["score"].item() == 0.66
    frame = pd.DataFrame(
        [[80, 90], [82, 92]], ["resnet34", "resnet50"], pd.MultiIndex.from_product([["pets"], ["linear", "finetune"]])
    )
    assert read_table(frame, percent=True)["protocol"].unique().tolist() == ["linear", "finetune"]


LONG = pd.DataFrame(
    [(n, s, d, v + s, 1000) for n, s in zip("abc", (0.6, 0.7, 0.8), strict=True) for d, v in (("pets", 0.1), ("cars", -0.1))],
    columns=["network", "source_accuracy", "dataset", "score", "n_test"],
)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("n_rows", [6, 5])
def test_a_table_that_pandas_pivoted_is_the_long_table(swapped, n_rows, tmp_path):
    long = LONG.assign(minutes=7.5).iloc[:n_rows]
    frame = long.pivot(index="network", columns="dataset")
    frame = frame.swaplevel(axis=1).sort_index(axis=1) if swapped else frame
    frame.to_csv(tmp_path / "pivoted.csv")
    for table in (frame, tmp_path / "pivoted.csv"):
        rows = read_table(table)
        key = ["network", "dataset"]
        expected = long[[*key, "source_accuracy", "score", "n_test"]].sort_values(key).reset_index(drop=True)
        found = rows[expected.columns].sort_values(key).reset_index(drop=True).astype({"n_test": "int64"})
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_a_line_above_all_datasets_is_not_in_their_names_and_may_stand_above_the_source(tmp_path):
    wide = LONG.pivot(index=["network", "source_accuracy"], columns="dataset", values="score")
    for line in ("Top-1 accuracy", "acc", "score"):
        for frame in (pd.concat({line: wide}, axis=1), pd.concat({line: wide.reset_index("source_accuracy")}, axis=1)):
            frame.to_csv(tmp_path / "table.csv")
            for table in (frame, tmp_path / "table.csv"):
                rows = read_table(table)
                assert set(rows["dataset"]) == {"pets", "cars"} and set(rows["source_accuracy"]) == {0.6, 0.7, 0.8}


def test_several_source_columns_of_a_pivoted_table_are_no_datasets():
    runs = pd.concat([LONG.assign(seed=seed, score=LONG["score"] + seed / 100) for seed in (0, 1)])
    with pytest.raises(UserError, match=r"'source_accuracy pets seed 0' and .* could be the source accuracy"):
        read_table(runs.drop(columns="n_test").pivot(index="network", columns=["dataset", "seed"]))


def test_a_html_cell_that_spans_rows_and_columns(table):
    text = ("<table><tr><th rowspan=2>Model</th><th colspan=2>Accuracy</th></tr>"
            "<tr><th>pets</th><th>birds<sup>a</sup></th></tr><tr><td>resnet34</td><td>80.0</td><td>50.0</td></tr>"
            "<tr><td>resnet50</td><td>82.0</td><td>&ndash;</td></tr></table>")  # fmt: skip
    rows = read_table(table(text), percent=True)
    assert rows["dataset"].unique().tolist() == ["pets", "birds"] and len(rows) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN + "resnet18,1,2,3,4,5,6\n", r"line 8 has 7 cells, the header has 5"),
        (PLAIN + "resnet18,1,2\n", r"line 8 has 3 cells, the header has 5"),
        ("Results, spring\n" + PLAIN, r"line 2 has 5 cells, the header has 2; most rows have 5: .* line 1, or delete that line"),
        (PLAIN + "network,birds,flowers,pets,mushrooms\n", r"line 8 is the header again, in another order; bring the parts"),
        ("", r"the file is empty"),
        ("network,dataset,score\n", r"no rows below the header"),
        ("one word\nand another\n", r"a single column"),
        ('[{"network": "a", "results": {"pets": 1}}]', r"JSON, no table; expected objects without others inside"),
        ("[]", r"JSON, no table"),
        ('{"network": "a", "pets": 1}\n{"network": "b", "pe', r"line 2 is no JSON \(.*\), unlike .* above it; complete or"),
        ('{"a": {"pets": 1}, "a": {"pets": 2}}', r"JSON with the key 'a' twice in one object; rename one of them"),
        ("\\begin{tabular}{lr}\nmodel & pets\n", r"LaTeX, which is not read; save the table as CSV"),
        (in_zip("scores.csv"), r"a zip, no table; unpack it, and give the table inside, scores.csv"),
        (in_zip("mimetype", "content.xml"), r"a spreadsheet in another format than .xlsx; save it"),
        (b"PK\x03\x04" + bytes(range(256)) * 8, r"cannot be read as xlsx|needs openpyxl"),
        (b"\xd0\xcf\x11\xe0" + bytes(64), r"an old Excel file"),
        (b"PAR1nonsense", r"cannot be read as parquet"),
        (b"\x1f\x8bnonsense", r"cannot be read as csv"),
        (in_zip("[Content_Types].xml", "word/document.xml"), r"a document, no table; copy its table"),
        (b"%PDF-1.5\n1 0 obj", r"a document, no table"),
        (b"BZh91AY&SY\x00\x00", r"an archive, no table; unpack it"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"a pointer of Git LFS, not the table itself"),
        ("<!DOCTYPE html>\n<html><body><div id=app></div></body></html>", r"a web page without a table"),
        (PLAIN + "note, by us\n", r"line 8 has 2 cells, .* or delete it if it is a note or another table"),
        (PLAIN + "\n" + PLAIN.replace("pets", "cats"), r"line 9 is the header of another table"),
        (PLAIN.partition("\n")[0] + "\n", r"no rows below the header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"not a table of text"),
        (markdown(PLAIN) + "\n\n" + html("model,pets\na,80\n"), r"2 tables \(lines 3, 14\); .* as in 'FILE#1'"),
        (markdown(PLAIN) + "\n\n" + markdown(PLAIN), r"2 tables \(lines 3, 16\); give the number"),
        (html(PLAIN) + html(PLAIN), r"2 tables"),
        (PLAIN.replace("58.1", "58,1", 1).replace("58,1", '"58,1"'), r"score '58,1' of network 'mobilenet_v2' on.*line 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(table, content, message):
    with pytest.raises(UserError, match=message) as error:
        read_table(table(content), percent=True)
    assert "\n" not in str(error.value)


def test_a_report_of_this_package_leads_to_the_results_beside_it(table, tmp_path):
    for page in ("figures/templates/page.html", "selection/templates/recommendation.html"):
        report = table((ROOT / "transfer_study" / page).read_text() + html(PLAIN), "report.html")
        with pytest.raises(UserError, match=r"a report of this package; give the table of scores that it was made from$"):
            read_table(report)
    table(PLAIN, "results.csv")
    with pytest.raises(UserError, match=rf"a report of this package; give {tmp_path / 'results.csv'}, which lies beside it"):
        read_table(report)


def test_an_address_is_said():
    with pytest.raises(UserError, match="an address, not a file; download"):
        read_table("https://example.com/table.csv")


def test_bold_numbers_of_latex_are_numbers_and_a_body_of_latex_is_said(tmp_path):
    cells = [r"\textbf{91.2} $\pm$ 0.3", r"$\mathbf{91.2 \pm 0.3}$", r"\underline{\textbf{91.2}}", r"{\bf 91.2}$_{\pm 0.3}$"]
    (tmp_path / "table.csv").write_text("network,imagenet,pets\n" + "".join(f"n{i},70,{cell}\n" for i, cell in enumerate(cells)))
    assert read_table(tmp_path / "table.csv", percent=True)["score"].tolist() == pytest.approx([0.912] * 4)
    (tmp_path / "table.csv").write_text("network,pets\nresnet34,\\best{91.2}\nresnet50,\\best{90.2}\n")
    with pytest.raises(UserError, match="expected a number or an empty cell"):
        read_table(tmp_path / "table.csv", percent=True)
    (tmp_path / "table.csv").write_text("Model & ImageNet & Pets \\\\\nresnet34 & 73.3 & 91.2 \\\\\n")
    with pytest.raises(UserError, match="LaTeX, which is not read"):
        read_table(tmp_path / "table.csv", percent=True)


def test_a_parquet_file_without_columns(tmp_path):
    pd.DataFrame().to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="no rows below the header"):
        read_table(tmp_path / "empty.parquet")


def test_titles_and_hidden_rows_and_columns_of_a_sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra `excel`, is not installed")
    book = openpyxl.Workbook()
    header = [["Results, spring"], ["J. Doe"], [], ["Model", "ImageNet", "pets", "birds"]]
    for row in [*header, ["a", 70, 80, 60], ["b", 75, 85, 62], ["c", 80, 90, 70]]:
        book.active.append(row)
    book.active.row_dimensions[6].hidden = book.active.column_dimensions["D"].hidden = True
    book.active.auto_filter.ref = "A4:D7"
    book.save(tmp_path / "t.xlsx")
    rows = read_table(tmp_path / "t.xlsx", percent=True)
    assert rows["score"].tolist() == [0.8, 0.85, 0.9, 0.6, 0.62, 0.7] and set(rows["network"]) == {"a", "b", "c"}
    said = {"hidden rows are read: 6", "hidden columns are read: D", "2 line(s) before the header are no part of the table"}
    assert said <= set(rows.attrs["reading"])


def test_a_header_that_is_repeated_is_said_and_one_dataset_is_no_title(table):
    joined = read_table(table("\n".join([*LINES[:4], LINES[0], *LINES[4:], ""])), percent=True)
    assert "the header stands again in line 5 and is no row" in joined.attrs["reading"]
    single = read_table(table(",pets\nresnet34,0.8\nresnet50,0.9\n"))
    assert single["network"].tolist() == ["resnet34", "resnet50"] and single["dataset"].unique().tolist() == ["pets"]


def test_sheets_that_are_hidden_and_formulas_without_a_value(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra `excel`, is not installed")
    book = openpyxl.Workbook()
    book.active.title, book.active.sheet_state = "old", "hidden"
    for sheet, pets in ((book.active, 0.1), (book.create_sheet("new"), 0.8)):
        for row in [("network", "source_accuracy", "pets"), ("a", 0.7, pets), ("b", 0.8, pets)]:
            sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx")
    assert table["score"].tolist() == [0.8, 0.8] and "sheet 'new' is read; not 'old'" in " ".join(table.attrs["reading"])
    book["new"]["C3"] = "=C2*1"
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="C3 of sheet 'new' is a formula without a value; open the file in a spreadsheet"):
        read_table(tmp_path / "t.xlsx")


def test_categories_of_a_parquet_file_are_texts(tmp_path):
    frame = pd.DataFrame({"network": ["a", "b", "c"], "source_accuracy": [0.7, 0.8, 0.9], "pets": ["0.5", None, "−"]})
    frame.astype({"network": "category", "pets": "category"}).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["score"].dropna().tolist() == [0.5]


def test_what_is_no_table_and_a_pipe_of_the_shell(tmp_path):
    for wrong in (pd.Series([1.0]), None, [1], 3):
        with pytest.raises(UserError, match=f"a {type(wrong).__name__}; expected a file, the name of a shipped table, or a Data"):
            read_table(wrong)
    with pytest.raises(UserError, match="-: no such file.*standard input is /dev/stdin"):
        read_table("-")
    reading, writing = os.pipe()
    os.write(writing, PLAIN.encode())
    os.close(writing)
    assert len(read_table(f"/dev/fd/{reading}", percent=True)) == 24
    os.close(reading)


def test_a_sheet_of_explanations_comes_last_and_merged_cells_stand_above(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra `excel`, is not installed")
    book = openpyxl.Workbook()
    book.active.append(["What the sheet of scores holds."])
    sheet = book.create_sheet("scores")
    header = [("Model", "Source", "Animals", None), (None, "ImageNet", "pets", "birds")]
    for row in [*header, ("a", 0.7, 0.8, 0.6), ("b", 0.8, 0.9, 0.7)]:
        sheet.append(row)
    sheet.merge_cells("C1:D1")
    book.save(tmp_path / "t.xlsx")
    rows = read_table(tmp_path / "t.xlsx")
    assert rows["dataset"].unique().tolist() == ["Animals pets", "Animals birds"]
    assert rows["source_accuracy"].tolist() == [0.7, 0.8] * 2
    assert "sheet 'scores' is read; not 'Sheet'; 'FILE#SHEET' reads another" in rows.attrs["reading"]


def test_errors_and_decimal_commas_of_a_sheet(tmp_path):
    sheet = openpyxl.Workbook()
    sheet.active.append(["network", "source_accuracy", "pets"])
    for row in (["n0", 71.5, 82.9], ["n1", 72.5, "87,3"], ["n2", 73.5, 88.9], ["n3", 74.5, 90]):
        sheet.active.append(row)
    sheet.save(tmp_path / "t.xlsx")
    read = read_table(tmp_path / "t.xlsx", percent=True)
    assert read["score"].tolist() == pytest.approx([0.829, 0.873, 0.889, 0.9])
    assert "commas are decimal marks" in read.attrs["reading"]
    sheet.active["C5"] = "88.4"
    sheet.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="pets '?87,3|score '?87,3"):
        read_table(tmp_path / "t.xlsx", percent=True)
    sheet.active["C5"] = "#DIV/0!"
    assert sheet.active["C5"].data_type == "e"
    sheet.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match=r"score '#DIV/0!' of network 'n3' on dataset 'pets': expected a number .* \(row 5\)"):
        read_table(tmp_path / "t.xlsx", percent=True)
    sheet.active["C5"] = "#N/A"  # as people write a missing value
    sheet.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx", percent=True)["score"].isna().sum() <= 1


def test_a_folder_names_the_tables_in_it(tmp_path):
    with pytest.raises(UserError, match=f"a folder, not a table; for finished runs, `transfer-study report {tmp_path}`"):
        read_table(tmp_path)
    for name in ("a.csv", "results.csv", "notes.txt"):
        (tmp_path / name).write_text(PLAIN)
    with pytest.raises(UserError, match=f"a folder, not a table; give the table in it, {tmp_path}/results.csv \\(and 1 more\\)"):
        read_table(tmp_path)
