"""`[features] backend` and `decode`: what a study file may say, and what becomes part of a run."""

import numpy as np
import pytest

from tests.study.conftest import HERE
from transfer_study.core import UserError
from transfer_study.networks.openvino import is_installed
from transfer_study.study.study import Study


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def with_lines(study_file, lines: str) -> Study:
    "The study on one dataset, with further lines."
    path = study_file.with_name("changed.toml")
    path.write_text(study_file.read_text().replace('"squares", "packed.tar"', '"squares"') + "\n" + lines)
    return Study.from_file(path)


def notes_of(study: Study) -> list[str]:
    return [note for network in study.tasks("runs", "cpu").networks for note in network.notes]


def ids(study: Study) -> set[str]:
    return set(study.plan("runs", "cpu")["run_id"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('[features]\nbackend = "onnx"', "features.backend"),
        ('[features]\nbackend = "openvino"\nprecision = "bfloat16"', "openvino cannot be combined with features.precision"),
        ('[features]\nbackend = "openvino"\ncompile = true', "openvino cannot be combined with features.compile"),
        ('[features]\ndecode = "fast"\n[protocols.linear]\nn_augmentations = 2', "because random crops need the whole image"),
    ],
)
def test_contradictions_are_found_before_anything_runs(study_file, lines, message):
    with pytest.raises(UserError, match=message):
        with_lines(study_file, lines)


def test_an_instruction_set_and_openvino_exclude_each_other(study_file):
    study_file.write_text('instruction_set = "avx2"\n' + study_file.read_text())
    with pytest.raises(UserError, match="openvino cannot be combined with instruction_set"):
        with_lines(study_file, '[features]\nbackend = "openvino"')
    notes = notes_of(with_lines(study_file, '[features]\nbackend = "auto"'))
    assert len(notes) == 3 and all("by PyTorch (instruction_set is 'avx2'; OpenVINO needs none)" in note for note in notes)


def test_options_with_their_defaults_are_not_part_of_a_run(study_file):
    plain, said = with_lines(study_file, ""), with_lines(study_file, '[features]\nbackend = "torch"\ndecode = "full"')
    assert ids(plain) == ids(said)
    assert {tuple(run.extraction) for run in plain.tasks("runs", "cpu").runs} == {("precision", "storage")}
    fast = with_lines(study_file, '[features]\ndecode = "fast"')
    assert not ids(fast) & ids(plain) and {run.extraction["decode"] for run in fast.tasks("runs", "cpu").runs} == {"fast"}


def test_fast_decoding_changes_no_score_where_no_image_is_large(study_file, tmp_path):
    studies = [with_lines(study_file, f'[features]\ndecode = "{value}"') for value in ("full", "fast")]
    tables = [study.run(tmp_path / study.file.features.decode, **HERE) for study in studies]
    assert np.array_equal(*(table["score"].to_numpy() for table in tables))


@pytest.mark.skipif(is_installed(), reason="OpenVINO is installed")
def test_without_openvino_auto_is_the_same_study_and_says_so(study_file):
    auto = with_lines(study_file, '[features]\nbackend = "auto"')
    assert ids(auto) == ids(with_lines(study_file, ""))
    notes = notes_of(auto)
    assert len(notes) == 3 and all(note.endswith("are computed by PyTorch (OpenVINO is not installed)") for note in notes)
    with pytest.raises(UserError, match=r"(?s)networks\[1\]: network 'test_resnet': .*pip install .*networks\[3\]"):
        with_lines(study_file, '[features]\nbackend = "openvino"').tasks("runs", "cpu")


@pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed (the extra openvino)")
def test_with_openvino_the_runs_are_others_and_the_features_the_same(study_file, tmp_path):
    plain, auto = with_lines(study_file, ""), with_lines(study_file, '[features]\nbackend = "auto"')
    chosen = with_lines(study_file, '[features]\nbackend = "openvino"')
    assert ids(auto) == ids(chosen) and not ids(auto) & ids(plain)
    assert {run.extraction["backend"] for run in auto.tasks("runs", "cpu").runs} == {"openvino"}
    tables = [study.run(tmp_path / "runs", **HERE) for study in (plain, auto)]
    assert np.abs(tables[0]["score"] - tables[1]["score"]).max() <= 1 / 8  # one image at most
    features = [np.load(path) for path in sorted((tmp_path / "runs" / ".features").glob("*/features/features.npy"))]
    assert len(features) == 6
    for X in features:
        others = [Y for Y in features if Y is not X and Y.shape == X.shape]
        assert min(np.abs(X - Y).max() for Y in others) <= 1e-4 * np.abs(X).max()
    costs = auto.costs(tmp_path / "others", "cpu")
    assert costs["seconds"].notna().all()
