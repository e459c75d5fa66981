"""The checks that `tools/check_gpu.py` runs, each of which yields rows of its table"""

import gc
import multiprocessing
import os
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from transfer_study.classifiers.logistic import LogisticPath
from transfer_study.core import UserError
from transfer_study.features.extraction import ExtractionOptions, extract_features
from transfer_study.features.inference import prepare_network, resolve_precision
from transfer_study.features.loading import load_batches, network_view
from transfer_study.images.datasets import ImageDataset, image_folder
from transfer_study.images.decoding import decode
from transfer_study.networks.architectures import build_architecture
from transfer_study.networks.penultimate import input_configuration, penultimate_features
from transfer_study.networks.table import paper_networks

LIMITS = {  # seconds that a check may take on a GPU, in the order in which they run; the last gets what the others leave
    "predictions": 45, "path": 70, "memory": 50, "resume": 60, "training": 90, "decoding": 40, "processes": 80, "ray": 80,
    "features": 170,
}  # fmt: skip
N_CLASSES = 4


@dataclass(frozen=True)
class Sizes:
    "How much is computed."

    n_images: int = 2048
    photograph: tuple[int, int] = (500, 375)  # pixels of the JPEG files
    networks: tuple[str, ...] = ()  # whose features are timed; none: the paper's
    n_compiled: int = 2  # of them, also through torch.compile
    network: str = "resnet50"  # that is trained
    small: tuple[str, ...] = ("resnet18", "mobilenetv3_small_100")  # where speed is not the point
    batch_size: int = 128
    steps: int = 200  # fewer if these would take more than `most_seconds`
    path: tuple[int, int, int, int] = (10_000, 1024, 50, 9)  # images, features, classes, values of λ
    enough: float = 0.5  # seconds in which a call is repeated to time it
    most_seconds: float = 12.0  # of a training, and of scikit-learn's path beyond the value of λ in which they are over


TINY = Sizes(48, (64, 48), ("test_resnet",), 0, "test_resnet", ("test_resnet",), 8, 3, (120, 24, 4, 5), 0.0)


class Skip(Exception):
    "This machine cannot run the check; the message says why."


def row(case: str, **values) -> dict:
    "One line of the table; `value` must not be above `bound`."
    value, bound, ours, reference = (values.get(name) for name in ("value", "bound", "seconds_ours", "seconds_reference"))
    if ours and reference:
        values.setdefault("ratio", reference / ours)
    failed = bound is not None and not (value is not None and value <= bound)  # NaN fails
    return {"case": case, "status": "failed" if failed else "passed"} | values


def on_gpu(device: str) -> bool:
    return device.startswith("cuda")


def network(name: str) -> torch.nn.Module:
    "The network with random weights from a fixed seed."
    torch.manual_seed(0)
    return build_architecture(name).eval()


def random_images(model: torch.nn.Module, n: int, device: str) -> torch.Tensor:
    "Bytes (n, height, width, 3) of the size that the model takes; fewer than `n` if they are large."
    height, width = input_configuration(model)["input_size"][1:]
    n = max(2, min(n, n * 224**2 // (height * width)))
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)


def generate_photographs(folder: Path, sizes: Sizes) -> None:
    "JPEG files of classes that differ in the colours of a coarse pattern; a quarter of them are test images."
    random = np.random.default_rng(0)
    patterns = random.integers(40, 216, (N_CLASSES, 6, 8, 3))
    noise = random.normal(0, 25, (sizes.n_images, 6, 8, 3))

    def write(i: int) -> None:
        label, split = i % N_CLASSES, "test" if i // N_CLASSES % 4 == 3 else "train"
        path = folder / split / f"class{label}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray((patterns[label] + noise[i]).clip(0, 255).astype(np.uint8))
        coarse.resize(sizes.photograph, Image.Resampling.BICUBIC).save(path, quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(sizes.n_images)))


def photographs(folder: Path, n: int | None = None) -> ImageDataset:
    "The generated files, or `n` of them drawn at random."
    dataset = image_folder(folder / "photographs", "photographs")
    if n is None or n >= len(dataset.images):
        return dataset
    drawn = dataset.images.sample(n, random_state=0).sort_index().reset_index(drop=True)
    return replace(dataset, images=drawn, fingerprint=f"{dataset.fingerprint} {n}")


