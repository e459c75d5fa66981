"""Scores, scales, counts and missing cells; tables of source accuracies and of numbers of classes."""

import numpy as np
import pandas as pd
import pytest

from transfer_study.classifiers.metrics import mean_average_precision
from transfer_study.core import UserError
from transfer_study.results import read_table
from transfer_study.statistics.analysis import analyze
from transfer_study.tables.metrics import chance_levels
from transfer_study.tables.rows import class_counts, table_rows

NETWORKS = ["n1", "n2", "n3"]
FRACTIONS = pd.DataFrame({"network": NETWORKS, "pets": [0.881, 0.904, 0.915], "birds": [0.605, 0.663, 0.682]})
PERCENT = FRACTIONS.assign(pets=100 * FRACTIONS["pets"], birds=100 * FRACTIONS["birds"])


def accuracies(tmp_path, *values, name="accuracies.csv"):
    (tmp_path / name).write_bytes(
        "\n".join(["network,source_accuracy", *(f"{n},{v}" for n, v in zip(NETWORKS, values, strict=True))]).encode()
    )
    return tmp_path / name


def test_missing_cells_are_counted_and_an_empty_network_is_named(tmp_path):
    (tmp_path / "table.csv").write_text(
        "network,pets,birds\nresnet34,88.1,-\nresnet50,90.4,n.a.\nresnet101,91.5,68.2\ndensenet201,,\n"
    )
    rows = read_table(tmp_path / "table.csv", percent=True)
    assert len(rows) == 4 and rows.attrs["reading"][3:] == (
        "4 of 8 scores are empty",
        "1 network without any score: densenet201 (line 5)",
    )
    (tmp_path / "source.csv").write_text("network,imagenet,pets\nresnet34,,88.1\nresnet50,76.1,\nresnet101,77.4,91.5\n")
    assert read_table(tmp_path / "source.csv", percent=True).attrs["reading"][3:] == (
        "1 of 3 scores are empty",
        "1 of 3 source accuracies are empty",
        "1 network without any score: resnet50 (line 3)",
    )
    (tmp_path / "long.csv").write_text("network, dataset, score\nresnet34 ,pets,0.881\nresnet34,birds ,\nresnet50,pets,0.9\n")
    rows = read_table(tmp_path / "long.csv")
    assert rows["score"].tolist() == [0.881, 0.9] and set(rows["network"]) == {"resnet34", "resnet50"}
    assert "1 dataset without any score: birds" in rows.attrs["reading"]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("n_train_per_class", "all", None),
        ("n_test", "3,669", 3669),
        ("seed", "0", 0),
        ("n_classes", "37", 37),
        ("n_test", "", None),
    ],
)
def test_counts_as_people_write_them(column, value, expected):
    rows = read_table(pd.DataFrame({"network": "a", "source_accuracy": 0.7, "dataset": "pets", "score": 0.9, column: [value]}))
    assert rows[column].isna().item() if expected is None else rows[column].item() == expected


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n_test", "3669.5"),
        ("n_test", "0"),
        ("n_test", "-5"),
        ("n_test", "99999999999999999999999"),
        ("seed", "default"),
        ("n_train_per_class", "few"),
        ("n_classes", "1"),
    ],
)
def test_counts_that_are_none(column, value):
    table = pd.DataFrame({"network": "a", "source_accuracy": 0.7, "dataset": "pets", "score": 0.9, column: [value]})
    with pytest.raises(
        UserError, match=rf"{column} '?{value}'? of network 'a' on dataset 'pets' \(row 1\): expected a whole number"
    ):
        read_table(table)


@pytest.mark.parametrize("values", [(0.733, 0.761, 0.774), ("73.3%", "76.1%", "77.4%")])
def test_a_file_of_source_accuracies(tmp_path, values):
    rows = read_table(FRACTIONS, source_accuracy=accuracies(tmp_path, *values))
    assert rows["source_accuracy"].tolist() == pytest.approx([0.733, 0.761, 0.774] * 2)
    (tmp_path / "german.csv").write_text("network;source_accuracy\nn1;0,733\nn2;0,761\nn3;0,774\n")
    assert read_table(FRACTIONS, source_accuracy=tmp_path / "german.csv")["source_accuracy"][0] == 0.733


