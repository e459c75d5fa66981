"""What a message advises, followed to the letter, leads on: it names all that is to be given at once, and what exists."""

import re
import shlex

import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.statistics.analysis import analyze

NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet101"]


def table_of(tmp_path, header, *columns):
    rows = [f"{name},{','.join(map(str, cells))}" for name, *cells in zip(NETWORKS, *columns, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path / "t.csv"


def saved(tmp_path, text):
    (tmp_path / "t.md").write_text(text)
    return tmp_path / "t.md"


def refused(path, **options):
    with pytest.raises(UserError) as error:
        read_table(path, **options)
    return str(error.value)


def advised(message, option):
    "The values of an option in a message, as a shell would pass them."
    words = shlex.split(re.sub(r"[;,(](?= |$)| \(.*", " ", message[message.index(f"--{option}") :]))
    return [words[i + 1] for i, word in enumerate(words) if word == f"--{option}"]


SOURCE, LOW, HIGH = [0.7, 0.73, 0.76, 0.77], [0.81, 0.83, 0.86, 0.9], [81.5, 83.1, 86.2, 90.4]


def test_all_datasets_of_another_scale_are_named(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets,Stanford cars,birds", SOURCE, HIGH, HIGH, LOW)
    scale = advised(refused(path), "scale")
    assert scale == ["pets=percent", "Stanford cars=percent"] and read_table(path, scale=scale)["score"].max() < 1
    scale = advised(refused(path, percent=True), "scale")
    assert sorted(scale) == ["birds=fraction", "imagenet=fraction"]
    assert read_table(path, percent=True, scale=scale)["score"].min() > 0.5


def test_all_networks_without_log_odds_of_the_source_are_named(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets", [0, 0.73, 0, 0.77], LOW)
    message = refused(path)
    assert "0 of network 'resnet18' (line 2), 0 of network 'resnet50' (line 4) has no finite log-odds" in message
    (leave_out,) = advised(message, "leave-out")
    assert read_table(path, leave_out=leave_out)["network"].tolist() == ["resnet34", "resnet101"]


def test_a_dataset_whose_scores_are_all_one_can_be_left_out(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets,Easy one", SOURCE, LOW, [1.0] * 4)
    with pytest.raises(UserError, match=r"score 1 .* has no finite log-odds; .*--leave-out 'Easy one'"):
        analyze(path, n_bootstrap=100)
    assert set(analyze(path, n_bootstrap=100, leave_out="Easy one").rows["dataset"]) == {"pets"}


def test_a_summary_called_score_can_be_left_out(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets,score", SOURCE, LOW, LOW)
    assert "if score is of one dataset, call it by its name; if it sums up others, --leave-out score" in refused(path)
    assert set(read_table(path, leave_out="score")["dataset"]) == {"pets"}
    path = table_of(tmp_path, "network,imagenet,pets", SOURCE, LOW)
    assert "in a table with a column for each dataset, --datasets names those to read" in refused(path, score="pets")
    assert set(read_table(path, datasets="pets")["dataset"]) == {"pets"}


def test_given_source_accuracies_in_per_cent(tmp_path):
    path = table_of(tmp_path, "network,pets", LOW)
    message = refused(path, source_accuracy=dict.fromkeys(NETWORKS, 73.5))
    assert message.startswith("source_accuracy: 'resnet18': 73.5, ") and message.endswith("divide those in per cent by 100")
    rows = read_table(path, source_accuracy=dict(zip(NETWORKS, [value / 100 for value in HIGH], strict=True)))
    assert rows["source_accuracy"].max() == 0.904


def test_networks_of_a_long_table_are_no_datasets(tmp_path):
    (tmp_path / "t.csv").write_text("network,dataset,score\nmine,pets,0.8\nother,pets,0.9\n")
    assert "if these are datasets" not in refused(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("network,a,b\nmine,0.7,0.8\nother,0.8,0.9\n")
    assert "if these are datasets and the columns networks, call the first column dataset" in refused(tmp_path / "t.csv")


def test_empty_cells_of_names_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("network,dataset,score\na,pets,0.8\nb,,0.9\na,cars,0.8\nb,,0.9\n")
    message = refused(tmp_path / "t.csv")
    assert message.endswith("no dataset in line 3; every score needs one, but 'dataset' is empty in 2 of 4 rows; fill it")
    (tmp_path / "t.csv").write_text("model,pretraining,pets\nresnet18,in1k,0.8\n,in21k,0.82\nresnet50,in1k,0.8\n,in21k,0.82\n")
    assert refused(tmp_path / "t.csv").endswith("'model' is empty in 2 of 4 rows; fill it")


def test_what_is_left_of_a_table(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets", SOURCE, LOW)
    assert "--leave-out leaves no row" in refused(path, leave_out="network=*")
    (tmp_path / "t.csv").write_text("network,dataset,score\na,imagenet,0.8\nb,imagenet,0.9\n")
    assert "no scores on a target dataset; those that are left are on 'imagenet', the source" in refused(tmp_path / "t.csv")


def test_a_column_of_counts_among_percentages_can_be_left_out(tmp_path):
    path = table_of(tmp_path, "network,imagenet,pets,Weights count", [71, 72, 74, 75], HIGH, [11_000, 12_000, 13_000, 14_000])
    message = refused(path)
    assert "score 11000 of network 'resnet18' on dataset 'Weights count'" in message and "to 100 with --percent" in message
    assert set(read_table(path, percent=True, leave_out=advised(message, "leave-out")[0])["dataset"]) == {"pets"}


def test_the_model_of_a_tracked_run_comes_before_its_name(tmp_path):
    rows = [f"run-{i},finished,{name},pets,0.8{i}" for i, name in enumerate(NETWORKS)]
    (tmp_path / "t.csv").write_text("\n".join(["Name,State,config.model,config.dataset,summary.test_acc", *rows]) + "\n")
    assert read_table(tmp_path / "t.csv")["network"].tolist() == NETWORKS


def test_rows_of_texts_in_place_of_scores_are_left_out_together(tmp_path):
    text = "| Backbone | ImageNet | pets | birds |\n|---|---|---|---|\n"
    text += "| a | 70 | 80 | 60 |\n| b | 75 | 85 | 62 |\n| c | 80 | 90 | 70 |\n"
    notes = "| | | | |\n| *Best baseline* | b | c | c |\n| *Gain* | | +2.5 | +3.9 |\n"
    advice = "'Backbone=Best baseline,Backbone=Gain'"
    with pytest.raises(UserError, match=f"leave the rows out with --leave-out {advice}$"):
        read_table(saved(tmp_path, text + notes), percent=True)
    rows = read_table(saved(tmp_path, text + notes), percent=True, leave_out=advice.strip("'"))
    pd.testing.assert_frame_equal(rows, read_table(saved(tmp_path, text), percent=True))


def test_a_column_of_small_numbers_may_be_left_out_and_an_unnamed_one_is_named_first(tmp_path):
    text = "| | k | imagenet | pets |\n|---|---|---|---|\n"
    text += "| a | 2 | 70.5% | 80.5% |\n| b | 2 | 75.5% | 85.5% |\n| a | 1 | 71.5% | 79.5% |\n| b | 1 | 76.5% | 84.5% |\n"
    with pytest.raises(UserError, match="if they are no accuracies, --leave-out k"):
        read_table(saved(tmp_path, text))
    with pytest.raises(UserError, match="call the column of the networks network, and add it .* --network 'network,k'"):
        read_table(saved(tmp_path, text), leave_out="k")
    assert len(read_table(saved(tmp_path, text.replace("| |", "| network |", 1)), network="network,k")) == 4


@pytest.mark.parametrize("name", ["Pretraining IN top-1", "Pretraining source_accuracy", "Pretraining ImageNet accuracy"])
def test_source_accuracies_below_pretraining_are_no_setting(name, tmp_path):
    group, _, lowest = name.partition(" ")
    columns = pd.MultiIndex.from_tuples([(group, "Data"), (group, lowest), ("Target", "pets")])
    frame = pd.DataFrame([["IN1k", 0.7, 0.8], ["IN1k", 0.8, 0.9]], ["resnet50", "resnet101"], columns)
    frame.to_csv(tmp_path / "table.csv")
    for rows in (read_table(frame), read_table(tmp_path / "table.csv")):
        assert rows["source_accuracy"].tolist() == [0.7, 0.8]
    with pytest.raises(UserError, match="'Pretraining ImageNet' could be the source accuracy"):
        read_table(pd.DataFrame({"network": ["a", "b"], "Pretraining ImageNet": [0.7, 0.8], "pets": [0.8, 0.9]}))


def test_a_pivoted_parquet_file_with_categories_as_columns_is_read(tmp_path):
    long = pd.DataFrame({"network": ["a", "a", "b", "b"], "dataset": ["imagenet", "pets"] * 2, "score": [0.7, 0.8, 0.75, 0.85]})
    wide = long.astype({"dataset": "category"}).pivot_table(index="network", columns="dataset", values="score", observed=True)
    wide.to_parquet(tmp_path / "wide.parquet")
    assert read_table(tmp_path / "wide.parquet")["score"].tolist() == [0.8, 0.85]


def test_a_column_dataset_that_says_on_what_networks_were_trained(tmp_path):
    lines = "Model,Dataset,ImageNet,pets,birds", "vit,IN-21k,0.7,0.8,0.6", "vit,IN-1k,0.75,0.85,0.62", "bit,IN-21k,0.8,0.9,0.7"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="'Dataset' says something of the networks, give --network 'Model,Dataset'"):
        read_table(tmp_path / "t.csv")
    rows = read_table(tmp_path / "t.csv", network="Model,Dataset")
    assert set(rows["dataset"]) == {"pets", "birds"} and set(rows["network"]) == {"vit IN-21k", "vit IN-1k", "bit IN-21k"}
    assert rows["source_accuracy"].unique().tolist() == [0.7, 0.75, 0.8]


@pytest.mark.parametrize("name", ["Top-1 Accuracy", "Top 1 Accuracy", "Top-1 Acc.", "Accuracy"])
def test_a_file_of_source_accuracies_may_call_them_by_usual_names(name, tmp_path):
    (tmp_path / "zoo.csv").write_text(f"Model,Size (MB),{name},Top-5 Accuracy\na,88,0.7,0.9\nb,98,0.75,0.92\n")
    table = pd.DataFrame({"network": ["a", "b"], "pets": [0.8, 0.9]})
    assert read_table(table, source_accuracy=tmp_path / "zoo.csv")["source_accuracy"].tolist() == [0.7, 0.75]
