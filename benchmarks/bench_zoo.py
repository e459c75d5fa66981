"""What this package relies on, checked on the smallest network of every module of timm, with random weights.

The smallest is meant among those with ImageNet weights in timm's published results, or among all if the module has none there.

    python benchmarks/bench_zoo.py [--below 15M] [--modules resnet,beit] [--search] [--again] [--out build/zoo.csv]

One row per network:

- `classifier_input`: the network's classifier, applied to the features, gives the network's output
- `described_width`: `describe_network` states the number of features without a forward pass
- `trains`: with a new classifier for 5 classes, one step of gradient descent has finite gradients and changes the classifier
- `folded`: of its batch norms, how many are folded into convolutions; the features stay the same (`same_folded`)
- `same_channels_last`, `same_bfloat16`: the prediction is kept in this memory format and in this precision
- `pooling`: the choices besides the default; `features`: what its last block gives, a map, tokens, or something else
- `note`: the reason, where a check failed or could not be made

A prediction is kept if the class that is predicted in the other way has, for every image, a score that is lower than the highest
one by at most a share of the range of that image's scores: TOLERANCE. The classifier has random weights, so ties are more
frequent than in a trained network. Batch norms take the statistics of 16 images first; without that, deep random networks have
vanishing or huge activations. Inputs are as small as the network allows. Networks with more than 300 million parameters need
more than 6 GB of memory and are not run. Rows of this version of timm that OUT holds already are kept; --again repeats them.

Exit code 1 if a check fails that holds in the committed table, benchmarks/results/zoo.csv, which `--out` replaces if it names it.
"""

import argparse
import copy
import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import timm
import torch
from timm.layers import ClassifierHead
from torch.nn.functional import cross_entropy

from transfer_study.core import UserError, data_path
from transfer_study.features.inference import fold_batch_norm, prepare_network
from transfer_study.networks.networks import POOLINGS, describe_network, pooled_network
from transfer_study.networks.penultimate import classifier_names, input_configuration, penultimate_features

RESULTS = Path(__file__).resolve().parent / "results" / "zoo.csv"
TOLERANCE = {"features": 1e-4, "channels_last": 1e-3, "bfloat16": 0.05}
N_IMAGES, N_CALIBRATION, N_CLASSES, LARGEST = 4, 16, 10, 300_000_000
CHECKS = ["classifier_input", "described_width", "trains", "same_folded", "same_channels_last", "same_bfloat16"]
FACTS = ["module", "network", "parameters", "input_size", "features", "n_features", "pooling"]
COLUMNS = [*FACTS, *CHECKS, "folded", "note", "timm"]


def smallest(module: str, known: dict[str, int]) -> tuple[str, int]:
    "The network of a module of timm with the fewest parameters, and their number."
    names = timm.list_models(module=module)
    sizes = {name: known[name] for name in names if name in known} or {name: n_parameters(name) for name in names}
    name = min(sizes, key=lambda name: sizes[name])
    return name, sizes[name]


def n_parameters(name: str) -> int:
    "Number of parameters without the classifier, counted without memory for them where the constructor allows that."
    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
    except (NotImplementedError, RuntimeError, TypeError):
        model = timm.create_model(name, num_classes=0)
    return sum(parameter.numel() for parameter in model.parameters())


def smallest_networks(modules: list[str], listed: dict[str, dict], known: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    "Module, its smallest network, and the parameters: first where they are known, then where networks have to be built for that."
    counted = [module for module in modules if module in listed or known.keys() & set(timm.list_models(module=module))]
    for group in (counted, [module for module in modules if module not in counted]):
        chosen = {module: tuple(listed[module].values()) if module in listed else smallest(module, known) for module in group}
        for module, (name, parameters) in sorted(chosen.items(), key=lambda item: item[1][1]):
            yield module, name, parameters


def build(name: str) -> torch.nn.Module:
    "The network with random weights and 10 classes, batch statistics of one batch, at the smallest input size that it accepts."
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=N_CLASSES).eval()
    own = input_configuration(model)["input_size"][-1]
    fixed = model.pretrained_cfg.get("fixed_input_size", False)
    for size in [own] if fixed else sorted({min(own, size) for size in (64, 96, 128, 192, 256, own)}):
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, size, size)}
        try:
            calibrate(model, random_images(model, N_CALIBRATION)[1])
        except (RuntimeError, AssertionError, ValueError, IndexError):
            if size == own:
                raise
        else:
            break
    for head in heads(model):
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1)
    return model.eval()


