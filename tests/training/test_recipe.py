"""A source training: each setting does what it says and nothing else; schedule, weight decay, averaged weights, mixed images."""

import numpy as np
import pytest

from tests.training.common import Watch, equal, first_loss, protocol, trained
from transfer_study.core import UserError
from transfer_study.networks.networks import Network
from transfer_study.networks.weights import read_weights
from transfer_study.training.pretrain import SETTINGS, PretrainingProtocol, pretrain
from transfer_study.training.protocol import n_warmup_steps


def test_the_settings_are_the_papers():
    assert list(SETTINGS) == ["default", "label_smoothing", "dropout", "auxiliary_head", "no_batchnorm_scale", "all"]
    assert SETTINGS["default"] == () and set(SETTINGS["all"]) == set(list(SETTINGS)[1:5])
    recipe = PretrainingProtocol()
    assert (recipe.label_smoothing, recipe.dropout, recipe.auxiliary_weight) == (0.1, 0.2, 0.4)


def test_a_setting_changes_what_it_names_and_nothing_else(networks, digits):
    "The amounts of changes that a setting does not name play no part."
    amounts, short = {"label_smoothing": 0.5, "dropout": 0.7, "auxiliary_weight": 3.0}, {"steps": 2, "n_evaluations": 1}

    def weights(setting, **changes):
        return trained(networks["small"], digits, protocol(**short, **changes), setting)

    plain = weights("default")
    assert equal(plain, weights("default", **amounts))
    for key, setting in zip(amounts, ("label_smoothing", "dropout", "auxiliary_head"), strict=True):
        changed = weights(setting)
        assert not equal(plain, changed) and not equal(changed, weights(setting, **{key: amounts[key]})), setting
    assert not equal(plain, weights("no_batchnorm_scale"))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_scales_of_batch_norm_stay_exactly_one(networks, digits, tmp_path, ema_decay):
    import torch

    given = protocol(learning_rate=0.5, weight_decay=0.1, ema_decay=ema_decay)
    result = pretrain(networks["resnet"], digits, given, "no_batchnorm_scale", directory=tmp_path / "run", device="cpu")
    norms = [name for name, module in result.model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    stored, _ = read_weights(result.weights)
    assert len(norms) > 5 and all((stored[f"{name}.weight"] == 1).all() for name in norms)
    assert all((stored[f"{name}.bias"] != 0).any() for name in norms)  # only the scale is fixed
    free = trained(networks["resnet"], digits, given)
    assert any((free[f"{name}.weight"] != 1).any() for name in norms)


def test_a_smoothed_loss_is_the_one_computed_by_hand(networks, digits):
    seen = []
    watch = Watch(lambda callback: seen.append((callback.pred.detach().double().numpy(), callback.y.numpy())))
    result = pretrain(networks["resnet"], digits, protocol(steps=1), "label_smoothing", device="cpu", callbacks=[watch])
    [(scores, labels)] = seen
    log_probability = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = np.full(scores.shape, 0.1 / 10)
    target[np.arange(len(labels)), labels] += 0.9
    assert result.history["train_loss"].iloc[0] == pytest.approx(-(target * log_probability).sum(axis=1).mean(), rel=1e-5)


def test_the_auxiliary_loss_counts_as_weighted(networks, digits):
    "0.4 by default; its value is that of ten classes about which nothing is known yet."
    given = {weight: protocol(steps=1, auxiliary_weight=weight) for weight in (0.0, 0.2)}
    losses = {weight: first_loss(networks["small"], digits, given[weight], "auxiliary_head") for weight in given}
    auxiliary = (losses[0.2] - losses[0.0]) / 0.2
    assert auxiliary == pytest.approx(np.log(10), rel=0.1)
    assert first_loss(networks["small"], digits, protocol(steps=1)) == pytest.approx(losses[0.0], rel=1e-6)
    by_default = first_loss(networks["small"], digits, protocol(steps=1), "auxiliary_head")
    assert by_default == pytest.approx(losses[0.0] + 0.4 * auxiliary, rel=1e-5)


def test_the_auxiliary_head_trains_and_is_not_stored(networks, digits, tmp_path):
    seen = []
    watch = Watch(lambda callback: seen.append(callback.model.auxiliary_head[0].weight.detach().clone().numpy()))
    options = {"directory": tmp_path / "run", "device": "cpu", "callbacks": [watch]}
    result = pretrain(networks["resnet"], digits, protocol(), "auxiliary_head", **options)
    assert len(seen) == 6 and (seen[0] != seen[-1]).any()
    assert set(read_weights(result.weights)[0]) == set(trained(networks["resnet"], digits))


def test_dropout_is_before_the_classifier_and_in_training_only(networks):
    "Softplus is never 0, so that what is 0 was dropped. The network's own dropout of 0.5 is off."
    import torch

    from transfer_study.networks.architectures import build_architecture
    from transfer_study.training.recipe import apply_changes

    def features(changes, training):
        torch.manual_seed(0)
        model = apply_changes(build_architecture("tiny:small", networks["small"].directory), changes, 10, 0.2).train(training)
        model[-1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        seen = []
        model(torch.ones(200, 3, 32, 32) + torch.arange(200).view(-1, 1, 1, 1))
        return seen[0]

    without, dropped = features((), True), features(("dropout",), True)
    assert (without != 0).all() and float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.015)
    assert torch.allclose(dropped[dropped != 0], without[dropped != 0] / 0.8)
    assert torch.equal(features((), False), features(("dropout",), False))


def test_all_settings_work_on_networks_of_every_library():
    import torch

    from transfer_study.networks.architectures import build_architecture
    from transfer_study.training.recipe import apply_changes, plain_weights

    for name in ("mobilenetv2_100", "efficientnet_b0", "torchvision:resnet18", "torchvision:googlenet", "pytorchcv:resnet10"):
        model = build_architecture(name)
        before = set(model.state_dict())
        model = apply_changes(model, SETTINGS["all"], 1000, 0.2).train()
        model(torch.randn(2, 3, 224, 224))
        assert model.auxiliary_head.take_scores().shape == (2, 1000), name
        assert set(plain_weights(model)) == before


def test_no_auxiliary_head_where_nothing_is_halved(digits):
    with pytest.raises(UserError, match="network 'vit': auxiliary_head needs a feature map .* remove this setting"):
        pretrain(Network("vit", "test_vit"), digits, protocol(), "auxiliary_head", device="cpu")


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
    with pytest.raises(ValueError, match="warmup_steps 10 must be smaller than steps 10"):
        PretrainingProtocol(steps=10, warmup_steps=10)
    assert [n_warmup_steps(PretrainingProtocol(steps=steps)) for steps in (1, 450_000)] == [0, 25_000]
