"Searches with known answers."

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import png_bytes
from tests.duplicates.conftest import SCENES, save
from transfer_study.core import UserError
from transfer_study.duplicates.figures import pair_figure
from transfer_study.duplicates.planted import plant_duplicates, recall_and_precision
from transfer_study.duplicates.scores import overlapping_images
from transfer_study.duplicates.search import SIMILARITY, find_overlap
from transfer_study.features.extraction import Features
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.drawn import drawn_arrays
from transfer_study.results import write_run


def names(pairs: pd.DataFrame) -> set[tuple[str, str]]:
    return {(Path(a).stem, Path(b).stem) for a, b in pairs[["source_image", "target_image"]].itertuples(index=False)}


def test_a_file_that_cannot_be_read_is_the_users_to_mend(folder):
    dataset = image_folder(folder)
    (folder / "test" / "a" / "12.png").unlink()
    with pytest.raises(UserError, match="cannot read test/a/12.png"):
        find_overlap(dataset)


def test_train_against_test(folder):
    found = find_overlap(image_folder(folder), None, ("train",), ("test",), similarity=0.9)
    assert names(found.pairs) == {("03", "mirrored_03"), ("07", "cropped_07")}
    by_name = found.pairs.set_index(found.pairs["target_image"].map(lambda name: Path(name).stem))
    assert by_name.loc["mirrored_03", "mirrored"] and by_name.loc["mirrored_03", "found_by"] == "hash"
    assert by_name.loc["cropped_07", "found_by"] == "descriptor" and 0.6 < by_name.loc["cropped_07", "shared_area"] < 0.9
    assert (found.n_source, found.n_target) == (12, 7) and "2 of 7 target images" in repr(found)


def test_the_command_compares_any_two_folders(command, folder, tmp_path):
    "Of new photographs in one folder, and of one split with another."
    flat = tmp_path / "new"
    flat.mkdir()
    for name in ("mirrored_03", "14"):
        (flat / f"{name}.png").write_bytes((folder / "test" / "a" / f"{name}.png").read_bytes())
    (flat / "notes.txt").write_text("where they are from")
    code, out, err = command("overlap", folder, flat, "--source-split", "train", "--similarity", 0.9, "--json")
    result = json.loads(out)
    assert code == 0 and (result["n_source"], result["n_target"]) == (12, 2)
    assert [Path(pair["target_image"]).name for pair in result["pairs"]] == ["mirrored_03.png"]
    assert "all images below it are compared" in err and "left out: not images: 1 (notes.txt)" in err
    result = json.loads(command("overlap", folder / "train", folder / "test", "--similarity", 0.9, "--json")[1])
    assert {Path(pair["target_image"]).stem for pair in result["pairs"]} == {"mirrored_03", "cropped_07"}
    copies = tmp_path / "copies"
    copies.mkdir()
    for number, path in enumerate(sorted(flat.glob("*.png"), reverse=True)):
        (copies / f"{number}.png").write_bytes(path.read_bytes())
    pairs = json.loads(command("overlap", flat, copies, "--json")[1])["pairs"]
    assert {(pair["source_image"], pair["target_image"]) for pair in pairs} == {("mirrored_03.png", "0.png"), ("14.png", "1.png")}
    assert json.loads(command("overlap", flat, "--json")[1])["pairs"] == [], "an image is no copy of itself"
    rows = [f"train/{path.parent.name}/{path.name},{path.parent.name}" for path in sorted((folder / "train").rglob("*.png"))]
    (folder / "list.csv").write_text("\n".join(["image,label", *rows]))
    pairs = json.loads(command("overlap", folder / "list.csv", flat, "--similarity", 0.9, "--json")[1])["pairs"]
    assert [Path(pair["target_image"]).name for pair in pairs] == ["mirrored_03.png"]
    code, _, err = command("overlap", flat, "--source-split", "train")
    assert code == 2 and "without the option for a split, all images below it are compared" in err


def test_a_set_against_itself_has_each_pair_once_and_training_images_first(folder):
    found = find_overlap(image_folder(folder), similarity=0.9)
    assert len(found.pairs) == 3 and names(found.pairs) == {("03", "mirrored_03"), ("07", "cropped_07"), ("12", "again_12")}
    leaks = found.pairs[found.pairs["source_split"] != found.pairs["target_split"]]
    assert leaks["source_split"].tolist() == ["train", "train"]
    assert {Path(name).stem for name in overlapping_images(found.pairs, "set")} == {"mirrored_03", "cropped_07"}


