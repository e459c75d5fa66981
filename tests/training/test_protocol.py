"""The hyperparameters of a training: defaults, ranges, evaluations, and steps to near the best."""

import numpy as np
import pandas as pd
import pytest

from tests.training.common import network
from transfer_study.core import UserError
from transfer_study.training.finetune import train_point
from transfer_study.training.protocol import (
    evaluation_steps,
    hyperparameter_grid,
    steps_to_90_percent_of_maximum_odds,
    training_protocol,
)


def test_defaults_are_the_protocol_page():
    finetune, scratch = training_protocol("finetune"), training_protocol("scratch")
    assert (finetune.steps, finetune.batch_size, finetune.momentum, scratch.steps) == (20_000, 256, 0.9, 40_000)
    grid = hyperparameter_grid(finetune)
    assert np.allclose(sorted(grid["learning_rate"].unique()), 10.0 ** np.arange(-4, -0.9, 0.5))
    assert np.allclose(sorted(grid["weight_decay"].unique()), [0, *10.0 ** np.arange(-6, -2.9, 0.5)])
    grid = hyperparameter_grid(scratch)
    assert np.allclose(sorted(grid["learning_rate"].unique()), 10.0 ** np.arange(-3, 0.1, 0.5))
    assert np.allclose(sorted(grid["weight_decay"].unique()), 10.0 ** np.arange(-5, -1.4, 0.5))
    assert len(grid.drop_duplicates()) == 56


@pytest.mark.parametrize("changes, words", [
    ({"learning_rate_max": 0}, "learning_rate_max = 0: expected number above 0"),
    ({"weight_decay_max": 1.5}, "weight_decay_max = 1.5"),
    ({"weight_decay_min": 0.01}, "weight_decay_min 0.01 is above weight_decay_max 0.001"),
    ({"step": 3}, "did you mean steps?"),
    ({"precision": "float16"}, "precision = \"float16\""),
    ({"n_weight_decays": 0, "no_weight_decay": False}, "empty grid"),
])  # fmt: skip
def test_a_key_out_of_range_is_named(changes, words):
    with pytest.raises(UserError) as error:
        training_protocol("finetune", **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "rate, decay, words",
    [(0, 0, "learning rate 0"), (float("nan"), 0, "learning rate nan"), (0.1, -1, "weight decay -1"), (0.1, 1, "weight decay 1")],
)
def test_a_grid_point_out_of_range_is_refused(squares, short, rate, decay, words):
    with pytest.raises(UserError, match=words):
        train_point(network(), squares, short, rate, decay, device="cpu")


def test_evaluations_are_even_on_a_log_scale():
    steps = evaluation_steps(20_000, 20)
    gaps = np.diff(np.log(steps[steps > 20]))
    assert np.ptp(gaps) < 0.05 and steps[0] == 1 and steps[-1] == 20_000
    assert evaluation_steps(50, 1).tolist() == [50]


def test_odds_by_hand():
    history = pd.DataFrame({"step": [1, 2, 4, 8], "score": [0.2, 0.6, 0.58, 0.5]})  # odds 0.25, 1.5, 1.38, 1
    assert steps_to_90_percent_of_maximum_odds(history) == 2
    assert steps_to_90_percent_of_maximum_odds(history.assign(score=[0.5, 0.59, 0.6, 0.5])) == 2  # 1.44 ≥ 0.9 × 1.5
    assert steps_to_90_percent_of_maximum_odds(history[::-1].assign(score=[0.5, 0.6, 0.58, 0.2])) == 2  # in any order
