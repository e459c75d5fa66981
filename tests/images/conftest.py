import pytest

from tests.images.hub_server import serving


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A hub on this machine, empty."
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server