def test_source_accuracies_in_another_unit_than_the_scores(tmp_path):
    in_percent, in_fractions = (
        accuracies(tmp_path, 73.3, 76.1, 77.4),
        accuracies(tmp_path, 0.733, 0.761, 0.774, name="fractions.csv"),
    )
    with pytest.raises(UserError, match=r"source_accuracy reaches 77\.4, expected at most 1.*--scale source_accuracy=percent"):
        read_table(FRACTIONS, source_accuracy=in_percent)
    with pytest.raises(UserError, match=r"the largest source_accuracy is 0\.774, so the column is not in per cent"):
        read_table(PERCENT, percent=True, source_accuracy=in_fractions)
    for table, percent, given, scale in ((FRACTIONS, False, in_percent, "percent"), (PERCENT, True, in_fractions, "fraction")):
        rows = read_table(table, percent=percent, source_accuracy=given, scale={"source_accuracy": scale})
        assert rows["source_accuracy"][0] == pytest.approx(0.733) and rows["score"][0] == pytest.approx(0.881)


def test_contradictory_or_unreadable_source_accuracies(tmp_path):
    (tmp_path / "twice.csv").write_text("network,source_accuracy\nn1,0.733\nn1,0.9\nn2,0.7\nn3,0.7\n")
    with pytest.raises(UserError, match=r"network 'n1' has the source accuracies 0\.733, 0\.9 \(lines 2, 3\); keep one$"):
        read_table(FRACTIONS, source_accuracy=tmp_path / "twice.csv")
    others = pd.DataFrame({"network": [*NETWORKS, "other", "other"], "source_accuracy": [0.733, 0.761, 0.774, 0.5, 0.6]})
    rows = read_table(FRACTIONS, source_accuracy=others)
    assert set(rows["source_accuracy"]) == {0.733, 0.761, 0.774}
    assert "1 of the given source accuracies are of no network in the table: other" in rows.attrs["reading"]
    (tmp_path / "latin1.csv").write_bytes("network,source_accuracy\nná,0.733\n".encode("latin-1"))
    with pytest.raises(UserError, match="source accuracies are given for ná, but the table has the networks n1, n2, n3"):
        read_table(FRACTIONS, source_accuracy=tmp_path / "latin1.csv")
    with pytest.raises(UserError, match=r"source_accuracy: 'n1': 73\.3, .*divide those in per cent by 100"):
        read_table(FRACTIONS, source_accuracy=pd.Series(73.3, NETWORKS))


def test_one_dataset_in_another_scale():
    mixed = PERCENT.assign(birds=FRACTIONS["birds"], source_accuracy=[73.3, 76.1, 77.4])
    with pytest.raises(UserError, match=r"the largest score on 'birds' is 0\.682.*--scale birds=fraction"):
        read_table(mixed, percent=True)
    rows = read_table(mixed, scale=["percent", "birds=fraction"])
    assert rows.groupby("dataset")["score"].max().round(3).to_dict() == {"birds": 0.682, "pets": 0.915}
    with pytest.raises(UserError, match=r"score reaches 91\.5, expected at most 1; on 'pets' only.*--scale pets=percent"):
        read_table(mixed, scale={"source_accuracy": "percent"})


def test_a_cell_above_100_per_cent_is_named_as_it_stands_in_the_file():
    with pytest.raises(UserError, match=r"score 915 .* on dataset 'pets' .*: expected at most 100.*--leave-out 'pets'"):
        read_table(PERCENT.assign(pets=PERCENT["pets"].replace(91.5, 915.0)), percent=True)


def test_a_table_of_errors_is_to_be_one_of_accuracies():
    errors = pd.DataFrame({"network": list("abc"), "pets error": [9.1, 8.2, 7.3], "birds error": [30.5, 29.1, 27.7]})
    with pytest.raises(UserError, match=r"birds error: errors, no accuracies\); write accuracies in their place, 100 − error"):
        read_table(errors, percent=True)


