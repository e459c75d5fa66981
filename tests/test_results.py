"""Tables as people have them, and runs on disk."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import UserError, committed_directory, data_path, replaced_file
from transfer_study.results import (
    check_planned,
    damaged_predictions,
    merged_results,
    prediction_arrays,
    read_curves,
    read_predictions,
    read_runs,
    read_table,
    unplanned_runs,
    write_plan,
    write_run,
    write_table,
)
from transfer_study.source_accuracy import known_source_accuracies
from transfer_study.tables.columns import COLUMNS

TABLE = "network,source_accuracy,dataset,score\na,0.6,pets,0.8\nb,0.7,pets,0.85\n"


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_the_shipped_tables_are_read_as_they_are():
    sixteen_shot = read_table(data_path("published/embeddings_benchmark_16shot.csv"))
    assert list(sixteen_shot.columns) == list(COLUMNS)
    assert sixteen_shot["network"].nunique() == 48 and sixteen_shot["dataset"].nunique() == 12 and len(sixteen_shot) == 576
    finetuned = read_table(data_path("published/sfda_finetune_supervised.csv"), protocol="finetune")
    assert finetuned["network"].nunique() == 11 and finetuned["dataset"].nunique() == 11
    published = pd.read_csv(data_path("published/torchvision_imagenet_top1.csv"), index_col="network")["imagenet_top1"]
    found = finetuned.drop_duplicates("network").set_index("network")["source_accuracy"]
    assert np.allclose(found.sort_index(), published.loc[found.index].sort_index())


def test_long_wide_and_parquet_are_the_same_table(table, tmp_path):
    long = read_table(table(TABLE))
    wide = read_table(table("model,source_accuracy,pets\na,0.6,0.8\nb,0.7,0.85\n", "wide.csv"))
    pd.read_csv(tmp_path / "table.csv").to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(long, wide)
    pd.testing.assert_frame_equal(long, read_table(tmp_path / "table.parquet"))


def test_source_accuracy_from_a_row_of_imagenet(table):
    rows = read_table(table("network,dataset,score\na,ImageNet,0.6\na,pets,0.8\n"))
    assert len(rows) == 1 and rows.loc[0, "source_accuracy"] == 0.6


def test_per_cent_on_request(table):
    text = TABLE.replace("0.8\n", "80\n").replace("0.85", "85").replace("0.6", "60").replace("0.7", "70")
    pd.testing.assert_frame_equal(read_table(table(text), percent=True), read_table(table(TABLE)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("0.85", "85"), r"--percent"),
        (TABLE.replace("0.85", "-0.1"), r"score -0\.1 of network 'b' on dataset 'pets'"),
        (TABLE.replace("0.85", "good"), r"score 'good' of network 'b' on dataset 'pets' \(line 3\): expected a number"),
        (TABLE.replace("0.7", "1.7"), r"source_accuracy"),
        (TABLE + "a,0.6,pets,0.81\n", r"network 'a' has more than one score on dataset 'pets'"),
        ("x,y\n1,2\n", r"no column 'network'"),
        ("network,score\na,0.5\n", r"no column 'dataset'"),
        ("network,dataset\na,pets\n", r"no column 'score'"),
        ("network,dataset,score\nmine,pets,0.8\n", r"no source accuracy for 1 of 1 networks \(mine\)"),
        ("network,dataset,score\nViT-B/16,pets,0.8\n", r"no source accuracy .*rename 'ViT-B/16' to 'vit_b_16'; else give"),
        ("network,dataset,score\n", r"no rows below the header"),
        ("", r"cannot be read as csv"),
        (b"network,dataset,score\n\x00\x01", r"not a table of text"),
    ],
)
def test_bad_tables_are_one_clear_line(table, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_table(table(text))
    assert "\n" not in str(error.value) and ("table.csv" in str(error.value) or "no source" in str(error.value))


WIDE = "model,source_accuracy,pets,cars,notes\na,0.6,0.8,0.5,new\nb,0.7,0.85,,old\n"


def test_a_wide_table_loses_no_column_for_one_cell(table):
    assert set(read_table(table(WIDE))["dataset"]) == {"pets", "cars"}  # notes hold no number at all, and a missing score is one
    with pytest.raises(UserError, match=r"score 'good' of network 'b' on dataset 'pets': expected a number"):
        read_table(table(WIDE.replace("0.85", "good")))


def test_shares_are_not_taken_for_per_cent(table):
    with pytest.raises(UserError, match=r"the largest score is 0\.85, so the column is not in per cent"):
        read_table(table(TABLE), percent=True)
    with pytest.raises(UserError, match=r"the largest source_accuracy is 0\.7, so the column is not in per cent"):
        read_table(table(TABLE.replace("0.8\n", "80\n").replace("0.85", "85")), percent=True)


def test_a_network_has_one_source_accuracy(table):
    with pytest.raises(UserError, match=r"network 'a' has source accuracies from 0\.6 to 0\.65; expected one"):
        read_table(table(TABLE + "a,0.65,cars,0.7\n"))


def test_a_file_that_is_not_there_or_not_parquet(table, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        read_table(table("text", "table.parquet"))


def test_a_directory_is_complete_or_absent(tmp_path):
    with pytest.raises(RuntimeError), committed_directory(tmp_path / "run") as directory:
        (directory / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):
        with committed_directory(tmp_path / "run") as directory:
            (directory / "whole").write_text(content)
    assert (tmp_path / "run" / "whole").read_text() == "first" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "run" / "whole").rename(tmp_path / "run" / "other")  # it has lost a file since then
    with committed_directory(tmp_path / "run") as directory:
        (directory / "whole").write_text("third")
    assert (tmp_path / "run" / "whole").read_text() == "third"
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "whole"]


def test_a_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "folder" / "plan.json"
    with replaced_file(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), replaced_file(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old" and [entry.name for entry in path.parent.iterdir()] == ["plan.json"]


def test_runs_outside_the_plan_do_not_count(tmp_path):
    for run_id, score in {"old": 0.5, "new": 0.8}.items():
        result = {"network": "a", "dataset": "pets", "protocol": "linear", "score": score, "seed": 0, "run_id": run_id}
        write_run(tmp_path / "study" / run_id, {}, result, {"y_true": np.arange(3)}, pd.DataFrame({"l2": [1.0]}))
    assert len(read_runs(tmp_path)) == 2
    write_plan(pd.DataFrame({"run_id": ["new", "later"]}), tmp_path / "study")
    assert read_runs(tmp_path)["score"].tolist() == read_runs(tmp_path / "study")["score"].tolist() == [0.8]


def test_a_directory_without_runs(tmp_path):
    for path, message in {tmp_path: "no finished run", tmp_path / "absent": "no such directory"}.items():
        with pytest.raises(UserError, match=message):
            read_runs(path)


def test_a_file_of_some_source_accuracies_keeps_what_is_known_of_the_others(tmp_path):
    table = pd.DataFrame({"network": ["mine", "resnet50", "vgg16.tv_in1k"], "dataset": "pets", "score": [0.8, 0.9, 0.85]})
    (tmp_path / "some.csv").write_text("network,source_accuracy\nmine,0.6\nresnet50,0.5\n")
    rows = read_table(table, source_accuracy=tmp_path / "some.csv")
    assert rows["source_accuracy"].tolist() == [0.6, 0.5, known_source_accuracies()["vgg16.tv_in1k"]]
    reading = rows.attrs["reading"][0]
    assert "given for 2 of 3 networks and looked up by name for 1 of 3 networks" in reading


def test_an_unknown_table_gives_the_nearest_shipped_one():
    with pytest.raises(UserError, match="did you mean embeddings_benchmark_16shot"):
        read_table("embedings_benchmark_16shots")


def test_a_result_without_a_score_is_not_a_row(tmp_path):
    write_run(tmp_path / "study" / "run", {}, {"network": "a", "dataset": "pets"}, {}, pd.DataFrame())
    with pytest.raises(UserError, match=r"run/result\.json: has no 'score'"):
        read_runs(tmp_path)


def copies(folder, **scores):
    "The same run, in one folder each."
    for study, score in scores.items():
        result = {
            "network": "a",
            "dataset": "pets",
            "protocol": "knn",
            "source_accuracy": 0.7,
            "score": score,
            "seed": 0,
            "run_id": "r1",
        }
        write_run(folder / study / "r1", {}, result, {"y_true": np.arange(3)}, pd.DataFrame())
    return folder


def test_a_copy_of_a_run_counts_once_and_two_scores_are_refused(tmp_path):
    assert len(read_runs(copies(tmp_path / "same", first=0.5, second=0.5))) == 1
    with pytest.raises(
        UserError, match=r"run r1 \(a on pets, knn\) has score 0.5 in .*first/r1 and 0.6 in .*second/r1; remove one"
    ):
        read_runs(copies(tmp_path / "different", first=0.5, second=0.6))


@pytest.mark.parametrize("score", [2.0, -0.1, "0.5", True, [0.5]])
def test_an_edited_score_is_refused(tmp_path, score):
    with pytest.raises(UserError, match=r"r1/result\.json: score is .*, expected a number from 0 to 1; delete the folder r1"):
        read_runs(copies(tmp_path, study=score))


def test_source_accuracies_in_any_container():
    table, accuracies = pd.DataFrame({"network": ["m1", "m2"], "pets": [0.8, 0.9]}), pd.Series({"m1": 0.6, "m2": 0.7})
    frame = accuracies.rename("source_accuracy").rename_axis("network").to_frame()
    for given in (accuracies, accuracies.to_dict(), frame, frame.reset_index()):
        assert read_table(table, source_accuracy=given)["source_accuracy"].tolist() == [0.6, 0.7]
    with pytest.raises(UserError, match="source_accuracy: a list; expected a file"):
        read_table(table, source_accuracy=[0.6, 0.7])


def test_source_accuracies_that_are_not_used_are_said():
    rows = pd.DataFrame({"network": ["a", "b"], "ImageNet": [0.7, 0.8], "pets": [0.9, 0.91]})
    given = {"a": 0.75, "b": 0.8}
    said = "the table's own source accuracies are used; those given differ for 1 network: to use them, --leave-out 'ImageNet'"
    assert read_table(rows, source_accuracy=given).attrs["reading"][-1] == said
    used = read_table(rows, source_accuracy=given, leave_out="ImageNet")
    assert used["source_accuracy"].tolist() == [0.75, 0.8] and said not in used.attrs["reading"]
    with pytest.raises(
        UserError, match="source accuracies are given for A, B, but the table has the networks a, b; correct the names"
    ):
        read_table(rows, source_accuracy={"A": 0.75, "B": 0.8})
    both = rows.melt("network", var_name="dataset", value_name="score").assign(source_accuracy=[0.7, 0.85, 0.7, 0.85])
    said = "the column 'source_accuracy' is used; for 1 network the dataset 'ImageNet' differs from it"
    assert read_table(both).attrs["reading"][-1] == said


def test_a_single_run_or_a_file_is_no_directory_of_runs(tmp_path):
    run = tmp_path / "home" / "runs" / "study" / "abc"
    run.mkdir(parents=True)
    (run / "result.json").write_text(
        '{"network": "a", "dataset": "pets", "score": 0.5, "source_accuracy": 0.7, "protocol": "linear", "run_id": "abc"}'
    )
    for path in (tmp_path / "table.csv", tmp_path / "study.toml", run.parent / "report.html", run.parent / "plan.json"):
        path.write_text("")
    messages = {
        run: f"abc: a single run; give the folder of its study, {run.parent}",
        tmp_path / "home": f"did you mean {run.parents[1]}",
        tmp_path / "table.csv": "a file, no directory of runs; for a table of results, `transfer-study analyze",
        run.parent / "report.html": f"a file, no directory of runs; give the folder of its study, {run.parent}",
        tmp_path / "study.toml": "a file, no directory of runs; run the study, and give the folder of its runs",
    }  # fmt: skip
    for path, message in messages.items():
        with pytest.raises(UserError, match=re.escape(message)):
            read_runs(path)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: bytes(len(data)), lambda data: data[: len(data) // 2]])
@pytest.mark.parametrize("name", ["result.json", "curve.csv", "predictions.npz"])
def test_a_damaged_file_of_a_run_is_named(tmp_path, name, damage):
    labels = {"network": "a", "dataset": "pets", "protocol": "linear", "run_id": "abc"}
    result = labels | {"score": 0.5, "source_accuracy": 0.7, "l2": 1.0}
    run, curve = tmp_path / "study" / "abc", pd.DataFrame({"l2": [1.0, 2.0], "validation_score": [0.5, 0.4]})
    write_run(run, {}, result, prediction_arrays(np.array(["a", "b"]), np.array([0, 1]), np.array([0, 1])), curve)
    (run / name).write_bytes(damage((run / name).read_bytes()))
    with pytest.raises(UserError, match=rf"{name}: damaged; delete the folder {run} and run the study again"):
        read_predictions(run), read_curves(tmp_path), read_runs(tmp_path)


def test_two_studies_of_one_name_at_the_same_time_are_told_apart(tmp_path):
    own, other = pd.DataFrame({"run_id": ["a", "b"]}), pd.DataFrame({"run_id": ["b", "c"]})
    write_plan(own, tmp_path / "s")
    check_planned(own["run_id"], tmp_path / "s")
    write_plan(other, tmp_path / "s", part=True)  # of the same study, elsewhere
    check_planned(own["run_id"], tmp_path / "s")
    write_plan(other, tmp_path / "s")
    with pytest.raises(UserError, match=r"another study called 's' ran at the same time"):
        check_planned(own["run_id"], tmp_path / "s")
    with pytest.raises(UserError, match=rf"no finished run; compute some with `transfer-study run STUDY --out {tmp_path}`"):
        read_runs(tmp_path / "s")
    (tmp_path / "s" / "plan.json").unlink()
    with pytest.raises(UserError, match=r"its plan was removed while the study ran; run the same command again"):
        check_planned(own["run_id"], tmp_path / "s")


def test_source_accuracies_of_other_weights_are_named():
    rows = pd.DataFrame({"network": ["resnet18", "resnet50", "resnet152"], "pets": [0.668, 0.723, 0.724]})
    read = read_table(rows)
    assert read["source_accuracy"].tolist() == [0.69758, 0.7613, 0.78312], "torchvision's, as the neighbours' are"
    assert "3 of 3 networks (published accuracies of the usual weights)" in read.attrs["reading"][0]
    read = read_table(pd.concat([rows, pd.DataFrame({"network": ["resnet26", "resnet18.a1_in1k"], "pets": [0.7, 0.7]})]))
    said = "(published accuracies of torchvision's weights, except resnet26 0.75298 (timm's), resnet18.a1_in1k 0.71504 (timm's))"
    assert said in read.attrs["reading"][0]


def two_runs(study):
    "Two finished runs, a and b, of 16 hexadecimal digits each, and the plan that lists them."
    for network in "ab":
        result = {
            "network": network,
            "dataset": "pets",
            "protocol": "linear",
            "run_id": network * 16,
            "score": 0.5,
            "source_accuracy": 0.7,
        }
        write_run(
            study / (network * 16), {}, result, prediction_arrays(np.array(["i"]), np.array([0]), np.array([0])), pd.DataFrame()
        )
    write_plan(pd.DataFrame({"run_id": ["a" * 16, "b" * 16]}), study)
    return study


def test_all_damaged_results_are_named_at_once(tmp_path):
    study = two_runs(tmp_path / "study")
    for network, content in {"a": "", "b": "version https://git-lfs.github.com/spec/v1\n"}.items():
        (study / (network * 16) / "result.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_runs(tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{study / ('a' * 16) / 'result.json'}: damaged; delete the folder")
    assert second.endswith("a pointer of Git LFS, not the file itself; git lfs pull downloads it")


def test_damaged_predictions_are_said_and_the_scores_are_kept(tmp_path):
    study = two_runs(tmp_path / "study")
    assert damaged_predictions(tmp_path) == []
    stored = study / ("a" * 16) / "predictions.npz"
    stored.write_bytes(stored.read_bytes()[:50])
    (study / ("b" * 16) / "predictions.npz").unlink()  # such as to save space
    (line,) = damaged_predictions(tmp_path)
    assert line.startswith(
        f"{study}: 1 finished run with damaged predictions, first {stored}: to have them again, delete the folder of the run"
    )
    stored.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "a pointer of Git LFS" in damaged_predictions(study)[0] and len(read_runs(tmp_path)) == 2


def test_a_copy_of_a_run_is_not_called_a_run_of_another_study_file(tmp_path):
    study = two_runs(tmp_path / "study")
    shutil.copytree(study / ("a" * 16), study / f"{'a' * 16} (1)")
    (line,) = unplanned_runs([study])
    said = f"left out: 1 copy of finished runs, by the names of their folders: {'a' * 16} (1); remove what you do not need"
    assert line == f"{study}: {said}"


def test_directories_of_runs_from_python(tmp_path, monkeypatch):
    two_runs(tmp_path / "study")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(merged_results("~/study")) == len(merged_results(tmp_path)) == len(merged_results(["~/study", tmp_path])) == 2
    for runs, message in (([], "no directory of runs given"), ([None], "None: expected the path of a file or folder")):
        with pytest.raises(UserError, match=message):
            merged_results(runs)


def test_a_table_is_written_in_one_step(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_table(pd.DataFrame({"a": [1]}), "~/new/table.csv")
    table = tmp_path / "new" / "table.csv"
    assert table.read_text() == "a\n1\n"

    class Disk(pd.DataFrame):
        def to_csv(self, path, **options):
            path.write_text("a")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_table(Disk({"a": [2]}), str(table))
    assert table.read_text() == "a\n1\n" and list(table.parent.iterdir()) == [table]
