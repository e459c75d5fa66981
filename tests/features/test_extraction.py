"""Features: those of each image alone, computed once, whoever dies in between."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import write_images
from tests.features.conftest import alone, build, close
from transfer_study.core import UserError
from transfer_study.features.extraction import Extractor, extract_features, extract_shard, feature_key, shard_rows
from transfer_study.features.inference import prepare_network
from transfer_study.images.datasets import image_folder
from transfer_study.networks.networks import network_digest
from transfer_study.study.study import Study


@pytest.mark.parametrize("n_workers", [0, 2])
def test_features_are_those_of_each_image_alone(models, squares, n_workers):
    before = [network_digest(model) for model in models]
    found = extract_features(models, squares, n_workers=n_workers, batch_size=5)
    for model, features in zip(models, found, strict=True):
        assert np.array_equal(features.rows, np.arange(28)) and not features.copy.any() and not len(features.bad)
        assert isinstance(features.X, np.memmap) and features.X.dtype == np.float32
        assert close(features.X, alone(model, squares))
    assert [network_digest(model) for model in models] == before


def test_each_image_is_read_once_for_all_networks_and_views(models, squares):
    reads = []
    wide = build("test_resnet")
    wide.pretrained_cfg = wide.pretrained_cfg | {"input_size": (3, 96, 96)}
    counted = replace(squares, reader=lambda row: (reads.append(row), squares.read(row))[1])
    found = extract_features([*models, wide], counted)
    assert sorted(reads) == list(range(28)) and close(found[3].X, alone(wide, squares))


def test_bfloat16_and_float16_cost_little(models, squares):
    exact = extract_features(models[:1], squares)[0].X
    half = extract_features(models[:1], squares, storage="float16")[0].X
    rough = extract_features(models[:1], squares, precision="bfloat16")[0].X
    assert half.dtype == np.float16 and close(half, exact, 1e-3)
    assert close(rough, exact, 0.05) and not close(rough, exact, 1e-5)


def test_a_preparation_that_failed_is_tried_again(models, monkeypatch):
    extractor = Extractor([models[0]])
    with monkeypatch.context() as patch:
        patch.setattr(type(models[0]), "__deepcopy__", lambda self, memo: torch.zeros(1 << 50), raising=False)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="alloc"):
                extractor.prepared(0)
    assert extractor.prepared(0) is extractor.prepared(0)


def test_features_beyond_float16_are_refused(squares):
    model = build("test_resnet")
    transformed = prepare_network(model)
    assert transformed.n_features == model.num_features
    with torch.no_grad():
        [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1].bias.fill_(1e6)
    with pytest.raises(UserError, match="float16"):
        extract_features([model], squares, storage="float16")


def test_cache_is_read_and_follows_weights_and_data(tmp_path, squares):
    model, seen = build("test_resnet"), []
    options = {"cache": tmp_path / "cache", "progress": seen.append}
    first = extract_features([model], squares, **options)[0]
    assert sum(seen) == 28
    assert np.array_equal(extract_features([model], squares, **options)[0].X, first.X) and sum(seen) == 28
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    assert not np.array_equal(extract_features([model], squares, **options)[0].X, first.X) and sum(seen) == 56


def test_only_missing_networks_are_computed(tmp_path, models, squares):
    extract_features(models[:2], squares, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/features/features.npy")}
    assert len(times) == 2
    extract_features(models, squares, tmp_path)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert len(list(tmp_path.glob("*/features"))) == 3 and not list(tmp_path.glob("*/shards"))


def test_the_key_covers_what_changes_numbers(models, squares):
    model = models[0]
    changes = [{}, {"precision": "bfloat16"}, {"storage": "float16"}, {"n_augmentations": 1}, {"n_augmentations": 1, "seed": 1}]
    assert len({feature_key(model, squares, **options) for options in changes}) == len(changes)
    same = [{}, {"batch_size": 3}, {"n_workers": 1}, {"seed": 5}, {"shard_size": 9}, {"compile": True}]
    assert len({feature_key(model, squares, **options) for options in same}) == 1
    with pytest.raises(UserError, match="storage 'int8'"):
        feature_key(model, squares, storage="int8")
    with pytest.raises(UserError, match="n_augmentations = -1"):
        feature_key(model, squares, n_augmentations=-1)


@pytest.mark.parametrize("shard_size", [1, 5, 28, 100])
def test_shards_of_any_size_give_the_same(tmp_path, models, squares, shard_size):
    found = extract_features(models[:1], squares, tmp_path, shard_size=shard_size)[0]
    assert close(found.X, alone(models[0], squares)) and np.array_equal(found.rows, np.arange(28))


def test_shards_in_any_order_are_all_that_is_needed(tmp_path, models, squares):
    for rows in shard_rows(squares, shard_size=10)[::-1]:
        extract_shard(models, squares, rows, tmp_path, shard_size=10)
    unreadable = replace(squares, reader=lambda row: 1 / 0)
    found = extract_features(models, unreadable, tmp_path, shard_size=10)
    assert all(close(f.X, alone(model, squares)) for f, model in zip(found, models, strict=True))


def test_random_crops_do_not_depend_on_batches_or_processes(models, squares):
    options = [{"batch_size": 4}, {"batch_size": 64, "n_workers": 2}, {"shard_size": 7}]
    runs = [extract_features(models[:1], squares, n_augmentations=2, **option)[0] for option in options]
    for run in runs[1:]:
        assert np.array_equal(run.rows, runs[0].rows) and np.array_equal(run.copy, runs[0].copy) and close(run.X, runs[0].X)
    split = squares.images["split"].to_numpy()[runs[0].rows]
    assert (np.bincount(runs[0].rows)[squares.images["split"] != "test"] == 3).all() and not runs[0].copy[split == "test"].any()
    assert close(runs[0].X[runs[0].copy == 0], alone(models[0], squares))
    other = extract_features(models[:1], squares, n_augmentations=2, seed=1)[0]
    changed = (np.abs(other.X - runs[0].X) > 1e-3 * np.abs(runs[0].X).max()).any(axis=1)
    assert changed[runs[0].copy > 0].all() and not changed[runs[0].copy == 0].any()


def test_bad_images_are_an_error_or_skipped_and_listed(tmp_path, models):
    folder = write_images(tmp_path / "squares", train=3)
    for name in ("train/dim/1.png", "test/bright/2.png"):
        (folder / name).write_bytes(b"")
    dataset, cache = image_folder(folder), tmp_path / "cache"
    with pytest.raises(UserError, match=r"test/bright/2\.png cannot be decoded \(empty file\) and 1 more"):
        extract_features(models, dataset, cache, shard_size=1)
    found = extract_features(models, dataset, cache, on_bad_image="skip")
    for features in found:
        assert len(features.X) == len(dataset.images) - 2
        assert features.bad["name"].tolist() == ["test/bright/2.png", "train/dim/1.png"]
    with pytest.raises(UserError, match="cannot be decoded"):
        extract_features(models, dataset, cache)


def test_a_file_that_cannot_be_read_is_no_bad_image(tmp_path, models):
    folder = write_images(tmp_path / "squares", train=2, test=1)
    dataset = image_folder(folder)
    (folder / "train" / "dim" / "1.png").unlink()
    for n_workers in (0, 1):
        with pytest.raises(UserError, match=r"train/dim/1\.png cannot be read .*No such file"):
            extract_features(models[:1], dataset, on_bad_image="skip", n_workers=n_workers)


def test_options_and_caches_that_cannot_be_are_one_line(tmp_path, models, squares):
    "Any other word was taken for skip, and images were left out."
    (tmp_path / "file").write_text("no folder")
    for given, message in [
        ({"on_bad_image": "ignore"}, "on_bad_image 'ignore': expected error or skip"),
        ({"cache": tmp_path / "file"}, r"file: cannot be written \(Not a directory: .*\); give another directory"),
        ({"device": "0"}, "device '0': no such kind of device; expected auto, cpu, cuda"),
        ({"device": "meta"}, "device 'meta': .*; try --device auto$"),
    ]:
        with pytest.raises(UserError, match=message):
            extract_features(models[:1], squares, **given)


def test_no_image_at_all(tmp_path, models):
    folder = write_images(tmp_path / "squares", train=2, test=1)
    for path in folder.rglob("*.png"):
        path.write_text("text")
    with pytest.raises(UserError, match="no image can be decoded; the first: test/bright/0.png"):
        extract_features(models, image_folder(folder), on_bad_image="skip")


def test_without_a_cache_nothing_is_left(tmp_path, models, squares, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = extract_features(models, squares)
    assert close(found[0].X, alone(models[0], squares)) and list(tmp_path.iterdir())
    del found
    assert not list(tmp_path.iterdir())


class DiesAt:
    "A reader whose process is killed at one row."

    def __init__(self, dataset, row):
        self.dataset, self.row = dataset, row

    def __call__(self, row):
        if row == self.row:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.dataset.read(row)


def test_a_killed_worker_ends_the_run_with_one_line_and_keeps_finished_shards(tmp_path, models, squares):
    dies = replace(squares, reader=DiesAt(squares, 17))
    with pytest.raises(UserError, match=r"a process that decodes images died \(.+\); .*run again") as caught:
        extract_features(models[:1], dies, tmp_path, n_workers=1, shard_size=10, batch_size=2)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.glob("*/shards/*")] == ["000000000-000000009"]
    # PyTorch would raise once more at the end of any other process for as long as it remembers the lost one.
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0


SLOW = """
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.features.conftest import build
from transfer_study.images.datasets import image_folder
from transfer_study.features.extraction import extract_features
dataset = image_folder({folder!r})
def read(row):
    if row >= int({stop}):
        sys.stdout.write("reached\\n")  # in one piece: images are read in threads
        sys.stdout.flush()
        sys.stdin.readline()
    with open({reads!r}, "a") as log:
        log.write(f"{{row}} ")
    return dataset.read(row)