def test_two_folders_of_one_name_stay_two_datasets(folder, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "set"
    subprocess.run(["cp", "-r", folder, other], check=True)
    (other / "train" / "a" / "00.png").unlink()
    found = find_overlap(image_folder(folder), image_folder(other), similarity=0.999)  # without the cropped copy
    assert set(found.pairs["source"]) == {"set (source)"} and set(found.pairs["target"]) == {"set"}
    assert (found.n_source, found.n_target, len(found.pairs)) == (19, 18, 18 + 4), "two images have a copy each in their own set"
    assert found.pairs["cluster"].nunique() == 18 - 2


def test_a_crop_is_found_among_as_many_images_as_there_are(folder):
    "Few images span few components; the others would be rounding errors as large as the rest, whatever the processor."
    for name in ("00", "02"):
        (folder / "train" / "a" / f"{name}.png").unlink()
    found = find_overlap(image_folder(folder), n_neighbors=1, similarity=0.9)
    assert names(found.pairs) == {("03", "mirrored_03"), ("07", "cropped_07"), ("12", "again_12")}


def test_clusters_join_what_has_a_common_image(folder):
    brighter = np.clip(drawn_arrays(SCENES, np.array([3]))[0][0] * 1.1, 0, 255).astype(np.uint8)
    save(folder / "test" / "a" / "brighter_03.png", brighter)
    pairs = find_overlap(image_folder(folder), None, ("train",), ("test",), similarity=0.9).pairs
    of_three = pairs["source_image"].str.contains("03")
    assert of_three.sum() == 2 and pairs.loc[of_three, "cluster"].nunique() == 1 and pairs["cluster"].nunique() == 2


def test_what_cannot_be_compared_is_listed(folder):
    (folder / "test" / "a" / "12.png").write_bytes(b"not an image")
    save(folder / "test" / "b" / "grey.png", np.full((64, 64, 3), 90, np.uint8))
    save(folder / "train" / "b" / "grey.png", np.full((64, 64, 3), 91, np.uint8))
    found = find_overlap(image_folder(folder), similarity=0.9)
    assert dict(zip(found.bad["image"], found.bad["reason"].str[:17], strict=True)) == {
        "test/a/12.png": "not an image, or ", "test/b/grey.png": "nearly one colour", "train/b/grey.png": "nearly one colour",
    }  # fmt: skip
    assert not found.pairs[["source_image", "target_image"]].stack().str.contains("grey").any()


def test_equal_files_are_pairs_whatever_they_show(folder):
    "Blank pages, and a picture with more copies than a search proposes: each copy with the first, a training image if possible."
    blank, other = png_bytes(color=(255, 255, 255)), png_bytes(color=(254, 255, 255))
    for name in ("test/a/x0.png", "test/b/x1.png", "train/b/x2.png", "train/b/x3.png"):
        (folder / name).write_bytes(blank)
    (folder / "test/b/other.png").write_bytes(other)
    picture = (folder / "train/a/00.png").read_bytes()
    for i in range(9):
        (folder / f"test/a/copy{i}.png").write_bytes(picture)
    dataset = image_folder(folder)
    found = find_overlap(dataset)
    blanks = found.pairs[found.pairs["source_image"].str.contains("x")]
    assert set(zip(blanks["source_image"], blanks["target_image"], strict=True)) == {
        ("train/b/x2.png", name) for name in ("train/b/x3.png", "test/a/x0.png", "test/b/x1.png")
    }  # fmt: skip
    assert set(blanks["found_by"]) == {"bytes"} and set(blanks["similarity"]) == {1.0} and blanks["cluster"].nunique() == 1
    assert len(found.bad) == 5 and set(found.bad["reason"]) == {"nearly one colour"}
    with_training = found.pairs[found.pairs["source_image"] == "train/a/00.png"]
    assert {f"test/a/copy{i}.png" for i in range(9)} <= set(with_training["target_image"])
    across = find_overlap(dataset, None, ("train",), ("test",)).pairs
    assert {"test/a/x0.png", "test/b/x1.png"} <= set(across["target_image"])
    assert "test/b/other.png" not in set(across["target_image"])
    elsewhere = replace(dataset, name="elsewhere", fingerprint="other")
    pairs = find_overlap(elsewhere, dataset, target_splits=("test",)).pairs
    assert set(dataset.images["name"][dataset.images["split"] == "test"]) == set(pairs["target_image"])
    assert not pairs.duplicated(["source_image", "target_image"]).any()
    one_colour = ImageDataset("swatches", Path(), dataset.images[:6], "", reader=lambda i: [blank, other, png_bytes()][i % 3])
    assert len(find_overlap(one_colour).pairs) == 3
    assert "0 images not compared; 11 of nearly one colour compared byte for byte only" in repr(find_overlap(dataset, one_colour))


def test_the_same_search_gives_the_same_pairs_and_says_how_far_it_is(folder):
    dataset, done, totals = image_folder(folder), {}, {}

    def progress(stage: str, n: int, total: int) -> None:
        done[stage], totals[stage] = done.get(stage, 0) + n, total

    first = find_overlap(dataset, similarity=0.5, progress=progress)
    pd.testing.assert_frame_equal(first.pairs, find_overlap(dataset, similarity=0.5).pairs)
    assert done == totals and set(done) == {"images", "searches", "pairs"} and done["images"] == 2 * len(dataset.images)


def features_of(dataset: ImageDataset, X: np.ndarray, rows: np.ndarray | None = None) -> Features:
    rows = np.arange(len(dataset.images)) if rows is None else rows
    return Features(X, rows, pd.DataFrame(columns=["name", "reason"]), np.zeros(len(rows), int))


def test_a_networks_features_propose_pairs(folder):
    dataset = image_folder(folder)
    stem = dataset.images["name"].map(lambda name: Path(name).stem)
    X = np.random.default_rng(0).standard_normal((len(stem), 16)).astype(np.float32)
    X[stem == "cropped_07"] = X[stem == "07"] * 2  # the direction counts
    both = (features_of(dataset, X),) * 2
    found = find_overlap(dataset, None, ("train",), ("test",), features=both, n_neighbors=1, similarity=0.9)
    by_name = found.pairs.set_index(found.pairs["target_image"].map(lambda name: Path(name).stem))["found_by"]
    assert by_name.to_dict() == {"mirrored_03": "hash", "cropped_07": "features"}
    with pytest.raises(UserError, match="no features of"):
        find_overlap(dataset, features=(features_of(dataset, X[1:], np.arange(1, len(X))),) * 2)
    with pytest.raises(UserError, match="expected both from one network"):
        find_overlap(dataset, features=(features_of(dataset, X), features_of(dataset, X[:, :8])))


def test_mistakes_are_named(folder):
    dataset = image_folder(folder)
    with pytest.raises(UserError, match="no images in split 'val'; it has test, train"):
        find_overlap(dataset, target_splits=("val",))
    with pytest.raises(UserError, match="n_neighbors = 0: expected at least 1"):
        find_overlap(dataset, n_neighbors=0)
    damaged = ImageDataset("damaged", Path(), dataset.images, "", reader=lambda i: b"not an image")
    with pytest.raises(UserError, match="damaged: no image can be compared; the first: not an image"):
        find_overlap(dataset, damaged)
    with pytest.raises(UserError, match="is not in dataset scenes; pass the datasets that were searched"):
        pair_figure(find_overlap(dataset, similarity=0.9).pairs, SCENES)


def test_command(folder, command, tmp_path):
    splits = ("--source-split", "train", "--target-split", "test")
    code, out, err = command("overlap", folder, *splits, "--similarity", 0.9, "--out", tmp_path / "out", "--json")
    answer = json.loads(out)
    assert code == 0 and {Path(pair["target_image"]).stem for pair in answer["pairs"]} == {"mirrored_03", "cropped_07"}
    assert (answer["n_source"], answer["n_target"]) == (12, 7) and len(pd.read_csv(tmp_path / "out" / "pairs.csv")) == 2
    page = (tmp_path / "out" / "pairs.html").read_text()
    assert page.count("jpeg;base64,") == 4 and "pairs.html" in err
    code, out, _ = command("overlap", folder, "--similarity", 0.9)
    assert code == 0 and out.startswith("Overlap(3 pairs in 3 clusters")
    code, out, err = command("overlap", folder, "--target-split", "val")
    assert code == 2 and not out and err.count("\n") == 1


def test_command_with_runs(folder, command, tmp_path):
    test = image_folder(folder).images.query("split == 'test'")
    predictions = {"image": test["name"].to_numpy(str), "y_true": test["label"].to_numpy(), "y_pred": np.zeros(len(test), int)}
    result = {"network": "net", "dataset": "set", "protocol": "linear", "metric": "top1", "score": 0.5, "run_id": "run0"}
    write_run(tmp_path / "runs" / "run0", {}, result, predictions, pd.DataFrame({"l2": [1.0]}))
    code, out, _ = command("overlap", folder, "--similarity", 0.9, "--runs", tmp_path / "runs", "--json")
    (score,) = json.loads(out)["scores"]
    assert code == 0 and (score["network"], score["n_test"], score["n_removed"]) == ("net", 7, 2)


def test_torch_is_not_imported():
    modules = ", ".join(f"transfer_study.{name}" for name in ("duplicates.search", "duplicates.scores", "duplicates.figures"))
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0


def test_planted_copies_of_photographs(real):
    whole = image_folder(real / "images" / "flowers5.tar")  # the threshold was chosen on other sets
    some = replace(whole, images=whole.images[::4].reset_index(drop=True), fingerprint="every fourth")
    source, target, truth = plant_duplicates(some, n_source=40)
    scored = recall_and_precision(find_overlap(source, target, n_neighbors=2).pairs, truth).set_index("kind")
    assert scored["recall"].drop(["all of these", "no copy"]).min() >= 0.95 and scored.loc["all of these", "recall"] >= 0.9
    assert scored.loc["all together", "false_pairs"] <= 2


def test_near_duplicates_that_cifar10_really_has(real):
    whole = image_folder(real / "images" / "cifar10.tar")
    images = whole.images.query("`class` in ['ship', 'automobile', 'bird']").reset_index(drop=True)
    some = replace(whole, images=images, fingerprint="three classes")
    pairs = find_overlap(some, None, ("train",), ("test",), n_neighbors=1).pairs
    pairs["both"] = pairs["source_image"] + " " + pairs["target_image"]
    seen = {
        "train/ship/3453.jpg test/ship/0060.jpg", "train/automobile/2002.jpg test/automobile/0006.jpg",
        "train/bird/0985.jpg test/bird/0830.jpg",  # mirrored
    }  # fmt: skip
    assert len(pairs) < 10 and seen <= set(pairs["both"])
    assert (pairs["similarity"] >= SIMILARITY).all()
