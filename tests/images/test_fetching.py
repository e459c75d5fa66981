"""Files that arrive in pieces are whole in the end, or not there."""

import hashlib
import socket

import pytest

from tests.images.hub_server import serving
from transfer_study.core import UserError
from transfer_study.images import fetching
from transfer_study.images.fetching import Fetcher, NotReachable, check_free_space, readable_bytes

DATA = bytes(range(256)) * 20


@pytest.fixture
def server(tmp_path, monkeypatch):
    "A server with one file, data.bin."
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with serving(tmp_path / "server") as serving_here:
        (tmp_path / "server" / "data.bin").write_bytes(DATA)
        yield serving_here


def interrupted(server, target, **checksum):
    "A download of data.bin that was cut off after 1,000 bytes."
    server.cut = 1000
    with pytest.raises(UserError, match=r"connection lost after 1\.0 kB of 5\.1 kB\); the same command goes on from there"):
        Fetcher().fetch(f"{server.address}/data.bin", target, **checksum)
    server.cut, server.requests[:] = 0, []
    assert not target.exists() and target.with_name("data.bin.part").stat().st_size == 1000


@pytest.mark.parametrize("checksum", [{}, {"md5": hashlib.md5(DATA).hexdigest()}, {"sha256": hashlib.sha256(DATA).hexdigest()}])
def test_only_the_rest_is_fetched(tmp_path, server, checksum):
    interrupted(server, tmp_path / "data.bin", **checksum)
    steps = []
    fetcher = Fetcher(progress=lambda file, n, total: steps.append((n, total)))
    fetcher.fetch(f"{server.address}/data.bin", tmp_path / "data.bin", **checksum)
    assert (tmp_path / "data.bin").read_bytes() == DATA and server.requests[0][2] == "bytes=1000-"
    assert steps[0] == (1000, len(DATA)) and sum(n for n, _ in steps) == len(DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.bin", "server"]


def test_a_file_that_has_changed_meanwhile_is_fetched_whole(tmp_path, server):
    interrupted(server, tmp_path / "data.bin")
    (server.folder / "data.bin").write_bytes(DATA[::-1])
    assert Fetcher().fetch(f"{server.address}/data.bin", tmp_path / "data.bin").read_bytes() == DATA[::-1]


def test_with_a_checksum_two_halves_of_different_files_are_not_taken(tmp_path, server):
    checksum = {"sha256": hashlib.sha256(DATA[::-1]).hexdigest()}
    interrupted(server, tmp_path / "data.bin", **checksum)
    (server.folder / "data.bin").write_bytes(DATA[::-1])
    with pytest.raises(UserError, match="its SHA-256 is not"):
        Fetcher().fetch(f"{server.address}/data.bin", tmp_path / "data.bin", **checksum)
    assert Fetcher().fetch(f"{server.address}/data.bin", tmp_path / "data.bin", **checksum).read_bytes() == DATA[::-1]


def test_a_partial_file_as_long_as_the_file_is_fetched_again(tmp_path, server):
    (tmp_path / "data.bin.part").write_bytes(b"x" * len(DATA))
    fetched = Fetcher().fetch(f"{server.address}/data.bin", tmp_path / "data.bin", md5=hashlib.md5(DATA).hexdigest())
    assert fetched.read_bytes() == DATA


def test_a_token_stays_with_its_host(tmp_path, server):
    server.moved = {"token.bin": f"{server.address.replace('127.0.0.1', 'localhost')}/data.bin"}
    Fetcher().fetch(f"{server.address}/token.bin", tmp_path / "data.bin", headers={"authorization": "Bearer secret"})
    assert server.tokens == ["Bearer secret", ""] and (tmp_path / "data.bin").read_bytes() == DATA


def test_a_stopped_download_keeps_its_part(tmp_path, server):
    fetcher = Fetcher()
    fetcher.progress = lambda file, n, total: fetcher.stop.set()
    with pytest.raises(UserError, match="connection lost after 0 bytes"):
        fetcher.fetch(f"{server.address}/data.bin", tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()


def test_a_host_is_asked_once_and_other_hosts_still_are(tmp_path, server):
    fetcher = Fetcher()
    for message in ("is not reached: Connection refused", "was not reached before: Connection refused"):
        with pytest.raises(NotReachable, match=message):
            fetcher.size("http://127.0.0.1:9/data.bin")
    server.status = {"data.bin": 405}
    assert fetcher.size(f"{server.address}/data.bin") == 0  # it does not say
    server.status = {"data.bin": 503}
    with pytest.raises(UserError, match=r"\(503 .*; try again later"):
        fetcher.size(f"{server.address}/data.bin")
    server.status = {"data.bin": 401}
    with pytest.raises(UserError, match=r"\(401 [^)]*\)$"):  # only the hub has gated repositories and tokens
        fetcher.open(f"{server.address}/data.bin")
    with pytest.raises(UserError, match="is not JSON"):
        server.status = {}
        fetcher.read_json(f"{server.address}/data.bin")


def test_space_is_checked_in_a_folder_that_does_not_exist_yet(tmp_path):
    check_free_space(tmp_path / "not/yet", 10, 10)
    with pytest.raises(UserError, match=r"2,000,000,000\.0 GB needed below .*not/yet \(1,000,000,000\.0 GB to download"):
        check_free_space(tmp_path / "not/yet", 10**18, 10**18)
    assert readable_bytes(999) == "999 bytes"


def test_a_server_that_is_back_is_noticed(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(fetching, "SECONDS_REMEMBERED", 1e9)
        assert not fetching.can_reach(address)
        server.listen()
        assert not fetching.can_reach(address)  # remembered
        monkeypatch.setattr(fetching, "SECONDS_REMEMBERED", 1e-3)
        assert fetching.can_reach(address)
