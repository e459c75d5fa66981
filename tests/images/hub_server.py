"""A server on this machine that answers as the hub does, and small repositories in the layout of the mirrors."""

import hashlib
import http.server
import io
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from transfer_study.images.mirrors import official_classes


class HubHandler(http.server.SimpleHTTPRequestHandler):
    "Files below `server.folder`: `<repository>/<file>` for the hub, and anything else by its path."

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body: bool = True):
        self.server.requests.append((self.command, self.path, self.headers.get("Range", "")))
        self.server.tokens.append(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0].lstrip("/")
        if status := next((code for part, code in self.server.status.items() if part in path), 0):
            return self.send_error(status)
        if address := self.server.moved.get(path):
            return self.answer(302, b"", headers={"Location": address})
        if path.startswith("api/datasets/"):
            repository, _, revision = path.removeprefix("api/datasets/").partition("/revision/")
            return self.send_list(repository, revision)
        if path.startswith("datasets/"):
            repository, _, rest = path.removeprefix("datasets/").partition("/resolve/")
            path = f"{repository}/{rest.partition('/')[2]}"
        return self.send_file(self.server.folder / path, body)

    def send_list(self, repository: str, revision: str):
        folder = self.server.folder / repository
        if not folder.is_dir():
            return self.send_error(404)
        files = []
        for file in sorted(folder.rglob("*.*")):
            data = file.read_bytes()
            entry = {"rfilename": file.relative_to(folder).as_posix(), "size": len(data)}
            files.append(entry | ({"lfs": {"sha256": hashlib.sha256(data).hexdigest()}} if file.suffix == ".parquet" else {}))
        self.answer(200, json.dumps({"sha": revision if len(revision) == 40 else "c" * 40, "siblings": files}).encode())

    def send_file(self, file: Path, body: bool):
        if not file.is_file():
            return self.send_error(404)
        data = file.read_bytes()
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        same = self.headers.get("If-Range", tag) == tag
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers and same else 0
        if start >= len(data) > 0:
            return self.send_error(416)
        self.answer(206 if start else 200, data[start:], body, {"ETag": tag})

    def answer(self, status: int, data: bytes, body: bool = True, headers: dict | None = None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[: self.server.cut] if self.server.cut else data)
        self.close_connection = True


@contextmanager
def serving(folder: Path):
    "The server for the files in `folder`; its `address`, and what tests change: `status`, `moved` and `cut`."
    folder.mkdir(parents=True, exist_ok=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        server.folder, server.requests, server.tokens, server.status, server.moved, server.cut = folder, [], [], {}, {}, 0
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def png(value: int) -> dict:
    colour = (value % 251, value // 251 % 251, value // 63_001)
    Image.new("RGB", (2, 2), colour).save(buffer := io.BytesIO(), "png", compress_level=0)
    return {"bytes": buffer.getvalue(), "path": None}


def mirror_names(source) -> list[str]:
    "The class names as a mirror spells and orders them."
    names = official_classes(source.dataset)["class"].tolist()
    if source.dataset == "sun397":  # as tanganke/sun397: no folders, and jail_cell before jail/indoor
        names = [name.partition("/")[2].replace("/", " ").replace("_", " ") for name in names]
        return [{"jail indoor": "jail cell", "jail cell": "jail indoor"}.get(name, name) for name in names]
    return sorted(names, key=str.lower) if source.classes == "names" else [name.lower() for name in names]


def letters(name: str) -> str:
    "The letters and digits of a class name, without the folder of SUN397."
    return "".join(filter(str.isalnum, name.partition("/")[2] if name[1:2] == "/" else name)).lower()


def publish(hub, source, names=None, per_class=2, repeat=False, drop=()):
    "A mirror's repository: two shards a split, a card, and the columns that the list of sources names."
    library = pytest.importorskip("datasets", reason="the Hugging Face library (extra hf) is not installed")
    names = names or mirror_names(source)
    several = source.dataset == "voc2007"
    label = library.ClassLabel(names=names)
    feature = library.List(label) if several else label
    folder = hub.folder / source.repository / (source.configuration or "data")
    folder.mkdir(parents=True)
    (folder.parent / "README.md").write_text("---\nlicense: unknown\n---\n")
    start = 0
    for ours, theirs in source.splits:
        n = {"train": per_class, "val": 1, "test": 1}[ours] * len(names)
        labels = [i % len(names) for i in range(n)]
        images = [png(0 if repeat else start + i) for i in range(n)]
        start += n
        columns = {source.image: images, source.label: [[k] for k in labels] if several else labels}
        features = library.Features({source.image: library.Image(), source.label: feature})
        whole = library.Dataset.from_dict(columns, features=features)
        for i in range(2):
            file = folder / f"{theirs[-1]}-0000{i}-of-00002.parquet"
            if file.name not in drop:
                whole.shard(2, i, contiguous=True).to_parquet(file)
    return folder.parent
