"""The command line: results on stdout, messages on stderr, 2 for a mistake of the user's."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import typing
import warnings
from pathlib import Path

import pandas as pd
import pytest
import typer

from tests.conftest import interrupt_at_work
from transfer_study.cli.main import app
from transfer_study.core import data_path
from transfer_study.results import read_runs

HERE = ("--device", "cpu", "--processes", "1")
PACKAGE = Path(__file__).resolve().parents[2] / "transfer_study"
SCORES = pd.DataFrame(
    {
        "network": list("abcd"),
        "source_accuracy": [0.6, 0.65, 0.7, 0.75],
        "pets": [0.8, 0.83, 0.85, 0.9],
        "birds": [0.5, 0.52, 0.6, 0.61],
    }
)
RUN = [sys.executable, "-c", "from transfer_study.cli.main import main; main()"]


def test_analyze_prints_the_contract(command):
    code, out, _ = command("analyze", data_path("published/embeddings_benchmark_16shot.csv"), "--json")
    result = json.loads(out)
    linear = result["protocols"]["linear"]
    assert code == 0 and linear["n_networks"] == 41 and linear["n_datasets"] == 12
    assert linear["r"] == pytest.approx(0.928, abs=0.0005) and linear["r_low"] < linear["r"] < linear["r_high"]
    assert linear["r_all"] == pytest.approx(0.542, abs=0.0005)
    assert linear["datasets"]["food101"]["n"] == 41 and -1 <= linear["datasets"]["food101"]["r"] <= 1
    assert len(result["excluded"]) == 7 and all(entry["network"] and entry["reason"] for entry in result["excluded"])
    assert sum("chance" in entry["reason"] for entry in result["excluded"]) == 6


def test_analyze_names_the_protocol_and_looks_up_torchvisions_accuracies(command):
    code, out, _ = command("analyze", "sfda_finetune_supervised", "--protocol", "finetune", "--json", "--bootstrap", 500)
    protocols = json.loads(out)["protocols"]
    assert code == 0 and list(protocols) == ["finetune"] and protocols["finetune"]["n_networks"] == 11
    assert protocols["finetune"]["r"] == pytest.approx(0.65, abs=0.01)


def test_analyze_writes_a_report(command, tmp_path):
    code, out, err = command("analyze", "embeddings_benchmark_16shot", "--out", tmp_path / "new", "--bootstrap", 500)
    assert code == 0 and "0.93" in out and "report.html" in err
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.html", "results.csv", "analysis.json"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("clean", "--bogus"), "transfer-study: clean: no such option: --bogus; see transfer-study clean --help"),
        (("analyze",), "transfer-study: analyze: missing argument 'table'; see transfer-study analyze --help"),
        (("recommnd", "x"), "transfer-study: no such command 'recommnd'. Did you mean 'recommend'? See transfer-study --help"),
        (("plan", "a", "b"), "transfer-study: plan: got unexpected extra argument(s) (b); see transfer-study plan --help"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_that_names_the_help(command, arguments, line):
    code, out, err = command(*arguments)
    assert code == 2 and not out and err.splitlines() == [line]


def test_without_a_command_the_help_is_shown(command):
    code, out, err = command()
    assert code == 0 and "recommend" in out and not err


def test_a_place_that_cannot_be_written_is_one_line(command, tmp_path):
    (tmp_path / "taken").write_text("no directory")
    code, _, err = command("analyze", "embeddings_benchmark_16shot", "--out", tmp_path / "taken", "--bootstrap", 100)
    assert code == 2 and err.splitlines()[-1].startswith(f"transfer-study: cannot write to {tmp_path / 'taken'}: ")
    assert "Traceback" not in err
    assert (tmp_path / "taken").read_text() == "no directory"
    (tmp_path / "purged").symlink_to(tmp_path / "scratch")
    code, _, err = command("analyze", "embeddings_benchmark_16shot", "--out", tmp_path / "purged", "--bootstrap", 100)
    assert code == 2 and f"a link to {tmp_path / 'scratch'}, which does not exist" in err.splitlines()[-1]


_OPENED = """
import os, sys
from transfer_study.cli.main import _problem
if os.geteuid() == 0:
    os.setuid(65534)
