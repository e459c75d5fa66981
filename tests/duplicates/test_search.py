"""Near-duplicates: hashes and alignments against independent computations, searches with known answers, scores by hand."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dct
from scipy.stats import hypergeom

from transfer_study.core import UserError
from transfer_study.duplicates.alignment import _averaging, align, pattern, perceptual_hashes, thumbnail, thumbnails
from transfer_study.duplicates.figures import pair_figure, spread_over_clusters
from transfer_study.duplicates.planted import choose_similarity, plant_duplicates, recall_and_precision
from transfer_study.duplicates.scores import overlapping_images, scores_without
from transfer_study.duplicates.search import SIMILARITY, _Best, find_overlap
from transfer_study.features.extraction import Features
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.drawn import drawn_arrays, drawn_dataset
from transfer_study.results import write_run

SCENES = drawn_dataset("scenes", n_train_per_class=3, n_test_per_class=2, size=64)


@pytest.fixture(scope="module")
def T():
    return np.stack([thumbnail(Image.fromarray(pixels)) for pixels in drawn_arrays(SCENES)[0]])


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    "Scenes in two classes; the test images hold copies of two training images (mirrored, cropped) and one of a test image."
    pixels = drawn_arrays(SCENES, np.arange(20))[0]
    for k in range(12):
        save(tmp_path / "set" / "train" / "ab"[k % 2] / f"{k:02d}.png", pixels[k])
    for k in range(12, 16):
        save(tmp_path / "set" / "test" / "ab"[k % 2] / f"{k:02d}.png", pixels[k])
    save(tmp_path / "set" / "test" / "a" / "mirrored_03.png", pixels[3][:, ::-1])
    save(tmp_path / "set" / "test" / "b" / "cropped_07.png", pixels[7][6:62, 4:60])
    save(tmp_path / "set" / "test" / "b" / "again_12.png", pixels[12])
    return tmp_path / "set"


def names(pairs: pd.DataFrame) -> set[tuple[str, str]]:
    return {(Path(a).stem, Path(b).stem) for a, b in pairs[["source_image", "target_image"]].itertuples(index=False)}


# Thumbnails, hashes, patterns


def test_hash_is_the_sign_of_low_cosine_coefficients_against_their_median(T):
    image = T[0].astype(float)
    low = dct(dct(image, axis=0, norm="ortho"), axis=1, norm="ortho")[:16, :16]
    low[0, 0] = 0
    assert np.array_equal(perceptual_hashes(T)[0][0].reshape(16, 16) > 0, low > np.median(low))


def test_hash_of_the_mirror_image_needs_no_mirror(T):
    assert (perceptual_hashes(T)[1] == perceptual_hashes(T[:, :, ::-1])[0]).mean() > 0.999


def test_hashes_do_not_depend_on_blocks(T):
    many = np.tile(T, (5000 // len(T) + 1, 1, 1))
    assert np.array_equal(perceptual_hashes(many)[0][-len(T) :], perceptual_hashes(T)[0])


def test_averaging_is_exact_where_pixels_divide_evenly(T):
    A = _averaging(np.float32(0.25), np.float32(0.5), 8)
    assert np.allclose(A @ T[0], T[0][8:24].reshape(8, 2, 32).mean(axis=1), atol=1e-4)
    assert np.allclose(_averaging(np.float32(0.037), np.float32(0.913), 24).sum(axis=1), 1, atol=1e-5)


def test_pattern_knows_neither_brightness_nor_contrast(T):
    assert np.allclose((pattern(T) * pattern(T * 0.4 + 60.0)).sum(axis=1), 1, atol=1e-4)


def test_bad_images_are_listed_and_the_others_go_on(folder):
    (folder / "train" / "a" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    dataset, done = image_folder(folder), []
    T, rows, bad = thumbnails(dataset, np.arange(len(dataset.images)), done.append)
    assert bad["image"].tolist() == ["train/a/00.png"] and bad["reason"].iloc[0]
    assert len(T) == len(rows) == len(dataset.images) - 1 and sum(done) == len(dataset.images)
    assert set(rows) == set(dataset.images.index) - set(dataset.images.index[dataset.images["name"] == "train/a/00.png"])


def test_a_file_that_cannot_be_read_is_the_users_to_mend(folder):
    dataset = image_folder(folder)
    (folder / "test" / "a" / "12.png").unlink()
    with pytest.raises(UserError, match="test/a/12.png cannot be read"):
        find_overlap(dataset)


# Alignment


def test_alignment_finds_the_part_that_was_cut_out():
    pixels, random = drawn_arrays(drawn_dataset("scenes", 1, 2, 2, size=128))[0], np.random.default_rng(0)
    for image in pixels[:12]:
        height, width = random.integers(103, 115, 2)
        top, left = random.integers(0, 128 - height), random.integers(0, 128 - width)
        part = image[top : top + height, left : left + width]
        whole, part = (thumbnail(Image.fromarray(pixels)) for pixels in (image, part))
        found = align(np.stack([whole, part]), np.stack([part, whole]))
        assert np.allclose(found["similarity"], found["similarity"][0], atol=0.02) and found["similarity"].min() > 0.94
        assert np.allclose(found["shared_area"], height * width / 128**2, atol=0.07)


def test_alignment_says_what_is_mirrored_and_ignores_light(T):
    dark = np.stack([
        thumbnail(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(0.6)) for pixels in drawn_arrays(SCENES)[0]
    ])  # fmt: skip
    found = align(T, dark[:, :, ::-1])
    assert found["similarity"].min() > 0.99 and found["mirrored"].mean() > 0.9 and np.allclose(found["shared_area"], 1)


def test_alignment_of_nothing():
    found = align(np.zeros((0, 32, 32), np.uint8), np.zeros((0, 32, 32), np.uint8))
    assert len(found) == 0 and list(found) == ["similarity", "mirrored", "shared_area"]


# Searches


def test_merged_searches_are_the_best_of_both():
    random = np.random.default_rng(0)
    first, second = (random.random((30, 12)) for _ in range(2))

    def best(similarity: np.ndarray, k: int = 4) -> _Best:
        order = np.argsort(-similarity, axis=1)[:, :k]
        return _Best(order, np.take_along_axis(similarity, order, axis=1))

    merged, expected = best(first).merged(best(second)), best(np.maximum(first, second))
    assert np.array_equal(merged.source, expected.source) and np.allclose(merged.similarity, expected.similarity)


def test_train_against_test(folder):
    found = find_overlap(image_folder(folder), None, ("train",), ("test",), similarity=0.9)
    assert names(found.pairs) == {("03", "mirrored_03"), ("07", "cropped_07")}
    by_name = found.pairs.set_index(found.pairs["target_image"].map(lambda name: Path(name).stem))
    assert by_name.loc["mirrored_03", "mirrored"] and by_name.loc["mirrored_03", "found_by"] == "hash"
    assert by_name.loc["cropped_07", "found_by"] == "descriptor" and 0.6 < by_name.loc["cropped_07", "shared_area"] < 0.9
    assert (found.n_source, found.n_target) == (12, 7) and "2 of 7 target images" in repr(found)


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
    flat = ImageDataset("flat", Path(), dataset.images, "", reader=lambda i: PLAIN)
    with pytest.raises(UserError, match="flat: no image that can be compared; first: nearly one colour"):
        find_overlap(dataset, flat)
    with pytest.raises(UserError, match="is not in dataset scenes; give the datasets that were searched"):
        pair_figure(find_overlap(dataset, similarity=0.9).pairs, SCENES)


Image.new("RGB", (9, 9), "red").save(_buffer := io.BytesIO(), "png")
PLAIN = _buffer.getvalue()


# Planted copies


def test_planted_copies_are_found_and_little_else():
    source, target, truth = plant_duplicates(SCENES, n_source=20, seed=3)
    chosen = find_overlap(source, target, similarity=0.5)
    threshold, F1 = choose_similarity(chosen.pairs, truth)
    other = plant_duplicates(drawn_dataset("symbols", n_train_per_class=2, n_test_per_class=1, size=64), n_source=30)
    scored = recall_and_precision(find_overlap(*other[:2], similarity=threshold).pairs, other[2]).set_index("kind")
    assert scored["recall"].drop(["all of these", "no copy"]).min() > 0.9 and scored.loc["all of these", "recall"] > 0.7
    assert scored.loc["all together", "precision"] > 0.9 and F1 > 0.95


def test_the_threshold_with_the_largest_F1_by_trying_all():
    random = np.random.default_rng(0)
    truth = pd.DataFrame({"target_image": [f"t{i}" for i in range(40)], "kind": "grey"})
    truth["source_image"] = [f"s{i}" if i < 25 else None for i in range(40)]
    pairs = pd.DataFrame({"target_image": [f"t{i}" for i in random.integers(0, 40, 60)]})
    pairs["source_image"] = pairs["target_image"].str.replace("t", "s").where(random.random(60) < 0.6, "s99")
    pairs = pairs.drop_duplicates(ignore_index=True)
    pairs["similarity"] = (random.random(len(pairs)) + (pairs["source_image"] != "s99")).round(1)
    threshold, F1 = choose_similarity(pairs, truth)

    def score(t: float) -> float:
        row = recall_and_precision(pairs, truth, t).iloc[-1]
        return 2 * row["found"] / (row["n_copies"] + row["found"] + row["false_pairs"])

    assert F1 == pytest.approx(score(threshold)) == pytest.approx(max(score(t) for t in np.unique(pairs["similarity"])))
    with pytest.raises(UserError, match="planted copy"):
        choose_similarity(pairs[pairs["source_image"] == "s99"], truth)


def test_planting_is_repeatable_and_refuses_what_makes_no_sense():
    source, target, truth = plant_duplicates(SCENES, kinds=("cropped",), n_source=5)
    again = plant_duplicates(SCENES, kinds=("cropped",), n_source=5)[1]
    assert target.fingerprint == again.fingerprint and all(target.read(i) == again.read(i) for i in range(5))
    assert source.fingerprint != target.fingerprint and truth["source_image"].notna().sum() == 5
    assert not set(source.reader.rows) & set(target.reader.rows[5:]), "an image may not be both original and unrelated"
    with pytest.raises(UserError, match="did you mean cropped"):
        plant_duplicates(SCENES, kinds=("crop",))
    with pytest.raises(UserError, match="expected some, and not all"):
        plant_duplicates(SCENES, n_source=len(SCENES.images))


def test_the_figure_takes_one_pair_of_each_cluster():
    pairs = pd.DataFrame({"similarity": np.linspace(1, 0.9, 30), "cluster": np.repeat(np.arange(10), 3)})
    shown = spread_over_clusters(pairs, 4)
    assert shown["cluster"].tolist() == [0, 3, 6, 9] and shown["similarity"].iloc[-1] == pairs["similarity"].min()


# Scores


def leak(*leaked: str, dataset: str = "set") -> pd.DataFrame:
    one = {"source": dataset, "source_split": "train", "source_image": "train/x", "target": dataset, "target_split": "test"}
    return pd.DataFrame([one | {"target_image": name} for name in leaked])


def made_up(n: int = 60) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    y_true = random.integers(0, 3, n)
    y_pred = np.where(random.random(n) < 0.6, y_true, (y_true + 1) % 3)
    return {"image": np.array([f"test/{i}" for i in range(n)]), "y_true": y_true, "y_pred": y_pred}


def test_scores_by_hand():
    y_true, y_pred = np.array([0] * 4 + [1] * 4), np.array([0, 0, 0, 1, 1, 1, 0, 0])
    predictions = {"image": np.array(list("abcdefgh")), "y_true": y_true, "y_pred": y_pred}
    row = scores_without({"net": predictions}, leak("a", "b", "e"), "set").iloc[0]
    assert (row["n_test"], row["n_removed"], row["score"], row["score_without"]) == (8, 3, 5 / 8, 2 / 5)
    mean = scores_without({"net": predictions}, leak("a", "b", "e"), "set", "mean_per_class").iloc[0]
    assert mean["score"] == pytest.approx((3 / 4 + 2 / 4) / 2) and mean["score_without"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_p_value_is_that_of_a_random_removal():
    predictions = made_up(80) | {"y_true": np.zeros(80, int)}  # one class: the number of right answers removed is hypergeometric
    right = predictions["y_pred"] == 0
    leaked = predictions["image"][np.r_[np.flatnonzero(right)[:14], np.flatnonzero(~right)[:3]]]
    row = scores_without({"net": predictions}, leak(*leaked), "set", n_permutations=20_000).iloc[0]
    removed = hypergeom(80, right.sum(), 17)
    expected, k = removed.mean(), np.arange(18)
    exact = removed.pmf(k)[np.abs(k - expected) >= abs(14 - expected) - 1e-9].sum()
    assert row["p_value"] == pytest.approx(exact, abs=0.01)


def test_p_values_are_even_where_the_images_left_out_are_any():
    predictions, random = made_up(), np.random.default_rng(5)
    leaks = [leak(*random.choice(predictions["image"], 12, replace=False)) for _ in range(150)]
    p_values = [scores_without({"net": predictions}, pairs, "set", n_permutations=200) for pairs in leaks]
    assert 0.005 < (pd.concat(p_values)["p_value"] < 0.1).mean() < 0.17


def test_scores_of_stored_runs(tmp_path):
    for k, name in enumerate(("one", "two")):
        result = {"network": name, "dataset": "set", "protocol": "linear", "metric": "top1", "score": 0.6, "run_id": f"run{k}"}
        write_run(tmp_path / "study" / f"run{k}", {}, result, made_up(40 + k), pd.DataFrame({"l2": [1.0]}))
    table = scores_without(tmp_path, leak("test/3", "test/5"), "set")
    assert table["network"].tolist() == ["one", "two"]
    assert table["n_removed"].tolist() == [2, 2] and table["n_test"].tolist() == [40, 41]
    none = scores_without(tmp_path, leak("test/3")[:0], "set")
    assert (none["difference"] == 0).all() and (none["p_value"] == 1).all()
    with pytest.raises(UserError, match="no finished run on dataset 'other'"):
        scores_without(tmp_path, leak("test/3"), "other")
    with pytest.raises(UserError, match="is not among the test images of one"):
        scores_without(tmp_path, leak("test/999"), "set")
    with pytest.raises(UserError, match="nothing is left"):
        scores_without({"net": made_up(3)}, leak("test/0", "test/1", "test/2"), "set")


def test_several_labels():
    random = np.random.default_rng(0)
    y_true = random.integers(0, 2, (30, 4))
    images = np.array([f"test/{i}" for i in range(30)])
    predictions = {"image": images, "y_true": y_true, "score": y_true + random.normal(0, 1, (30, 4))}
    row = scores_without({"net": predictions}, leak("test/1", "test/2"), "set", "map_11_point", n_permutations=50).iloc[0]
    assert row["n_removed"] == 2 and 0 < row["score_without"] < 1 and 0 < row["p_value"] <= 1


# The command


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


# Real photographs


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
