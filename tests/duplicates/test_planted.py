"Planted copies: found by a search, counted by hand."

import numpy as np
import pandas as pd
import pytest

from tests.duplicates.conftest import SCENES
from transfer_study.core import UserError
from transfer_study.duplicates.planted import choose_similarity, plant_duplicates, recall_and_precision
from transfer_study.duplicates.search import find_overlap
from transfer_study.images.drawn import drawn_dataset


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
    with pytest.raises(UserError, match="expected at least 1 and fewer than all"):
        plant_duplicates(SCENES, n_source=len(SCENES.images))
