"""A folder, a tar and a zip are one dataset: the same files are read, and the same are left out and counted."""

import io
import os
import socket
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from tests.conftest import pack, png_bytes, write_images
from transfer_study.core import UserError
from transfer_study.images.archives import FileReader, list_files, readable_name
from transfer_study.images.datasets import image_folder


def zipped(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED, links: bool = False) -> Path:
    "`folder` as a zip; with `links`, symbolic links are stored as links, as `zip -y` does."
    with zipfile.ZipFile(archive, "w", method) as packed:
        for path in sorted(folder.rglob("*")):
            if links and path.is_symlink():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                member.create_system, member.external_attr = 3, 0o120777 << 16
                packed.writestr(member, os.readlink(path))
            else:
                packed.write(path, path.relative_to(folder))
    return archive


def all_ways(folder: Path) -> dict:
    "The datasets of the folder, of two tars and of two zips of it."
    beside = folder.parent
    roots = [
        folder, pack(folder, beside / "a.tar"), pack(folder, beside / "b.tar", prefix="./deep/inside/"),
        zipped(folder, beside / "c.zip"),
        zipped(folder, beside / "d.zip", zipfile.ZIP_STORED),
    ]  # fmt: skip
    return {root.name: image_folder(root) for root in roots}


def check_same(datasets: dict) -> None:
    first, *others = datasets.values()
    for other in others:
        assert other.fingerprint == first.fingerprint and other.classes == first.classes
        assert other.images["name"].tolist() == first.images["name"].tolist()
        assert [other.read(i) for i in range(len(other.images))] == [first.read(i) for i in range(len(first.images))]


def test_a_folder_a_tar_and_a_zip_are_the_same_dataset(tmp_path):
    check_same(all_ways(write_images(tmp_path / "squares", train=3, test=2, val=1)))


def test_hidden_files_and_those_of_operating_systems_are_left_out_alike(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    before = image_folder(folder)
    hidden = [
        "train/.ipynb_checkpoints/0-checkpoint.png", "train/dim/._0.png", "train/dim/Thumbs.db",
        "__MACOSX/train/dim/._0.png", ".git/train/x.png",
        "test/dim/@eaDir/0.png", "train/#recycle/0.png", "~snapshot/train/dim/0.png",
        "$RECYCLE.BIN/0.png", "train/System Volume Information/0.png",
        "lost+found/0.png", "test/THUMBS.DB", "Previews.lrdata/0.png",
    ]  # fmt: skip
    for name in hidden:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_bytes())
    datasets = all_ways(folder)
    check_same(datasets | {"before": before})
    for name, dataset in datasets.items():
        (line,) = dataset.notes
        assert "left out: hidden or of the operating system: 13 (" in line and "1 note" in repr(dataset), (name, line)


def test_placeholders_of_a_cloud_have_a_count_of_their_own(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    (folder / "train/dim/.9.png.icloud").write_bytes(b"bplist00")
    for dataset in all_ways(folder).values():
        assert "left out: placeholders of iCloud, whose files are not on this disk: 1 (" in dataset.notes[0]


def test_a_part_of_an_archive_says_that_it_is_one(tmp_path):
    whole = pack(write_images(tmp_path / "squares", train=3, test=2), tmp_path / "squares.tar").read_bytes()
    tars = ("pets.tar.aa", "pets.tar.gz.aa", "pets.tar.gz.partaa", "pets.tar.part1", "pets.tar-00", "xaa")
    for name in ("pets.zip.001", "pets.z01", "pets.part2.rar", *tars):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="one of several parts of an archive"):
            image_folder(tmp_path / name)
    (tmp_path / "pets.001").write_bytes(whole)
    assert image_folder(tmp_path / "pets.001").counts["train"] == 6


