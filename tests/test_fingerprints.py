"""A file's hash is kept while the file is the same, and never a moment longer."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import pack, write_images
from transfer_study.core import UserError, user_cache
from transfer_study.fingerprints import FileHashes, FileState, read_entries, write_entries
from transfer_study.images.class_folders import class_folders
from transfer_study.images.datasets import image_folder, only_structure
from transfer_study.study.file import StudyFile
from transfer_study.study.resolve import resolve_datasets


def settle(folder: Path) -> None:
    "Waits until every file below `folder` is old enough for its hash to be kept."
    while not all(FileState.of(path).is_settled() for path in folder.rglob("*") if path.is_file()):
        time.sleep(0.1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "16 images that are old enough, and an empty cache."
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_images(tmp_path / "squares", train=6, test=2)
    settle(root)
    return root


def cached(folder: Path) -> Path:
    "The only file of the cache."
    (path,) = (user_cache() / "fingerprints").iterdir()
    return path


def entries_read(monkeypatch, path: Path) -> list:
    "Opens the dataset; its fingerprint and the files that were read for it, sorted, as several threads read them."
    import transfer_study.images.datasets as module

    reads, original = [], module.read_file
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_file", lambda root, file, *rest: (reads.append(file), original(root, file, *rest))[1])
        fingerprint = image_folder(path).fingerprint
    return [fingerprint, sorted(reads)]


def test_an_unchanged_folder_is_read_once(folder, monkeypatch):
    (first, all_files), (second, none) = entries_read(monkeypatch, folder), entries_read(monkeypatch, folder)
    assert first == second and len(all_files) == 16 and none == []
    cached(folder).unlink()
    assert entries_read(monkeypatch, folder) == [first, all_files]


def test_class_folders_without_a_test_split_are_read_once_too(folder):
    "The second time the kept hashes count, which a wrong one among them shows."
    first = class_folders(folder / "train").fingerprint
    kept = read_entries(cached(folder))
    assert len(kept) == 12 and class_folders(folder / "train").fingerprint == first
    next(iter(kept.values()))[-1] = 64 * "0"
    write_entries(kept, cached(folder))
    assert class_folders(folder / "train").fingerprint != first


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_file_changed_in_place_is_noticed(folder, monkeypatch, keep_time):
    before, path = image_folder(folder).fingerprint, folder / "train" / "dim" / "3.png"
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    with open(path, "r+b") as stream:  # the same inode and size
        stream.write(data)
    if keep_time:  # as a tool that restores times does
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after, reads = entries_read(monkeypatch, folder)
    assert after != before and reads == ["train/dim/3.png"]
    data[-20] ^= 1
    path.write_bytes(data)
    assert image_folder(folder).fingerprint == before


def test_a_file_replaced_by_another_of_the_same_size_and_time_is_noticed(folder):
    before, path = image_folder(folder).fingerprint, folder / "test" / "bright" / "0.png"
    other, state = path.with_name("other"), path.stat()
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(other, path)
    assert path.stat().st_mtime_ns == state.st_mtime_ns and path.stat().st_size == state.st_size
    assert image_folder(folder).fingerprint != before


def test_a_file_that_changed_just_now_is_not_kept(folder, monkeypatch):
    image_folder(folder)
    (folder / "train" / "dim" / "3.png").touch()
    for _ in range(2):
        assert entries_read(monkeypatch, folder)[1] == ["train/dim/3.png"]


def test_an_archive_is_read_once_and_has_the_fingerprint_of_its_folder(folder, tmp_path, monkeypatch):
    tar, expected = pack(folder, tmp_path / "packed.tar"), image_folder(folder).fingerprint
    while not FileState.of(tar).is_settled():
        time.sleep(0.1)
    (first, reads), (second, none) = entries_read(monkeypatch, tar), entries_read(monkeypatch, tar)
    assert first == second == expected and len(reads) == 16 and none == []


DAMAGE = [lambda data: data[:100], lambda data: b"", lambda data: data.replace(b"a", b"b"), lambda data: b"\xff" * 50]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_counts_as_empty(folder, monkeypatch, damage):
    fingerprint, path = image_folder(folder).fingerprint, cached(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert read_entries(path) == {}
    again, reads = entries_read(monkeypatch, folder)
    assert again == fingerprint and len(reads) == 16 and len(read_entries(path)) == 16


def test_what_is_written_is_read_and_an_unwritable_cache_is_no_error(tmp_path, monkeypatch):
    entries = {"ä\udcff".encode("utf-8", "surrogateescape").decode("latin-1"): [1, 2**63, "x"]}
    write_entries(entries, tmp_path / "below" / "entries.json")
    assert read_entries(tmp_path / "below" / "entries.json") == entries and len(list((tmp_path / "below").iterdir())) == 1
    (tmp_path / "file").touch()
    write_entries(entries, tmp_path / "file" / "entries.json")
    assert read_entries(tmp_path / "file" / "entries.json") == {}


MANY = """
import sys
from transfer_study.fingerprints import read_entries, write_entries
from pathlib import Path
for i in range(60):
    entries = read_entries(Path(sys.argv[1]))
    assert len(set(map(str, entries.values()))) <= 1, "a mixture"
    write_entries({str(k): [sys.argv[2], i] for k in range(400)}, Path(sys.argv[1]))
"""


def test_processes_that_write_at_the_same_time_leave_one_whole_file(tmp_path):
    path = tmp_path / "entries.json"
    running = [subprocess.Popen([sys.executable, "-c", MANY, str(path), name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert len(read_entries(path)) == 400 and list(tmp_path.iterdir()) == [path]


def test_hashes_are_kept_if_the_block_ends_with_an_error(folder, tmp_path):
    path = folder / "train" / "dim" / "0.png"
    with pytest.raises(ZeroDivisionError), FileHashes(folder, tmp_path / "own") as hashes:
        hashes.content(path, "", path.read_bytes)
        raise ZeroDivisionError
    with FileHashes(folder, tmp_path / "own") as hashes:
        assert hashes.content(path, "", lambda: 1 / 0)[0] == path.stat().st_size
        with pytest.raises(ZeroDivisionError):
            hashes.content(path, "another part", lambda: 1 / 0)


def test_a_mistake_in_one_dataset_is_reported_before_the_images_of_another_are_read(folder, tmp_path):
    wrong = write_images(tmp_path / "wrong", train=2, test=2)
    for path in (wrong / "train" / "dim").iterdir():
        path.unlink()
    file = StudyFile(name="two", datasets=(str(folder), str(wrong)), networks=({"name": "resnet18"},))
    with pytest.raises(UserError, match=r"datasets\[2\].*train/dim contains no image"):
        resolve_datasets(file, tmp_path)
    assert not (user_cache() / "fingerprints").exists()
    with only_structure():
        assert image_folder(folder).fingerprint == "" and len(image_folder(folder).images) == 16
    assert len(image_folder(folder).fingerprint) > 10 and json.dumps(read_entries(cached(folder)))
