"The quick study: its small networks, a cut-down run of it by the command line, and the committed results against its file."

import json
import tomllib

import pandas as pd
import pytest

from transfer_study.core import data_path
from transfer_study.statistics.analysis import analyze
from transfer_study.study.file import read_study_file

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
    from transfer_study.networks.networks import describe_network, input_configuration, penultimate_features
    from transfer_study.training.callbacks import replace_classifier

    model = build_architecture(f"transfer_study.small_networks:{name}").eval()
    told, configuration = describe_network(model), input_configuration(model)
    assert told["n_features"] == SIZES[name] and told["input_size"] == 32 and configuration["crop_pct"] == 1.0
    images = torch.zeros(2, *configuration["input_size"])
    assert penultimate_features(model, images).shape == (2, SIZES[name])
    assert replace_classifier(model, 7)(images).shape == (2, 7)


def test_every_small_network_is_known_by_name_and_none_else():
    from transfer_study.small_networks import SMALL_NETWORKS

    assert set(SMALL_NETWORKS) == set(SIZES)


def cut_down() -> str:
    "The quick study's file with three networks, few steps, two targets and a smaller source."
    study = tomllib.loads(STUDY.read_text())
    source = study["source"] | {"steps": 6, "warmup_steps": 1, "batch_size": 32}
    finetune, scratch = (study["protocols"][name] | {"steps": 3, "n_evaluations": 2} for name in ("finetune", "scratch"))
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
    datasets, seeds = {name.removeprefix("drawn:") for name in study.datasets}, set(study.seeds)
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
    assert best.min() < 0.6 and best.max() > 0.9 and best.max() < 0.99 and best.nunique() >= 8


def test_the_committed_table_gives_an_analysis_of_all_three_protocols(results):
    analysis = analyze(results, n_bootstrap=100)
    assert set(analysis.protocols) == {"linear", "finetune", "scratch"}


def test_every_training_of_the_default_setting_has_its_history(results):
    history = pd.read_csv(RESULTS / "histories.csv")
    trained = results[(results["protocol"] != "linear") & (results["setting"] == "default")]
    assert set(history["run_id"]) == set(trained["run_id"])
    last = history.sort_values("step").groupby("run_id")["score"].last()
    assert (last - trained.set_index("run_id")["score"]).abs().max() < 1e-9
