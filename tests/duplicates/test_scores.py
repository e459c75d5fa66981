"Scores without near-duplicates, by hand and against exact distributions."

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from transfer_study.core import UserError
from transfer_study.duplicates.scores import scores_without
from transfer_study.results import write_run


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
    with pytest.raises(UserError, match="no finished run on dataset 'other'; its runs are on set; give the images of one"):
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
