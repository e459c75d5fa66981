"""The whole analysis: the contract of its tables, published headlines, bad input and odd shapes."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from transfer_study.core import UserError, data_path
from transfer_study.results import read_table, tidy
from transfer_study.statistics.analysis import analyze
from transfer_study.statistics.by_protocol import headline_rows
from transfer_study.statistics.columns import TABLES
from transfer_study.statistics.summary import PAPER_CORRELATIONS
from transfer_study.tables.columns import COLUMNS


def study(n_networks=10, n_datasets=4, seed=0, **columns):
    generator = np.random.default_rng(seed)
    x = generator.normal(1, 0.4, n_networks)
    values = 1.2 * x[:, None] + 0.2 * generator.normal(size=(n_networks, 1)) + generator.normal(size=n_datasets)
    values += 0.2 * generator.normal(size=values.shape)
    return tidy(
        pd.DataFrame(
            {
                "network": np.repeat([f"net{i:04}" for i in range(n_networks)], n_datasets),
                "source_accuracy": np.repeat(expit(x), n_datasets),
                "dataset": np.tile([f"data{i}" for i in range(n_datasets)], n_networks),
                "score": expit(values).ravel(),
            }
            | columns
        )
    )


def quick(results, **options):
    return analyze(results, n_bootstrap=200, **options)


@pytest.fixture(scope="module")
def embeddings():
    return quick(read_table(data_path("published/embeddings_benchmark_16shot.csv")))


@pytest.fixture(scope="module")
def finetuned():
    return quick(read_table(data_path("published/sfda_finetune_supervised.csv"), protocol="finetune"))


@pytest.fixture(scope="module")
def everything():
    "Three protocols, two settings, two training-set sizes, two seeds."
    parts = []
    for power, protocol in ((1.0, "linear"), (0.8, "finetune"), (3.0, "scratch")):
        for seed in (0, 1):
            rows = study().assign(protocol=protocol, seed=seed)
            rows["score"] **= power + 0.02 * seed
            smoothed = rows.assign(setting="label_smoothing", score=rows["score"] ** 1.1)
            small = rows.assign(n_train_per_class=10, score=rows["score"] ** 1.5)
            parts += [rows, smoothed, small]
    return quick(pd.concat(parts, ignore_index=True).astype(COLUMNS))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_columns_first_and_in_order(everything, embeddings, name):
    for analysis in (everything, embeddings):
        assert list(getattr(analysis, name).columns[: len(TABLES[name])]) == TABLES[name]
    assert not getattr(everything, name).empty or name in ("excluded", "correlations_all")


def test_rows_keep_the_results_table(embeddings):
    assert list(embeddings.rows.columns) == [*COLUMNS, "logit", "source_logit", "corrected", "excluded"]
    assert embeddings.rows["excluded"].sum() == 84 and len(embeddings.rows) == 576


def test_published_headlines(embeddings, finetuned):
    linear, finetune = embeddings.to_json()["protocols"]["linear"], finetuned.to_json()["protocols"]["finetune"]
    assert (linear["n_networks"], linear["n_datasets"], linear["n_networks_all"]) == (41, 12, 48)
    assert linear["r"] == pytest.approx(0.928, abs=5e-4) and linear["r_all"] == pytest.approx(0.542, abs=5e-4)
    assert finetune["r"] == pytest.approx(0.65, abs=5e-3) and finetune["r_all"] is None
    assert linear["r_low"] < linear["r"] < linear["r_high"]
    assert linear["r_low_datasets"] < linear["r_low"] and linear["r_high_datasets"] >= linear["r_high"]
    effect = embeddings.exclusion_effect.set_index("quantity")[["sound_scores", "all_scores"]]
    assert effect.loc["r"].to_list() == [linear["r"], linear["r_all"]], "the same function on the same columns"
    assert effect.loc["slope"].to_list() == [linear["slope"], linear["slope_all"]]


def test_headline_is_numpys_correlation_of_the_sound_networks(embeddings):
    rows = embeddings.rows[~embeddings.rows["excluded"]]
    mean = rows.groupby("network")[["logit", "source_logit"]].mean()
    assert embeddings.correlations.iloc[0]["estimate"] == pytest.approx(np.corrcoef(mean["logit"], mean["source_logit"])[0, 1])


def test_findings_in_words(embeddings, finetuned):
    words = "\n".join(embeddings.messages)
    assert "with all 48 networks r = 0.54" in words and "0.99 in the paper" in words
    assert "linear: 7 networks left out: six with ImageNet at chance, one with ImageNet far from" in words
    assert "linear: slope 1.51; with all scores 0.15" in words and len(embeddings.exclusions) == 7
    assert embeddings.exclusion_effect.set_index("quantity")["change"].round(2).to_dict() == {"r": 0.39, "slope": 1.36}
    assert "finetune: without mnasnet1_0 r rises from 0.6 to 0.8" in finetuned.messages


def test_prints_serialises_and_renders(embeddings, everything):
    for analysis in (embeddings, everything):
        assert json.loads(json.dumps(analysis.to_json(), allow_nan=False))["protocols"].keys() == set(analysis.protocols)
        assert str(analysis).count("\n") >= len(analysis.messages) and "r in the paper" in str(analysis)
        assert analysis._repr_markdown_().startswith("| protocol | r |")
    assert {"network", "reason"} <= embeddings.to_json()["excluded"][0].keys()


def test_what_cannot_be_computed_is_null_in_json():
    rows = study()
    analysis = quick(rows[(rows["dataset"] != "data1") | (rows["network"] < "net0002")])
    values = json.loads(json.dumps(analysis.to_json(), allow_nan=False))["protocols"]["linear"]["datasets"]
    assert values["data1"] == {"r": None, "n": 2} and values["data0"]["n"] == 10


def test_a_bar_or_a_line_in_a_name_does_not_break_the_markdown_table():
    analysis = quick(study(protocol="lin|ear"))
    assert "lin\\|ear" in analysis._repr_markdown_()


def test_paper_values_are_those_of_the_paper():
    assert PAPER_CORRELATIONS == {"linear": 0.99, "finetune": 0.96, "scratch": 0.55}


def test_same_seed_same_numbers_and_another_seed_others():
    one, again, other = quick(study()), quick(study()), quick(study(), seed=1)
    pd.testing.assert_frame_equal(one.correlations, again.correlations)
    assert (one.correlations["low"] != other.correlations["low"]).any()
    assert (one.correlations["estimate"] == other.correlations["estimate"]).all()


def test_order_of_the_rows_does_not_matter():
    shuffled = study().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(quick(study()).correlations, quick(shuffled).correlations)


def test_headline_uses_default_setting_and_all_images(everything):
    linear = quick(study(protocol="linear")).correlations.query("method == 'pearson'")["estimate"].to_numpy()
    seeds = everything.correlations.query("method == 'pearson' and protocol == 'linear'")["estimate"].to_numpy()
    np.testing.assert_allclose(seeds, linear, atol=0.01)
    assert everything.protocols == ["linear", "finetune", "scratch"]


def test_headline_accuracies_are_those_of_default_rows_with_seeds_averaged(everything):
    rows = everything.rows.query("protocol == 'linear' and setting == 'default' and n_train_per_class.isna()")
    expected = rows.groupby("network")["logit"].mean()
    found = everything.networks.query("protocol == 'linear'").set_index("network")["mean_logit"]
    np.testing.assert_allclose(found, expected[found.index])


def test_settings_and_gains(everything):
    assert (everything.settings["difference"] < 0).all() and set(everything.settings["setting"]) == {"label_smoothing"}
    wins = everything.gains.set_index(["protocol", "baseline", "dataset"])["wins"]
    assert wins[("finetune", "linear", "mean")] == wins[("linear", "scratch", "mean")] == 40
    assert "finetune beats linear in 40 of 40" in "\n".join(everything.messages)
    assert set(everything.gains_by_network["n_train_per_class"].dropna()) == {10}


def test_only_another_setting_or_size_is_used_and_said():
    analysis = quick(study(setting="dropout", n_train_per_class=16))
    assert "no rows of setting 'default'; the headline uses 'dropout'" in analysis.messages[0]
    assert "the headline uses 16 a class" in analysis.messages[1]


def test_a_setting_of_each_network_is_its_label_and_what_the_headline_lacks_is_said():
    rows = pd.DataFrame({"network": list("aabbcc"), "dataset": ["pets", "birds"] * 3, "n_train_per_class": pd.NA})
    labels = rows.assign(setting=["default"] * 2 + ["augreg"] * 4)
    kept, messages = headline_rows(labels)
    assert (
        len(kept) == 6
        and "each network has one setting" in messages[0]
        and "'default', 'augreg' are in the headline" in messages[0]
    )
    kept, messages = headline_rows(rows.assign(setting=["default", "dropout"] + ["dropout"] * 2 + ["default"] * 2))
    assert len(kept) == 3 and messages == [
        "1 of 3 networks has no score in setting 'default' and is not in the headline: b",
        "3 of 6 scores are outside the headline: setting 'dropout'",
    ]
    kept, messages = headline_rows(rows.assign(setting="default", n_train_per_class=[pd.NA, 10, pd.NA, 10, 10, 10]))
    said = "has no score with all training images and is not in the headline"
    assert len(kept) == 2 and messages == [
        f"1 of 3 networks {said}: c",
        f"1 of 2 datasets {said}: birds",
        "4 of 6 scores are outside the headline: 10 training images a class",
    ]
    kept, messages = headline_rows(
        rows.assign(setting=["default", "dropout"] * 3, n_train_per_class=[pd.NA, pd.NA, 5, 5, pd.NA, 5])
    )
    assert messages[-1] == "4 of 6 scores are outside the headline: setting 'dropout' and 5 training images a class"
    assert not headline_rows(rows.assign(setting="default"))[1]


def test_missing_cells_are_listed_and_no_network_is_lost():
    analysis = quick(study().drop(index=[2, 9, 10, 11]))
    assert analysis.correlations["n_networks"].iloc[0] == 10
    message = next(text for text in analysis.messages if "missing" in text)
    assert "4 cell(s) missing" in message and "net0000 on data2" in message and "net0002 on data1" in message
    assert analysis.networks.set_index("network")["n_datasets"].loc[["net0000", "net0001", "net0002"]].tolist() == [
        3,
        4,
        1,
    ]


def test_single_dataset():
    analysis = quick(study(n_datasets=1))
    estimates = analysis.correlations.query("method == 'pearson'")["estimate"]
    assert analysis.networks["standard_error"].isna().all() and estimates.nunique() == 1
    assert any("mixed: not fitted: needs at least two datasets" in text for text in analysis.messages)


def test_a_score_of_one_without_n_test_needs_scores_that_show_the_number_of_images():
    rows = study(n_networks=5).drop(columns="n_test", errors="ignore")
    rows.loc[5, "score"] = 1.0
    with pytest.raises(UserError, match="net0001.*data1.*not known, .*: give n_test"):
        quick(rows)
    (message,) = [text for text in quick(rows.assign(score=rows["score"].round(2))).messages if "moved by half" in text]
    assert message.endswith("net0001 on data1; without n_test, one image is the smallest step between the dataset's scores")


def test_a_dataset_that_alone_connects_the_others():
    rows, network = study(n_networks=6, n_datasets=3), np.repeat(np.arange(6), 3)
    apart = ((rows["dataset"] == "data0") & (network > 2)) | ((rows["dataset"] == "data2") & (network < 3))
    analysis = quick(rows[~apart].reset_index(drop=True))
    assert analysis.leave_one_out.set_index("name")["r"].isna().to_dict()["data1"]
    assert any("r without dataset data1 is missing" in text for text in analysis.messages)


def test_corrected_scores_are_flagged_and_said():
    rows = study(n_test=100)
    rows.loc[5, "score"] = 1.0
    analysis = quick(rows)
    assert analysis.rows["corrected"].to_numpy().nonzero()[0].tolist() == [5]
    assert any(text.endswith("moved by half an image: net0001 on data1") for text in analysis.messages)
    assert "binomial" in set(analysis.coefficients.dropna(subset="estimate")["model"])
    areas = quick(rows.assign(metric="roc_auc"))
    assert any(text.endswith("half way to the dataset's next score: net0001 on data1") for text in areas.messages)
    assert areas.rows.loc[5, "logit"] < analysis.rows.loc[5, "logit"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (study(2), r"linear: 2 network\(s\).*needs 3"),
        (study().assign(source_accuracy=0.7), "all 10 networks have the source accuracy 0.7"),
        (study().assign(score=0.7), "all 10 networks have the same transfer accuracies"),
        (study().assign(score=1.0), "'net0000' on dataset 'data0'.*n_test"),
        (study().head(0), "no scores"),
    ],
    ids=["two networks", "constant source", "constant score", "certain", "empty"],
)
def test_bad_input_is_one_line(rows, message):
    with pytest.raises(UserError, match=message) as error:
        quick(rows)
    assert "\n" not in str(error.value)


def test_a_protocol_that_cannot_be_analysed_is_said():
    analysis = quick(pd.concat([study(), study(2).assign(protocol="finetune")]))
    assert analysis.protocols == ["linear"]
    assert analysis.messages[-1].startswith("not analysed: finetune: 2 network(s)")


def test_three_networks_and_a_perfect_line():
    assert quick(study(3)).protocols == ["linear"]
    rows = study()
    assert quick(rows.assign(score=rows["source_accuracy"])).correlations["estimate"].min() == pytest.approx(1)


def test_many_networks():
    analysis = analyze(study(1500, 2), n_bootstrap=100)
    assert len(analysis.networks) == 1500 and len(analysis.pairs) == 50 * 49 / 2
    assert any("of 1,500 networks the best 50 are compared" in text for text in analysis.messages)


def test_no_torch():
    code = "import sys, transfer_study.statistics.power, transfer_study.statistics.predictors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_a_table_in_memory_and_the_tidy_table_give_the_same_analysis(tmp_path):
    tidy_table = study()
    columns = ["network", "source_accuracy", "dataset", "score"]
    tidy_table[columns].to_csv(tmp_path / "table.csv", index=False)
    expected = quick(tidy_table)
    for table in (tmp_path / "table.csv", str(tmp_path / "table.csv"), tidy_table[columns]):
        pd.testing.assert_frame_equal(quick(table).correlations, expected.correlations)


def test_options_are_those_of_read_table(tmp_path):
    tidy_table = study()
    accuracies = tidy_table.drop_duplicates("network")[["network", "source_accuracy"]]
    percent = tidy_table[["network", "dataset"]].assign(score=100 * tidy_table["score"])
    accuracies.assign(source_accuracy=100 * accuracies["source_accuracy"]).to_csv(tmp_path / "accuracies.csv", index=False)
    for given in (tmp_path / "accuracies.csv", accuracies.set_index("network")["source_accuracy"]):
        analysis = quick(percent, protocol="finetune", percent=True, source_accuracy=given)
        assert analysis.protocols == ["finetune"]
        assert np.allclose(analysis.correlations["estimate"], quick(tidy_table).correlations["estimate"])
    with pytest.raises(UserError, match=r"table\.csv: no column 'source_accuracy'; found: network, score"):
        (tmp_path / "table.csv").write_text("network,score\na,0.5\n")
        quick(percent, percent=True, source_accuracy=tmp_path / "table.csv")


def test_a_shipped_table_is_analysed_by_its_name():
    assert quick("sfda_finetune_supervised", protocol="finetune").to_json()["protocols"]["finetune"]["n_networks"] == 11
    with pytest.raises(UserError, match="no_such_table: no such file, and no table of this name ships with transfer_study"):
        quick("no_such_table")


def test_an_excluded_score_of_a_network_that_stays_is_called_by_its_name():
    rows = study(n_networks=9)
    rows.loc[rows.index[0], "score"] = 0.01
    words = analyze(rows, n_bootstrap=100, n_classes={"data0": 100}).messages[0]
    assert "over 9 networks" in words and "with the excluded scores r = " in words and "with all" not in words


CASES = "network,source_accuracy,dataset,score,n_test\n" + "".join(
    f"{n},{0.65 + i / 20:.2f},{d},{0.56 + 0.06 * i:.2f},500\n" for i, n in enumerate("abcde") for d in ("NAME", "pets")
)


@pytest.mark.parametrize(
    "name",
    [
        "network",
        "dataset",
        "score",
        "logit",
        "source_logit",
        "source_accuracy",
        "effect",
        "protocol",
        "setting",
        "index",
        "value",
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_dataset_may_have_any_name(tmp_path, name):
    (tmp_path / "table.csv").write_text(CASES.replace("NAME", name))
    analysis = quick(tmp_path / "table.csv")
    assert analysis.to_json()["protocols"]["linear"]["n_datasets"] == 2
    assert {"ols", "mixed", "binomial", "robust"} <= set(analysis.coefficients["model"])


SMALL = {
    "three": "a,0.7,0.8\nb,0.8,0.9\nc,0.75,0.84\n",
    "ties": "a,0.7,0.8\nb,0.7,0.8\nc,0.7,0.8\nd,0.8,0.9\n",
    "line": "a,0.7,0.7\nb,0.75,0.75\nc,0.8,0.8\nd,0.85,0.85\n",
    "certain": "a,0.7,1.0\nb,0.71,0.99\nc,0.72,0.98\nd,0.8,0.97\n",
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("error")
def test_small_and_degenerate_tables_give_no_raw_warnings(tmp_path, name):
    (tmp_path / "table.csv").write_text("network,source_accuracy,pets\n" + SMALL[name])
    analysis = quick(tmp_path / "table.csv")
    assert analysis.protocols == ["linear"] and "r in the paper" not in str(analysis)  # the protocol is not stated
    assert analysis.to_json()["protocols"]["linear"]["r_paper"] is None
    assert quick(tmp_path / "table.csv", protocol="linear").to_json()["protocols"]["linear"]["r_paper"] == 0.99


def test_another_metric_puts_rank_correlations_first():
    analysis = quick(study()[["network", "source_accuracy", "dataset", "score"]], metric="auc")
    assert analysis.ranks_first and "the metric is not a share of right answers" in analysis.messages[0]
    assert str(analysis).split("\n")[0].split()[1:3] == ["Spearman's", "ρ"]
    assert not quick(study()[["network", "source_accuracy", "dataset", "score"]], metric="data0=auc").ranks_first


def test_numbers_of_classes_travel_with_the_table(tmp_path):
    rows = study(n_classes=10)
    rows.loc[0, "score"] = 0.1  # of net0000, which is not weak
    rows.to_csv(tmp_path / "table.csv", index=False)
    expected = quick(rows).excluded
    assert expected["network"].tolist() == ["net0000"]
    pd.testing.assert_frame_equal(quick(tmp_path / "table.csv").excluded, expected)
    (tmp_path / "classes.csv").write_text("dataset,n_classes\nDATA-0,10\n")
    pd.testing.assert_frame_equal(quick(rows.assign(n_classes=pd.NA), n_classes=tmp_path / "classes.csv").excluded, expected)


def test_thousands_of_networks_take_fewer_draws_and_say_so():
    analysis = analyze(study(2100, 1), n_bootstrap=10_000)
    assert "linear: 9,523 instead of 10,000 bootstrap draws, because of 2,100 networks" in analysis.messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bootstrap": "100"}, "n_bootstrap = '100': expected a whole number of at least 100"),
        ({"n_bootstrap": 0}, "n_bootstrap = 0: expected"), ({"n_bootstrap": 1e3}, "n_bootstrap = 1000.0: expected"),
        ({"seed": -1}, "seed = -1: expected a whole number of at least 0"), ({"seed": None}, "seed = None: expected"),
        ({"percent": "yes"}, "percent = 'yes': expected True or False"),
        ({"n_classes": {"data9": 10}}, "numbers of classes are given for data9, but the table has the datasets data0, data1"),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_kind_is_one_line(options, message):
    with pytest.raises(UserError, match=message):
        analyze(study(), **({"n_bootstrap": 100} | options))


def test_numbers_of_classes_without_a_dataset_are_said():
    reading = analyze(study(n_networks=4), n_bootstrap=100, n_classes={"Data 0": 10, "data9": 10}).reading
    assert reading == (
        "numbers of classes without such a dataset: data9", "datasets without a number of classes: data1; data2; data3",
    )  # fmt: skip
