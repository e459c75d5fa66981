"""A table is read the same from CSV, Excel, Parquet and a data frame, whatever stands in its empty cells."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import data_path
from transfer_study.results import read_table

WIDE = pd.DataFrame({
    "network": ["resnet34", "resnet50", "resnet101", "resnet152"], "imagenet": [0.733, 0.761, 0.774, 0.783],
    "pets": [0.88, None, 0.91, 0.92], "cars": [0.6, 0.63, 0.66, None],
})  # fmt: skip
SHIPPED = pd.read_csv(data_path("published/sfda_finetune_supervised.csv"))


def with_row(name, *scores):
    return pd.concat([WIDE, pd.DataFrame([[name, *scores]], columns=WIDE.columns)], ignore_index=True)


TABLES = {
    "wide with gaps": WIDE,
    "wide with an average": with_row("Average", 0.763, 0.903, 0.63),
    "wide with a spread": with_row("SD", 0.02, 0.01, 0.02),
    "wide with a method that is called SD": with_row("SD", 0.74, 0.89, 0.64),
    "long with gaps": WIDE.melt("network", var_name="dataset", value_name="score"),
    "shipped, wide": SHIPPED.pivot(index="network", columns="dataset", values="score").reset_index(),
    "shipped, long, with a gap": SHIPPED[["network", "dataset", "score"]].assign(
        score=lambda df: df["score"].where(df.index != 7)
    ),
}


@pytest.mark.parametrize("empty", [None, np.nan, "", "-"], ids=["None", "NaN", "empty text", "dash"])
@pytest.mark.parametrize("name", TABLES)
def test_every_container_with_every_kind_of_empty_cell(name, empty, tmp_path):
    table = TABLES[name].astype(object)
    table = table.where(table.notna(), empty)
    table.astype(str).replace("None", "").replace("nan", "").to_csv(tmp_path / "table.csv", index=False)
    table.to_excel(tmp_path / "table.xlsx", index=False)
    TABLES[name].to_parquet(tmp_path / "table.parquet", index=False)
    expected = read_table(tmp_path / "table.csv")
    assert len(expected) == {
        "wide with a method that is called SD": 8,
        "shipped, wide": 121,
        "shipped, long, with a gap": 120,
    }.get(name, 6)
    assert "a spread" not in name or "left out: row 'SD' (a summary, no network)" in expected.attrs["reading"]
    for other in (tmp_path / "table.xlsx", tmp_path / "table.parquet", table):
        rows = read_table(other)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), expected.reset_index(drop=True))
        assert [line for line in rows.attrs["reading"] if " empty" in line] == [
            line for line in expected.attrs["reading"] if " empty" in line
        ]


def test_an_empty_cell_of_excel_is_counted(tmp_path):
    """A German table, its fractions shown in per cent, with a cell that is empty: 5 of 6 networks on one dataset."""
    table = pd.DataFrame({
        "Netz": ["mobilenet_v2", "resnet34", "resnet50", "densenet121", "resnet101", "densenet201"],
        "ImageNet": [0.719, 0.733, 0.761, 0.744, 0.774, 0.769], "Genauigkeit Blumen": [0.84, 0.85, "–", 0.82, 0.87, 0.86],
        "Genauigkeit Mittelwert": [0.84, 0.85, None, 0.82, 0.87, 0.86],
    })  # fmt: skip
    table.to_excel(tmp_path / "table.xlsx", index=False)
    rows = read_table(tmp_path / "table.xlsx", network="Netz")
    assert len(rows) == 5 and "1 of 6 scores are empty" in rows.attrs["reading"]
