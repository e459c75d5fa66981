"""A classifier that is read again gives the same answers, or says in one line why it cannot."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.selection.common import mend
from transfer_study import load_classifier
from transfer_study.classifiers.linear_probe import LogisticPathClassifier
from transfer_study.classifiers.novelty import MOST_DIRECTIONS, directions
from transfer_study.core import UserError, digest
from transfer_study.networks.networks import Network, build_network
from transfer_study.selection.classifier import save_classifier
from transfer_study.selection.recommend import recommend
from transfer_study.selection.record import model_card


def test_the_test_images_get_the_accuracy_that_was_written(fitted, saved):
    classifier = load_classifier(saved)
    table = classifier.predict(fitted.dataset)
    expected = fitted.dataset.images["class"].to_numpy()
    assert (
        (table["label"] == expected)[fitted.test].mean()
        == classifier.record.expected_accuracy
        == fitted.arguments["expected_accuracy"]
    )
    names = np.array(fitted.dataset.classes)[fitted.head.predict(fitted.features.X)]
    assert (table["label"] == names).all() and (table["label"] != table["second_label"]).all()
    assert table["probability"].to_numpy() == pytest.approx(fitted.head.predict_proba(fitted.features.X).max(axis=1), abs=1e-5)


def test_a_folder_a_tar_and_a_list_are_predicted_alike(fitted, saved, finished, tmp_path):
    folder, classifier = finished[0] / "squares" / "test", load_classifier(saved)
    table = classifier.predict(folder)
    assert list(table["image"][:2]) == ["bright/0.png", "bright/1.png"] and len(table) == 8
    listed = classifier.predict([folder / name for name in table["image"]])
    memory = classifier.predict([np.asarray(Image.open(folder / name)) for name in table["image"]])
    assert list(listed["label"]) == list(memory["label"]) == list(table["label"])
    assert listed["probability"].to_numpy() == pytest.approx(table["probability"].to_numpy(), abs=1e-6)
    assert classifier.predict(folder / "dim" / "0.png")["image"].tolist() == ["0.png"]


def test_the_command_takes_the_files_that_a_shell_lists(command, saved, finished):
    folder = finished[0] / "squares" / "test"
    files = sorted((folder / "dim").iterdir())[:3]
    code, out, _ = command("predict", saved, *files, "--json")
    alone = json.loads(command("predict", saved, folder, "--json")[1])["predictions"]
    labels = {row["image"]: row["label"] for row in alone}
    rows = json.loads(out)["predictions"]
    assert code == 0 and [row["image"] for row in rows] == [str(file) for file in files]
    assert [row["label"] for row in rows] == [labels[f"dim/{file.name}"] for file in files]
    code, out, err = command("predict", saved, *files, folder)
    assert (code, out, err.count("\n")) == (2, "", 1) and "a folder among files; give one folder alone, or files only" in err


def test_temperature_changes_probabilities_and_no_label(fitted, saved, tmp_path):
    warm = load_classifier(save_classifier(tmp_path / "warm", temperature=5.0, **fitted.arguments))
    cold, warm = (classifier.predict(fitted.dataset) for classifier in (load_classifier(saved), warm))
    assert list(cold["label"]) == list(warm["label"]) and (warm["probability"] < cold["probability"]).all()


def test_broken_images_are_listed_and_the_others_predicted(saved, finished, tmp_path):
    shutil.copytree(finished[0] / "squares" / "test", tmp_path / "new")
    (tmp_path / "new" / "cut.png").write_bytes((tmp_path / "new" / "dim" / "0.png").read_bytes()[:200])
    (tmp_path / "new" / "text.jpg").write_text("no image")
    table = load_classifier(saved).predict(tmp_path / "new").set_index("image")
    assert table.index[table["flag"] == "broken"].tolist() == ["cut.png", "text.jpg"]
    assert (
        table.loc["text.jpg", "label"] == ""
        and np.isnan(table.loc["text.jpg", "probability"])
        and "not an image" in table.loc["text.jpg", "reason"]
    )
    assert (table.loc[table["flag"] != "broken", "label"] != "").all() and len(table) == 10
    only = load_classifier(saved).predict([tmp_path / "new" / "text.jpg"])
    assert only["flag"].tolist() == ["broken"]


def test_unlike_images_are_flagged(saved, fitted):
    flat = Image.new("RGB", (40, 40), (255, 0, 0))
    assert load_classifier(saved).predict([flat])["flag"].tolist() == ["unlike"]
    assert (load_classifier(saved).predict(fitted.dataset)["flag"][~fitted.test] == "").mean() > 0.9


def test_the_seed_draws_the_training_images_that_are_kept_for_the_flag(fitted, tmp_path):
    n, n_features = MOST_DIRECTIONS + 100, fitted.features.X.shape[1]
    many = np.random.default_rng(0).normal(size=(n, n_features)).astype(np.float32)
    folder = save_classifier(tmp_path / "seeded", **fitted.arguments | {"training_features": many}, seed=7)
    drawn = np.sort(np.random.default_rng(7).permutation(n)[:MOST_DIRECTIONS])
    assert np.array_equal(load_file(folder / "neighbours.safetensors")["directions"], directions(many[drawn]))


def test_without_training_features_nothing_is_flagged(fitted, tmp_path):
    plain = load_classifier(save_classifier(tmp_path / "plain", **fitted.arguments | {"training_features": None}))
    assert plain.predict([Image.new("RGB", (40, 40), (255, 0, 0))])["flag"].tolist() == [""]
    assert not (tmp_path / "plain" / "neighbours.safetensors").exists()


def test_preprocessing_travels(fitted, tmp_path):
    changed = {
        "input_size": [3, 64, 64],
        "interpolation": "bilinear",
        "mean": [0.2] * 3,
        "std": [0.3] * 3,
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    path = save_classifier(tmp_path / "small", preprocessing=changed, **fitted.arguments)
    classifier = load_classifier(path)
    assert classifier.record.network.preprocessing == changed and classifier.model.pretrained_cfg["input_size"] == (3, 64, 64)
    with pytest.raises(UserError, match="computes other features"):
        load_classifier(mend(path, network={"preprocessing": changed | {"mean": [0.5] * 3}}))


def test_heads_of_two_classes_and_of_named_classes(fitted, tmp_path):
    X, y = fitted.features.X, np.array(["dim", "bright"])[np.arange(len(fitted.features.X)) % 2]
    head = LogisticPathClassifier(l2=[1e-2]).fit(X, y)
    for names in (["bright", "dim"], ["dim", "bright"]):
        path = save_classifier(tmp_path / names[0], **fitted.arguments | {"head": head, "class_names": names})
        classifier = load_classifier(path)
        assert list(classifier.predict(fitted.dataset)["label"]) == list(head.predict(X)) and classifier.class_names == tuple(
            names
        )
        ours, theirs = (
            classifier.predict_proba(fitted.dataset)["dim"].to_numpy(),
            head.predict_proba(X)[:, list(head.classes_).index("dim")],
        )
        assert ours == pytest.approx(theirs, abs=1e-5)


def damaged_json(folder: Path) -> None:
    (folder / "classifier.json").write_text("{")


def promised(folder: Path) -> None:
    path = folder / "classifier.json"
    path.write_text(path.read_text().replace('"n_test": 8', '"n_test": 8000'))


def flipped(name: str):
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return change


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "network.safetensors")
    name = next(name for name in tensors if tensors[name].ndim == 4)
    save_file(tensors | {name: tensors[name] + 1e-3}, folder / "network.safetensors")
    mend(folder)


def pointer(name: str):
    def change(folder: Path) -> None:
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1664\n")

    return change


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def pickled(name: str):
    def change(folder: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        mend(folder)

    return change


PROBLEMS = {
    "no classifier": (lambda folder: (folder / "classifier.json").unlink(), "not a classifier"),
    "damaged": (damaged_json, "classifier.json: damaged"),
    "edited": (promised, "changed after it was written"),
    "format": (lambda folder: mend(folder, format=2), "format 2"),
    "unknown field": (lambda folder: mend(folder, colour="red"), "colour: unknown key"),
    "head": (flipped("head.safetensors"), "head.safetensors is not the file that was written"),
    "neighbours": (flipped("neighbours.safetensors"), "neighbours.safetensors is not the file that was written"),
    "pointer": (pointer("head.safetensors"), "head.safetensors is a pointer of Git LFS, not the file itself; git lfs pull"),
    "pointers": (pointer("network.safetensors"), "network.safetensors is a pointer of Git LFS"),
    "pointer of the record": (pointer("classifier.json"), "classifier.json: a pointer of Git LFS"),
    "no head": (lambda folder: (folder / "head.safetensors").unlink(), "head.safetensors is missing"),
    "weights": (other_weights, "weights of network 'test_resnet' are not those"),
    "missing class": (lambda folder: mend(folder, class_names=["bright"]), "class_names"),
    "added class": (lambda folder: mend(folder, class_names=["bright", "dim", "dark"]), "3 class names for a head of 2 classes"),
    "same class twice": (lambda folder: mend(folder, class_names=["dim", "dim"]), "'dim' occurs twice"),
    "pickled head": (pickled("head.safetensors"), "head.safetensors: not the content"),
    "pickled network": (pickled("network.safetensors"), "network.safetensors"),
    "code": (lambda folder: mend(folder, network={"architecture": "antigravity:main"}), "--code"),
    "network": (lambda folder: mend(folder, network={"architecture": "test_resnett"}), "unknown network"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_folder_with_a_mistake_is_one_line(copied, finished, command, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    change(copied)
    code, out, err = command("predict", copied, finished[0] / "squares" / "test", "--device", "cpu")
    assert code == 2 and out == "" and message in err and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "exploded").exists()


def test_what_recommend_writes_beside_a_classifier_leads_to_it(tmp_path):
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "classifier.json").touch()
    (tmp_path / "report.html").touch()
    for given in (tmp_path, tmp_path / "report.html"):
        with pytest.raises(UserError, match="has no classifier.json; give ") as error:
            load_classifier(given)
        assert str(error.value).endswith(f"give {tmp_path / 'classifier'}")
    with pytest.raises(UserError, match="not a classifier.*; give .*classifier"):
        load_classifier(tmp_path.parent)  # as runs/recommend
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_classifier(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no classifier.json; give ") as error:
        load_classifier(tmp_path / "classifier" / "classifier.json")
    assert str(error.value).endswith(f"give {tmp_path / 'classifier'}")


def test_weights_that_have_moved_or_changed(fitted, tmp_path, weights):
    kept = tmp_path / "w.safetensors"
    shutil.copy(fitted.network.weights, kept)
    network = Network("test_resnet", "test_resnet", kept)
    path = save_classifier(tmp_path / "classifier", **fitted.arguments | {"network": network})
    assert load_classifier(path).record.network.weights == str(kept) and not (path / "network.safetensors").exists()
    kept.rename(tmp_path / "moved.safetensors")
    with pytest.raises(UserError, match="--weights"):
        load_classifier(path)
    assert load_classifier(path, weights=tmp_path / "moved.safetensors").class_names == ("bright", "dim")
    shutil.copy(weights / "test_efficientnet.safetensors", kept)
    with pytest.raises(UserError, match="not of this architecture"):
        load_classifier(path)


def test_own_code_is_loaded_only_from_where_it_is_said_to_be(fitted, tmp_path, command, finished):
    (tmp_path / "nets.py").write_text("import timm\n\n\ndef mine():\n    return timm.create_model('test_resnet')\n")
    network = Network("mine", "nets:mine", fitted.network.weights, directory=tmp_path)
    path = save_classifier(tmp_path / "classifier", bundle=True, **fitted.arguments | {"network": network})
    assert "predict classifier new_images --code folder --out" in (path / "README.md").read_text()
    assert {file.stat().st_mode for file in path.iterdir()} == {(tmp_path / "nets.py").stat().st_mode}
    shutil.copy(tmp_path / "nets.py", path / "nets.py")  # a folder must not bring code
    arguments = ("predict", path, finished[0] / "squares" / "test", "--device", "cpu", "--score")
    assert command(*arguments)[0] == 2
    code, out, err = command(*arguments, "--code", tmp_path)
    assert code == 0 and f"{fitted.arguments['expected_accuracy']:.4f}" in out and "training images: the accuracy" not in err
    whole = command("predict", path, finished[0] / "squares", "--device", "cpu", "--score", "--code", tmp_path)
    assert whole[0] == 0 and " images are in a folder of training images: the accuracy on those says little" in whole[2]
    load = "import transfer_study as ts; print(ts.load_classifier('classifier', code='.').class_names)"
    fresh = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, capture_output=True, text=True)
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "('bright', 'dim')\n", "")


RANDOM = """
import timm
import torch


