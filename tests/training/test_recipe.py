"""The recipe of a source training: schedule, weight decay, averaged weights, mixed images."""

import numpy as np
import pytest

from tests.training.common import Watch, protocol, trained
from transfer_study.training.pretrain import (
    PretrainingProtocol,
    pretrain,
)
from transfer_study.training.protocol import n_warmup_steps


def test_warm_up_and_cosine(networks, digits):
    given = protocol(steps=12, warmup_steps=4, n_evaluations=12, learning_rate=0.4)
    history = pretrain(networks["small"], digits, given, device="cpu").history
    expected = [0.1, 0.2, 0.3, 0.4, *(0.2 * (1 + np.cos(np.pi * np.arange(8) / 8)))]
    rates = dict(zip(history["step"], history["learning_rate"], strict=True))
    assert rates == pytest.approx({step: expected[step - 1] for step in rates})


def test_weight_decay_is_the_factor_in_the_loss(networks, digits):
    "One step of plain SGD: the weight shrinks by learning rate times weight decay, and batch norm does not."
    kept, decayed = (
        trained(networks["small"], digits, protocol(steps=1, momentum=0, learning_rate=0.01, warmup_steps=0, weight_decay=decay))
        for decay in (0.0, 0.5)
    )
    start = trained(networks["small"], digits, protocol(steps=1, momentum=0, learning_rate=1e-12, warmup_steps=0, weight_decay=0))
    assert np.allclose(kept["3.weight"] - decayed["3.weight"], 0.01 * 0.5 * start["3.weight"], atol=1e-7)
    assert np.array_equal(kept["1.weight"], decayed["1.weight"]) and np.array_equal(kept["4.bias"], decayed["4.bias"])


def test_averaged_weights_are_evaluated_and_kept(networks, digits):
    "The last weight is timm's average of those after each step, computed here by hand."
    weights = []

    def after_step(callback):
        weights.append(callback.model[-1].weight.detach().clone().double().numpy())  # before the step that follows

    given = protocol(steps=5, ema_decay=0.6, n_evaluations=1)
    averaged = trained(networks["small"], digits, given, callbacks=[Watch(after_step)])["9.weight"]
    last = trained(networks["small"], digits, given.model_copy(update={"ema_decay": None}))["9.weight"]
    average = weights[0]
    for step, weight in enumerate([*weights[1:], last], 1):
        decay = 0.0 if step <= 1 else min(0.6, 1 - step ** (-2 / 3))
        average = decay * average + (1 - decay) * weight
    assert np.allclose(averaged, average, atol=1e-6) and not np.allclose(averaged, last, atol=1e-4)


def test_mixed_targets_sum_to_one(networks, digits):
    seen = []
    given = protocol(mixup=0.8, cutmix=1.0)
    pretrain(networks["small"], digits, given, device="cpu", callbacks=[Watch(lambda callback: seen.append(callback.y.numpy()))])
    targets = np.stack(seen)
    assert targets.shape == (6, 16, 10) and np.allclose(targets.sum(axis=2), 1) and ((targets > 0) & (targets < 1)).any()


def test_warm_up_has_to_end():
    with pytest.raises(ValueError, match="warmup_steps 10 leaves nothing of 10 steps"):
        PretrainingProtocol(steps=10, warmup_steps=10)
    assert [n_warmup_steps(PretrainingProtocol(steps=steps)) for steps in (1, 450_000)] == [0, 25_000]
