"What tests of figures share: analyses of the two published tables."

import pytest

from transfer_study.core import data_path
from transfer_study.results import read_table
from transfer_study.statistics.analysis import analyze


@pytest.fixture(scope="session")
def fine_tuned():
    return analyze(read_table(data_path("published/sfda_finetune_supervised.csv"), protocol="finetune"))


@pytest.fixture(scope="session")
def foundation():
    return analyze(read_table(data_path("published/embeddings_benchmark_16shot.csv")))