for path, mode in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        open(path, mode).close()
    except OSError as error:
        print(_problem(error))
"""


def test_what_may_not_be_read_is_told_from_what_may_not_be_written():
    "As another user than root, who may do everything."
    with tempfile.TemporaryDirectory(dir=None if os.geteuid() else "/var/tmp") as folder:  # others may enter its parents
        place = Path(folder)
        (place / "closed").mkdir()
        for name in ("secret.csv", "closed/a.csv", "kept.csv"):
            (place / name).write_text("image,group\n")
        for name, mode in {"secret.csv": 0o000, "closed": 0o600, "kept.csv": 0o444, ".": 0o555}.items():
            (place / name).chmod(mode)
        opened = {"secret.csv": "r", "closed/a.csv": "r", "kept.csv": "a", "new.csv": "w", "kept.csv/a": "r", ".": "r"}
        arguments = [part for name, mode in opened.items() for part in (str(place / name), mode)]
        lines = subprocess.run([sys.executable, "-c", _OPENED, *arguments], capture_output=True, text=True).stdout.splitlines()
        (place / "closed").chmod(0o700)
        place.chmod(0o700)
    secret = f"{place}/secret.csv"
    advice = f"its permissions do not let you read {secret}; ask its owner, or use a copy"
    assert lines[0] == f"cannot read {secret}: permission denied; {advice}"
    assert lines[1].startswith(f"cannot read {place}/closed/a.csv: ") and f"do not let you enter {place}/closed; " in lines[1]
    written = [f"cannot write to {place}/{name}" for name in ("kept.csv", "new.csv")]
    assert [line.partition(": ")[0] for line in lines[2:4]] == written
    assert lines[4].startswith(f"{place}/kept.csv/a: not a directory; ") and lines[5].startswith(f"{place}: is a directory; ")


def test_a_cache_that_cannot_be_written_is_said_before_any_image(command, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    code, _, err = command("networks", "--measure", tmp_path / "no images", "resnet18")
    place = tmp_path / "taken" / "transfer_study" / "imagenet_top1"
    assert code == 2 and f"{place}: cannot be written" in err and "set XDG_CACHE_HOME to a directory" in err


def test_a_name_that_is_too_long_is_not_called_trouble_of_the_disk(command, tmp_path):
    code, _, err = command("overlap", tmp_path, "--out", tmp_path / ("x" * 300 + ".csv"))
    assert code == 2 and err.strip().endswith("file name too long; choose a shorter name, of a folder to write with --out")


def test_a_table_of_source_accuracies_can_be_given(command, tmp_path):
    (tmp_path / "scores.csv").write_text("network,dataset,score\na,pets,60\nb,pets,70\nc,pets,75\n")
    (tmp_path / "source.csv").write_text("network,source_accuracy\na,50\nb,60\nc,70\n")
    arguments = ("analyze", tmp_path / "scores.csv", "--source-accuracy", tmp_path / "source.csv", "--json")
    assert command(*arguments)[0] == 2
    code, out, _ = command(*arguments, "--percent")
    assert code == 0 and json.loads(out)["protocols"]["linear"]["n_networks"] == 3


TABLE = "network,source_accuracy,dataset,score\n" + "".join(f"{n},0.{6 + i},pets,0.{7 + i}\n" for i, n in enumerate("abc"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("0.9", "1.9"), "--percent"),
        (TABLE.replace("0.9", "-1"), "expected a number from 0 to 1"),
        (TABLE.replace("0.9", "high"), "'high'"),
        ("\n".join(TABLE.splitlines()[:3]), "3 or more"),
        (TABLE.replace("0.7,", "0.6,").replace("0.8,", "0.6,"), "source accuracy"),
    ],
)
def test_bad_tables_are_one_line_and_exit_code_2(command, tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    code, out, err = command("analyze", tmp_path / "table.csv")
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err and "Traceback" not in err


def test_a_folder_without_runs_has_no_report(command, tmp_path):
    (tmp_path / "photos").mkdir()
    code, _, err = command("report", tmp_path / "photos")
    assert code == 2 and "photos: no finished run;" in err and err.count("\n") == 1


def test_a_plan_needs_no_place_to_write(command, study_file, tmp_path):
    (tmp_path / "taken").write_text("no directory")
    code, out, err = command("plan", study_file, "--out", tmp_path / "taken")
    assert code == 0 and "6 runs" in out + err


def test_run_and_report(command, study_file, tmp_path):
    code, out, err = command("run", study_file, "--out", tmp_path / "runs", *HERE, "--bootstrap", 500)
    assert code == 0 and "squares" in out and "packed" in out and "test_mambaout" in out
    report = tmp_path / "runs" / "tiny" / "report.html"
    assert str(report) in err and report.stat().st_size > 10_000
    report.unlink()
    code, out, _ = command("report", tmp_path / "runs" / "tiny", "--json", "--bootstrap", 500)
    assert code == 0 and json.loads(out)["protocols"]["linear"]["n_networks"] == 3 and report.exists()


def test_run_for_machines(command, study_file, tmp_path):
    code, out, _ = command("run", study_file, "--out", tmp_path / "runs", *HERE, "--json", "--bootstrap", 500)
    result = json.loads(out)
    assert code == 0 and len(result["results"]) == 6 and "linear" in result["protocols"]


def test_images_that_only_carry_an_official_name_are_said_to(command, study_file, tmp_path):
    (tmp_path / "squares").rename(tmp_path / "cifar10")
    study_file.write_text(study_file.read_text().replace('"squares"', '"folder:cifar10"'))
    code, out, err = command("run", study_file, "--out", tmp_path / "runs", *HERE, "--bootstrap", 500)
    assert code == 0 and "not the official images: cifar10: 2 classes found, 10 expected" in err
    assert "2 classes found, 10 expected" in (tmp_path / "runs" / "tiny" / "report.html").read_text()


def test_a_network_without_source_accuracy_has_scores_but_no_correlation(command, study_file, tmp_path):
    study_file.write_text(study_file.read_text().replace("source_accuracy = 0.6\n", ""))
    code, out, err = command("run", study_file, "--out", tmp_path / "runs", *HERE)
    assert code == 0 and "test_efficientnet" in out and "no source accuracy for 1 of 3 networks (test_efficientnet)" in err
    code, _, err = command("report", tmp_path / "runs")
    assert code == 2 and "no source accuracy" in err and err.count("\n") == 1


def test_two_networks_have_scores_but_no_correlation(command, study_file, tmp_path):
    study_file.write_text(study_file.read_text().rsplit("[[networks]]", 1)[0])
    code, out, err = command("run", study_file, "--out", tmp_path / "runs", *HERE)
    assert code == 0 and "test_resnet" in out and "no correlation" in err and "3 or more" in err
    code, _, err = command("report", tmp_path / "runs")
    assert code == 2 and "3 or more" in err and err.count("\n") == 1


def test_mistakes_in_a_study_are_exit_code_2(command, study_file, tmp_path):
    study_file.write_text(study_file.read_text().replace("weights =", "weigths =", 1))
    code, out, err = command("run", study_file, "--out", tmp_path / "runs")
    assert code == 2 and out == "" and "did you mean weights?" in err and not (tmp_path / "runs").exists()
    code, _, err = command("run", tmp_path / "absent.toml")
    assert code == 2 and "no such file" in err and err.count("\n") == 1
    code, _, err = command("report", tmp_path / "absent")
    assert code == 2 and "no such directory" in err and err.count("\n") == 1


def test_a_device_that_is_not_there(command, study_file, tmp_path):
    code, _, err = command("run", study_file, "--out", tmp_path / "runs", "--device", "cuda:99")
    assert code == 2 and "cuda:99" in err and "--device auto" in err and err.count("\n") == 1
    code, _, err = command("plan", study_file, "--out", tmp_path / "runs", "--device", "gpu")
    assert code == 2 and "device 'gpu': no such kind of device; expected auto, cpu, cuda" in err and err.count("\n") == 1


def test_networks(command):
    code, out, err = command("networks")
    header, *rows = out.splitlines()
    assert code == 0 and header.split() == [
        "name", "family", "n_features", "input_size", "parameters_millions", "checkpoint", "imagenet_top1", "source"]  # fmt: skip
    assert len(rows) == 16 and rows[-1].split() == [
        "nasnet_large", "NASNet", "4032", "331", "84.720", "nasnetalarge.tf_in1k", "0.826", "timm"]  # fmt: skip
    assert "--search" in err and command("networks", "--paper")[1] == out


def test_searching_networks(command):
    code, out, _ = command("networks", "--search", "resnet50.tv_in1k")
    assert code == 0 and [row.split()[0] for row in out.splitlines()[1:]] == ["resnet50", "resnet50.tv_in1k"] and "0.762" in out
    code, out, err = command("networks", "--search", "ResNet", "--limit", 3)
    assert code == 0 and len(out.splitlines()) == 4 and "3 of" in err
    found = json.loads(command("networks", "--paper", "--search", "resnet50", "--json")[1])
    assert [row["name"] for row in found] == ["resnet50"]
    everything = json.loads(command("networks", "--search", "", "--json")[1])
    assert len(everything) == 16 + 1266 and all(row["n_features"] and row["parameters"] for row in everything)
    code, _, err = command("networks", "--search", "nothing like it")
    assert code == 2 and err.count("\n") == 1


def test_datasets(command):
    code, out, _ = command("datasets", "--json")
    datasets = pd.DataFrame(json.loads(out)).set_index("name")
    assert code == 0 and len(datasets) == 12 and datasets.loc["oxford_pets", "test"] == 3669


def test_help_names_every_command():
    done = subprocess.run([*RUN, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and all(name in done.stdout for name in ("run", "analyze", "report", "networks", "datasets"))


def test_interrupted_by_ctrl_c(waiting_study, tmp_path):
    study, reached = waiting_study
    process, err = interrupt_at_work([*RUN, "run", str(study), "--out", str(tmp_path / "runs"), *HERE], reached)
    assert process.returncode == 130 and "the same command continues" in err and "Traceback" not in err


def test_scores_of_different_protocols_are_not_averaged(command, study_file, tmp_path):
    study_file.write_text(study_file.read_text() + '\n[protocols.linear]\nn_train_per_class = [4, "all"]\n[protocols.knn]\n')
    code, out, _ = command("run", study_file, "--out", tmp_path / "runs", *HERE, "--bootstrap", 100)
    assert code == 0
    results = read_runs(tmp_path / "runs" / "tiny").query("network == 'test_resnet' and dataset == 'squares'")
    for protocol, few, label in [("linear", True, "linear on 4 per class"), ("linear", False, "linear"), ("knn", False, "knn")]:
        score = results[(results["protocol"] == protocol) & (results["n_train_per_class"].notna() == few)]["score"].item()
        line = next(line for line in out.splitlines() if line.split("test_resnet")[0].strip() == label)
        assert f"{score:.3f}" in line


def test_the_version_is_that_of_the_package(capsys):
    from transfer_study import __version__
    from transfer_study.cli.main import app

    app(["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"transfer-study {__version__}\n"


@pytest.mark.parametrize(("arguments", "what_to_do"), [
    (("recommend", "drawn:digits", "--networks", "a.toml", "--networks", "lite"), "write its values once, separated by commas"),
    (("analyze", "table.csv", "--network", "model", "--network=pretrained"), "write its values once, separated by commas"),
    (("run", "quickstart", "--device", "cpu", "--device", "cuda"), "give it once"),
])  # fmt: skip
def test_an_option_given_twice_is_not_dropped(command, arguments, what_to_do):
    code, _, err = command(*arguments)
    assert code == 2 and err.splitlines()[-1].endswith(f"{arguments[2].partition('=')[0]} is given twice; {what_to_do}")


def test_names_do_not_reach_the_terminal_as_commands(command, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE.replace("pets", "p\x1b[2Jets\x07"))
    code, out, err = command("analyze", tmp_path / "t.csv", "--bootstrap", 100, "--verbose")
    assert code == 0 and not set("\x1b\x07") & set(out + err) and "[2Jets" in err
    code, out, err = command("results", "/nowhere\x1b[31m\udcff")
    assert code == 2 and err.startswith("transfer-study: /nowhere\\x1b[31m\\udcff: no such directory of runs; check the path")


def test_formulas_of_others_are_kept_as_they_are_and_are_text_in_the_report(command, tmp_path):
    name = "=HYPERLINK(1)"
    (tmp_path / "t.csv").write_text(TABLE.replace("\na,", f"\n{name},"))
    code, _, _ = command("analyze", tmp_path / "t.csv", "--out", tmp_path / "out", "--bootstrap", 100)
    assert code == 0 and name in set(pd.read_csv(tmp_path / "out/results.csv")["network"])
    assert "href=\"=" not in (tmp_path / "out/report.html").read_text() and name in (tmp_path / "out/report.html").read_text()


LIMITED = """
import resource, sys
from transfer_study.cli.main import main
import transfer_study.features.extraction, transfer_study.study.study, timm, torch, pandas
torch.set_num_threads(1)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv.pop(1)) << 20), resource.RLIM_INFINITY))
main()
"""


GREEDY = """
import timm
import torch


