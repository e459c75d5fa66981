"The quick study: its small networks, a cut-down run of it by the command line, and the committed results against its file."

import json
import os
import subprocess
import sys
import tomllib
from inspect import isfunction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import data_path
from transfer_study.results import read_runs
from transfer_study.statistics.analysis import analyze
from transfer_study.study.file import read_study_file

ROOT = Path(__file__).resolve().parent.parent
STUDY = data_path("studies/quickstart.toml")
RESULTS = data_path("results/quickstart/results.csv").parent
SIZES = {  # penultimate features
    "mobilenet_v1_075": 48, "mobilenet_v1": 64, "mobilenet_v2": 96, "mobilenet_v2_14": 136, "densenet": 46, "resnet_10": 64,
    "resnet_18": 64, "resnet_10_wide": 128, "inception": 96, "inception_narrow": 48, "inception_wide": 168,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_a_small_network_has_the_features_and_the_input_that_it_says(name):
    import torch

    from transfer_study.networks.architectures import build_architecture
    from transfer_study.networks.networks import describe_network
    from transfer_study.networks.penultimate import input_configuration, penultimate_features
    from transfer_study.training.callbacks import replace_classifier

    model = build_architecture(f"transfer_study.small_networks:{name}").eval()
    told, configuration = describe_network(model), input_configuration(model)
    assert told["n_features"] == SIZES[name] and told["input_size"] == 32 and configuration["crop_pct"] == 1.0
    images = torch.zeros(2, *configuration["input_size"])
    assert penultimate_features(model, images).shape == (2, SIZES[name])
    assert replace_classifier(model, 7)(images).shape == (2, 7)


def test_every_small_network_has_its_size_above():
    from transfer_study import small_networks

    functions = [
        name for name, value in vars(small_networks).items() if isfunction(value) and value.__module__.endswith("small_networks")
    ]  # fmt: skip
    assert {name for name in functions if not name.startswith("_")} == set(SIZES)


def cut_down() -> str:
    "The quick study's file with three networks, few steps, two targets and a smaller source."
    study = tomllib.loads(STUDY.read_text())
    source = study["source"] | {"steps": 6, "warmup_steps": 1, "batch_size": 32}
    short = {"steps": 3, "warmup_steps": 1, "n_evaluations": 2}
    finetune, scratch = (study["protocols"][name] | short for name in ("finetune", "scratch"))
    lines = ['name = "cut"', 'datasets = ["drawn:digits", "drawn:scenes"]']
    for name in ("mobilenet_v1_075", "mobilenet_v1", "mobilenet_v2"):
        lines += ["[[networks]]", f'name = "{name}"', f'architecture = "transfer_study.small_networks:{name}"']
    lines.append('settings = ["default", "label_smoothing"]')
    tables = {"source": source, "protocols.linear": {"n_l2": 3}, "protocols.finetune": finetune, "protocols.scratch": scratch}
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines)


def test_a_cut_down_quick_study_goes_from_drawing_to_the_report(tmp_path, command):
    (tmp_path / "cut.toml").write_text(cut_down())
    code, out, err = command("run", tmp_path / "cut.toml", "--out", tmp_path / "runs", "--processes", 1, "--bootstrap", 100)
    assert code == 0, err
    rows = pd.read_parquet(tmp_path / "runs" / "cut" / "results.parquet")
    found = rows.groupby(["protocol", "setting"]).size().to_dict()
    assert found == {
        ("linear", "default"): 6, ("linear", "label_smoothing"): 2,
        ("finetune", "default"): 6, ("finetune", "label_smoothing"): 2, ("scratch", "default"): 6,
    }  # fmt: skip
    assert rows["source_accuracy"].between(0, 0.3).all()  # six steps teach nothing much
    history = pd.read_csv(tmp_path / "runs" / "cut" / "histories.csv")
    assert set(history["protocol"]) == {"finetune", "scratch"} and history.groupby("run_id")["step"].max().eq(3).all()
    page = (tmp_path / "runs" / "cut" / "report.html").read_text()
    assert "glyphs accuracy" in page or "no correlation" in err
    assert all(title in page for title in ("Source-training settings", "Steps to convergence", "How to reproduce this page"))


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "results.csv")


def test_the_committed_results_are_those_of_the_study_file(results):
    study = read_study_file(STUDY)
    settings = {(each.name, setting) for each in study.networks for setting in each.variants}
    assert set(zip(results["network"], results["setting"], strict=True)) == settings
    datasets, seeds = {str(name).removeprefix("drawn:") for name in study.datasets}, set(study.seeds)
    protocols = {name for name, protocol in study.protocols if protocol}
    assert (set(results["dataset"]), set(results["seed"]), set(results["protocol"])) == (datasets, seeds, protocols)
    sizes = results["n_train_per_class"].astype("Int64")
    for protocol in protocols:
        own = results[results["protocol"] == protocol]
        asked = {pd.NA if size is None else size for size in getattr(study.protocols, protocol).sizes}
        assert set(sizes[own.index].dropna()) == {size for size in asked if size is not pd.NA}
        trained = {pair for pair in settings if protocol != "scratch" or pair[1] == "default"}
        assert len(own) == len(trained) * len(datasets) * len(seeds) * len(asked)


