"""Checks that exporting and cleaning the notebooks leaves no difference; ends with exit code 1 and the names if it does."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def contents() -> dict[str, str]:
    "Digest of every notebook and every exported module."
    files = [*(ROOT / "nbs").rglob("*.ipynb"), *(ROOT / "transfer_study").rglob("*.py")]
    return {str(f.relative_to(ROOT)): sha256(f.read_bytes()).hexdigest() for f in files if ".ipynb_checkpoints" not in f.parts}


if __name__ == "__main__":
    before = contents()
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([BIN / command], cwd=ROOT, check=True)
    after = contents()
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    if changed:
        sys.exit(f"nbdev_export and nbdev_clean changed: {', '.join(changed)}; commit what they made")
    print(f"{len(after)} notebooks and modules: exported and clean")
