"""Run notebooks in fresh kernels and store their outputs: `tools/run_notebooks.py [NOTEBOOK …]` (default: all of nbs/).

Pages whose outputs come from photographs stay as they are where TRANSFER_STUDY_PHOTOGRAPHS names no folder with them
(tutorials/real_images.ipynb says which).
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = "TRANSFER_STUDY_PHOTOGRAPHS"
KERNEL = {"display_name": "python3", "language": "python", "name": "python3"}  # without it, JupyterLab asks for one


def run(path: Path) -> None:
    "Executes `path` in its own folder; an error in a cell ends the program with the cell's traceback."
    notebook = nbformat.read(path, as_version=4)
    is_from_photographs = any(f'"{PHOTOGRAPHS}"' in cell.source for cell in notebook.cells)
    if is_from_photographs and not Path(os.environ.get(PHOTOGRAPHS, "")).joinpath("images").is_dir():
        print(f"{path.relative_to(ROOT)}: left as it is; {PHOTOGRAPHS} names no folder with its photographs", file=sys.stderr)
        return
    notebook.metadata.setdefault("kernelspec", KERNEL)
    options = {"timeout": 3600, "kernel_name": "python3", "store_widget_state": False}
    NotebookClient(notebook, resources={"metadata": {"path": path.parent}}, **options).execute()
    for cell in notebook.cells:  # a bar that was below a cell while it ran has left an empty output
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
    nbformat.write(notebook, path)
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    os.environ["COLUMNS"] = "120"  # the width at which rich lays out what the command line prints
    for name in sys.argv[1:] or sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in Path(name).parts:
            run(Path(name).resolve())
