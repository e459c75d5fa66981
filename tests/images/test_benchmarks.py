"""Datasets of later benchmarks: a name, a fixed split, and a download like that of the paper's twelve."""

import hashlib
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.images.hub_server import publish, serving
from transfer_study.core import UserError
from transfer_study.images.benchmarks import benchmark_datasets, vtab_dataset
from transfer_study.images.catalog import arrival, download_dataset, find_dataset, named_datasets, open_dataset
from transfer_study.images.mirrors import dataset_sources, known_downloads
from transfer_study.images.official import count_mismatch

LABELS = {"train800": [0, 1, 3, 0], "val200": [1, 4], "train800val200": [0, 1, 3, 0, 1, 4], "test": [0, 1, 2, 3, 2, 4]}


def vtab_copy(folder, labels=LABELS):
    "A dataset in the layout in which VTAB-1k is published; class 2 has test images only, class 4 none in train800."
    for split, numbers in labels.items():
        (folder / "images" / split).mkdir(parents=True)
        for i, label in enumerate(numbers):
            Image.new("RGB", (8, 8), (10 * len(split), 20 * i, 50 * label)).save(folder / "images" / split / f"{i:06d}.png")
        lines = [f"images/{split}/{i:06d}.png {label}" for i, label in enumerate(numbers)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


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
    same = open_dataset("country211", root=tmp_path)  # where torchvision lays it out below a root of its own
    assert same.counts == dataset.counts and same.fingerprint == dataset.fingerprint
    reasons = {"gtsrb": r"torchvision.datasets.GTSRB cannot open \(Dataset not found", "eurosat": "was not downloaded with"}
    for name, reason in reasons.items():
        (tmp_path / "own" / name / "2750").mkdir(parents=True)
        message = f"expected its files in .*{name}, which {reason}.*; give the path .* --download {name} downloads it$"
        with pytest.raises(UserError, match=message):
            open_dataset(name, root=tmp_path / "own")


def test_vtab_has_nineteen_names_in_the_published_layout(tmp_path):
    table = benchmark_datasets().set_index("name")
    names = [name for name in table.index if name.startswith("vtab1k_")]
    assert len(names) == 19 and (table.loc[names, ["train", "val"]] == [800, 200]).all(axis=None)
    folder = vtab_copy(tmp_path / "vtab-1k" / "smallnorb_ele")
    dataset = open_dataset("vtab1k_smallnorb_ele", root=tmp_path)
    assert dataset.counts == {"classes": 5, "train": 4, "val": 2, "test": 6} and dataset.classes == list("01234")
    unseen = "classes without a training image: 1 of 5; their 2 test images count as errors"
    assert dataset.notes == (f"dataset {dataset.name}: {unseen}",)
    assert "5 classes found, 9 expected; 6 training images found, 1,000 expected" in count_mismatch(dataset)
    assert find_dataset(dataset.name, tmp_path) == folder and find_dataset("vtab1k_dtd", tmp_path) is None
    by_path = open_dataset("vtab-1k/smallnorb_ele", tmp_path)
    assert (by_path.name, by_path.fingerprint) == (dataset.name, dataset.fingerprint)
    with pytest.raises(UserError, match="--download vtab1k_dtd downloads it, or copy it to .*vtab-1k/dtd as it is published"):
        open_dataset("vtab1k_dtd", root=tmp_path)
    with pytest.raises(UserError, match="did you mean vtab1k_smallnorb_"):
        open_dataset("vtab1k_smallnorb", root=tmp_path)


def test_test_images_of_unseen_classes_count_as_errors(tmp_path):
    from transfer_study.classifiers.linear_probe import linear_probe

    dataset = vtab_dataset(vtab_copy(tmp_path / "mine"))
    X = np.eye(5, dtype=np.float32)[dataset.targets]  # features that separate the classes
    split = dataset.images["split"].to_numpy()
    result = linear_probe(X, dataset.targets, split)
    assert result.score == pytest.approx(4 / 6)  # all but the two of class 2: class 4 is learned from val200


def test_a_study_takes_them_and_plans_without_those_that_are_not_there(tmp_path):
    from transfer_study.networks.networks import Network
    from transfer_study.study.file import read_study_file
    from transfer_study.study.resolve import check_sizes, resolve_datasets
    from transfer_study.study.runs import Run, used_images

    vtab_copy(tmp_path / "vtab-1k" / "kitti")
    datasets = 'datasets = ["gtsrb", "vtab1k_kitti"]\n[protocols.linear]\n'
    (tmp_path / "study.toml").write_text('name = "study"\nnetworks = [{ name = "resnet50" }]\n' + datasets)
    file = read_study_file(tmp_path / "study.toml")
    resolved = resolve_datasets(file, tmp_path, tmp_path, stand_in=True)
    assert [dataset.counts["test"] for dataset in resolved.datasets] == [12_630, 6]
    assert len(resolved.missing) == 1 and "--download gtsrb" in resolved.missing[0]
    for dataset in resolved.datasets:
        check_sizes(file, dataset)
    parameters = {"validation_share": 0.2, "n_train_per_class": None}
    run = Run(Network("any", "any:any"), resolved.datasets[1], "linear", parameters, 0, "0" * 16)
    y, split = used_images(run, np.arange(len(run.dataset.images)))
    assert sorted(y[split == "train"]) == [0, 0, 1, 3] and sorted(y[split == "test"]) == [0, 1, 2, 2, 3, 4]
    shown = np.eye(len(run.dataset.classes))[run.dataset.images["label"]]
    several = {"metric": "map_11_point", "label_matrix": pd.DataFrame(shown)}

    def version(protocol, **changes):
        return replace(run, protocol=protocol, dataset=replace(run.dataset, **changes)).specification["numerics_version"]

    now = version("linear")  # one more for those runs alone whose numbers were wrong in earlier versions
    assert version("knn") == version("linear", **several) == now
    assert version("linear", metric="roc_auc") == version("knn", metric="roc_auc") == version("knn", **several) == now + 1
    with pytest.raises(UserError, match="dataset 'gtsrb': not found"):
        resolve_datasets(file, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("test.txt", "images/test/000000.png\n", "'images/test/000000.png' is not an image and the number of its class"),
        ("train800val200.txt", "images/train800val200/000000.png 0\n", "train800val200.txt has other labels than"),
        ("val200.txt", None, "no val200.txt; expected images/, train800.txt, val200.txt, test.txt"),
    ],
)
def test_incomplete_lists_are_named(tmp_path, file, text, message):
    path = vtab_copy(tmp_path / "dtd") / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message):
        vtab_dataset(tmp_path / "dtd")


