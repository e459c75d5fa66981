"""Every dataset opens from a copy in its mirror's layout; mirrors that differ, or break off, are never taken for the dataset."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.images.hub_server import letters, mirror_names, png, publish
from transfer_study.core import UserError
from transfer_study.images.catalog import arrival, download_dataset, find_dataset, open_dataset
from transfer_study.images.fetching import Fetcher
from transfer_study.images.mirrors import dataset_sources, known_downloads, official_classes
from transfer_study.images.official import known_datasets

DATASETS = known_datasets().set_index("name")
MIRRORS = [(name, i) for name in DATASETS.index for i, s in enumerate(dataset_sources(name)) if s.kind == "hub"]


def only(source_index: int, name: str) -> pd.DataFrame:
    "The list of sources with one mirror of one dataset."
    table = known_downloads().query("name == @name")
    mirrors = table[table["source"] == "hub"]
    return mirrors.iloc[[source_index - (len(dataset_sources(name)) - len(mirrors))]]


@pytest.mark.parametrize(("name", "i"), MIRRORS)
def test_every_dataset_opens_from_its_mirrors_layout(tmp_path, hub, name, i):
    source = dataset_sources(name)[i]
    folder = publish(hub, source)
    dataset = download_dataset(name, tmp_path / "root", only(i, name))
    n, with_val = int(DATASETS.loc[name, "classes"]), "val" in dict(source.splits)
    assert dataset.counts == {"classes": n, "train": 2 * n, "val": n if with_val else 0, "test": n}
    assert dataset.metric == DATASETS.loc[name, "metric"] and dataset.missing == ()
    official = official_classes(name)
    names = mirror_names(source)
    known_order = (official["label"] != "").all()
    assert dataset.classes == (official["class"].tolist() if known_order else names)
    rows = np.flatnonzero(dataset.images["split"] == "train")[:n]
    labels = dataset.targets[rows] if dataset.label_matrix is None else dataset.targets[rows].argmax(axis=1)
    stored = [letters(dataset.classes[label]) for label in labels]  # image `i` of train has the mirror's label `i`
    assert stored == [letters(name) for name in names]  # whatever the number, it has kept its class
    assert [dataset.read(row) for row in rows[:3]] == [png(i)["bytes"] for i in range(3)]
    about = arrival(name, tmp_path / "root")
    assert about["source"] == str(source) and about["revision"] == source.revision and source.note in ["", *about["notes"]]
    assert "training images found" in about["differences"][0] and not (tmp_path / "root/.downloads" / name).exists()
    assert open_dataset(name, root=tmp_path / "root").fingerprint == dataset.fingerprint
    assert all(any(note in line for line in dataset.notes) for note in about["notes"])
    assert folder.is_dir()


@pytest.mark.parametrize("name", ["oxford_pets", "cifar10", "dtd"])
def test_the_library_opens_the_same_copy_from_disk(tmp_path, hub, name, monkeypatch):
    library = pytest.importorskip("datasets", reason="the Hugging Face library (extra hf) is not installed")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    i = next(i for n, i in MIRRORS if n == name)
    source = dataset_sources(name)[i]
    folder = publish(hub, source)
    ours = download_dataset(name, tmp_path / "root", only(i, name))
    theirs = open_dataset({"name": name, "hf": str(folder), "image": source.image, "label": source.label})
    assert theirs.counts == ours.counts and theirs.metric == ours.metric
    by_name = [
        {row.name.partition(".")[0]: (row.label, dataset.read(row.Index)) for row in dataset.images.itertuples()}
        for dataset in (ours, theirs)
    ]
    assert by_name[0] == by_name[1]


def refused(tmp_path, name, message, **keywords):
    "That the only source is not used, and that nothing is left that could be taken for the dataset."
    with pytest.raises(UserError, match=message) as failure:
        download_dataset(name, tmp_path / "root", only(1, name), **keywords)
    assert find_dataset(name, tmp_path / "root") is None and "\n" not in str(failure.value)


def test_another_order_of_classes_is_refused_before_the_other_files_are_fetched(tmp_path, hub):
    source = dataset_sources("oxford_pets")[1]
    names = mirror_names(source)
    publish(hub, source, [names[1], names[0], *names[2:]])
    refused(tmp_path, "oxford_pets", "another order of classes: label 0 is 'american_bulldog', officially 'Abyssinian'; not used")
    assert sum(path.endswith(".parquet") for command, path, _ in hub.requests if command == "GET") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["cat", "dog"]}, "class 'cat' is not among the 37 official classes"),
        ({"names": ["Abyssinian", "Bengal"]}, "2 classes, 37 expected"),
        ({"drop": ("train-00001-of-00002.parquet",)}, "shard 1 of 2 of split 'train' is missing"),
        ({"drop": ("test-00000-of-00002.parquet", "test-00001-of-00002.parquet")}, "no split 'test', found: train"),
    ],
)
def test_a_mirror_that_is_not_the_dataset_is_refused(tmp_path, hub, change, message):
    publish(hub, dataset_sources("oxford_pets")[1], **change)
    refused(tmp_path, "oxford_pets", message)


def test_what_is_gated_missing_or_out_of_reach_is_one_line_at_once(tmp_path, hub, monkeypatch):
    refused(tmp_path, "oxford_pets", r"cannot download .*/timm/oxford-iiit-pet/revision/.* \(404")
    publish(hub, dataset_sources("oxford_pets")[1])
    hub.status = {"api/datasets": 403}
    refused(tmp_path, "oxford_pets", r"\(403 .*accept the conditions on its page, and set HF_TOKEN")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fetcher = Fetcher()
    refused(tmp_path, "oxford_pets", "127.0.0.1:9 is not reached", fetcher=fetcher)
    refused(tmp_path, "dtd", "127.0.0.1:9 was not reached before", fetcher=fetcher)


def test_a_lost_connection_is_one_line_and_goes_on_from_there(tmp_path, hub):
    source = dataset_sources("oxford_pets")[1]
    folder = publish(hub, source)
    shard = "data/train-00000-of-00002.parquet"
    whole = (folder / shard).stat().st_size
    (folder / "README.md").unlink()
    hub.cut = 1000  # of each answer; the list of files is shorter
    refused(tmp_path, "oxford_pets", r"connection lost after 1\.0 kB of .*; the same command goes on from there")
    hub.cut, hub.requests[:] = 0, []
    assert download_dataset("oxford_pets", tmp_path / "root", only(1, "oxford_pets")).counts["train"] == 74
    ranges = [value for _, path, value in hub.requests if path.endswith(shard)]
    assert ranges == ["bytes=1000-"] and whole > 1000


def test_a_damaged_shard_is_never_taken(tmp_path, hub, monkeypatch):
    folder = publish(hub, dataset_sources("oxford_pets")[1])
    handler = hub.RequestHandlerClass
    send = handler.send_file

    def damaged(self, file, body):
        if file.name == "test-00001-of-00002.parquet":
            return self.answer(200, b"x" * file.stat().st_size, body)
        return send(self, file, body)

    monkeypatch.setattr(handler, "send_file", damaged)
    refused(tmp_path, "oxford_pets", "its SHA-256 is not")
    monkeypatch.setattr(handler, "send_file", send)
    assert download_dataset("oxford_pets", tmp_path / "root", only(1, "oxford_pets")).counts["test"] == 37
    assert folder.is_dir()


def test_sources_are_tried_in_order_and_an_unpinned_revision_is_recorded(tmp_path, hub):
    publish(hub, dataset_sources("oxford_pets")[1])
    table = known_downloads().query("name == 'oxford_pets'").copy()
    table.loc[table["source"] == "official", "url"] = [f"{hub.address}/gone.tar.gz", f"{hub.address}/gone2.tar.gz"]
    table["revision"] = ""
    lines = []
    dataset = download_dataset("oxford_pets", tmp_path / "root", table, tell=lines.append)
    assert lines[0].startswith("oxford_pets: 2 official archives not used: http://127") and lines[0].endswith("(404 Not Found)")
    assert "timm/oxford-iiit-pet @ newest (not pinned)" in lines[1] and len(lines) == 2
    assert f"dataset oxford_pets: revision not pinned; {'c' * 40} was downloaded" in dataset.notes


def test_an_image_in_two_splits_is_noted(tmp_path, hub):
    publish(hub, dataset_sources("oxford_pets")[1], repeat=True)
    dataset = download_dataset("oxford_pets", tmp_path / "root", only(1, "oxford_pets"))
    assert any("byte for byte in two splits, first: " in note for note in dataset.notes)


def test_too_little_disk_space_is_said_before_a_file_is_fetched(tmp_path, hub, monkeypatch):
    folder = publish(hub, dataset_sources("oxford_pets")[1])
    listing = {"sha": "c" * 40, "siblings": [
        {"rfilename": f"data/{file.name}", "size": 10**17} for file in sorted((folder / "data").iterdir())
    ]}  # fmt: skip
    monkeypatch.setattr(hub.RequestHandlerClass, "send_list", lambda self, *_: self.answer(200, json.dumps(listing).encode()))
    refused(tmp_path, "oxford_pets", r"800,000,000\.0 GB needed below .* free; free space, or set another data root")
    assert not [path for _, path, _ in hub.requests if path.endswith(".parquet")]


def test_facts_have_a_source_and_a_revision_is_a_commit():
    table = known_downloads()
    assert set(DATASETS.index) < set(table["name"]) and (table["fact"] != "").all()
    assert table["fact_date"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    mirrors = table[table["source"] == "hub"]
    assert mirrors["revision"].str.fullmatch("[0-9a-f]{40}").all() and set(DATASETS.index) < set(mirrors["name"])
    assert mirrors["classes"].isin(["official", "names"]).all() and mirrors["splits"].str.contains("train=.* test=").all()


def test_official_archives_are_those_of_torchvision():
    folder = Path(importlib.util.find_spec("torchvision").origin).parent / "datasets"
    source = "".join(file.read_text() for file in sorted(folder.glob("*.py")))
    table = known_downloads()
    table = table[(table["source"] == "official") & table["fact"].str.contains("torchvision 0.29.2")]
    assert table["name"].nunique() == 10
    for url, md5 in table[["url", "md5"]].to_numpy():
        assert (url in source or f'"{url.rpartition("/")[0]}/"' in source) and md5 in source, url