def test_several_source_accuracies_only_on_request():
    table = pd.DataFrame(
        {"network": ["a", "a"], "source_accuracy": [0.7, 0.8], "dataset": ["pets", "birds"], "score": [0.9, 0.6]}
    )
    with pytest.raises(UserError, match="--source-per-dataset"):
        read_table(table)
    read = read_table(table, source_per_dataset=True)
    assert read["source_accuracy"].tolist() == [0.7, 0.8]
    assert any("source accuracies differ between datasets" in line for line in read.attrs["reading"])


def test_a_source_accuracy_of_one_is_refused_with_its_line(tmp_path):
    (tmp_path / "table.csv").write_text("network,source_accuracy,pets\na,0.7,0.8\nb,1,0.9\n")
    with pytest.raises(UserError, match=r"source accuracy 1 of network 'b' \(line 3\)"):
        read_table(tmp_path / "table.csv")


def test_the_protocol_is_said_to_be_unstated():
    assert "protocol: not stated" in read_table(FRACTIONS.assign(source_accuracy=0.7)).attrs["reading"][0]
    stated = read_table(FRACTIONS.assign(source_accuracy=0.7), protocol="Finetune")
    assert set(stated["protocol"]) == {"finetune"} and stated.attrs["protocol_stated"]
    assert (
        "looked up by name for 1 of 1 networks"
        in read_table(pd.DataFrame({"network": ["resnet50"], "pets": [0.9]})).attrs["reading"][0]
    )


def test_the_chance_level_of_a_mean_average_precision_is_no_share_of_the_classes():
    "Images that show 1.55 of 20 classes, as those of VOC 2007, and images that mostly show none of 14."
    random = np.random.default_rng(0)
    for n_classes, shown in ((20, 1.55), (14, 0.4)):
        labels = (random.random((2000, n_classes)) < shown / n_classes).astype(int)
        guessed = mean_average_precision(labels, random.random(labels.shape))
        assert guessed == pytest.approx(labels.mean(), abs=0.012) and abs(guessed - 1 / n_classes) > 0.02
    levels = chance_levels(pd.Series(["map", "mAP@50", "map_11_point", "top1"]), pd.Series([20] * 4))
    assert np.isnan(levels[:2]).all() and levels[2:].tolist() == [0.05, 0.05]


def test_metrics_and_numbers_of_classes(tmp_path):
    (tmp_path / "classes.csv").write_text("dataset,classes\nPets,37\nBirds,200\n")
    table = FRACTIONS.assign(source_accuracy=[0.7, 0.71, 0.72])
    rows = read_table(table, metric=["birds=roc_auc"], n_classes=tmp_path / "classes.csv")
    by_dataset = rows.drop_duplicates("dataset").set_index("dataset")
    assert by_dataset["metric"].fillna("").to_dict() == {"pets": "", "birds": "roc_auc"} and by_dataset[
        "n_classes"
    ].to_dict() == {"pets": 37, "birds": 200}
    assert chance_levels(rows["metric"], rows["n_classes"]).tolist() == [1 / 37] * 3 + [0.5] * 3
    assert class_counts(tmp_path / "classes.csv") == {"Pets": 37, "Birds": 200}
    with pytest.raises(UserError, match="numbers of classes are given for cars, but the table has the datasets pets, birds"):
        read_table(table, n_classes={"cars": 196})


def test_the_last_line_of_averages_is_no_network(tmp_path):
    text = FRACTIONS.assign(source_accuracy=0.7).to_csv(index=False)
    (tmp_path / "table.csv").write_text(f"{text}Average,0.9,0.65,0.7\nstd.,0.01,0.02,0.1\n")
    rows = read_table(tmp_path / "table.csv")
    assert set(rows["network"]) == set(NETWORKS)
    assert rows.attrs["reading"][2] == "left out: row 'Average' (a summary, no network), row 'std.' (a summary, no network)"