class Restless(torch.nn.Module):
    def __init__(self, share):
        super().__init__()
        self.body, self.share = timm.create_model("test_resnet"), share

    def forward_features(self, x):
        return torch.nn.functional.dropout2d(self.body.forward_features(x), self.share, training=True)

    def forward_head(self, x, pre_logits=False):
        return self.body.forward_head(x, pre_logits)


def restless():
    return Restless(0.1)


def calm():
    return Restless(0.0)
"""


def test_a_network_with_random_features_is_no_basis_of_a_classifier(fitted, tmp_path):
    (tmp_path / "nets.py").write_text(RANDOM)
    tensors = load_file(fitted.network.weights)
    save_file({f"body.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "w.safetensors")
    named = {name: Network(name, f"nets:{name}", tmp_path / "w.safetensors", directory=tmp_path) for name in ("calm", "restless")}
    calm, restless = named.values()
    said = r"network 'restless': gives other features at every pass, so its answers could not be repeated; .*with training=True"
    with pytest.raises(UserError, match=said):
        save_classifier(tmp_path / "new", **fitted.arguments | {"network": restless})
    assert not (tmp_path / "new").exists()
    path = save_classifier(tmp_path / "calm", **fitted.arguments | {"network": calm})
    assert load_classifier(path, code=tmp_path).class_names == ("bright", "dim")
    (tmp_path / "nets.py").write_text(RANDOM.replace("Restless(0.0)", "Restless(0.1)"))
    with pytest.raises(UserError, match=said.replace("restless", "calm")):
        load_classifier(path, code=tmp_path)
    doubled = RANDOM.replace("return torch.nn.functional.dropout2d(", "return 2 * (").replace(", self.share, training=True", "")
    (tmp_path / "nets.py").write_text(doubled)
    with pytest.raises(UserError, match="computes other features than when the classifier was made .* install the versions"):
        load_classifier(path, code=tmp_path)
    (tmp_path / "nets.py").write_text(RANDOM)
    with pytest.raises(UserError, match=f"no network can be built\n{said}"):
        recommend(fitted.dataset, networks=[restless], out=tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["bright"]}, "head: fitted to the classes 0, 1"),
        ({"class_names": ["bright", "bright"]}, "occurs twice"),
        ({"head": (np.zeros((2, 3)), np.zeros(2))}, "3 features, but network 'test_resnet' has"),
        ({"head": (np.zeros((3, 3)), np.zeros(3))}, "for 2 class names"),
        ({"head": (np.full((2, 3), np.nan), np.zeros(2))}, "NaN or infinity"),
        ({"expected_accuracy": 75}, "expected_accuracy = 75: expected number from 0 and at most 1"),
        ({"temperature": 0.0}, "temperature = 0: expected number above 0"),
        ({"training_features": np.zeros((1, 3))}, "at least two"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fitted, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        save_classifier(tmp_path / "new", **fitted.arguments | changes)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_exists_is_replaced_only_when_asked(fitted, tmp_path):
    path = save_classifier(tmp_path / "a", **fitted.arguments)
    with pytest.raises(UserError, match=r"exists already; --overwrite \(overwrite=True\) replaces it; or choose another folder$"):
        save_classifier(path, **fitted.arguments)
    save_classifier(path, overwrite=True, licence="mit", **fitted.arguments)
    assert load_classifier(path).record.network.licence == "mit" and [p.name for p in tmp_path.iterdir()] == ["a"]
    model = build_network(fitted.arguments["network"])
    swag = {"network": Network("swag", "torchvision:vit_h_14"), "model": model}
    save_classifier(path, overwrite=True, **fitted.arguments | swag)
    assert (path / "README.md").read_text().startswith("---\nlicense: cc-by-nc-4.0\n")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="exists already; it holds no classifier, so it is not replaced"):
        save_classifier(tmp_path / "photos", overwrite=True, **fitted.arguments)


def test_the_model_card_states_what_a_user_asks(saved, fitted):
    card = (saved / "README.md").read_text()
    values = json.loads((saved / "classifier.json").read_text())
    for text in (
        "`bright`, `dim`",
        f"{fitted.arguments['expected_accuracy']:.3f}",
        "λ = 0.01",
        "timm",
        values["network"]["weights_digest"],
    ):
        assert text in card
    assert card.startswith("---\nlicense: ") and values["network"]["licence"] == "not stated"
    assert "does not cover the draw of the training images" in card
    assert not {"interval_covers", "held_out"} & set(values)
    record = load_classifier(saved).record
    grouped = {"interval_covers": "test and training images", "held_out": "groups", "threshold": 0.5, "n_neighbors": 5}
    card = model_card(record.model_copy(update=grouped))
    assert "covers the draw of the test images and of the training images" in card and "held out alone" not in card
    assert "held out alone" in model_card(record.model_copy(update=grouped | {"held_out": "images"}))


def test_the_fitted_head_is_not_changed_by_the_network_s_own_classifier(fitted, tmp_path):
    "A fine-tuned network has a classifier of its own size; its features are what counts."
    import timm

    torch.manual_seed(5)
    tuned = timm.create_model("test_resnet", num_classes=2).eval()
    path = save_classifier(tmp_path / "tuned", bundle=True, model=tuned, **fitted.arguments)
    loaded = load_classifier(path)
    state = tuned.state_dict()
    assert all(
        torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items() if not name.startswith("fc.")
    )


def test_what_a_moved_project_lacks_is_named_at_once(copied):
    record = json.loads((copied / "classifier.json").read_text())
    record.pop("digest")
    record["network"] |= {"architecture": "my_models:small", "weights": str(copied / "gone.safetensors"), "bundled": False}
    (copied / "classifier.json").write_text(json.dumps(record | {"digest": digest(record, 64)}))
    both = r"my_models:small.*--code \(code=\) if you trust it; and weights of network .*gone.safetensors.*--weights"
    with pytest.raises(UserError, match=both):
        load_classifier(copied)
    with pytest.raises(UserError, match=r"no folder .*nowhere for --code \(code=\); check the path; and weights"):
        load_classifier(copied, code=copied / "nowhere")


def test_an_archive_of_a_classifier_is_unpacked_first(tmp_path):
    with zipfile.ZipFile(tmp_path / "classifier.zip", "w") as file:
        file.writestr("classifier/classifier.json", "{}")
    with pytest.raises(UserError, match=r"classifier.zip: an archive, not a folder; unpack it; expected a folder"):
        load_classifier(tmp_path / "classifier.zip")
