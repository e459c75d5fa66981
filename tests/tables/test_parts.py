"""Of several tables in one file, a # and a name or number behind the file's name choose one."""

import pandas as pd
import pytest

from transfer_study.cli.console import check_inputs_stay
from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.tables.files import file_and_part

FIRST = pd.DataFrame({"network": ["resnet18", "resnet34"], "pets": [0.8, 0.9]})
SECOND = FIRST.rename(columns={"pets": "cars"})
OTHER = pd.DataFrame({"option": ["a", "b"], "value": ["x", "y"]})


def markdown(table):
    return "\n".join(["|".join(table), "---|---", *("|".join(map(str, row)) for row in table.to_numpy())]) + "\n\nText.\n\n"


def in_html(table):
    return table.to_html(index=False)


def datasets(name, **options):
    return read_table(name, **options)["dataset"].unique().tolist()


@pytest.mark.parametrize(
    "text",
    [
        markdown(FIRST) + markdown(SECOND), in_html(FIRST) + "\n" + in_html(SECOND),
        (in_html(FIRST) + in_html(SECOND)).replace("\n", ""),
        markdown(FIRST) + in_html(SECOND), in_html(FIRST) + "\n" + markdown(SECOND),
    ],
)  # fmt: skip
def test_tables_of_a_page_by_their_number(tmp_path, text):
    (tmp_path / "page.md").write_text(text)
    assert [datasets(f"{tmp_path / 'page.md'}#{n}") for n in (1, 2)] == [["pets"], ["cars"]]
    with pytest.raises(UserError, match=r"2 tables.*; give the number of the one to read behind the name, as in 'FILE#1'"):
        read_table(tmp_path / "page.md")
    for part in ("0", "3", "cars"):
        with pytest.raises(UserError, match=rf"no table '{part}', but 2 tables"):
            read_table(f"{tmp_path / 'page.md'}#{part}")


def test_sheets_by_name_or_number_also_for_source_accuracies_and_classes(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl, of the extra `excel`, is not installed")
    path = tmp_path / "lab.xlsx"
    accuracies = FIRST.rename(columns={"pets": "source_accuracy"})
    classes = pd.DataFrame({"dataset": ["pets", "cars"], "n_classes": [37, 196]})
    with pd.ExcelWriter(path) as book:
        for name, table in {"Read me": OTHER, "Pets": FIRST, "cars 2": SECOND, "x axis": accuracies, "classes": classes}.items():
            table.to_excel(book, sheet_name=name, index=False)
    with pytest.raises(UserError, match=r"sheet 'Read me' is read; not 'Pets', .*; 'FILE#SHEET' reads another"):
        read_table(path)
    assert datasets(f"{path}#pets") == datasets(f"{path}#2") == ["pets"] and datasets(f"{path}#cars 2") == ["cars"]
    rows = read_table(f"{path}#cars 2", source_accuracy=f"{path}#x axis", n_classes=f"{path}#classes")
    assert rows["source_accuracy"].tolist() == [0.8, 0.9] and rows["n_classes"].tolist() == [196, 196]
    with pytest.raises(UserError, match=r"lab.xlsx: no sheet 'birds'; sheets: 'Read me', 'Pets'"):
        read_table(f"{path}#birds")


def test_the_name_of_a_file_may_have_the_sign_itself(tmp_path):
    FIRST.to_csv(tmp_path / "run#1.csv", index=False)
    assert datasets(tmp_path / "run#1.csv") == ["pets"] and file_and_part(tmp_path / "run#1.csv") == (tmp_path / "run#1.csv", "")
    with pytest.raises(UserError, match=r"a single table; give the name without #2"):
        read_table(f"{tmp_path / 'run#1.csv'}#2")
    FIRST.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"a single table; give the name without #2"):
        read_table(f"{tmp_path / 't.parquet'}#2")
    with pytest.raises(UserError, match=r"none.md#2: no such file"):
        read_table(tmp_path / "none.md#2")


def test_a_page_of_which_a_part_is_read_is_not_replaced(tmp_path):
    (tmp_path / "report.html").write_text(in_html(FIRST) + in_html(SECOND))
    with pytest.raises(UserError, match="would be replaced by the results"):
        check_inputs_stay(tmp_path, [f"{tmp_path / 'report.html'}#2"])
