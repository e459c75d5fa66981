"""`transfer-study analyze` on tables of others: what was read is said on stderr, results stand on stdout."""

import json

import pytest

TABLE = """Model,pretrained,Params (M),IN-1k,Pets,Cars,Average
RN50,web,102,59.8%,85.7 ± 0.2,54.2,70
ViT-B/32,web,151,63.3%,87.3 ± 0.3,59.6,73
ViT-B/16,web,150,68.3%,89.0 ± 0.2,64.6,77
ViT-B/16,curated,150,73.5%,92.6 ± 0.1,n.a.,92
"""


@pytest.fixture
def board(tmp_path):
    (tmp_path / "board.csv").write_text(TABLE)
    return tmp_path / "board.csv"


def test_a_leaderboard_in_one_command(command, board, tmp_path):
    options = (
        "--network",
        "model,pretrained",
        "--protocol",
        "zeroshot",
        "--percent",
        "--bootstrap",
        200,
        "--out",
        tmp_path / "out",
    )
    code, out, err = command("analyze", board, *options)
    assert code == 0 and "zeroshot" in out and "in the paper" not in out
    assert err.splitlines()[:5] == [
        "network: Model pretrained (4 networks); source accuracy: column 'IN-1k'; protocol: zeroshot",
        "datasets: 2: Pets, Cars",
        "left out: Params (M) (parameters), Average (an average)",
        "spreads such as ± 0.3 are not read",
        "1 of 8 scores are empty",
    ]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "left out: Params (M) (parameters)" in report
    code, again, _ = command("analyze", tmp_path / "out" / "results.csv", "--bootstrap", 200)
    assert code == 0 and again.splitlines()[1].split()[:2] == out.splitlines()[1].split()[:2]


def test_a_second_name_is_needed_where_the_first_repeats(command, board):
    code, _, err = command("analyze", board, "--percent")
    assert code == 2 and "several rows of a network, which 'pretrained' tells apart" in err and err.count("\n") == 1
    assert "--network 'Model,pretrained'" in err


def test_exclusions_are_grouped_and_listed_on_request(command):
    code, out, _ = command("analyze", "embeddings_benchmark_16shot", "--bootstrap", 200)
    assert code == 0 and "7 networks left out: six with ImageNet at chance" in out and "slope 1.51; with all scores 0.15" in out
    assert "is at chance for 1,000 classes" not in out
    _, verbose, _ = command("analyze", "embeddings_benchmark_16shot", "--bootstrap", 200, "--verbose")
    assert verbose.count("is at chance for 1,000 classes") == 6


def test_json_has_the_slopes_and_what_was_read(command):
    code, out, _ = command("analyze", "embeddings_benchmark_16shot", "--bootstrap", 200, "--json")
    result = json.loads(out)
    linear = result["protocols"]["linear"]
    assert (
        code == 0 and linear["slope"] == pytest.approx(1.506, abs=1e-3) and linear["slope_all"] == pytest.approx(0.148, abs=1e-3)
    )
    assert result["reading"][0].startswith("network: model (48 networks)") and {
        entry["rule"] for entry in result["excluded"]
    } == {
        "source at chance",
        "source outlier",
    }


def test_numbers_of_classes_from_a_file(command, tmp_path):
    scores = [(0.6, 0.55), (0.66, 0.61), (0.71, 0.66), (0.01, 0.72), (0.8, 0.77)]
    rows = [f"n{i},{0.5 + i / 20},{a},{b}" for i, (a, b) in enumerate(scores)]
    (tmp_path / "table.csv").write_text("\n".join(["network,source_accuracy,mine,yours", *rows]))
    (tmp_path / "classes.csv").write_text("dataset,n_classes\nMine,100\n")
    code, out, _ = command("analyze", tmp_path / "table.csv", "--classes", tmp_path / "classes.csv", "--bootstrap", 200)
    assert code == 0 and "1 score left out that is at chance, where the others suggest more: 1 on mine" in out
    assert "nothing was left out" in command("analyze", tmp_path / "table.csv", "--bootstrap", 200)[1]


def test_no_result_replaces_what_is_read(command, board):
    table = board.rename(board.with_name("results.csv"))
    code, _, err = command("analyze", table, "--network", "model,pretrained", "--percent", "--out", table.parent)
    assert code == 2 and "results.csv: would be replaced by the results; give --out another directory" in err
    assert table.read_text() == TABLE


@pytest.mark.parametrize(("arguments", "what"), [
    (("analyze", "t.csv", "--protocol", ""), "--protocol"), (("analyze", "t.csv", "--out="), "--out"),
    (("run", "quickstart", "--networks", ", "), "--networks"), (("datasets", "--download", ","), "--download"),
    (("overlap", "a", "--source-split", "train", "--source-split", ""), "--source-split"),
    (("clean", ""), "RUNS"), (("results", "runs", ""), "RUNS"), (("predict", "", "images"), "CLASSIFIER"),
])  # fmt: skip
def test_an_empty_value_is_not_the_current_directory_or_everything(command, arguments, what):
    code, out, err = command(*arguments)
    assert code == 2 and out == "" and err.startswith(f"transfer-study: {what} is empty; give a value") and err.count("\n") == 1


def test_predictions_do_not_replace_an_image(command, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"an image")
    code, _, err = command("predict", tmp_path, tmp_path, "--out", tmp_path / "cat.png")
    assert code == 2 and "expected the name of a file to write that ends in .csv" in err
    assert (tmp_path / "cat.png").read_bytes() == b"an image"