def once(function: Callable, device: str) -> tuple[float, object]:
    "The duration of one call, and what it returns."
    if on_gpu(device):
        torch.cuda.synchronize(device)
    start, value = time.perf_counter(), function()
    if on_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, value


def low_precision(device: str) -> str:
    "bfloat16, or float32 on a GPU that has no hardware for it."
    return resolve_precision("auto", device) if on_gpu(device) else "bfloat16"


def seconds(function: Callable, device: str, enough: float) -> float:
    "The median duration of a call; the first is not counted."
    times: list[float] = []
    while len(times) < 3 or (sum(times) < enough and len(times) < 20):
        times.append(once(function, device)[0])
    return statistics.median(times[1:])


def largest_difference(a, b) -> float:
    "Relative to the largest value of `b`."
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))


def check_predictions(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "The same features and the same predictions as on the CPU."
    dataset, l2 = photographs(folder, 512), np.logspace(2, -2, 5)
    y, test = dataset.images["label"].to_numpy(), (dataset.images["split"] == "test").to_numpy()
    for name in sizes.small:
        model = network(name)
        expected = np.asarray(extract_features([model], dataset, device="cpu")[0].X)
        labels = LogisticPath(l2).fit(expected[~test], y[~test]).predict(expected[test])
        for precision, bound, share in (("float32", 1e-3, 0.005), ("bfloat16", 0.1, 0.03)):
            if precision not in ("float32", low_precision(device)):
                yield row(f"{name}, {precision}", status="skipped", note="this GPU has no hardware for bfloat16")
                continue
            X = np.asarray(extract_features([model], dataset, device=device, precision=precision)[0].X)
            case = f"{name}, {precision}"
            yield row(f"{case}: features, largest difference", value=largest_difference(X, expected), bound=bound)
            same = (LogisticPath(l2, device=device).fit(X[~test], y[~test]).predict(X[test]) == labels).mean()
            yield row(f"{case}: share of predictions that differ", value=1 - float(same), bound=share)


def classification(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    "Features (n, d) like a network's, not negative and of different scales, and labels (n,)."
    random = np.random.default_rng(0)
    y, decay = np.arange(n) % k, np.arange(1, min(d, 256) + 1)
    latent = random.normal(size=(k, len(decay)))[y] * decay**-0.35 + 1.2 * random.normal(size=(n, len(decay)))
    X = latent @ (random.normal(size=(len(decay), d)) * decay[:, None] ** -0.5) / len(decay) ** 0.25 - 0.3
    return (np.maximum(X + 0.3 * random.normal(size=(n, d)), 0) * np.exp(0.5 * random.normal(size=d))).astype(np.float32), y


def objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, l2: float) -> float:
    "Summed cross-entropy and penalty, in double precision."
    from scipy.special import logsumexp

    coef = coef.astype(float)
    scores = X.astype(float) @ coef.T + intercept
    return float((logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).sum() + l2 / 2 * (coef**2).sum())


def check_path(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "The λ path against the CPU's and scikit-learn's: equal objectives."
    from sklearn.linear_model import LogisticRegression

    *shape, n_l2 = sizes.path
    (X, y), l2 = classification(*shape), np.logspace(5, -6, n_l2)
    case = "{:,} × {:,}, {} classes, {} λ".format(*sizes.path)
    LogisticPath(l2[:2], device=device).fit(X[:100], y[:100])  # first calls are not what is timed
    ours, path = once(lambda: LogisticPath(l2, device=device).fit(X, y), device)
    cpu, reference = once(lambda: LogisticPath(l2).fit(X, y), device)
    apart = float(np.abs(path.objective_ / reference.objective_ - 1).max())
    yield row(f"{case}: objective, {device} against cpu", value=apart, bound=2e-6, seconds_ours=ours, seconds_reference=cpu)
    yield row(f"{case}: values of λ that did not converge", value=int((~path.converged_).sum()), bound=0)
    model, theirs, objectives = LogisticRegression(warm_start=True, max_iter=2000), 0.0, []
    for value in l2:  # from the strongest to the weakest, which takes the most iterations
        model.C = 1 / value
        theirs += once(lambda: model.fit(X, y), device)[0]
        objectives.append(objective(model.coef_, model.intercept_, X, y, value))
        if theirs > sizes.most_seconds:
            break
    above, n = float((path.objective_[: len(objectives)] / np.array(objectives) - 1).max()), len(objectives)
    note = "" if n == n_l2 else f"scikit-learn's time is that of the {n} strongest λ only"
    case = f"{case}: objective above scikit-learn's"
    yield row(case, value=above, bound=1e-6, seconds_ours=ours, seconds_reference=theirs, note=note)


def free() -> None:
    "Gives memory back that nothing uses."
    gc.collect()
    torch.cuda.empty_cache()


def with_little_memory(function: Callable, split: Callable[..., bool], device: str):
    "What `function` returns under a limit so low that `split` of it is true; raises `Skip` where PyTorch cannot limit memory."
    for name in ("set_per_process_memory_fraction", "max_memory_allocated", "reset_peak_memory_stats"):
        if not hasattr(torch.cuda, name):
            raise Skip(f"torch.cuda.{name} is missing")
    function()  # in the first call, cuDNN tries algorithms that need much memory
    free()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    most, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    for share in (0.6, 0.4, 0.25, 0.15, 0.1):  # at the first, libraries may get by with smaller workspaces instead
        value = None  # its memory is needed
        free()
        torch.cuda.set_per_process_memory_fraction((before + share * (most - before)) / total, device)
        try:
            value = function()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        if split(value):
            break
    return value


class Hungry(torch.nn.Module):
    "A network whose training step on more than four images does not fit: on a CPU, memory cannot be limited."

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model, self.pretrained_cfg = model, model.pretrained_cfg

    def reset_classifier(self, n_classes: int) -> None:
        self.model.reset_classifier(n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > 4:
            raise torch.OutOfMemoryError(f"{len(images)} images")
        return self.model(images)


def check_memory(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "A batch that does not fit is halved, in inference and in training; memory is limited so that it must be."
    prepared, n, batches = prepare_network(network(sizes.small[0]), device), sizes.batch_size, []
    images = random_images(network(sizes.small[0]), n, device)
    expected = prepared(images).cpu()

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        batches.append(len(pixels))
        if not on_gpu(device) and len(pixels) > n // 4:
            raise torch.OutOfMemoryError(f"{len(pixels)} images")
        return prepared.compute(pixels)

    def features() -> torch.Tensor:
        batches.clear()
        return replace(prepared, compute=counted)(images).cpu()

    X = with_little_memory(features, lambda X: len(batches) > 1, device) if on_gpu(device) else features()
    yield row(f"inference: {n} images were computed as a whole, not as {batches}", value=int(len(batches) < 2), bound=0)
    yield row("inference: features, largest difference from the whole batch's", value=largest_difference(X, expected), bound=1e-3)

    def train():
        model = network(sizes.small[0])
        model = model if on_gpu(device) else Hungry(model)
        return training(folder, sizes, device, "finetune", lambda: model, steps=2, precision="float32")

    def is_split(result) -> bool:
        return result.details["n_parts"] > 1

    result = with_little_memory(train, is_split, device) if on_gpu(device) else train()
    case = f"training: a batch of {result.details['batch_size']} was not split (parts: {result.details['n_parts']})"
    yield row(case, value=int(not is_split(result)), bound=0)
    yield row("training: it did not finish", value=int(result.status != "finished"), bound=0, note=result.reason)


def training(folder: Path, sizes: Sizes, device: str, kind: str, build: Callable, steps: int, precision: str, **options):
    "One training by the package; `kind` is finetune or scratch."
    from transfer_study.training.finetune import train_point
    from transfer_study.training.protocol import training_protocol

    protocol = training_protocol(kind, steps=steps, batch_size=sizes.batch_size, precision=precision, n_evaluations=1)
    given = build() if kind == "finetune" else build
    return train_point(given, photographs(folder), protocol, 0.01, 1e-4, device=device, cache=folder / "images", **options)


def resumable(folder: Path, sizes: Sizes, device: str, **options):
    "A training of 12 steps that writes a checkpoint after every fourth."
    import transfer_study.training.callbacks  # noqa: F401  imports fastai, which sets these flags

    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    build = partial(network, sizes.small[0])
    return training(folder, sizes, device, "finetune", build, 12, "float32", checkpoint_every=4, **options)


def train_and_die(folder: Path, sizes: Sizes, device: str) -> None:
    "The same training, killed after nine steps."
    from fastai.callback.core import Callback

    class Kill(Callback):
        n_steps = 0

        def after_step(self) -> None:
            self.n_steps += 1
            if self.n_steps == 9:
                os.kill(os.getpid(), signal.SIGKILL)

    resumable(folder, sizes, device, directory=folder / "killed", callbacks=[Kill()])


def sharded(folder: Path, sizes: Sizes, device: str, cache: Path | None, **options) -> np.ndarray:
    "Features of 48 images, written to disk after every eighth."
    models, parts = [network(sizes.small[0])], {"batch_size": 8, "shard_size": 8, "n_workers": 0}
    return extract_features(models, photographs(folder, 48), cache, device=device, **parts, **options)[0].X


def extract_and_die(folder: Path, sizes: Sizes, device: str) -> None:
    "The same extraction, killed after more than half of the images."
    done: list[int] = []

    def progress(n: int) -> None:
        done.append(n)
        if sum(done) > 24:
            os.kill(os.getpid(), signal.SIGKILL)

    sharded(folder, sizes, device, folder / "features", progress=progress)


def exit_code(target: Callable, folder: Path, sizes: Sizes, device: str) -> int | None:
    "Of a process that runs `target`."
    context = multiprocessing.get_context("spawn" if on_gpu(device) else None)
    process = context.Process(target=target, args=(folder, sizes, device))
    process.start()
    process.join()
    return process.exitcode


def check_resume(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "kill -9 in the middle, and a second start that continues and ends where an undisturbed process ends."
    if not hasattr(signal, "SIGKILL"):
        raise Skip("this system has no SIGKILL")
    code = exit_code(extract_and_die, folder, sizes, device)
    kept = len(list((folder / "features").glob("*/shards/[!.]*")))
    note = f"exit code {code}, {kept} of 6 parts kept"
    not_killed = code != -signal.SIGKILL or not 0 < kept < 6
    yield row("extraction: the first start was not killed in the middle", value=int(not_killed), bound=0, note=note)
    X, whole = (sharded(folder, sizes, device, cache) for cache in (folder / "features", None))
    yield row("extraction: features, largest difference", value=largest_difference(X, whole), bound=1e-4)

    code, checkpoint = exit_code(train_and_die, folder, sizes, device), folder / ".killed.partial" / "checkpoint.pt"
    case = "training: the first start was not killed after a checkpoint"
    yield row(case, value=int(code != -signal.SIGKILL or not checkpoint.is_file()), bound=0, note=f"exit code {code}")
    resumed, undisturbed = resumable(folder, sizes, device, directory=folder / "killed"), resumable(folder, sizes, device)
    apart = abs(resumed.loss / undisturbed.loss - 1)
    bound = 0.02 if on_gpu(device) else 0.0  # sums on a GPU may come in another order
    yield row("training: loss after the last step, relative difference", value=apart, bound=bound)


def plain_loop(folder: Path, sizes: Sizes, device: str, kind: str, steps: int) -> float:
    "Seconds of the same steps in a plain PyTorch loop with autocast, over the same batches."
    from transfer_study.training.batches import cut_crops
    from transfer_study.training.learner import build_model, stage_images
    from transfer_study.training.protocol import training_protocol

    protocol = training_protocol(kind, steps=steps, batch_size=sizes.batch_size)
    model = build_model(partial(network, sizes.network), N_CLASSES).to(device, memory_format=torch.channels_last).train()
    configuration, kind_of_device = input_configuration(model), torch.device(device).type
    side = configuration["input_size"][1]
    images = stage_images(photographs(folder), configuration, protocol, directory=folder / "images")
    batches = images.training_batches(protocol.batch_size, [steps], pin_memory=on_gpu(device))
    mean, std = (torch.tensor(configuration[name], device=device).mul(255).view(1, 3, 1, 1) for name in ("mean", "std"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-2)

    def run() -> None:
        for pixels, maps, y in batches:
            x = cut_crops(pixels.to(device, non_blocking=True), maps.to(device, non_blocking=True), side)
            with torch.autocast(kind_of_device, torch.bfloat16, enabled=low_precision(device) == "bfloat16"):
                scores = model(x.sub_(mean).div_(std))
            loss = torch.nn.functional.cross_entropy(scores.float(), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return once(run, device)[0]


def check_training(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "Fine-tuning and training from random weights against a plain PyTorch loop with autocast."
    build, precision = partial(network, sizes.network), low_precision(device)
    training(folder, sizes, device, "finetune", build, 2, precision)  # images are decoded, and libraries choose their algorithms
    tried = min(10, sizes.steps)
    # Both of these have one evaluation; their difference is the time of the other steps.
    one, more = (training(folder, sizes, device, "finetune", build, n, precision).seconds for n in (1, tried))
    steps = int(np.clip(sizes.most_seconds * (tried - 1) / max(more - one, 1e-3), tried, sizes.steps))
    for kind in ("finetune", "scratch"):
        result = training(folder, sizes, device, kind, build, steps, precision)
        theirs = plain_loop(folder, sizes, device, kind, steps)
        case = f"{kind}: {steps} steps of {result.details['batch_size']} images, {sizes.network}, {precision}"
        note = "ours with an evaluation" if result.status == "finished" else result.reason
        failed = int(result.status != "finished")
        yield row(case, value=failed, bound=0, seconds_ours=result.seconds, seconds_reference=theirs, note=note)
    if on_gpu(device) and hasattr(torch.cuda, "max_memory_allocated"):
        yield row("most memory, in GiB", value=torch.cuda.max_memory_allocated(device) / 2**30)


def check_decoding(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "Decoding by the package's workers on the CPU against torchvision's decoder on the device."
    try:
        from torchvision.io import decode_jpeg
        from torchvision.transforms.v2.functional import center_crop, resize
    except ImportError as error:
        raise Skip(f"this torchvision has no decode_jpeg or no transforms.v2 ({error})") from error
    dataset, view = photographs(folder, 1024), network_view(network(sizes.small[0]))[0]
    n_workers, n, side = ExtractionOptions(device=device).resolved().n_workers, len(dataset.images), view.size[0]
    files = [torch.frombuffer(bytearray(dataset.read(i)), dtype=torch.uint8) for i in range(n)]
    try:
        decoded = decode_jpeg(files[0], device=device).float().cpu()
    except (RuntimeError, TypeError) as error:
        raise Skip(f"torchvision decodes no JPEG on {device}: {str(error).splitlines()[0]}") from error
    pillow = torch.from_numpy(np.array(decode(dataset.read(0)))).permute(2, 0, 1).float()
    yield row("mean difference of pixels from Pillow's, of 255", value=float((decoded - pillow).abs().mean()), bound=4.0)

    def ours() -> None:
        for _ in load_batches(dataset, np.arange(n), [view], 64, n_workers):
            pass

    def theirs() -> None:
        for start in range(0, n, 64):
            images = decode_jpeg(files[start : start + 64], device=device)
            large = [resize(image, [round(side * 8 / 7)], antialias=True) for image in images]
            torch.stack([center_crop(image, [side, side]) for image in large])

    width, height = sizes.photograph
    case = f"{n} JPEG files of {width} × {height}: {n_workers or 'no'} workers on the CPU against {device}"
    yield row(case, seconds_ours=seconds(ours, device, sizes.enough), seconds_reference=seconds(theirs, device, sizes.enough))


def write_study(folder: Path, sizes: Sizes) -> Path:
    "Networks with random weights on the photographs, by two protocols."
    from safetensors.torch import save_file

    lines = ['name = "gpu"', 'datasets = ["photographs"]', "[protocols.linear]", "n_l2 = 5", "[protocols.finetune]", "steps = 4"]
    lines += ["n_learning_rates = 2", "n_weight_decays = 0", "batch_size = 16", "n_evaluations = 1"]
    for i, name in enumerate(sizes.small):
        save_file(network(name).state_dict(), folder / f"{name}.safetensors")
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{name}.safetensors"', f"source_accuracy = {0.5 + 0.1 * i}"]
    path = folder / "gpu.toml"
    path.write_text("\n".join(lines))
    return path


def run_study(folder: Path, sizes: Sizes, device: str, name: str, executor) -> tuple[float, np.ndarray]:
    "Seconds of the study under `executor`, and its scores by the linear protocol; what `name` has finished is only read."
    from transfer_study.study.study import Study

    study = Study.from_file(write_study(folder, sizes))
    taken, results = once(lambda: study.run(folder / "runs" / name, device, executor=executor, progress=False), device)
    return taken, results[results["protocol"] == "linear"]["score"].to_numpy()


def check_processes(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "Two processes that share the device, against one."
    from transfer_study.study.executors import LocalExecutor

    alone, expected = run_study(folder, sizes, device, "one", LocalExecutor((device,)))
    together, scores = run_study(folder, sizes, device, "two", LocalExecutor((device, device)))
    case = "scores of a study by two processes, largest difference from one process"
    apart, note = float(np.abs(scores - expected).max()), "seconds include the start of both"
    yield row(case, value=apart, bound=0.02, seconds_ours=together, seconds_reference=alone, note=note)


def check_ray(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "Ray with a quarter of a GPU for each task."
    from transfer_study.study.executors import LocalExecutor
    from transfer_study.study.ray import RayExecutor

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ModuleNotFoundError as error:
        raise Skip('Ray is not installed; pip install "transfer_study[ray]"') from error
    ray.init(num_cpus=2, num_gpus=int(on_gpu(device)), include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        taken, scores = run_study(folder, sizes, device, "ray", RayExecutor(gpus=0.25 if on_gpu(device) else None))
    finally:
        ray.shutdown()
    _, expected = run_study(folder, sizes, device, "one", LocalExecutor((device,)))
    share = "a quarter of a GPU" if on_gpu(device) else "a core"
    case = f"scores of a study by Ray, {share} for each task, largest difference from one process"
    yield row(case, value=float(np.abs(scores - expected).max()), bound=0.02, seconds_ours=taken)


def plain(model: torch.nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    "What a user of timm writes: eager, contiguous; with the same arithmetic in float32 as ours."
    mean, std = (values.view(1, 3, 1, 1).to(images.device) for values in network_view(model)[1])
    model = model.to(images.device)

    @torch.inference_mode()
    def compute() -> torch.Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return penultimate_features(model, images.permute(0, 3, 1, 2).float().contiguous().div_(255).sub_(mean).div_(std))

    return compute


def network_features(name: str, dataset: ImageDataset, sizes: Sizes, device: str, compiled: bool) -> Iterator[dict]:
    "One network in both precisions, of ready tensors, of JPEG files, and compiled."
    model, low = network(name), low_precision(device)
    images = random_images(model, sizes.batch_size, device)
    reference = seconds(plain(network(name), images), device, sizes.enough) / len(images)
    for precision in dict.fromkeys(("float32", low)):
        prepared = prepare_network(model, device, precision)
        ours = seconds(partial(prepared, images), device, sizes.enough) / len(images)
        yield row(f"{name}, {precision}, channels-last, against plain float32", seconds_ours=ours, seconds_reference=reference)
    extract = partial(extract_features, [model], dataset, device=device, precision=low)
    taken = once(extract, device)[0] / len(dataset.images)
    case = f"{name}, {low}, JPEG files: share of the speed on ready tensors"
    yield row(case, seconds_ours=taken, seconds_reference=ours, ratio=ours / taken)
    if compiled:
        case, quick = f"{name}, {low}, compiled against not compiled", prepare_network(model, device, low, compile=True)
        try:
            first, _ = once(partial(quick, images), device)
        except UserError as error:
            if "torch.compile failed" not in str(error):  # it computes other features
                raise
            yield row(case, status="skipped", note=str(error))
            return
        times = {"seconds_ours": seconds(partial(quick, images), device, sizes.enough) / len(images), "seconds_reference": ours}
        yield row(case, **times, note=f"compiling took {first:.0f} s")


def check_features(folder: Path, sizes: Sizes, device: str) -> Iterator[dict]:
    "Features of the paper's networks: float32, bfloat16, channels-last, compiled, and what decoding leaves of the speed."
    start, dataset, known = time.monotonic(), photographs(folder), sizes.networks or tuple(paper_networks()["checkpoint"])
    first = [name for name in ("resnet50.tv_in1k", "pytorchcv:mobilenet_w1") if name in known]  # should the time not last
    names = list(dict.fromkeys([*first, *known]))
    for i, name in enumerate(names):
        if on_gpu(device) and time.monotonic() - start > 0.75 * LIMITS["features"]:
            note = f"the time for this check lasted for {i} of {len(names)}"
            yield row(f"{len(names) - i} more networks", status="skipped", note=note)
            return
        try:
            yield from network_features(name, dataset, sizes, device, compiled=i < sizes.n_compiled)
        except Exception as error:  # the other networks can still be measured
            yield row(name, status="failed", note=f"{type(error).__name__}: {str(error).splitlines()[0]}")


CHECKS: dict[str, Callable[[Path, Sizes, str], Iterator[dict]]] = {
    "predictions": check_predictions, "path": check_path, "memory": check_memory, "resume": check_resume,
    "training": check_training, "decoding": check_decoding, "processes": check_processes, "ray": check_ray,
    "features": check_features,
}  # fmt: skip
warnings.filterwarnings("ignore", category=RuntimeWarning)  # scikit-learn's, of its objective
