"""A pass holds its networks once, one batch and one shard."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_images

CODE = """
import resource
import sys
from pathlib import Path

import torch

from transfer_study.features.extraction import Extractor
from transfer_study.images.datasets import image_folder


class Wide(torch.nn.Module):
    "51 MB of weights, and little work."

    pretrained_cfg = {"input_size": (3, 32, 32), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.head = torch.nn.Conv2d(3, 512, 8, 8), torch.nn.Linear(512, 25_000)

    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


torch.set_num_threads(1)
dataset, cache = image_folder(sys.argv[1]), Path(sys.argv[2])
Extractor([Wide(0).eval()]).compute_shard(dataset, range(28), cache)  # what one network needs
before = peak()
many = Extractor((Wide(seed).eval() for seed in range(1, 7)), shard_size=28)
many.compute_shard(dataset, range(28), cache)
print((peak() - before) / (25_000 * 513 * 4), len({*many.keys(dataset)}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is known for Linux")
def test_a_prepared_network_takes_the_place_of_the_original(tmp_path):
    folder = write_images(tmp_path / "squares")
    arguments = [sys.executable, "-c", CODE, str(folder), str(tmp_path / "cache")]
    ended = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert not ended.returncode, ended.stderr
    networks, n_keys = map(float, ended.stdout.split())
    assert n_keys == 6 and networks < 8  # six, and what preparing one takes; twelve if the originals were kept
