"""Mistakes are found before anything is computed, what was left out is said, and nothing that was finished is lost."""

import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_images
from tests.study.conftest import HERE
from transfer_study.core import UserError
from transfer_study.images.keys import DatasetEntry
from transfer_study.results import read_results
from transfer_study.study.execute import FailedRuns
from transfer_study.study.file import (
    RESERVED_NAMES,
    FineTuneOptions,
    LinearProtocol,
    NearestNeighbourProtocol,
    NetworkEntry,
    ScratchOptions,
    SourceOptions,
    StudyFile,
    read_study_file,
)
from transfer_study.study.resolve import resolve_datasets
from transfer_study.study.study import Study, dataset_notes, skipped_lines

ODD = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 10)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.head(self.body(x))


class Constant(Tiny):
    def forward(self, x):
        return self.head(0 * self.body(x) + 1)


class BrightIsNaN(Tiny):
    def forward(self, x):
        return self.head(torch.sqrt(-x.mean((1, 2, 3)))[:, None] * self.body(x))
"""


@pytest.fixture
def odd_study(tmp_path):
    "A study file of one odd network, Tiny unless its text is changed, on one small dataset."
    import torch
    from safetensors.torch import save_file

    (tmp_path / "odd.py").write_text(ODD)
    namespace = {}
    exec(ODD, namespace)
    torch.manual_seed(0)
    save_file(namespace["Tiny"]().state_dict(), tmp_path / "w.safetensors")
    write_images(tmp_path / "squares", train=6, test=4)
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "s"\ndatasets = ["squares"]\n[[networks]]\nname = "n"\narchitecture = "odd:Tiny"\nweights = "w.safetensors"\n'
        "source_accuracy = 0.5\n[protocols.linear]\nn_l2 = 3\n[protocols.knn]\nn_neighbors = [1, 2]\n"
    )
    return path


def changed(path, old: str, new: str) -> Study:
    path.write_text(path.read_text().replace(old, new))
    return Study.from_file(path)


def test_reserved_names_of_datasets_are_refused_in_the_plan(tmp_path, odd_study):
    assert {"mean", "protocol", "network", "logit", "setting", "imagenet"} <= RESERVED_NAMES
    for name in ("mean", "Protocol", "=1+1", "a\x1b[31mb"):
        shutil.copytree(tmp_path / "squares", tmp_path / name)
        (tmp_path / "named.toml").write_text(odd_study.read_text().replace('"squares"', json.dumps(name)))
        with pytest.raises(UserError, match=r"study s: datasets\[1\]: dataset .*; give it another name: \{ reference = "):
            resolve_datasets(read_study_file(tmp_path / "named.toml"), tmp_path)


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+a", "-a", "@a", "a\\u001b[31m", "a\\nb"])
def test_names_of_networks_that_a_spreadsheet_or_terminal_would_obey_are_refused(odd_study, name):
    with pytest.raises(UserError, match=r"networks\[1\]\.name.*expected a name"):
        changed(odd_study, 'name = "n"', f'name = "{name}"')


def test_constant_features_are_chance_with_a_note(tmp_path, odd_study, command):
    changed(odd_study, "odd:Tiny", "odd:Constant")
    code, out, err = command("run", odd_study, "--out", tmp_path / "runs", "--device", "cpu", "--processes", "1")
    assert code == 0 and "0.500; the features of all images are the same, so the score is chance" in err
    results = read_results(tmp_path / "runs")
    assert {result["score"] for result in results} == {0.5} and all("chance" in result["notes"][0] for result in results)


def test_features_that_are_not_numbers_name_network_dataset_and_image(tmp_path, odd_study):
    study = changed(odd_study, "odd:Tiny", "odd:BrightIsNaN")
    with pytest.raises(FailedRuns, match=r"network 'n' on dataset squares: the features of \d+ of 20 images are infinite"):
        study.run(tmp_path / "runs", **HERE)


def test_empty_files_are_found_before_anything_is_computed(tmp_path, odd_study, command):
    for path in (tmp_path / "squares/test/dim").iterdir():
        path.write_bytes(b"")
    code, _, err = command("plan", odd_study, "--out", tmp_path / "runs", "--device", "cpu")
    advice = 'repair or remove it, or set on_bad_image = "skip"'
    assert code == 2 and f"dataset squares: test/dim/0.png is an empty file (such files: 4); {advice}" in err
    changed(odd_study, "[[networks]]", 'on_bad_image = "skip"\n[[networks]]')
    assert command("plan", odd_study, "--out", tmp_path / "runs", "--device", "cpu")[0] == 0


def test_what_is_left_out_or_skipped_is_said_before_and_after(tmp_path, odd_study, command):
    for path in (tmp_path / "squares/test/dim").iterdir():
        path.write_bytes(b"damaged")
    (tmp_path / "squares/train/dim/notes.txt").write_text("x")
    changed(odd_study, "[[networks]]", 'on_bad_image = "skip"\n[[networks]]')
    _, _, planned = command("plan", odd_study, "--out", tmp_path / "runs", "--device", "cpu")
    note = "dataset squares: left out: not images: 1 (train/dim/notes.txt)"
    assert note in planned
    _, _, err = command("run", odd_study, "--out", tmp_path / "runs", "--device", "cpu", "--processes", "1")
    skipped = "dataset squares: 4 images skipped: 4 of class 'dim' in test; no test image is left of 'dim' (first: test/dim/0.png"
    assert note in err and skipped in err and dataset_notes(tmp_path / "runs") == [note]
    assert len(skipped_lines(tmp_path / "runs")) == 1
    assert json.dumps(note)[1:-1] in command("run", odd_study, "--out", tmp_path / "runs", "--device", "cpu", "--json")[2]


def test_the_limit_of_pixels_is_a_key_of_the_study(tmp_path, odd_study):
    before = set(Study.from_file(odd_study).plan(tmp_path / "runs", "cpu")["run_id"])
    study = changed(odd_study, "[[networks]]", "max_pixels = 1000\n[[networks]]")
    assert not before & set(study.plan(tmp_path / "runs", "cpu")["run_id"])
    with pytest.raises(FailedRuns, match="40 × 40 pixels, more than 1,000.*max_pixels = 1600 in a study file"):
        study.run(tmp_path / "runs", **HERE)


def test_a_cache_entry_that_was_damaged_between_extraction_and_fit_is_computed_again(tmp_path, odd_study):
    study = Study.from_file(odd_study)
    first = study.run(tmp_path / "runs", **HERE)
    for path in (tmp_path / "runs/s").glob("[0-9a-f]*"):
        shutil.rmtree(path)
    (features,) = (tmp_path / "runs/.features").glob("*/features/features.npy")
    data = bytearray(features.read_bytes())
    data[-1] ^= 64
    features.write_bytes(data)
    pd.testing.assert_frame_equal(study.run(tmp_path / "runs", **HERE), first)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: bytes(len(data))], ids=["empty", "zeros"])
def test_the_list_of_features_may_be_damaged_too(tmp_path, odd_study, damage):
    study = Study.from_file(odd_study)
    first = study.run(tmp_path / "runs", **HERE)
    for path in (tmp_path / "runs/s").glob("[0-9a-f]*"):
        shutil.rmtree(path)
    (listed,) = (tmp_path / "runs/.features").glob("*/features.json")  # as a power cut leaves it
    listed.write_bytes(damage(listed.read_bytes()))
    pd.testing.assert_frame_equal(study.run(tmp_path / "runs", **HERE), first)


def test_a_file_operation_at_which_the_process_dies_loses_nothing_that_was_finished(tmp_path, odd_study):
    "Ends a process at every twelfth file operation of a study; benchmarks/bench_kills.py does it at every one."
    from tests.study.kills import fault_at_every

    (tmp_path / "runs").mkdir()
    report = fault_at_every(odd_study, tmp_path, step=12)
    assert report["faults"] >= 5 and report["different"] == [] and report["left_over"] == [] and report["said"] == {}


def test_a_drive_that_fails_at_a_file_operation_is_one_line_and_the_next_run_is_whole(tmp_path, odd_study):
    "Every thirtieth file that is opened, made, renamed or removed fails as on a network drive whose handle is stale."
    from tests.study.kills import fault_at_every

    (tmp_path / "runs").mkdir()
    report = fault_at_every(odd_study, tmp_path, step=30, fault=OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
    assert report["failed"] >= 3 and report["different"] == [] and report["left_over"] == [] and report["said"] == {}


def test_a_clock_that_goes_backwards_stops_no_lock(tmp_path, odd_study, monkeypatch):
    import time

    now = [2e9]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    (tmp_path / "runs/.locks").mkdir(parents=True)
    study = Study.from_file(odd_study)
    for task in study.tasks(tmp_path / "runs", "cpu").tasks:
        lock = tmp_path / "runs/.locks" / f"{task.id}.lock"
        lock.touch()
        os.utime(lock, (3e9, 3e9))
    results = study.run(tmp_path / "runs", **HERE)
    assert len(results) == 2 and np.isfinite(results["score"]).all()


def test_another_version_may_have_recorded_more_and_its_runs_are_kept(tmp_path, odd_study, monkeypatch):
    from transfer_study.study import runs as runs_module
    from transfer_study.study.locks import Outcome, read_failures, write_failure

    study = Study.from_file(odd_study)
    first = study.run(tmp_path / "runs", **HERE)
    failures = tmp_path / "runs/s/.failed"
    write_failure(failures, Outcome("one", "failed", "a reason"))
    record = failures / "one/failure.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"of a later version": 1}))
    assert read_failures(failures)["one"].message == "a reason"
    finished = {path: path.read_bytes() for path in (tmp_path / "runs/s").glob("[0-9a-f]*/*")}
    monkeypatch.setattr(runs_module, "NUMERICS_VERSION", 999)
    later = Study.from_file(odd_study).run(tmp_path / "runs", **HERE)
    assert not set(later["run_id"]) & set(first["run_id"]) and later["score"].tolist() == first["score"].tolist()
    monkeypatch.undo()
    pd.testing.assert_frame_equal(study.run(tmp_path / "runs", **HERE), first)
    assert all(path.read_bytes() == data for path, data in finished.items())


@pytest.mark.parametrize("damage", ['{"accur', "[]", '{"accuracy": 1}'])
def test_a_result_that_is_damaged_or_of_another_program_is_named(tmp_path, command, damage):
    (tmp_path / "runs/s/abc").mkdir(parents=True)
    (tmp_path / "runs/s/abc/result.json").write_text(damage)
    code, _, err = command("report", tmp_path / "runs")
    assert code == 2 and "abc/result.json: " in err and err.count("\n") == 1
    (tmp_path / "runs/s/plan.json").write_text("[]")
    code, _, err = command("report", tmp_path / "runs")
    assert code == 2 and "plan.json: damaged" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n_l2 = 3", "n_l2 = 1000000000", "n_l2 = 1000000000: expected"),
        ('name = "s"', f'name = "{"s" * 300}"', "at most 100 of the letters"),
        ('name = "n"', 'name = "  "', "characters that can be seen"),
        ('name = "s"', f"x = {'[' * 5000}{']' * 5000}", "hundreds deep"),
        (
            "[protocols.linear]",
            '[[networks]]\nname = "r\u00e9s"\nweights = "w"\n[[networks]]\nname = "re\u0301s"\nweights = "w"\n[protocols.linear]',
            "listed more than once",
        ),
    ],
)
def test_what_would_never_end_or_not_be_told_apart_is_refused(odd_study, old, new, expected):
    with pytest.raises(UserError, match=expected):
        changed(odd_study, old, new)


def test_a_share_that_takes_all_training_images_is_refused_in_the_plan(tmp_path, odd_study):
    study = changed(odd_study, "n_l2 = 3", "n_l2 = 3\nvalidation_share = 0.999")
    with pytest.raises(UserError, match=r"validation_share 0.999 leaves a class without training images"):
        study.plan(tmp_path / "runs", "cpu")


SECTIONS = {
    "source": SourceOptions, "protocols.linear": LinearProtocol, "protocols.knn": NearestNeighbourProtocol,
    "protocols.finetune": FineTuneOptions, "protocols.scratch": ScratchOptions,
}  # fmt: skip
UNLIMITED = {"gradient_clip", "n_train_per_class", "warmup_steps"}  # none; what the dataset has; below steps


def _numbers(model):
    "The keys of a model that hold a number or a list of numbers, and whether it is a list."
    for key, entry in model.model_json_schema()["properties"].items():
        for kind in entry.get("anyOf", [entry]):
            inner = kind.get("items", {}).get("type", "number" if kind.get("items") == {} else "")
            if kind.get("type") in ("integer", "number") or inner in ("integer", "number"):
                yield key, kind["type"] == "array"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", f"{10**15}", f"1{400 * '0'}"])
def test_absurd_numbers_are_refused_in_every_key(tmp_path, value):
    def lines(model):
        return [f"{key} = {f'[{value}]' if several else value}" for key, several in _numbers(model)]

    parts = ['name = "s"', *lines(StudyFile), "[[datasets]]", 'folder = "a"', *lines(DatasetEntry)]
    parts += ["[[networks]]", 'name = "n"', *lines(NetworkEntry)]
    parts += [line for section, model in SECTIONS.items() for line in (f"[{section}]", *lines(model))]
    path = tmp_path / "study.toml"
    path.write_text("\n".join(parts).replace("[source]", '[source]\ndataset = "b"'))
    with pytest.raises(UserError) as failure:
        read_study_file(path)
    said = str(failure.value).splitlines()
    models = {"": StudyFile, "datasets[1].": DatasetEntry, "networks[1].": NetworkEntry}
    models |= {f"{name}.": model for name, model in SECTIONS.items()}
    keys = [(f" {prefix}", key) for prefix, model in models.items() for key, _ in _numbers(model)]
    places = [prefix + key for prefix, key in keys if value[0] in "ni-" or key not in UNLIMITED]
    missing = [place for place in places if not any(f"{place} = " in line or f"{place}[1] = " in line for line in said)]
    assert len(places) >= 50 and missing == [] and max(map(len, said)) < 300


def test_a_number_of_thousands_of_digits_and_a_float_for_a_count_are_named(odd_study):
    with pytest.raises(UserError, match="a number of thousands of digits"):
        changed(odd_study, "n_l2 = 3", f"n_l2 = {5000 * '9'}")
    odd_study.write_text(odd_study.read_text().replace(5000 * "9", "45.0"))
    with pytest.raises(UserError, match=r"n_l2 = 45\.0: expected whole number"):
        Study.from_file(odd_study)


def test_a_network_under_two_names_is_noted_and_an_empty_file_name_refused(tmp_path, odd_study):
    entry = odd_study.read_text().split("[[networks]]")[1].split("[protocols")[0]
    study = changed(odd_study, "[protocols.linear]", f"[[networks]]{entry}[protocols.linear]".replace('"n"', '"copy"'))
    notes = [note for network in study.tasks(tmp_path / "runs", "cpu").networks for note in network.notes]
    assert notes == ["networks 'n' and 'copy' are the same network with the same weights, which counts twice"]
    with pytest.raises(UserError, match=r"networks\[1\]\.weights: names no file; leave the key out"):
        changed(odd_study, '"w.safetensors"', '""')


def test_more_neighbours_than_training_images_are_refused_in_the_plan(tmp_path, odd_study):
    with pytest.raises(UserError, match=r"dataset squares: protocols\.knn\.n_neighbors from 50, but 10 training images"):
        changed(odd_study, "[1, 2]", "[50, 1000]").tasks(tmp_path / "runs", "cpu")
