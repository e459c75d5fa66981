"""One image set keeps all processes busy, and the numbers do not depend on how the work is split."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_images, write_study
from tests.study.conftest import HERE
from transfer_study.features.extraction import (
    CPU_BATCH,
    LARGEST_SHARD,
    MOST_SHARDS,
    SHARD_SECONDS,
    default_shard_size,
    estimated_seconds,
    shard_rows,
)
from transfer_study.images.datasets import image_folder
from transfer_study.study.execute import RunContext, compute, local_executor
from transfer_study.study.plan import Shard, network_groups
from transfer_study.study.study import Study


@pytest.fixture(scope="module")
def one_set(tmp_path_factory, weights):
    "A study of three networks on one set of 100 images."
    study_file = write_study(tmp_path_factory.mktemp("one_set"), weights)
    write_images(study_file.parent / "squares", train=40, test=10)
    study_file.write_text(study_file.read_text().replace('"squares", "packed.tar"', '"squares"'))
    return Study.from_file(study_file)


def computed(study: Study, out: Path, processes: int, **options) -> tuple[str, list[np.ndarray], int]:
    "The results table, all features and the number of shards' tasks."
    plan = study.tasks(out, "cpu", **options)
    compute(plan, RunContext(out, "tiny", 0), local_executor("cpu", processes), progress="none")
    features = [np.load(path) for path in sorted(out.glob(".features/*/features/features.npy"))]
    assert not list(out.glob(".features/*/shards"))
    return study.results(out).to_csv(), features, sum(isinstance(payload, Shard) for payload in plan.payloads.values())


@pytest.fixture(scope="module")
def whole(one_set, tmp_path_factory):
    "What a single task computes."
    return computed(one_set, tmp_path_factory.mktemp("whole"), 1, shard_size=LARGEST_SHARD, n_together=8)


def test_the_split_and_the_number_of_processes_change_no_bit(one_set, whole, tmp_path):
    split = [computed(one_set, tmp_path / str(n), n, shard_size=CPU_BATCH) for n in (1, 2)]
    assert [shards for *_, shards in (whole, *split)] == [0, 4, 4] and len(whole[1]) == 3
    for table, features, _ in split:
        assert table == whole[0]
        assert all(np.array_equal(X, expected) for X, expected in zip(features, whole[1], strict=True))


def test_networks_are_distributed_where_there_are_few_images(one_set, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("transfer_study.study.plan.estimated_seconds", lambda n_parameters, side: 1.0)  # as slow networks
    plan = one_set.tasks(tmp_path / "runs", "cpu", shard_size=CPU_BATCH)
    parts = [payload for payload in plan.payloads.values() if isinstance(payload, Shard)]
    assert sorted({part.networks for part in parts}) == [(0,), (1,), (2,)] and len(parts) == 3 * 4
    assert len({task.id for task in plan.tasks}) == len(plan.tasks) == 12 + 1 + 3
    table, features, _ = computed(one_set, tmp_path / "runs", 1, shard_size=CPU_BATCH)
    assert table == whole[0] and all(np.array_equal(X, expected) for X, expected in zip(features, whole[1], strict=True))


def test_a_small_set_under_small_networks_is_one_task(one_set, tmp_path):
    kinds = [task.kind for task in one_set.tasks(tmp_path / "runs", "cpu").tasks]
    assert kinds == ["extract", "fit", "fit", "fit"]
    one_set.run(tmp_path / "runs", **HERE)
    (marker,) = (tmp_path / "runs" / ".features").glob("task-*/features.json")
    assert len(json.loads(marker.read_text())) == 3


@pytest.mark.parametrize("crops", [0, 1, 2, 8, 40])
@pytest.mark.parametrize("seconds", [1e-6, 0.01, 0.3, 5, 1000])
def test_shards_hold_whole_batches_of_the_largest_shards(tmp_path, crops, seconds):
    dataset = image_folder(write_images(tmp_path / "squares"))
    images = dataset.images.iloc[np.resize(np.arange(28), 3000)].reset_index(drop=True)
    object.__setattr__(dataset, "images", images)
    batch, size = max(1, CPU_BATCH // (1 + crops)), default_shard_size(seconds, 3000, "cpu", crops)

    def batches(shards: list[np.ndarray]) -> list[list[int]]:
        return [rows[start : start + batch].tolist() for rows in shards for start in range(0, len(rows), batch)]

    assert batches(shard_rows(dataset, crops, size)) == batches(shard_rows(dataset, crops, LARGEST_SHARD))
    inputs = len(shard_rows(dataset, crops, size)[0]) * (1 + crops)
    assert inputs <= LARGEST_SHARD + crops and inputs * seconds <= max(1.5 * SHARD_SECONDS, seconds * batch * (1 + crops))


def test_a_large_set_has_a_bounded_number_of_shards():
    size = default_shard_size(10.0, 1_281_167)
    assert 1_281_167 / size <= MOST_SHARDS and size % CPU_BATCH == 0 and default_shard_size(10.0, 1000) == CPU_BATCH
    assert default_shard_size(1000.0, 1000, "cuda") == LARGEST_SHARD
    assert default_shard_size(estimated_seconds(84_700_000, 331), 5000) <= 60  # NASNet-A Large at a second an image: a minute


def test_groups_hold_every_network_once():
    groups = network_groups([3.0, 50.0, 20.0, 0.0, 7.0], n_shards=4)
    assert sorted(i for group in groups for i in group) == [0, 1, 2, 3, 4] and len(groups) == 4 and groups[0] == (1,)
    assert network_groups([1e6], 1) == [(0,)]
    assert network_groups([1e6, 1e6], 16) == network_groups([0.0, 0.0], 1) == [(0, 1)]