def network():
    model, sizes = timm.create_model("test_resnet"), []
    inner = model.forward_features

    def forward(images):
        sizes.append(len(images))
        return inner(images) + torch.zeros(1 << 30 if max(sizes) > 2 else 1)[0]

    model.forward_features = forward
    return model
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_memory_that_runs_out_is_one_line_and_leaves_no_image_out(study_file, tmp_path):
    "A network that asks for four gibibytes, from the first full batch on, where there are 600 MB more."
    (tmp_path / "greedy.py").write_text(GREEDY)
    first = study_file.read_text().index("[[networks]]")
    entry = study_file.read_text()[first:].split("[[networks]]")[1]
    entry = entry.replace('name = "test_resnet"', 'name = "n"\narchitecture = "greedy:network"')
    study_file.write_text(f'on_bad_image = "skip"\n{study_file.read_text()[:first]}[[networks]]{entry}')
    arguments = ["run", study_file, "--datasets", "squares", "--out", tmp_path / "runs", *HERE]
    run = subprocess.run([sys.executable, "-c", LIMITED, "600", *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode in (1, 2) and "memory is used up" in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert not list((tmp_path / "runs").glob(".features/*/features"))


def test_numbers_out_of_range_and_names_with_commas(command, tmp_path, study_file):
    (tmp_path / "t.csv").write_text(TABLE)
    for option, value in (("--seed", -1), ("--bootstrap", 10**12)):
        code, _, err = command("analyze", tmp_path / "t.csv", option, value)
        assert code == 2 and option in err and "Traceback" not in err
    (tmp_path / "squares").rename(tmp_path / "a,b")
    study_file.write_text(study_file.read_text().replace('"squares"', '"a,b"'))
    code, out, _ = command("plan", study_file, "--datasets", "a,b", "--out", tmp_path / "runs", "--device", "cpu", "--json")
    assert code == 0 and {run["dataset"] for run in json.loads(out)["runs"]} == {"a,b"}


def test_every_numeric_option_refuses_absurd_numbers():
    refused = []
    for name, command in typer.main.get_command(app).commands.items():
        kinds = typing.get_type_hints(command.callback, include_extras=True)
        for option in command.params:
            kind = next(iter(typing.get_args(kinds.get(option.name))), None)
            if not {int, float} & {kind, *typing.get_args(kind)}:
                continue
            for value in ("nan", "inf", "-1", f"{10**15}", f"1{400 * '0'}"):
                with pytest.raises(Exception) as failure:
                    option.process_value(typer.Context(command), value)
                assert type(failure.value).__name__ == "BadParameter", (name, option.name, value)
            refused.append(option.name)
    assert {"bootstrap", "processes", "seed", "gpus", "similarity", "limit", "jobs", "finetune"} <= set(refused)


def test_results_that_cannot_be_written_are_one_line(command, monkeypatch, tmp_path):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, _, err = command("networks")
    assert code == 2 and "no space left on device; free some space" in err and err.count("\n") <= 3
    monkeypatch.undo()
    for place, reason in ((tmp_path, "this is a directory"), ("-", "without this option, results are printed")):
        code, _, err = command("results", tmp_path, "--to", place)
        assert code == 2 and reason in err
    (tmp_path / "t.csv").write_text(TABLE)
    code, _, err = command("analyze", tmp_path / "t.csv", "--out", "-", "--bootstrap", 100)
    assert code == 2 and err.splitlines()[-1] == "transfer-study: -: expected the name of a directory"


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOENT])
def test_trouble_with_what_is_open_already_is_one_line(command, monkeypatch, tmp_path, number):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("transfer_study.results.merged_results", fail)
    code, _, err = command("results", tmp_path)
    assert code == 2 and os.strerror(number).lower() in err and err.count("\n") == 1


