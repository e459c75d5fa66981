"""A classifier on a tiny network, and how a folder is changed by somebody who also mends its digests."""

import hashlib
import json
from pathlib import Path

from transfer_study.core import digest


def mend(folder: Path, **changes) -> Path:
    "Changes fields of classifier.json, then states the right digests of all files: what remains is a mistake in the content."
    path = folder / "classifier.json"
    values = json.loads(path.read_text())
    values.pop("digest")
    network = changes.pop("network", {})
    values |= changes
    values["network"] |= network
    values["files"] |= {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in values["files"] if (folder / name).is_file()
    }
    path.write_text(json.dumps(values | {"digest": digest(values, 64)}))
    return folder