def test_other_zips_of_a_divided_download_are_said(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for name in ("photos-20260110T101010Z-1-001.zip", "photos-20260110T101010Z-1-002.zip", "photos-20260110T101010Z-2-003.zip"):
        zipped(folder, tmp_path / name)
    (note,) = image_folder(tmp_path / "photos-20260110T101010Z-1-001.zip").notes
    said = "archives of the same download; unpack all of them into one folder, and give it: 1 (photos-20260110T101010Z-1-002.zip)"
    assert note.endswith(said)
    assert not image_folder(tmp_path / "photos-20260110T101010Z-2-003.zip").notes


def test_links_inside_are_followed_in_archives_too(tmp_path):
    folder = write_images(tmp_path / "squares", train=4, test=2)
    os.link(folder / "train/dim/0.png", folder / "train/dim/hard.png")
    (folder / "train/dim/soft.png").symlink_to("0.png")
    (folder / "train/dim/chain.png").symlink_to("soft.png")
    (folder / "train/grey").symlink_to("dim", target_is_directory=True)
    folders = image_folder(folder)
    assert folders.counts == {"classes": 3, "train": 4 + 7 + 7, "val": 0, "test": 4}
    check_same({"folder": folders, "tar": image_folder(pack(folder, tmp_path / "a.tar"))})
    os.remove(folder / "train/grey")
    check_same({"folder": image_folder(folder), "zip": image_folder(zipped(folder, tmp_path / "a.zip", links=True))})


def test_a_link_in_a_circle_to_nothing_or_out_is_counted(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    outside = tmp_path / "outside.png"
    outside.write_bytes(png_bytes())
    (folder / "train/dim/again").symlink_to("..", target_is_directory=True)
    (folder / "train/dim/gone.png").symlink_to("/nowhere/gone.png")
    (folder / "README").symlink_to("README")
    assert "circle, to nothing or out of the archive: 3 (" in image_folder(folder).notes[0]
    (folder / "train/dim/outside.png").symlink_to(outside)
    dataset = image_folder(folder)
    assert dataset.counts["train"] == 7 and dataset.notes[1].endswith(
        "1 link to places outside of the folder followed (first: train/dim/outside.png)"
    )
    for archive in (pack(folder, tmp_path / "a.tar"), zipped_links(folder, tmp_path / "a.zip")):
        dataset = image_folder(archive)
        assert dataset.counts["train"] == 6 and "circle, to nothing or out of the archive: 4 (" in dataset.notes[0]


def zipped_links(folder: Path, archive: Path) -> Path:
    return zipped(folder, archive, links=True)


def test_a_tar_of_links_to_elsewhere_says_what_is_missing(tmp_path):
    pool, links = write_images(tmp_path / "pool", train=2, test=1), tmp_path / "links"
    for path in pool.rglob("*.png"):
        (links / path.relative_to(pool)).parent.mkdir(parents=True, exist_ok=True)
        (links / path.relative_to(pool)).symlink_to(path)
    assert image_folder(links).fingerprint == image_folder(pool).fingerprint
    with pytest.raises(UserError, match=r"test/bright \(left out: links that lead .*: 1\), .* contain no image; put the files"):
        image_folder(pack(links, tmp_path / "links.tar"))


def test_only_regular_files_are_opened(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    os.mkfifo(folder / "train/dim/pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "train/dim/socket.png"))
        dataset = image_folder(folder)
    assert dataset.counts["train"] == 6 and "not regular files: 2 (train/dim/pipe.png, …)" in dataset.notes[0]
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(UserError, match="not a regular file"):
        image_folder(tmp_path / "pipe.tar")


def test_devices_and_paths_out_of_a_tar_are_left_out(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    with tarfile.open(pack(folder, tmp_path / "a.tar"), "a") as tar:
        for name, kind in {
            "train/dim/null.png": tarfile.CHRTYPE,
            "../train/dim/out.png": tarfile.REGTYPE,
            "train/dim/p.png": tarfile.FIFOTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    dataset = image_folder(tmp_path / "a.tar")
    assert dataset.fingerprint == image_folder(folder).fingerprint
    assert (
        "not regular files: 2" in dataset.notes[0]
        and "a path that leads out of the archive: 1 (../train/dim/out.png)" in dataset.notes[0]
    )


def test_a_file_that_was_added_again_counts_as_its_last_version(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    pack(folder, tmp_path / "a.tar")
    (folder / "train/dim/0.png").write_bytes(png_bytes())
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        tar.add(folder / "train/dim/0.png", "train/dim/0.png")
    assert image_folder(tmp_path / "a.tar").fingerprint == image_folder(folder).fingerprint


def test_names_are_the_same_text_however_they_are_stored(tmp_path):
    datasets = {}
    for kind, name in {
        "NFC": "café".encode(),
        "NFD": unicodedata.normalize("NFD", "café").encode(),
        "Latin-1": b"caf\xe9",
    }.items():
        folder = write_images(tmp_path / kind, train=3, test=2, classes=("x", "dog"))
        os.rename(os.fsencode(folder / "train/x"), os.fsencode(folder / "train") + b"/" + name)
        (folder / "test/x").rename(folder / "test/café")
        datasets |= {kind: image_folder(folder), f"{kind} tar": image_folder(pack(folder, tmp_path / f"{kind}.tar"))}
    for dataset in datasets.values():
        assert dataset.classes == ["café", "dog"] and dataset.counts["train"] == 6
        assert len([dataset.read(i) for i in range(10)]) == 10 and "train/café/0.png" in dataset.images["name"].tolist()
    assert readable_name("plain/name.png") == "plain/name.png"


def test_control_characters_in_names_reach_no_terminal(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    before = image_folder(folder)
    for name in ("red\x1b[31m.png", "two\nlines.png", "\u202egnp.exe.png"):
        (folder / "train/dim" / name).write_bytes(png_bytes())
    (folder / "train/dim/\x07.txt").write_text("x")
    for dataset in all_ways(folder).values():
        assert dataset.counts["train"] == 9 and dataset.fingerprint != before.fingerprint
        shown = "".join([*dataset.images["name"], *dataset.images["file"], *dataset.notes])
        assert shown.isprintable() and r"red\x1b[31m.png" in shown and r"\x07.txt" in shown
        assert len([dataset.read(i) for i in range(len(dataset.images))]) == 13


def test_names_in_zips_of_other_programs(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2, classes=("cafXX", "dog"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for path in sorted(folder.rglob("*.png")):
            member = zipfile.ZipInfo("x")
            member.filename = path.relative_to(folder).as_posix().replace("/", "\\")
            packed.writestr(member, path.read_bytes())
    unflagged = (tmp_path / "a.zip").read_bytes().replace(b"cafXX", "café".encode())  # UTF-8 without the flag that says so
    (tmp_path / "a.zip").write_bytes(unflagged)
    assert image_folder(tmp_path / "a.zip").classes == ["café", "dog"]


class ByWindows(zipfile.ZipInfo):
    "A name in bytes of another code page, without the mark of UTF-8."

    def _encodeFilenameFlags(self):
        return self.filename.encode("cp437"), 0


def test_chinese_names_are_read_as_they_are_stored_by_windows(tmp_path):
    "GBK names without the mark of UTF-8, in a zip, a tar and a folder, are the same classes and images as names in UTF-8."
    classes, folder = ("玫瑰", "向日葵", "花卉1"), tmp_path / "flowers"
    names = [f"{split}/{label}/{i}.png" for split in ("train", "test") for label in classes for i in range(2)]
    stored = {name: png_bytes((20 * i, 0, 90)) for i, name in enumerate(names)}
    for path, data in stored.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    by_windows = tmp_path / "by_windows"
    with zipfile.ZipFile(tmp_path / "flowers.zip", "w") as packed, tarfile.open(tmp_path / "flowers.tar", "w") as tar:
        for path, data in stored.items():
            name = path.encode("gbk")
            packed.writestr(ByWindows(name.decode("cp437")), data)
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            place = Path(os.fsdecode(os.fsencode(by_windows) + b"/" + name))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    right = image_folder(folder)
    for other in (tmp_path / "flowers.zip", tmp_path / "flowers.tar", by_windows):
        dataset = image_folder(other)
        assert sorted(dataset.classes) == sorted(classes) and set(dataset.images["name"]) == set(right.images["name"]), other
    assert image_folder(tmp_path / "flowers.zip").fingerprint == right.fingerprint
    assert readable_name(os.fsdecode("Größe/crème brûlée".encode("latin-1"))) == "Größe/crème brûlée"


def test_damaged_and_hostile_zips_are_one_line(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    whole = zipped(folder, tmp_path / "a.zip", zipfile.ZIP_STORED).read_bytes()
    at = whole.index(b"IDAT") + 10
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    (tmp_path / "flipped.zip").write_bytes(flipped)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    zipped(folder, tmp_path / "lzma.zip", zipfile.ZIP_LZMA)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("train/dim/0.png", bytes(120_000_000))
    messages = {
        "flipped": "cannot be read .*checksum",
        "cut": "a zip without its end, as after a download that was cut off; download",
        "lzma": "not compressed by deflate",
        "bomb": "more than",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            image_folder(tmp_path / f"{name}.zip")


def test_a_reader_gives_the_start_of_a_file(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for root in (
        folder,
        pack(folder, tmp_path / "a.tar"),
        zipped(folder, tmp_path / "a.zip"),
        zipped(folder, tmp_path / "b.zip", 0),
    ):
        reader = FileReader(root, list_files(root).files)
        assert reader.start(0, 8) == b"\x89PNG\r\n\x1a\n" and reader(0)[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_sparse_file_of_a_terabyte_is_no_photograph(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    with open(folder / "train/dim/huge.png", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(UserError, match=r"train/dim/huge\.png is larger than 1,073,741,824 bytes"):
        image_folder(folder)


@pytest.mark.parametrize("folder", ["/", "/proc", "/dev/../proc/self"])
def test_a_folder_of_the_system_is_no_dataset(folder):
    with pytest.raises(UserError, match="a folder of the system"):
        list_files(Path(folder))


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="this system has no folder of files in memory")
def test_a_dataset_in_memory_is_one():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (image,) = list_files(write_images(Path(folder), train=1, test=0, classes=("dim",))).files
    assert image.path == "train/dim/0.png"


def test_a_name_that_an_archive_has_twice_is_said(tmp_path):
    folder = write_images(tmp_path / "set", train=3, test=2)
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        tar.add(folder, "set")
        tar.add(folder / "train/dim/1.png", "set/train/dim/0.png")
        tar.add(folder / "train/dim/1.png", "set/train/dim/2.png/inside.png")
        tar.add(folder / "train/dim/1.png", "a/" * 20_000 + "0.png")  # would take minutes
    (note, *_) = image_folder(tmp_path / "twice.tar").notes
    assert "that the system cannot open: 1 (a/a/" in note
    assert "more than once in the archive, where the last one counts: 2 (set/train/dim/0.png, …)" in note


def test_the_last_part_of_a_zip_says_so(tmp_path):
    data = zipped(write_images(tmp_path / "set"), tmp_path / "whole.zip").read_bytes()
    (tmp_path / "part.zip").write_bytes(data[len(data) // 2 :])
    with pytest.raises(UserError, match="the beginning of the zip is missing"):
        list_files(tmp_path / "part.zip")


@pytest.mark.parametrize("damage", ["checksum", "size"])
def test_a_tar_with_a_damaged_header_is_not_read_up_to_there(tmp_path, damage):
    tar = pack(write_images(tmp_path / "set"), tmp_path / "set.tar")
    data = bytearray(tar.read_bytes())
    start = data.index(b"train/dim/5.png")
    if damage == "size":
        data[start + 124 : start + 136] = b"\xff" * 12  # -1 in GNU's way of writing large numbers
        header = data[start : start + 148] + b" " * 8 + data[start + 156 : start + 512]
        data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    else:
        data[start + 150] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UserError, match="not a readable tar|the tar is damaged behind train/dim"):
        list_files(tar)


def test_a_link_to_the_system_is_not_followed(tmp_path):
    folder = write_images(tmp_path / "set")
    (folder / "train/dim/all").symlink_to("/proc")
    (note, *_) = image_folder(folder).notes
    assert "out of the archive: 1 (train/dim/all)" in note


def test_an_archive_behind_another_is_not_lost(tmp_path):
    folder, more = write_images(tmp_path / "squares", train=3, test=2), write_images(tmp_path / "more", train=2, test=1)
    one, other = pack(folder, tmp_path / "one.tar").read_bytes(), pack(more, tmp_path / "other.tar").read_bytes()
    (tmp_path / "both.tar").write_bytes(one + other)
    with pytest.raises(UserError, match=rf"another tar begins at byte {len(one):,}, as after cat; unpack it with tar -xif"):
        image_folder(tmp_path / "both.tar")
    (tmp_path / "padded.tar").write_bytes(one + b"\0" * 5120 + b"no tar")
    assert image_folder(tmp_path / "padded.tar").fingerprint == image_folder(folder).fingerprint
    zips = [zipped(root, tmp_path / f"{root.name}.zip").read_bytes() for root in (folder, more)]
    (tmp_path / "both.zip").write_bytes(b"".join(zips))
    with pytest.raises(UserError, match="another zip stands before the last one"):
        image_folder(tmp_path / "both.zip")
    (tmp_path / "extracting.zip").write_bytes(b"MZ" + bytes(50) + zips[0])
    assert image_folder(tmp_path / "extracting.zip").fingerprint == image_folder(folder).fingerprint


def test_a_tar_that_was_cut_between_two_files_is_refused(tmp_path):
    tar = pack(write_images(tmp_path / "squares", train=3, test=2), tmp_path / "squares.tar")
    with tarfile.open(tar) as archive:
        *_, last, lost = archive.getmembers()
    tar.write_bytes(tar.read_bytes()[: lost.offset])
    with pytest.raises(UserError, match=f"the tar has no end, as after a download that was cut behind {last.name}"):
        image_folder(tar)