def test_degenerate_tables_bring_no_warnings_of_libraries(tmp_path):
    "Perfectly linear scores, and a dataset without which all networks are equal."
    from transfer_study.figures.report import write_report
    from transfer_study.statistics.analysis import analyze

    tables = {
        "linear": "network,source_accuracy,pets,birds\na,0.7,0.8,0.5\nb,0.71,0.82,0.55\nc,0.72,0.84,0.52\nd,0.8,0.9,0.6\n",
        "equal": "network,source_accuracy,pets,birds\na,0.4,0.5,0.7\nb,0.5,0.5,0.8\nc,0.6,0.5,0.9\n",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name, text in tables.items():
            (tmp_path / f"{name}.csv").write_text(text)
            analysis = analyze(tmp_path / f"{name}.csv", n_bootstrap=100)
            assert write_report(analysis, tmp_path / f"{name}.html", name).is_file()


@pytest.mark.parametrize("name", ["~$pets", "~nobody-here/pets"])
def test_a_name_with_a_tilde_that_is_no_home_is_a_name(command, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    SCORES.to_csv("table.csv", index=False)
    for arguments in (
        ("analyze", name), ("analyze", "table.csv", "--source-accuracy", name), ("analyze", "table.csv", "--classes", name),
        ("recommend", name), ("overlap", name, "x"), ("networks", "--measure", name, "resnet18"),
        ("networks", "--measure", ".", f"resnet18={name}"),
    ):  # fmt: skip
        code, _, err = command(*arguments)
        assert code == 2 and len(err.splitlines()) == 1 and "home directory" not in err, (arguments, err)
    for keys in (f'csv = "{name}.csv"', f'folder = "{name}"', f'tar = "{name}"', f'folder = "x"\ngroups = "{name}.csv"'):
        (tmp_path / "study.toml").write_text(
            f'name = "x"\n[[networks]]\nname = "resnet18"\n[[datasets]]\n{keys}\n[protocols.linear]\n'
        )
        code, _, err = command("plan", "study.toml")
        assert code == 2 and "home directory" not in err, err
    SCORES.to_csv(tmp_path / name.split("/")[0], index=False)
    if "/" not in name:
        assert command("analyze", name, "--bootstrap", 100)[0] == 0


def test_without_a_home_directory_the_line_says_what_to_set(command, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    code, _, err = command("datasets")
    assert code == 2 and err == "transfer-study: no home directory is known; set HOME to a folder that you can write to\n"


def test_only_one_function_puts_the_home_in_place_of_a_tilde():
    raising = [str(path) for path in PACKAGE.rglob("*.py") if re.search(r"(?<!os\.path)\.expanduser\(", path.read_text())]
    assert not raising  # pathlib's raises an error for a user whom the machine does not know