options = {{"shard_size": 8, "batch_size": 4}}
print(len(extract_features([build("test_resnet")], replace(dataset, reader=read), Path({cache!r}), **options)[0].X))
"""


def test_a_killed_extraction_resumes_at_its_shard(tmp_path, models):
    folder, cache, log = write_images(tmp_path / "squares"), tmp_path / "cache", tmp_path / "reads"
    code = SLOW.format(tests=str(Path(__file__).parents[2]), folder=str(folder), stop=21, reads=str(log), cache=str(cache))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "reached"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(path.name for path in cache.glob("*/shards/0*")) == ["000000000-000000007", "000000008-000000015"]
    reads, seen, dataset = [], [], image_folder(folder)
    counted = replace(dataset, reader=lambda row: (reads.append(row), dataset.read(row))[1])
    found = extract_features(models[:1], counted, cache, shard_size=8, progress=seen.append)[0]
    assert sorted(reads) == list(range(16, 28)) and sum(seen) == 28
    assert close(found.X, alone(models[0], dataset))
    assert [path.name for path in cache.glob("*/*")] == ["features"] and not list(cache.glob("*/.*"))


def test_two_processes_at_the_same_work_leave_one_whole_result(tmp_path, models):
    folder, cache, reads = write_images(tmp_path / "squares"), tmp_path / "cache", str(tmp_path / "reads")
    code = SLOW.format(tests=str(Path(__file__).parents[2]), folder=str(folder), stop=12, reads=reads, cache=str(cache))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    other, dataset = subprocess.Popen([sys.executable, "-c", code], **pipes), image_folder(folder)
    assert other.stdout.readline().strip() == "reached"  # it has a shard and is in its second

    def release(n: int) -> None:
        if not other.stdin.closed:
            other.stdin.close()  # from now on both compute

    found = extract_features(models[:1], dataset, cache, shard_size=8, batch_size=4, progress=release)[0]
    other.wait(timeout=600)
    assert other.returncode == 0 and other.stdout.read().split()[-1] == "28", other.stderr.read()
    assert [path.name for path in cache.glob("*/*")] == ["features"] and close(found.X, alone(models[0], dataset))


def test_a_process_that_finishes_second_keeps_the_first_result(tmp_path, models, squares):
    "The other process completes everything, and cleans up, while this one is in its second shard."
    started = []

    def overtaken(n):
        if not started:
            started.append(n)
            extract_features(models[:1], squares, tmp_path)

    found = extract_features(models[:1], squares, tmp_path, shard_size=10, progress=overtaken)[0]
    assert close(found.X, alone(models[0], squares)) and [path.name for path in tmp_path.glob("*/*")] == ["features"]


def test_a_damaged_cache_is_computed_again(tmp_path, models, squares):
    [before] = extract_features(models[:1], squares, tmp_path)
    [path] = tmp_path.glob("*/features/features.npy")
    before, sound = before.X.copy(), path.read_bytes()
    path.write_bytes(sound[:300])
    [again] = extract_features(models[:1], squares, tmp_path)
    assert np.array_equal(again.X, before) and path.read_bytes() == sound


FULL_DISK = """
import shutil, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from tests.features.conftest import build
from transfer_study.study.locks import is_disk_full
from transfer_study.images.datasets import image_folder
from transfer_study.features.extraction import extract_features, extract_shard, shard_rows

