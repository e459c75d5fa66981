"""A cache that a disk, a copy or a missing right has changed: computed again or one line, never a wrong number."""

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_images
from transfer_study.core import CHECKSUMS, UserError, damaged_file
from transfer_study.features.extraction import (
    DamagedFeatures,
    ExtractionOptions,
    Features,
    check_finite,
    extract_features,
    extract_shard,
    feature_key,
    read_features,
    shard_rows,
)
from transfer_study.images.datasets import image_folder

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(5, 2)]
    network = torch.nn.Sequential(*layers).eval()
    network.pretrained_cfg = {"input_size": (3, 24, 24)}
    return network


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return image_folder(write_images(tmp_path_factory.mktemp("images") / "squares", train=4, test=2))


def flip(file: Path, at: int = -3) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["features.npy", "rows.npy", "copy.npy", "bad_images.csv", CHECKSUMS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "lost"])
def test_damaged_features_are_found_and_computed_again(model, dataset, tmp_path, name, damage):
    before = np.array(extract_features([model], dataset, tmp_path)[0].X)
    key = feature_key(model, dataset)
    file = tmp_path / key / "features" / name
    {"flipped": flip, "cut": lambda path: path.write_bytes(path.read_bytes()[:-2]), "lost": Path.unlink}[damage](file)
    if name == CHECKSUMS and damage == "lost":  # written by an earlier version
        assert np.array_equal(read_features(tmp_path, key).X, before)
        return
    with pytest.raises(DamagedFeatures, match="run again to compute them"):
        read_features(tmp_path, key)
    assert np.array_equal(extract_features([model], dataset, tmp_path)[0].X, before)
    assert damaged_file(file.parent) is None and np.array_equal(read_features(tmp_path, key).X, before)


def test_a_damaged_shard_is_computed_again(model, dataset, tmp_path):
    options = {"shard_size": 5}
    whole = np.array(extract_features([model], dataset, **options)[0].X)
    rows = shard_rows(dataset, 0, 5)
    extract_shard([model], dataset, rows[0], tmp_path, **options)
    flip(next((tmp_path / feature_key(model, dataset) / "shards").glob("*/features.npy")))
    assert np.array_equal(extract_features([model], dataset, tmp_path, **options)[0].X, whole)


REFUSED = {"directory": None}


def refuse(event: str, arguments: tuple) -> None:
    "An audit hook that makes a directory read-only, also for root."
    directory = (REFUSED or {}).get("directory")  # None when the interpreter ends
    if directory is None or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"):
        return
    writes = event != "open" or not isinstance(arguments[1], str) or set(arguments[1]) & set("wax+")
    if writes and str(arguments[0]).startswith(directory) and (event != "open" or arguments[1] is not None):
        raise OSError(errno.EROFS, "Read-only file system", str(arguments[0]))


@pytest.fixture
def read_only():
    "Makes one directory read-only until the test ends."
    if not REFUSED.get("installed"):
        sys.addaudithook(refuse)
        REFUSED["installed"] = True
    yield lambda path: REFUSED.update(directory=str(path))
    REFUSED["directory"] = None


def test_a_read_only_cache_is_read_and_what_it_lacks_is_one_line(model, dataset, tmp_path, read_only):
    before = np.array(extract_features([model], dataset, tmp_path)[0].X)
    read_only(tmp_path)
    assert np.array_equal(extract_features([model], dataset, tmp_path)[0].X, before)
    with pytest.raises(UserError, match="cannot be written .*Read-only file system"):
        extract_features([model], dataset, tmp_path, storage="float16")


def test_features_that_are_not_numbers_name_network_dataset_and_images(dataset):
    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    features = Features(X, np.arange(12), None, np.zeros(12, int))
    check_finite(features, dataset, "good")
    X[4, 1], X[7, 2] = np.nan, np.inf
    name = dataset.images["name"][4]
    with pytest.raises(
        UserError, match=f"network 'bad' on dataset squares: the features of 2 of 12 images are .*, first: {name}"
    ):
        check_finite(features, dataset, "bad")


def test_options_are_checked_before_the_cache_is_touched(tmp_path):
    with pytest.raises(UserError, match="storage"):
        ExtractionOptions(storage="float8").resolved()
    assert not list(tmp_path.iterdir())
