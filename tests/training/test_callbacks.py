"""The loss of several labels, a replaced classifier, and what fastai callbacks write."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.training.common import StopsAt, equal_weights, network
from transfer_study.core import UserError
from transfer_study.training.finetune import train_point
from transfer_study.training.run import read_training


def test_a_multilabel_loss_ignores_difficult_entries():
    import torch
    from sklearn.metrics import log_loss

    from transfer_study.training.callbacks import multilabel_loss

    random = np.random.default_rng(0)
    scores, targets = random.normal(size=(9, 4)), random.integers(-1, 2, (9, 4))
    counted = targets >= 0
    expected = log_loss(targets[counted], 1 / (1 + np.exp(-scores[counted])))
    assert float(multilabel_loss(torch.tensor(scores), torch.tensor(targets))) == pytest.approx(expected)


@pytest.mark.parametrize("build", ["mobilenet_v3_small", "googlenet", "efficientnet", "linear"])
def test_any_networks_classifier_is_replaced(squares, build):
    "torchvision's, one with auxiliary classifiers, pytorchcv-like nesting, and timm's; each trains a step."
    import torch
    import torchvision

    from transfer_study.training.callbacks import ClassScores, replace_classifier

    builders = {
        "mobilenet_v3_small": torchvision.models.mobilenet_v3_small, "efficientnet": network("test_efficientnet"),
        "googlenet": partial(torchvision.models.googlenet, init_weights=False),
        "linear": lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Sequential(torch.nn.Linear(12288, 9, bias=False))),
    }  # fmt: skip
    model = replace_classifier(builders[build](), 5).train()
    callback, holder = ClassScores(), type("Learner", (), {})()
    callback.learn, holder.pred, holder.training = holder, model(torch.zeros(2, 3, 64, 64)), True
    callback.after_pred()
    assert holder.pred.shape == (2, 5)
    with pytest.raises(UserError, match="no linear layer"):
        replace_classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)), 5)


@pytest.mark.parametrize("form", ["tuple", "dictionary", "with_softmax"])
def test_scores_beside_other_tensors_are_trained_as_if_alone(squares, form):
    "A network that returns features first, or a dictionary, gives the same scores and weights as one that returns scores alone."
    import torch

    from transfer_study.training.protocol import training_protocol

    class Alone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 2), torch.nn.BatchNorm2d(8), torch.nn.AdaptiveAvgPool2d(2))
            self.dropout, self.head = torch.nn.Dropout(0.5), torch.nn.Linear(32, 12)
            self.pretrained_cfg = {"input_size": (3, 32, 32)}

        def forward(self, x):
            return self.head(self.dropout(self.body(x).flatten(1)))

    class Beside(Alone):
        def forward(self, x):
            features = self.dropout(self.body(x).flatten(1))
            scores = self.head(features)
            if form == "with_softmax":
                return scores.softmax(1), scores
            return (features, scores) if form == "tuple" else {"embedding": features, "logits": scores, "loss": None}

    protocol = training_protocol("finetune", steps=12, batch_size=8, n_evaluations=3)
    alone, beside = (train_point(build, squares, protocol, 0.05, 0, device="cpu") for build in (Alone, Beside))
    assert equal_weights(alone, beside) and alone.history.equals(beside.history)
    assert np.array_equal(alone.predictions["y_pred"], beside.predictions["y_pred"])


def test_an_error_of_a_callback_keeps_its_own_message(squares, short):
    "fastai puts a line before it, after which the reason of a failed run was cut."
    from fastai.callback.core import Callback

    class Fails(Callback):
        def after_pred(self):
            raise ValueError("the reason")

    with pytest.raises(ValueError, match="^the reason$"):
        train_point(network(), squares, short, 0.05, 0, device="cpu", callbacks=[Fails()])


def test_fastais_callbacks_write_beside_the_result(squares, short, tmp_path, capsys):
    from fastai.callback.progress import CSVLogger

    train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu", callbacks=[CSVLogger()])
    table = pd.read_csv(tmp_path / "run" / "history.csv")
    history = read_training(tmp_path / "run").history
    assert np.allclose(table["top1"], history["score"]) and np.allclose(table["valid_loss"], history["loss"])
    assert capsys.readouterr().out == ""
    specification = json.loads((tmp_path / "run" / "specification.json").read_text())
    assert specification["momentum"] == 0.9 and specification["dataset"] == squares.fingerprint


def test_loggers_by_name(squares, short, tmp_path):
    "The CSV file of a resumed training holds every evaluation; a logger whose package is missing says which."
    import importlib.util

    from fastai.callback.core import Callback

    from transfer_study.training.callbacks import LOGGERS, logging_callback

    options = {"directory": tmp_path / "run", "device": "cpu", "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train_point(network(), squares, short, 0.05, 0, **options, callbacks=[logging_callback("csv"), StopsAt(5)])
    result = train_point(network(), squares, short, 0.05, 0, **options, callbacks=[logging_callback("csv")])
    logged = pd.read_csv(tmp_path / "run" / "history.csv")
    assert set(logged["top1"].drop_duplicates()) >= {f"{score}" for score in result.history["score"]} and len(logged) == 4
    for name, (*_, package) in LOGGERS.items():
        if importlib.util.find_spec(package):
            assert isinstance(logging_callback(name), Callback)
        else:
            with pytest.raises(UserError, match=f"'{name}': {package} is not installed; pip install {package}"):
                logging_callback(name)
    with pytest.raises(UserError, match="did you mean wandb"):
        logging_callback("wadb")


def test_a_home_that_cannot_be_written_is_no_concern_of_a_training():
    "As in containers: matplotlib, which fastai imports, would say where it keeps its fonts."
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    command = [sys.executable, "-c", "import transfer_study.training.callbacks"]
    done = subprocess.run(command, env=kept | {"HOME": "/dev/null"}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout + done.stderr == ""