def test_contradictory_numbers_of_classes_and_scales(tmp_path):
    (tmp_path / "classes.csv").write_text("dataset,n_classes\npets,37\nbirds,200\npets,37\npets,38\n")
    with pytest.raises(UserError, match=r"dataset 'pets' has 37 and 38 classes \(lines 2 and 5\); keep one"):
        class_counts(tmp_path / "classes.csv")
    for wrong in (0, 37.5, "37", None):
        with pytest.raises(UserError, match=f"n_classes {wrong!r} of dataset 'pets': expected a whole number of at least 2"):
            class_counts({"pets": wrong})
    for options, message in {
        ("pets=percent", "pets=fraction"): "--scale pets=percent and pets=fraction contradict",
        ("percent", "fraction"): "--scale percent and fraction contradict",
        ("fraction",): "--percent and --scale fraction contradict",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_table(PERCENT, scale=options, percent=len(options) == 1)


def test_an_empty_protocol_is_none_stated():
    assert not read_table(FRACTIONS.assign(source_accuracy=0.7), protocol=" ").attrs["protocol_stated"]


def test_a_method_called_like_a_difference_is_one_by_its_scores():
    for score, expected in ((0.8, {*NETWORKS, "DELTA"}), (0.02, set(NETWORKS))):
        last = pd.DataFrame({"network": ["DELTA"], "pets": [score], "birds": [score]})
        assert set(read_table(pd.concat([FRACTIONS, last]).assign(source_accuracy=0.7))["network"]) == expected


@pytest.mark.parametrize("name", ["Best", "Worst", "Δ", "Delta", "Mean", "Std", "Range", "Max. gain", "Improvement"])
def test_a_line_of_extremes_or_differences_is_no_network(name):
    last = pd.DataFrame({"network": [name], "pets": [0.9], "birds": [0.7]})
    rows = read_table(pd.concat([FRACTIONS, last]).assign(source_accuracy=0.7))
    assert set(rows["network"]) == ({*NETWORKS, name} if name == "Max. gain" else set(NETWORKS))


def test_fractions_in_a_column_of_per_cent_are_said(tmp_path):
    mixed = PERCENT.assign(birds=[0.605, 66.3, 68.2], source_accuracy=70)
    said = "score 0.605 of 'n1' on 'birds' {}, the largest is 68.2: bring the column to one scale if that is a fraction"
    rows = read_table(mixed, percent=True)
    assert rows["score"].tolist()[3:] == pytest.approx([0.00605, 0.663, 0.682])
    assert said.format("is read as per cent") in rows.attrs["reading"]
    with pytest.raises(UserError, match=f"give --percent .*; {said.format('stands among them')}"):
        read_table(mixed)
    assert not [
        line for line in read_table(PERCENT.assign(source_accuracy=70), percent=True).attrs["reading"] if "one scale" in line
    ]
    path = accuracies(tmp_path, "73.3", "0.761", "77.4")
    reading = read_table(FRACTIONS, source_accuracy=path, scale="source_accuracy=percent").attrs["reading"]
    assert f"source accuracies of {path}: source_accuracy 0.761 of 'n2' is read as per cent, the largest is 77.4" in reading[-1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *[
            ("ResNet-50", "ResNet\u201150"),
            ("resnet 50", "ResNet_50"),
            ("vit", "ViT"),
            ("ViT-B/16", "vit_b_16"),
            ("vit_b_16", "vit_b16"),
        ],
        *[("resnet50", name) for name in ("ResNet50", "ResNet-50", "resnet-50", "ResNet 50", "Resnet_50")],
    ],
)
def test_names_that_look_alike_are_said(first, second):
    rows = read_table(FRACTIONS.assign(source_accuracy=0.7, network=[first, second, "\u202en\u200b3"]))
    said = (
        f"{first!r} and {second!r} are read as different networks, though their names differ in case, spaces or punctuation only"
    )
    assert rows["network"].unique().tolist() == [first, second, "n3"] and said in rows.attrs["reading"]
    datasets = read_table(FRACTIONS.assign(source_accuracy=0.7).rename(columns={"pets": first, "birds": second}))
    assert said.replace("networks", "datasets") in datasets.attrs["reading"]