disk, models, squares = Path(sys.argv[1]), [build("test_resnet")], image_folder(Path(sys.argv[2]))
options = {"shard_size": 36, "n_augmentations": 8}
for rows in shard_rows(squares, **options):
    extract_shard(models, squares, rows, disk / "cache", **options)
needed = sum(path.stat().st_size for path in disk.rglob("features.npy"))
(disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - needed))  # the small files beside the features are too much
try:
    extract_features(models, squares, disk / "cache", **options)
except OSError as error:
    assert is_disk_full(error), error
else:
    sys.exit("there was room")
(disk / "ballast").unlink()
unread = replace(squares, root=Path("gone"))  # every shard is still there
found = extract_features(models, unread, disk / "cache", **options)[0]
assert np.array_equal(found.X, extract_features(models, squares, **options)[0].X)
"""


def test_a_disk_that_is_full_when_shards_are_joined_is_an_error_and_not_a_crash(squares, tmp_path):
    "On a file system of a megabyte in a namespace of its own: there a memory map would end the process by SIGBUS."
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, tmp_path]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [*mount, sys.executable, "-c", FULL_DISK, tmp_path, squares.root]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"


def test_a_study_file_asks_for_compilation_and_keeps_its_run_ids(study_file, tmp_path):
    "Where there is no compiler, the run ends with a message that shows that it was asked for."
    plain = Study.from_file(study_file).plan(tmp_path / "runs", "cpu")
    study_file.write_text(study_file.read_text() + "\n[features]\ncompile = true\n")
    assert Study.from_file(study_file).plan(tmp_path / "runs", "cpu")["run_id"].tolist() == plain["run_id"].tolist()
    environment = os.environ | {"CXX": str(tmp_path / "absent"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": str(tmp_path)}
    code = "from transfer_study.cli.main import main; main()"
    options = ["--out", str(tmp_path / "runs"), "--device", "cpu", "--processes", "1"]
    command = [sys.executable, "-c", code, "run", str(study_file), *options]
    failed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert failed.returncode and "compile = true: torch.compile failed" in failed.stderr, failed.stderr


def test_what_is_no_list_of_networks_or_no_dataset_is_said(squares):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
    for models, images, message in (
        (model, squares, "models is Sequential; expected a list of networks"),
        ("resnet50", squares, "models is str; expected a list of networks"),
        (["resnet50"], squares, r"models\[0\] is 'resnet50'; expected a torch.nn.Module"),
        ([], "photos", "dataset is 'photos'; expected an opened one"),
    ):
        with pytest.raises(UserError, match=message):
            extract_features(models, images)
