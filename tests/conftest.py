"""Small real inputs: images that differ, networks that run, a study that goes from one end to the other."""

import gc
import io
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
NETWORKS = {"test_resnet": 0.5, "test_efficientnet": 0.6, "test_mambaout": 0.7}  # the smallest that timm has


# The files that take longest, longest first: so two processes that share the files end at about the same time.
LONGEST = (
    "test_quickstart.py", "study/test_execute.py", "test_real.py", "features/test_extraction.py", "study/test_study.py",
    "selection/test_recommend.py", "test_site_pages.py", "training/test_pretrain.py", "study/test_study_source.py",
    "study/test_study_training.py", "study/test_report.py", "study/test_ray.py", "study/test_shards.py",
    "selection/test_images.py", "training/test_finetune.py", "cli/test_main.py", "test_lab.py", "test_check_gpu.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    "Says how a process of tests has ended that should not have: by which signal, or with which exit code."
    if error:
        process = node.gateway._io.popen
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        print(f"\n{node.gateway.id} has ended with {process.returncode} (negative: a signal; None: it still runs)", flush=True)


@pytest.fixture(autouse=True, scope="module")
def fast_collections():
    "Collections of garbage, as after each training, no longer visit the objects of imported libraries: 750,000 take 0.4 s."
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # else libraries take what they find at the end for a leak


@pytest.fixture
def real():
    "The folder of real images and ImageNet weights; skips where it is absent."
    if not REAL.is_dir():
        pytest.skip("real images and weights (../shared/real) are not on this machine")
    return REAL


def write_images(root: Path, train: int = 10, test: int = 4, classes=("dim", "bright"), val: int = 0) -> Path:
    "A folder of noisy squares whose classes differ a little in brightness, so that no score is 0 or 1."
    random = np.random.default_rng(0)
    for split, n in {"train": train, "val": val, "test": test}.items():
        for k, label in enumerate(classes):
            for i in range(n):
                path = root / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.normal(126 + 4 * k, 60, (40, 40, 3)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(path)
    return root


def pack(folder: Path, tar: Path, prefix: str = "") -> Path:
    "`folder` as an uncompressed tar."
    with tarfile.open(tar, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, f"{prefix}{path.relative_to(folder)}", recursive=False)
    return tar


def tiff_of_bands(values: np.ndarray) -> bytes:
    "A TIFF file of (height, width, bands) uint16: red, green, blue and bands of another kind, which Pillow cannot write."
    height, width, n = values.shape
    data = 134 + 2 * n
    numbers = {256: width, 257: height, 258: 134, 259: 1, 262: 2, 273: data, 277: n, 278: height, 279: values.nbytes, 338: 0}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 279 else 3, n if tag == 258 else 1, x) for tag, x in numbers.items())
    return b"II*\0\x08\0\0\0\x0a\0" + entries + bytes(4) + struct.pack(f"<{n}H", *[16] * n) + values.astype("<u2").tobytes()


def png_bytes(color: str | tuple[int, int, int] = "red") -> bytes:
    Image.new("RGB", (8, 8), color).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    "Weights files of three tiny timm networks with random weights."
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(NETWORKS):
        torch.manual_seed(seed)
        save_file(timm.create_model(name).state_dict(), folder / f"{name}.safetensors")
    return folder


def write_study(folder: Path, weights: Path) -> Path:
    "A study of three tiny networks on two small datasets."
    write_images(folder / "squares")
    pack(write_images(folder / "more", test=6), folder / "packed.tar", prefix="packed/")
    lines = ['name = "tiny"', 'datasets = ["squares", "packed.tar"]']
    for name, accuracy in NETWORKS.items():
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"']
        lines += [f"source_accuracy = {accuracy}"]
    path = folder / "study.toml"
    path.write_text("\n".join(lines))
    return path


WAITS = """
import time
from pathlib import Path

import timm


def network():
    "A network that says that it is asked for features, and never gives any."
    model = timm.create_model("test_resnet")

    def waits(images):
        Path(__file__).with_name("reached").touch()
        time.sleep(600)

    model.forward_features = waits
    return model
"""


@pytest.fixture
def waiting_study(study_file, weights):
    "A study that does not end, and the file that appears when it is at work."
    study_file.with_name("waits.py").write_text(WAITS)
    entry = f'\n[[networks]]\nname = "waits"\narchitecture = "waits:network"\nweights = "{weights / "test_resnet"}.safetensors"\n'
    study_file.write_text(f"{study_file.read_text()}{entry}source_accuracy = 0.5\n")
    return study_file, study_file.with_name("reached")


def interrupt_at_work(arguments: list, reached: Path):
    "Runs a command, sends Ctrl-C to it once `reached` is there, and gives the ended process and what it said on stderr."
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )  # fmt: skip
    for _ in range(3000):
        if reached.exists() or process.poll() is not None:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    assert reached.exists(), process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    return process, process.communicate(timeout=600)[1]


LIBRARIES = ["transfer_study.cli.main", "transfer_study.training.callbacks", "pytest", "timm", "vl_convert"]
LIBRARIES += ["transfer_study.study.study", "transfer_study.selection.recommend"]


def run_in_process(function, out: Path, err: Path) -> None:
    "Runs a function in a session of its own, with files for what it prints and what it says."
    os.setsid()
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with path.open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    function()


@pytest.fixture
def start_process(tmp_path):
    "Runs a function, which must be picklable, in a process that has imported everything: (process, its output, its messages)."
    context, started = multiprocessing.get_context("forkserver"), []
    context.set_forkserver_preload(LIBRARIES)  # by a server that forks the processes of all tests

    def start(function):
        out, err = (tmp_path / f"process{len(started)}.{suffix}" for suffix in ("out", "err"))
        process = context.Process(target=run_in_process, args=(function, out, err))
        process.start()
        started.append(process)
        while process.is_alive() and not err.exists():  # it is about to call the function
            process.join(0.005)
        return process, out, err

    yield start
    for process in started:
        process.kill()


def command_line(*arguments) -> None:
    "The command line, for `start_process`."
    from transfer_study.cli.main import main

    sys.argv = ["transfer-study", *map(str, arguments)]
    main()


@pytest.fixture
def study_file(tmp_path, weights):
    "A study of three tiny networks on two small datasets."
    return write_study(tmp_path, weights)


@pytest.fixture
def command(monkeypatch, capsys):
    "Runs the command line in this process: (exit code, stdout, stderr)."
    from transfer_study.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["transfer-study", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    "Opens an address in a headless browser: the document after its scripts ran, and the lines of its console."
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: the page was not opened")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", "--window-size=1200,900"]
    options += ["--enable-logging=stderr", "--dump-dom"]

    def open_page(address: str, *more: str, milliseconds: int = 20_000, timeout: int = 600) -> tuple[str, list[str]]:
        own = [f"--user-data-dir={tmp_path_factory.mktemp('profile')}", f"--virtual-time-budget={milliseconds}"]
        command = [program, *options, *own, *more, address]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        return ended.stdout, [line for line in ended.stderr.splitlines() if "CONSOLE" in line]

    return open_page
