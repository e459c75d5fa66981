"""Images per second of a training, and seconds of a grid point: `python benchmarks/bench_training.py [--out TABLE.csv]`.

Compared with the same steps in a plain PyTorch loop over the same batches, with tensors that are ready on the device
(what the network alone costs), and with fastai's usual pipeline, which decodes and crops JPEG files one by one. The ways
take turns, a stretch of steps each, so that whatever else the machine does falls on all of them; what counts is the ratio.
On a CPU it is CPU seconds that are counted, which other programs do not disturb much; on a GPU, seconds by the clock.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image

warnings.simplefilter("ignore")  # fastai uses deprecated parts of PyTorch and pandas

from fastai.vision.all import (  # noqa: E402
    ImageDataLoaders,
    Learner,
    Normalize,
    OptimWrapper,
    RandomResizedCrop,
)

from transfer_study.images.datasets import ImageDataset, image_folder  # noqa: E402
from transfer_study.networks.penultimate import input_configuration  # noqa: E402
from transfer_study.training.batches import cut_crops  # noqa: E402
from transfer_study.training.finetune import train_point  # noqa: E402
from transfer_study.training.learner import build_learner, build_model, stage_images  # noqa: E402
from transfer_study.training.protocol import training_protocol  # noqa: E402


def jpeg_folder(folder: Path, n: int, shape: tuple[int, int], n_classes: int = 4) -> ImageDataset:
    "Photograph-like JPEG files: noise, smooth at a coarse scale."
    random = np.random.default_rng(0)
    for split, count in {"train": n, "test": n_classes}.items():
        for i in range(count):
            path = folder / split / f"class{i % n_classes}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
            coarse.resize(shape, Image.Resampling.BICUBIC).save(path, quality=90)
    return image_folder(folder, "photographs")


class Ways:
    "The ways to train, each an iterator that runs a stretch of steps and gives how many images it trained on."

    def __init__(self, dataset: ImageDataset, network: Callable, batch_size: int, n_steps: int, device: str, precision: str):
        self.n_steps, self.device = n_steps, device
        self.protocol = training_protocol("scratch", batch_size=batch_size, precision=precision)
        self.dataset, self.network = dataset, network
        self.configuration = input_configuration(network())
        self.side = self.configuration["input_size"][1]
        self.images = stage_images(dataset, self.configuration, self.protocol)
        self.n_images = n_steps * min(batch_size, len(self.images.training))

    def model(self) -> torch.nn.Module:
        return build_model(self.network, len(self.dataset.classes)).to(self.device, memory_format=torch.channels_last)

    def ours(self) -> Iterator[int]:
        "fastai's learner with the protocol's callbacks, fed from the cache."
        train = self.images.training_batches(self.protocol.batch_size, range(self.n_steps, 10**6, self.n_steps))
        learner = build_learner(
            self.model(), train, self.images.evaluation_batches(64), self.protocol, 0.01, 1e-4, device=self.device
        )
        learner.dls.loaders[1] = []  # steps are timed, not evaluations
        while True:
            with learner.no_logging():
                learner.fit(1)
            yield self.n_images

    def _steps(self, batches: Callable[[int], tuple[torch.Tensor, torch.Tensor]]) -> Iterator[int]:
        "A plain PyTorch loop."
        model = self.model().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-2)
        while True:
            for x, y in batches():
                loss = torch.nn.functional.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            yield self.n_images

    def plain(self) -> Iterator[int]:
        "The same batches without fastai."
        train = self.images.training_batches(self.protocol.batch_size, range(self.n_steps, 10**6, self.n_steps))
        mean, std = (
            torch.tensor(self.configuration[name], device=self.device).mul(255).view(1, 3, 1, 1) for name in ("mean", "std")
        )

        def batches():
            for images, maps, y in train:
                x = cut_crops(images.to(self.device), maps.to(self.device), self.side)
                yield x.sub_(mean).div_(std), y.to(self.device)

        return self._steps(batches)

    def synthetic(self) -> Iterator[int]:
        "A tensor that is ready on the device, over and over."
        n = min(self.protocol.batch_size, len(self.images.training))
        x = torch.randn(n, 3, self.side, self.side, device=self.device).contiguous(memory_format=torch.channels_last)
        y = torch.arange(n, device=self.device) % len(self.dataset.classes)
        return self._steps(lambda: ((x, y) for _ in range(self.n_steps)))

    def files(self, n_workers: int) -> Iterator[int]:
        "fastai's usual item transforms over the JPEG files."
        loaders = ImageDataLoaders.from_folder(
            self.dataset.root, train="train", valid="test", item_tfms=RandomResizedCrop(self.side), bs=self.protocol.batch_size,
            batch_tfms=Normalize.from_stats(self.configuration["mean"], self.configuration["std"]), num_workers=n_workers,
            device=torch.device(self.device), seed=0,
        )  # fmt: skip
        sgd = partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=0.9, nesterov=True))
        model = self.model()
        learner = Learner(loaders, model, torch.nn.functional.cross_entropy, sgd, lr=0.01, wd=1e-2)
        learner.dls.loaders[1] = []
        with learner.no_bar():
            while True:
                with learner.no_logging():
                    learner.fit(1)  # one pass over the files
                yield len(loaders.train) * self.protocol.batch_size


def clock(device: str) -> float:
    "Seconds: of this process's CPU time, or by the clock once the GPU is done."
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def compare(ways: Ways, n_rounds: int, n_workers: int) -> pd.DataFrame:
    "Images per second of each way, the median over rounds in which they take turns; and by how much ours is faster."
    running = {
        "ours": ways.ours(),
        "plain loop": ways.plain(),
        "ready tensors": ways.synthetic(),
        "JPEG files": ways.files(n_workers),
    }
    seconds = {name: [] for name in running}
    for round_ in range(n_rounds + 1):
        for name, way in list(running.items())[:: (-1) ** round_]:
            start = clock(ways.device)
            n_images = next(way)
            if round_:  # the first is a warm-up
                seconds[name].append((clock(ways.device) - start) / n_images)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    rows = [(name, 1 / each, each / median["ours"]) for name, each in median.items()]
    return pd.DataFrame(rows, columns=["way", "images_per_second", "ours_over_it"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["test_resnet", "mobilenetv3_small_050", "resnet18"])
    parser.add_argument("--side", type=int, default=96, help="input size in pixels")
    parser.add_argument("--photograph", type=int, nargs=2, default=(500, 375), help="size of the JPEG files")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="in one turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--workers", type=int, help="that decode for fastai's usual pipeline; unless given, 8 for a GPU and none for a CPU"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="CSV file for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n_workers = (8 if arguments.device.startswith("cuda") else 0) if arguments.workers is None else arguments.workers
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        n = arguments.batch_size * arguments.steps  # of training images; a fifth more is held out
        dataset = jpeg_folder(Path(folder) / "photographs", round(n / 0.8), tuple(arguments.photograph))
        for name in arguments.networks:
            network = partial(timm.create_model, name, pretrained_cfg_overlay={"input_size": (3, arguments.side, arguments.side)})
            ways = Ways(dataset, network, arguments.batch_size, arguments.steps, arguments.device, arguments.precision)
            tables.append(compare(ways, arguments.rounds, n_workers).assign(network=name))
            start = clock(arguments.device)
            protocol = ways.protocol.model_copy(update={"steps": 10, "n_evaluations": 1})
            train_point(network, dataset, protocol, 0.01, 1e-4, device=arguments.device, cache=Path(folder) / "cache")
            first, start = clock(arguments.device) - start, clock(arguments.device)
            train_point(network, dataset, protocol, 0.1, 1e-4, device=arguments.device, cache=Path(folder) / "cache")
            cached = clock(arguments.device) - start
            points = {"grid point of 10 steps, images to decode": first, "grid point of 10 steps, images cached": cached}
            tables.append(pd.DataFrame({"way": points.keys(), "seconds": points.values(), "network": name}))
    table = pd.concat(tables, ignore_index=True)
    settings = {key: getattr(arguments, key) for key in ("side", "batch_size", "device", "threads", "precision")}
    table = table.assign(**settings)
    print(table.round(3).to_string(index=False, na_rep=""))
    if arguments.out:
        table.to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