def random_images(model: torch.nn.Module, n: int = N_IMAGES) -> tuple[torch.Tensor, torch.Tensor]:
    "Smooth random images with noise, uint8 (n, height, width, 3), and the same normalised, (n, 3, height, width)."
    configuration, generator = input_configuration(model), torch.Generator().manual_seed(1)
    size = configuration["input_size"][1:]
    coarse, noise = torch.rand(n, 3, 8, 8, generator=generator), torch.randn(n, 3, *size, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    pixels = (smooth + 0.1 * noise).clamp(0, 1).mul(255).byte()
    mean, std = (torch.tensor(configuration[key])[:, None, None] for key in ("mean", "std"))
    return pixels.permute(0, 2, 3, 1).contiguous(), (pixels / 255 - mean) / std


def calibrate(model: torch.nn.Module, images: torch.Tensor) -> None:
    "One pass in which every batch norm takes the statistics of the batch; then one in evaluation mode."
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1
    with torch.no_grad():
        model.train()(images)
        model.eval()(images)


def heads(model: torch.nn.Module) -> list[torch.nn.Module]:
    "The classifiers; a list of them, as in CrossViT, counts as its members, and one that pools as what it does afterwards."
    modules = [model.get_submodule(name) for name in classifier_names(model)]
    members = [head for module in modules for head in (module if isinstance(module, torch.nn.ModuleList) else [module])]
    return [head.fc if isinstance(head, ClassifierHead) else head for head in members]


def scores(model: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    "The mean over the network's classifiers of what they give for the features: for all of them, or each for its part."
    outputs, all_heads = [], heads(model)
    widths = [getattr(head, "in_features", 0) for head in all_heads]
    parts = features.split(widths, dim=1) if len(widths) > 1 and sum(widths) == features.shape[1] else [features] * len(widths)
    for head, part in zip(all_heads, parts, strict=True):
        convolution = any(isinstance(module, torch.nn.Conv2d) for module in head.modules())
        outputs.append(head(part[:, :, None, None] if convolution else part).flatten(1))
    return torch.stack(outputs).mean(dim=0)


def loss_of_score(expected: torch.Tensor, actual: torch.Tensor) -> float:
    "How much lower the score of the class that `actual` predicts is than the highest, as a share of the range; the worst image."
    chosen = expected.gather(1, actual.argmax(dim=1, keepdim=True)).squeeze(1)
    spread = (expected.amax(dim=1) - expected.amin(dim=1)).clamp_min(1e-12)
    return ((expected.amax(dim=1) - chosen) / spread).max().item() if actual.isfinite().all() else float("inf")


def n_batch_norms(model: torch.nn.Module) -> int:
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


class Checks:
    "The checks of one network; `row` holds the results, and the reasons of what failed."

    def __init__(self, name: str):
        self.model = build(name)
        self.pixels, self.images = random_images(self.model)
        self.row: dict = {"input_size": self.images.shape[-1], "pooling": ""}
        self.notes: list[str] = []

    def run(self) -> dict:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.model.default_cfg.get("num_classes", 1000) == 0:
                self.notes.append("its published weights have no classifier")
            for check in (self.classifier, self.folding, self.channels_last, self.bfloat16, self.training, self.pooling):
                try:
                    check()
                except Exception as error:
                    reason = (str(error).strip().splitlines() or [""])[0]
                    self.notes.append(f"{check.__name__}: {type(error).__name__}: {reason[:120]}")
        return self.row | {"note": "; ".join(self.notes)}

    @torch.no_grad()
    def classifier(self) -> None:
        model, self.features = self.model, penultimate_features(self.model, self.images)
        last = model.forward_features(self.images)
        kinds, described, n = {3: "tokens", 4: "map", 2: "vector"}, describe_network(model)["n_features"], self.features.shape[1]
        kind = kinds.get(last.ndim, "") if isinstance(last, torch.Tensor) else type(last).__name__
        self.row |= {"features": kind, "n_features": n, "described_width": described == n}
        if described != n:
            self.notes.append(f"described with {described} features")
        output = model(self.images)
        self.row["classifier_input"] = False
        close = (scores(model, self.features) - output).abs().max() <= TOLERANCE["features"] * output.abs().max()
        self.row["classifier_input"] = bool(close)
        if not close:
            self.notes.append("between its features and its output stands more than the classifier: a norm, or a second head")

    @torch.no_grad()
    def folding(self) -> None:
        before, folded = n_batch_norms(self.model), fold_batch_norm(self.model, self.images, TOLERANCE["features"])
        difference = (penultimate_features(folded, self.images) - self.features).abs().max() / self.features.abs().max()
        same = bool(difference <= TOLERANCE["features"])
        self.row |= {"folded": f"{before - n_batch_norms(folded)} of {before}", "same_folded": same}
        if before and folded is self.model:
            self.notes.append("folding would change its features, so it is used unfolded")

    @torch.no_grad()
    def channels_last(self) -> None:
        model = copy.deepcopy(self.model).to(memory_format=torch.channels_last)
        actual = penultimate_features(model, self.images.contiguous(memory_format=torch.channels_last))
        self._compare("channels_last", self.features, actual)

    @torch.no_grad()
    def bfloat16(self) -> None:
        expected = prepare_network(self.model)(self.pixels)
        self._compare("bfloat16", expected, prepare_network(self.model, precision="bfloat16")(self.pixels))

    def _compare(self, name: str, expected: torch.Tensor, actual: torch.Tensor) -> None:
        lost = loss_of_score(scores(self.model, expected), scores(self.model, actual))
        self.row[f"same_{name}"] = lost <= TOLERANCE[name]
        if lost > TOLERANCE[name]:
            self.notes.append(f"{name}: the score of the predicted class is lower by {lost:.2f} of the range")

    def training(self) -> None:
        from transfer_study.training.learner import build_model

        self.row["trains"] = False
        model, labels = build_model(self.model, 5), torch.arange(N_IMAGES) % 5
        before = [parameter.detach().clone() for head in heads(model) for parameter in head.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        output = model.train()(self.images)
        output = output if isinstance(output, torch.Tensor) else output[0]
        cross_entropy(output, labels).backward()
        finite = all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        optimizer.step()
        after = [parameter for head in heads(model) for parameter in head.parameters()]
        changed = bool(after) and not all(map(torch.equal, before, after))
        self.row["trains"] = tuple(output.shape) == (N_IMAGES, 5) and finite and changed

    @torch.no_grad()
    def pooling(self) -> None:
        possible = []
        for pooling in POOLINGS[1:]:
            try:
                pooled = pooled_network(self.model, pooling, "network")
            except UserError:
                continue
            features = penultimate_features(pooled.eval(), self.images)
            assert features.shape == (N_IMAGES, pooled.num_features), f"{pooling}: {tuple(features.shape)}"
            possible.append(pooling)
        self.row["pooling"] = " ".join(possible)


def check(module: str, name: str, parameters: int) -> dict:
    "The row of one network."
    row = {"module": module, "network": name, "parameters": parameters, "timm": timm.__version__}
    if parameters > LARGEST:
        return row | {"note": "not run: needs more than 6 GB of memory"}
    try:
        return row | Checks(name).run()
    except Exception as error:  # the constructor, or the first pass
        return row | {"note": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"}


def millions(text: str) -> float:
    return float(text.upper().removesuffix("M")) * 1e6


def lost_checks(table: pd.DataFrame, committed: pd.DataFrame) -> list[str]:
    "Checks that hold in the committed table and fail in this one, a line each."
    before = committed.set_index("network")
    return [
        f"{row['network']}: {name} fails ({row['note']})"
        for row in table.to_dict("records") if row["network"] in before.index
        for name in CHECKS if str(before[name][row["network"]]) == "True" and str(row.get(name)) != "True"
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--below", type=millions, default=float("inf"), help="only networks with fewer parameters: 15M")
    parser.add_argument("--modules", default="", help="only these modules, separated by commas")
    parser.add_argument("--search", action="store_true", help="search for the smallest networks again")
    parser.add_argument("--again", action="store_true", help="repeat rows that OUT holds already")
    parser.add_argument("--out", type=Path, default=RESULTS.parents[2] / "build" / "zoo.csv")
    options = parser.parse_args()
    committed = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame(columns=COLUMNS)
    there = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=COLUMNS)
    listed = {} if options.search else committed.set_index("module")[["network", "parameters"]].to_dict("index")
    facts = pd.read_csv(data_path("timm_architectures.csv"), index_col="architecture")["parameters"].dropna().astype(int)
    rows = {row["module"]: row for row in there.to_dict("records")}
    modules = [module for module in options.modules.split(",") if module] or timm.list_modules()
    ran = []
    for module, name, parameters in smallest_networks(modules, listed, facts.to_dict()):
        current = module in rows and (rows[module]["network"], rows[module]["timm"]) == (name, timm.__version__)
        if parameters >= options.below or (current and not options.again):
            continue
        rows[module] = check(module, name, parameters)
        ran.append(rows[module])
        gc.collect()
        print(*(f"{key} {rows[module].get(key)}" for key in ("module", "network", *CHECKS, "note")), sep="; ", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([rows[key] for key in sorted(rows)], columns=COLUMNS)
        table.astype(dict.fromkeys(["input_size", "n_features"], "Int64")).to_csv(options.out, index=False)  # empty where not run
    lost = lost_checks(pd.DataFrame(ran, columns=COLUMNS), committed)
    print(f"{len(ran)} networks checked; {len(lost)} checks fail that held before", *lost, sep="\n")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
