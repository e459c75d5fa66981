"""Seeds and resuming: a training that was interrupted ends as one that was not."""

import resource
import signal

import numpy as np
import pandas as pd
import pytest

from tests.training.common import StopsAt, equal_weights, network
from transfer_study.core import UserError
from transfer_study.training.finetune import train_point


def test_the_same_seed_gives_the_same_to_the_bit(squares, short):
    import torch

    torch.manual_seed(7)
    first = train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=1, device="cpu")
    torch.manual_seed(8)
    before = torch.get_rng_state()
    second = train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=1, device="cpu")
    assert equal_weights(first, second) and first.history.equals(second.history)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's own draws go on undisturbed
    assert not equal_weights(first, train_point(network(drop_rate=0.3), squares, short, 0.05, 1e-3, seed=2, device="cpu"))


@pytest.mark.parametrize("stop, every", [(5, 2), (4, 1), (6, 3)])  # between evaluations, at one, after the last step
def test_a_killed_training_resumes_to_the_same_weights(squares, short, tmp_path, stop, every):
    "With dropout, so that the random state matters, and momentum, so that the optimiser's does."
    arguments = (network(drop_rate=0.3), squares, short, 0.05, 1e-3)
    whole = train_point(*arguments, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, device="cpu", directory=tmp_path / "run", checkpoint_every=every, callbacks=[StopsAt(stop)])
    assert not (tmp_path / "run").exists() and (tmp_path / ".run.partial" / "checkpoint.pt").is_file()
    resumed = train_point(*arguments, device="cpu", directory=tmp_path / "run", checkpoint_every=every)
    assert equal_weights(whole, resumed) and resumed.score == whole.score
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)
    assert not (tmp_path / ".run.partial").exists()


def test_a_training_killed_after_its_last_step_lacks_nothing(squares, short, tmp_path):
    "Killed between the last checkpoint and the writing of the result."
    from fastai.callback.core import Callback

    class Stop(Callback):
        order = 100

        def after_fit(self):
            raise KeyboardInterrupt("killed")

    arguments, options = (network(), squares, short, 0.05, 1e-3), {"device": "cpu", "checkpoint_every": 3}
    whole = train_point(*arguments, **options)
    with pytest.raises(KeyboardInterrupt):
        train_point(*arguments, directory=tmp_path / "run", callbacks=[Stop()], **options)
    resumed = train_point(*arguments, directory=tmp_path / "run", **options)
    assert equal_weights(whole, resumed) and np.array_equal(whole.predictions["y_pred"], resumed.predictions["y_pred"])
    pd.testing.assert_frame_equal(resumed.history, whole.history, check_exact=True)


def test_a_finished_training_is_read_not_repeated(squares, short, tmp_path):
    first = train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    second = train_point(network(), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")
    assert second.model is None and second.seconds == first.seconds and second.score == first.score
    assert second.history["score"].tolist() == first.history["score"].tolist()
    assert all(np.array_equal(first.predictions[name], second.predictions[name]) for name in ("y_true", "y_pred", "image"))
    predicted = second.predictions
    assert second.score == (predicted["y_true"] == predicted["y_pred"]).mean()


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_configuration_is_refused_by_name(squares, short, tmp_path, finished):
    callbacks = [] if finished else [StopsAt(5)]
    try:
        train_point(
            network(), squares, short, 0.05, 0, directory=tmp_path / "run", checkpoint_every=2, device="cpu", callbacks=callbacks
        )
    except KeyboardInterrupt:
        assert not finished
    changed = short.model_copy(update={"momentum": 0.8})
    with pytest.raises(UserError, match="momentum was 0.9 and is now 0.8"):
        train_point(network(), squares, changed, 0.05, 0, directory=tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match="network was '.*' and is now"):
        train_point(network("test_efficientnet"), squares, short, 0.05, 0, directory=tmp_path / "run", device="cpu")


def full_disk_at(step, size):
    "A callback from whose step on the operating system refuses to write more than `size` bytes into a file."
    from fastai.callback.core import Callback

    class Full(Callback):
        def after_batch(self):
            if self.training and self.train_iter == step:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return Full()


@pytest.fixture
def room_again():
    "What a test took away of the room for files comes back."
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("step, size, words", [
    (4, 10_000, "checkpoint .*could not be written .*the previous checkpoint is intact"),
    (5, 100, "the result could not be written .*start again to continue from the last checkpoint"),
])  # fmt: skip
def test_a_full_disk_leaves_the_checkpoint_before(squares, short, tmp_path, room_again, step, size, words):
    "In the middle of a checkpoint, and when the result is written."
    arguments, options = (network(), squares, short, 0.05, 0), {"directory": tmp_path / "run", "device": "cpu"}
    every = 2 if step == 4 else 4
    with pytest.raises(UserError, match=words):
        train_point(*arguments, **options, checkpoint_every=every, callbacks=[full_disk_at(step, size)])
    room_again()
    assert [path.name for path in tmp_path.iterdir()] == [".run.partial"]
    assert [path.name for path in (tmp_path / ".run.partial").iterdir()] == ["checkpoint.pt"]
    resumed = train_point(*arguments, **options)
    assert equal_weights(resumed, train_point(*arguments, device="cpu"))