def test_vtab_arrives_in_one_archive(tmp_path, hub, command):
    source = dataset_sources("vtab1k_dtd")[0]
    for name in ("dtd", "kitti"):
        vtab_copy(tmp_path / "copy" / "vtab-1k" / name)
    folder, root = hub.folder / source.repository, tmp_path / "root"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / source.configuration, "w") as archive:
        for file in (tmp_path / "copy").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "copy"))
    with pytest.raises(UserError, match="vtab1k_cifar from .*: not in the archive, which has vtab1k_dtd, vtab1k_kitti; not used"):
        download_dataset("vtab1k_cifar", root)
    assert not (root / "vtab-1k").exists()
    code, out, err = command("datasets", "--download", "vtab1k_dtd", "vtab1k_kitti", "--data-root", root)
    assert code == 0 and out.count("ImageDataset(vtab1k_") == 2 and err.count("downloading") == 1
    assert open_dataset("vtab1k_kitti", root=root).counts["train"] == 4 and not (root / ".downloads").exists()
    notes = arrival("vtab1k_kitti", root)["differences"]
    assert notes[0].startswith("5 classes found, 4 expected") and any("revision not pinned; ccccc" in note for note in notes)
    with pytest.raises(UserError, match="exists already at .*vtab-1k/kitti"):
        download_dataset("vtab1k_kitti", root)
