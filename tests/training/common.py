"""What the tests of trainings share."""

from functools import partial

import numpy as np

from transfer_study.training.pretrain import (
    PretrainingProtocol,
    pretrain,
)

SIDE = 32


def network(name="test_resnet", **options):
    "A function that builds a tiny network with random weights."
    import timm

    return partial(timm.create_model, name, pretrained_cfg_overlay={"input_size": (3, SIDE, SIDE)}, **options)


def weights_of(result) -> dict:
    return {name: tensor.numpy() for name, tensor in result.model.state_dict().items()}


def equal_weights(first, second) -> bool:
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


class StopsAt:
    "A callback that ends the process's training as a kill would, between two steps."

    def __new__(cls, step):
        from fastai.callback.core import Callback

        class Stop(Callback):
            order = 100

            def after_batch(self):
                if self.training and self.train_iter == step:
                    raise KeyboardInterrupt("killed")

        return Stop()


def protocol(**changes) -> PretrainingProtocol:
    return PretrainingProtocol(**{"steps": 6, "batch_size": 16, "n_evaluations": 3, "flip": False} | changes)


def trained(network, dataset, given=None, setting="default", **options) -> dict:
    "The weights after a training, by name."
    state = pretrain(network, dataset, given or protocol(), setting, device="cpu", **options).model.state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def first_loss(*arguments) -> float:
    return pretrain(*arguments, device="cpu").history["train_loss"].iloc[0]


class Watch:
    "A callback of fastai's that gives itself to `look` after each loss in training."

    def __new__(cls, look):
        from fastai.callback.core import Callback

        class Looks(Callback):
            order, run_valid = 100, False

            def after_loss(self):
                look(self)

        return Looks()