def test_names_that_are_different_do_not_look_alike():
    for names in (
        NETWORKS,
        ["net_1_5", "net_15", "net_1.5"],
        ["CLIP", "CLIP+", "CLIP++"],
    ):
        reading = read_table(FRACTIONS.assign(source_accuracy=0.7, network=names)).attrs["reading"]
        assert "are read as different" not in " ".join(reading)


def test_look_alikes_are_named_before_the_groups_that_they_make():
    capitals = FRACTIONS.assign(source_accuracy=[0.7, 0.75, 0.8]).melt(
        ["network", "source_accuracy"], var_name="dataset", value_name="score"
    )
    capitals["network"] = capitals["network"].str.upper().where(capitals["dataset"] == "pets", capitals["network"])
    said = r"^'N1' and 'n1' are read as different networks, .* \(2 more such names\); the table consists of groups of"
    with pytest.raises(UserError, match=said):
        analyze(capitals, n_bootstrap=100)


def test_a_column_of_methods_or_weights_names_the_networks_if_it_is_the_only_one_of_texts(tmp_path):
    for name in ("Method", "weights"):
        table = FRACTIONS.assign(source_accuracy=0.7).rename(columns={"network": name})
        assert read_table(table)["network"].unique().tolist() == NETWORKS
        with pytest.raises(UserError, match=f"no column 'network' .*; name it with --network, such as --network '{name}'"):
            read_table(table.assign(pretraining="ImageNet-21k, then 1k"))
        assert read_table(table.assign(Model=["a", "b", "c"]))["network"].unique().tolist() == ["a", "b", "c"]


def test_source_accuracies_may_be_called_top1(tmp_path):
    (tmp_path / "results.csv").write_text(
        "model,top1,top1_err,top5,param_count\nn1,70.5,29.5,90.1,5.2\nn2,75,25,92,9\nn3,80,20,95,9\n"
    )
    rows = read_table(PERCENT, percent=True, source_accuracy=tmp_path / "results.csv")
    assert rows["source_accuracy"].unique().tolist() == [0.705, 0.75, 0.8]
    (tmp_path / "family.csv").write_text("family,model,top1\nn,1,70\n,2,75\n")
    with pytest.raises(UserError, match="no network in line 3, where 'family' is empty; every source accuracy needs one"):
        read_table(PERCENT, percent=True, source_accuracy=tmp_path / "family.csv", network=["family", "model"])
    (tmp_path / "both.csv").write_text("model,top1,source_accuracy\nn1,1,70.5\nn2,2,75\nn3,3,80\n")
    rows = read_table(PERCENT, percent=True, source_accuracy=tmp_path / "both.csv")
    assert rows["source_accuracy"].unique().tolist() == [0.705, 0.75, 0.8]


def test_a_row_of_units_a_device_and_a_wrong_number_of_classes(tmp_path):
    (tmp_path / "table.csv").write_text("network,pets\n,%\na,86\n")
    with pytest.raises(
        UserError, match=r"score '%' of a row without network.*\(line 2\); correct the cell, delete the row if it holds units"
    ):
        read_table(tmp_path / "table.csv", percent=True)
    with pytest.raises(UserError, match="/dev/null: a device or pipe, not a table"):
        read_table("/dev/null")
    (tmp_path / "classes.csv").write_text("dataset,n_classes\npets,2.5\n")
    with pytest.raises(UserError, match=r"n_classes 2.5 on dataset 'pets' \(line 2\): expected a whole number"):
        class_counts(tmp_path / "classes.csv")
    with pytest.raises(UserError, match="score 'inf' of network 'n1' on dataset 'pets'"):
        read_table(FRACTIONS.assign(pets=[np.inf, 0.5, 0.6]))
    with pytest.raises(UserError, match="protocol = 3: expected a text"):
        read_table(FRACTIONS, protocol=3)


