"""One training: out of memory, a loss that is no number, and what a result notes."""

import numpy as np
import pytest

from tests.conftest import write_images
from tests.training.common import SIDE, StopsAt, equal_weights, network, weights_of
from transfer_study.core import UserError
from transfer_study.images.datasets import image_folder
from transfer_study.training.finetune import train_point
from transfer_study.training.protocol import (
    evaluation_steps,
    training_protocol,
)


def limited(n, error=None):
    "A network whose device has memory for `n` training images, and says so by `error`."
    import torch

    class Limited(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.pretrained_cfg, self.largest = network()(), {"input_size": (3, SIDE, SIDE)}, 0

        def reset_classifier(self, n_classes):
            self.inner.reset_classifier(n_classes)

        def get_classifier(self):
            return self.inner.get_classifier()

        def forward(self, x):
            if len(x) > n:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(x)

    return Limited


@pytest.mark.parametrize("error", [None, RuntimeError("err == 0. DefaultCPUAllocator: can't allocate memory: you tried …")])
def test_out_of_memory_splits_the_batch_and_says_so(squares, short, error):
    result = train_point(limited(2, error), squares, short, 0.05, 0, device="cpu")
    assert result.status == "finished" and result.details["n_parts"] == 4 and result.details["batch_size"] == 8
    assert result.notes[-1] == "out of memory: each batch of 8 was split into 4 parts and their gradients were added"
    assert result.history["step"].tolist() == evaluation_steps(6, 3).tolist()
    with pytest.raises(UserError, match="a batch of one image does not fit"):
        train_point(limited(0), squares, short, 0.05, 0, device="cpu")


def test_a_split_batch_is_still_on_record_after_an_interruption(squares, short, tmp_path):
    arguments, options = (limited(4), squares, short, 0.05, 0), {"directory": tmp_path / "run", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, **options, checkpoint_every=1, callbacks=[StopsAt(7)])  # in the middle of step 4
    resumed = train_point(*arguments, **options)
    assert resumed.notes == train_point(*arguments, device="cpu").notes and "8 was split into 2 parts" in resumed.notes[0]
    assert equal_weights(resumed, train_point(*arguments, device="cpu"))


def test_parts_of_a_batch_give_the_gradient_of_the_batch(squares):
    "Without batch norm, which sees parts, four parts train as the whole does."
    protocol = training_protocol("scratch", steps=4, batch_size=8, n_evaluations=2)

    def run(memory):
        def build():
            model = limited(memory)()
            model.inner = network("test_mambaout")()
            return model

        return train_point(build, squares, protocol, 0.01, 1e-3, device="cpu")

    whole, parts = run(100), run(2)
    assert parts.details["n_parts"] == 4
    for name, tensor in weights_of(whole).items():
        assert np.allclose(weights_of(parts)[name], tensor, atol=1e-5), name


@pytest.mark.parametrize("n_parts", [1, 2])
def test_the_step_at_which_the_loss_is_no_number_is_named(squares, short, n_parts):
    def explodes():
        model, seen = limited(8 // n_parts)(), []

        def from_the_third_step(module, inputs, output):
            seen.extend([1] * len(output) if module.training else [])
            return output * float("inf") if len(seen) > 2 * 8 else output

        model.register_forward_hook(from_the_third_step)
        return model

    failed = train_point(explodes, squares, short, 0.05, 0, device="cpu")
    assert failed.status == "failed" and failed.reason in ("the loss became nan at step 3", "the loss became inf at step 3")
    assert failed.history["step"].tolist() == [1, 2] and failed.details["n_parts"] == n_parts


def test_a_class_missing_in_validation_is_noted(tmp_path, short):
    folder = write_images(tmp_path / "squares", train=8, test=4, val=5)
    for path in (folder / "val" / "dim").iterdir():
        path.unlink()
    (folder / "val" / "dim").rmdir()
    result = train_point(network(), image_folder(folder), short, 0.05, 0, device="cpu")
    assert result.notes == ["classes without a scored image, about which the score says nothing: dim"]


def test_fewer_images_than_a_batch(squares):
    result = train_point(network(), squares, training_protocol("scratch", steps=3, n_evaluations=1), 0.05, 0, device="cpu")
    assert result.details["batch_size"] == result.details["n_train"] == 20 and result.details["steps_per_epoch"] == 1
    assert result.notes == ["20 training images, fewer than a batch of 256: each batch contains all of them once"]
