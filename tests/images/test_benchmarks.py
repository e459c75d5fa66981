"""Datasets of later benchmarks: a name, a fixed split, and a download like that of the paper's twelve."""

import hashlib
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.images.hub_server import publish, serving
from transfer_study.core import UserError
from transfer_study.images.benchmarks import benchmark_datasets
from transfer_study.images.catalog import arrival, download_dataset, find_dataset, named_datasets, open_dataset
from transfer_study.images.mirrors import dataset_sources, known_downloads


def test_the_table_is_consistent():
    table = benchmark_datasets()
    assert not set(table["name"]) & set(named_datasets()["name"][:12]) and (table["source"] != "").all()
    for row in table.itertuples():
        assert row.torchvision or dataset_sources(row.name), row.name


def test_one_from_a_mirror(tmp_path, hub):
    source = dataset_sources("eurosat")[0]
    publish(hub, source, ["Forest", "River", "Highway"])
    with pytest.raises(UserError, match="not found below .*; transfer-study datasets --download eurosat downloads it"):
        open_dataset("eurosat", root=tmp_path / "root")
    dataset = download_dataset("eurosat", tmp_path / "root", known_downloads())
    assert dataset.counts == {"classes": 3, "train": 6, "val": 3, "test": 3} and dataset.classes == ["Forest", "River", "Highway"]
    assert "10 expected" in arrival("eurosat", tmp_path / "root")["differences"][0]
    assert any("no official split" in note for note in open_dataset("eurosat", root=tmp_path / "root").notes)


def test_one_that_torchvision_downloads(tmp_path, monkeypatch):
    from torchvision.datasets import Country211

    folder, random = tmp_path / "country211", np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        for country in ("AD", "AE"):
            (folder / split / country).mkdir(parents=True)
            for i in range(2):
                pixels = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / country / f"{i}.png")
    with tarfile.open(tmp_path / "country211.tgz", "w:gz") as tar:
        tar.add(folder, "country211")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path) as server:
        monkeypatch.setattr(Country211, "_URL", f"{server.address}/country211.tgz")
        monkeypatch.setattr(Country211, "_MD5", "0" * 32)
        with pytest.raises(UserError, match="torchvision:Country211: cannot be opened"):
            download_dataset("country211", tmp_path / "root")
        assert find_dataset("country211", tmp_path / "root") is None
        monkeypatch.setattr(Country211, "_MD5", hashlib.md5((tmp_path / "country211.tgz").read_bytes()).hexdigest())
        dataset = download_dataset("country211", tmp_path / "root")
    assert dataset.counts == {"classes": 2, "train": 4, "val": 4, "test": 4} and dataset.name == "country211"
    assert pd.Series(dataset.images["class"]).isin(["AD", "AE"]).all()