@pytest.mark.parametrize("digits", ["０１２３４５６７８９．", "٠١٢٣٤٥٦٧٨٩٫"])
def test_digits_of_other_scripts_are_digits_and_superscripts_are_none(digits):
    written = [str(value).translate(str.maketrans("0123456789.", digits)) for value in PERCENT["pets"].round(1)]
    rows = read_table(FRACTIONS.assign(source_accuracy=0.7, pets=[f"{text} %" for text in written]))
    assert rows["score"].tolist()[:3] == pytest.approx([0.881, 0.904, 0.915])
    with pytest.raises(UserError, match="score '88.1²' of network 'n1'"):
        read_table(PERCENT.assign(pets=["88.1²", "90.4", "91.5"]), percent=True)


def test_a_row_is_left_out_by_its_exact_name(tmp_path):
    table = PERCENT.rename(columns={"network": "model"}).assign(model=["VGG-16 [31]", "ViT-B/16, 384", "n3"], source_accuracy=70)
    for pattern, left in (("model=VGG-16 [31]", 0), ("Model=vgg-16*", 0), ("model=ViT-B/16, 384", 1), ("model=n3", 2)):
        rows = read_table(table, percent=True, leave_out=pattern)
        assert list(rows["network"].unique()) == [name for i, name in enumerate(table["model"]) if i != left]
    rows = read_table(table, percent=True, leave_out="model=n3,birds")
    assert len(rows) == 2 and set(rows["dataset"]) == {"pets"}


def test_one_is_one_as_far_as_numbers_are_rounded():
    rows = read_table(FRACTIONS.assign(pets=[0.9, 1.0000000000000002, 0.8], source_accuracy=0.7))
    assert rows["score"].tolist()[:3] == [0.9, 1.0, 0.8]
    with pytest.raises(UserError, match=r"score reaches 1\.000001, expected at most 1"):
        read_table(FRACTIONS.assign(pets=[0.9, 1.000001, 0.8], source_accuracy=0.7))


def test_protocols_have_one_name_each():
    table = FRACTIONS.melt("network", var_name="dataset", value_name="score").assign(source_accuracy=0.7)
    rows = read_table(table.assign(protocol=["Linear", "linear", "LINEAR", "Fine-tune", "finetune", "k-NN"]))
    assert rows["protocol"].tolist() == ["linear"] * 3 + ["finetune"] * 2 + ["knn"]
    rows = read_table(table.assign(protocol=["Prompt tuning", "prompt-tuning", "x", "x", "x", "x"]))
    assert "'Prompt tuning' and 'prompt-tuning' are read as different protocols" in " ".join(rows.attrs["reading"])
    assert set(read_table(table, protocol="Fine-Tune")["protocol"]) == {"finetune"}


@pytest.mark.parametrize(
    "text",
    [
        "network,dataset,score\na,pets,{}\nb,pets,2\n", "network,dataset,score\n{},pets,1\n{},pets,2\n",
        "{}\n1\n2\n", "network,{},{}\na,1,2\nb,2,3\n",
        "network,pets,{}\na,1,2\nb,1,bad {}\n", "label" + ",pixel" * 784 + "\n1" + ",0" * 784 + "\n",
        "network,dataset,score,metric\na,pets,1,{}\na,pets,2,acc\n",
    ],
)  # fmt: skip
def test_a_message_is_short_however_long_names_and_cells_are(tmp_path, text):
    (tmp_path / "t.csv").write_text(text.replace("{}", "0 x " * 2000))
    with pytest.raises(UserError) as error:
        table_rows(tmp_path / "t.csv")
    assert len(str(error.value)) - len(str(tmp_path)) < 500 and "…" in str(error.value)


def test_words_with_apostrophes_are_no_long_quotes():
    prose = f"timm's networks, {'many words ' * 30}those of torchvision's"
    assert str(UserError(prose)) == prose and str(UserError(f"column {'x' * 200!r} of {'a'!r}")) == f"column '{'x' * 79}…' of 'a'"
