"""Unpacking: what leads out of the target, links out of it or fills the disk is refused, and nothing of it is written."""

import io
import stat
import tarfile
import zipfile

import pytest

from transfer_study.core import UserError
from transfer_study.images.archives import size_limit
from transfer_study.images.unpacking import unpack


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content, mode in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name  # the constructor would clean the name
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            packed.writestr(info, content)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_comes_out_as_it_went_in(tmp_path, mode):
    archive = make_tar(tmp_path / "a.tar", [("x/1.jpg", b"one", {}), ("x/y/2.jpg", b"two", {})], mode)
    unpack(archive, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.jpg")}
    assert found == {"x/1.jpg": b"one", "x/y/2.jpg": b"two"}


def test_a_zip_comes_out_as_it_went_in(tmp_path):
    unpack(make_zip(tmp_path / "a.zip", [("x/", b"", stat.S_IFDIR | 0o755), ("x/1.jpg", b"one", 0)]), tmp_path / "out")
    assert (tmp_path / "out/x/1.jpg").read_bytes() == b"one"


def test_links_inside_are_kept(tmp_path):
    members = [("x/1.jpg", b"one", {}), ("y.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "x/1.jpg"})]
    unpack(make_tar(tmp_path / "a.tar", members), tmp_path / "out")
    assert (tmp_path / "out/y.jpg").read_bytes() == b"one"


HARMFUL = {
    "parent": [("../out.jpg", b"x", {})],
    "hidden parent": [("a/../../out.jpg", b"x", {})],
    "link out": [("link", b"", {"type": tarfile.SYMTYPE, "linkname": "../.."})],
    "absolute link": [("link", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc"})],
    "hard link out": [("link", b"", {"type": tarfile.LNKTYPE, "linkname": "../secret.txt"})],
    "device": [("null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
    "fifo": [("pipe", b"", {"type": tarfile.FIFOTYPE})],
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_a_harmful_tar_is_refused(tmp_path, kind):
    (tmp_path / "secret.txt").write_text("secret")
    archive = make_tar(tmp_path / "a.tar", HARMFUL[kind])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="not unpacked"):
        unpack(archive, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir()) and sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])


def test_an_absolute_path_of_a_tar_stays_inside(tmp_path):
    unpack(make_tar(tmp_path / "a.tar", [(f"{tmp_path}/elsewhere.jpg", b"x", {})]), tmp_path / "out")
    assert not (tmp_path / "elsewhere.jpg").exists()


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../out.jpg", 0), ("/out.jpg", 0), ("a\\..\\..\\out.jpg", 0), ("C:/out.jpg", 0), ("link", stat.S_IFLNK | 0o777)],
)
def test_a_harmful_zip_is_refused_before_anything_is_written(tmp_path, name, mode):
    archive = make_zip(tmp_path / "a.zip", [("good.jpg", b"x", 0), (name, b"../..", mode)])
    with pytest.raises(UserError, match="not unpacked"):
        unpack(archive, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_bombs_are_refused(tmp_path):
    zeros = bytes(120_000_000)
    for archive in (make_zip(tmp_path / "a.zip", [("0", zeros, 0)]), make_tar(tmp_path / "a.tar", [("0", zeros, {})])):
        assert archive.stat().st_size < 200_000 and size_limit(archive) < len(zeros)
        with pytest.raises(UserError, match=r"would unpack to more than [\d,]+ bytes"):
            unpack(archive, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("transfer_study.images.archives.MAX_FILES", 3)
    archive = make_tar(tmp_path / "a.tar", [(str(i), b"", {}) for i in range(4)])
    with pytest.raises(UserError, match="more than 3 files"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_say_so(tmp_path, kind):
    content = bytes(range(256)) * 400
    if kind == "tar":
        whole = make_tar(tmp_path / "whole", [("a.jpg", content, {}), ("b.jpg", content[::-1], {})]).read_bytes()
        damaged = whole[: len(whole) // 2]
    else:
        whole = make_zip(tmp_path / "whole", [("a.jpg", content, 0)]).read_bytes()
        damaged = whole[:60] + bytes(40) + whole[100:]
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(UserError, match="damaged|neither a tar nor a zip"):
        unpack(tmp_path / "damaged", tmp_path / "out")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "page.tar.gz").write_text("<html>404</html>")
    with pytest.raises(UserError, match="neither a tar nor a zip"):
        unpack(tmp_path / "page.tar.gz", tmp_path / "out")
    with pytest.raises(UserError, match="no such file"):
        unpack(tmp_path / "absent.tar.gz", tmp_path / "out")