def test_source_accuracies_spread_and_none_is_perfect(results):
    best = results[results["setting"] == "default"].drop_duplicates("network")["source_accuracy"]
    assert best.min() < 0.85 and 0.9 < best.max() < 0.99 and len(best) >= 6


PAGES = ["tutorials/quickstart", *(f"paper/{name}" for name in (
    "settings", "settings_finetuned", "fixed_against_finetuned", "dataset_size"
))]  # fmt: skip


OTHER_RUN = """
import json, sys, traceback
from pathlib import Path
from transfer_study import core

shipped, other_run = (f"results/quickstart/{file}.csv" for file in ("results", "results_all_instructions"))
data_path = core.data_path
core.data_path = lambda name: data_path({shipped: other_run, other_run: shipped}.get(name, name))
wrong = []
for page in sys.argv[1:]:
    cells = json.loads(Path(page).read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert any("assert" in source for source in sources)
    namespace = {}
    try:
        for source in sources:
            exec(compile(source, page, "exec"), namespace)
    except Exception:
        wrong.append(traceback.format_exc())
sys.exit("\\n".join(wrong) or 0)
"""


def test_what_pages_assert_holds_for_the_run_with_other_instructions_too(tmp_path):
    "The pages' cells, with the results of the run that was not limited to AVX2 in place of those that ship."
    command = [sys.executable, "-W", "ignore", "-c", OTHER_RUN, *(ROOT / "nbs" / f"{page}.ipynb" for page in PAGES)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)  # no runs are there
    assert done.returncode == 0, done.stderr


def test_a_study_limited_to_avx2_is_the_same_wherever_it_runs(tmp_path, command, monkeypatch):
    "With all instructions of this processor and with AVX2 alone, to the last digit; so a processor without AVX-512 repeats it."
    study = cut_down().replace("datasets =", 'instruction_set = "avx2"\ndatasets =', 1)
    (tmp_path / "cut.toml").write_text(study.replace('"drawn:glyphs"', '"drawn:digits"'))  # a source of fewer images
    tables = {}
    lowered = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    for name, environment in {"all": {}, "lowered": lowered}.items():
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        part = ("--networks", "mobilenet_v2", "--datasets", "drawn:digits", "--processes", 1, "--out", tmp_path / name)
        code, _, err = command("run", tmp_path / "cut.toml", *part)
        assert code == 0, err
        tables[name] = read_runs(tmp_path / name / "cut")
        provenance = json.loads(next((tmp_path / name / "cut").glob("*/result.json")).read_text())["provenance"]
        assert provenance["cpu_capability"] != "AVX512"
    pd.testing.assert_frame_equal(tables["all"], tables["lowered"])
    assert len(tables["all"]) == 5


def test_the_committed_table_gives_an_analysis_of_all_three_protocols(results):
    analysis = analyze(results, n_bootstrap=100)
    assert set(analysis.protocols) == {"linear", "finetune", "scratch"}


def test_every_training_of_the_default_setting_has_its_history(results):
    history = pd.read_csv(RESULTS / "histories.csv")
    trained = results[(results["protocol"] != "linear") & (results["setting"] == "default")]
    assert set(history["run_id"]) == set(trained["run_id"])
    last = history.sort_values("step").groupby("run_id")["score"].last()
    assert (last - trained.set_index("run_id")["score"]).abs().max() < 1e-9


def test_the_expected_correlations_beside_each_study_are_those_of_its_source():
    from transfer_study.statistics.correlation import format_interval, format_r, posterior_draws
    from transfer_study.statistics.summary import PAPER_CORRELATIONS

    names = {"linear": "fixed features", "finetune": "fine-tuned", "scratch": "from scratch"}
    r = analyze(RESULTS / "results.csv").correlations.query("dataset == 'mean' and method == 'pearson'").set_index("protocol")
    rows = {p: r.loc[p, ["estimate", "low", "high"]] for p in names}
    own = [f"{name} {format_r(rows[p].iloc[0], 6)} ({format_interval(*rows[p].iloc[1:], 6)})" for p, name in names.items()]
    ends = {p: np.quantile(posterior_draws(PAPER_CORRELATIONS[p], 16), [0.025, 0.975]) for p in names}
    paper = [f"{name} {PAPER_CORRELATIONS[p]:.2f} ({format_interval(*ends[p], 16)})" for p, name in names.items()]
    for correlations, study in ((own, STUDY), (paper, data_path("studies/kornblith2019.toml"))):
        assert f" {', '.join(correlations)}." in study.read_text().replace("\n# ", " ")
