"""Every column of an analysis's tables is described, and nothing else is."""

import pytest

from transfer_study.core import UserError
from transfer_study.statistics.analysis import analyze
from transfer_study.statistics.columns import MEANINGS, OF_TABLE, TABLES, column_meanings


@pytest.fixture(scope="module")
def analysis():
    return analyze("embeddings_benchmark_16shot", n_bootstrap=100)


def test_every_column_has_a_meaning_and_every_meaning_a_column():
    assert {column for table in TABLES.values() for column in table} == set(MEANINGS), (
        "statistics.columns describes each column once"
    )
    assert [(table, column) for table, column in OF_TABLE if column not in TABLES[table]] == []


@pytest.mark.parametrize("table", TABLES)
def test_the_described_columns_are_those_of_an_analysis(analysis, table):
    meanings = column_meanings(table)
    assert list(getattr(analysis, table).columns) == meanings["column"].to_list()
    assert (meanings["meaning"].str.len() > 5).all()


def test_an_unknown_table_is_named():
    with pytest.raises(UserError, match="unknown table 'network'; did you mean networks"):
        column_meanings("network")
