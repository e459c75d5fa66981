"""Drawn images: the same in any process and order, balanced, disjoint, true to their labels, and not solved by colours."""

import io
import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image
from scipy import ndimage

from transfer_study.core import UserError
from transfer_study.images import drawn
from transfer_study.images.decoding import decode
from transfer_study.images.drawing import TEXTURES, TYPEFACES, glyph, place
from transfer_study.images.drawn import drawn_arrays, drawn_dataset, known_drawn
from transfer_study.images.splits import split_images

ROOT = Path(__file__).resolve().parents[2]
NAMES = known_drawn()["name"].tolist()


def small(name, **options):
    return drawn_dataset(name, **{"n_train_per_class": 3, "n_test_per_class": 2} | options)


def test_one_source_and_at_least_four_targets():
    table = known_drawn()
    assert (table["role"] == "source").sum() == 1 and (table["role"] == "target").sum() >= 4
    assert table.set_index("role").loc["source", "classes"] >= 30


@pytest.mark.parametrize("name", NAMES)
def test_the_table_gives_the_counts(name):
    row, counts = known_drawn().set_index("name").loc[name], drawn_dataset(name).counts
    assert {key: row[key] for key in ("classes", "train", "test")} == {key: counts[key] for key in ("classes", "train", "test")}


def test_another_process_draws_the_same_in_another_order():
    datasets = {name: small(name) for name in NAMES}
    rows = {name: np.random.default_rng(0).permutation(len(datasets[name].images))[:12] for name in NAMES}
    images = {name: drawn_arrays(datasets[name], rows[name])[0] for name in NAMES}
    here = {name: [sha256(image.tobytes()).hexdigest() for image in images[name]][::-1] for name in NAMES}
    code = (
        "import sys, pickle; from hashlib import sha256\n"
        "datasets, rows = pickle.load(sys.stdin.buffer)\n"
        "print({k: [sha256(datasets[k].reader.pixels(int(i)).tobytes()).hexdigest() for i in rows[k][::-1]] for k in rows})"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    command, sent = [sys.executable, "-c", code], pickle.dumps((datasets, rows))
    done = subprocess.run(command, input=sent, capture_output=True, env=environment, check=True)
    assert done.stdout.decode().strip() == str(here)


@pytest.mark.parametrize("name", NAMES)
def test_balanced_disjoint_and_labelled_in_order(name):
    dataset = small(name)
    images, labels, splits = drawn_arrays(dataset)
    assert set(np.bincount(labels[splits == "train"])) == {3} and set(np.bincount(labels[splits == "test"])) == {2}
    assert len({image.tobytes() for image in images}) == len(images)
    assert dataset.images["name"].is_unique and [dataset.classes[k] for k in labels] == dataset.images["class"].tolist()
    rows = [dataset.reader.row(i) for i in range(len(images))]
    assert [row[:2] for row in rows] == list(zip(splits, labels, strict=True)) and len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_more_images_per_class_keep_the_old_ones(name):
    few, many = small(name), small(name, n_train_per_class=5, n_test_per_class=4)
    rows = many.images.reset_index().set_index("name")["index"].loc[few.images["name"]]
    assert np.array_equal(drawn_arrays(few)[0], drawn_arrays(many, rows)[0])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_draws_other_images(name):
    images, others = drawn_arrays(small(name))[0], drawn_arrays(small(name, seed=1))[0]
    assert np.mean([np.array_equal(a, b) for a, b in zip(images, others, strict=True)]) < 0.1


@pytest.mark.parametrize("size", (24, 32, 48))
@pytest.mark.parametrize("name", NAMES)
def test_files_hold_the_pixels_at_the_size_asked_for(name, size):
    dataset = small(name, size=size)
    image = decode(dataset.read(4))
    assert image.size == (size, size) and np.array_equal(np.asarray(image), drawn_arrays(dataset, [4])[0][0])
    assert Image.open(io.BytesIO(dataset.read(4))).format == "PNG"


def test_the_fingerprint_says_what_was_drawn_and_draws_nothing(monkeypatch):
    monkeypatch.setattr(drawn.DrawnImages, "pixels", None)
    changes = ({}, {"seed": 1}, {"n_train_per_class": 9}, {"n_test_per_class": 9}, {"size": 48})
    prints = {small(name, **change).fingerprint for name in NAMES for change in changes}
    assert len(prints) == len(NAMES) * len(changes)
    before = small("scenes").fingerprint
    assert before == small("scenes").fingerprint
    monkeypatch.setattr(drawn, "DRAWING_VERSION", drawn.DRAWING_VERSION + 1)
    assert small("scenes").fingerprint != before


def missing_characters(characters: str, typeface: str) -> str:
    "Those of `characters` that the typeface lacks: it would draw an empty box instead."
    contained = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf")).get_charmap()
    return "".join(character for character in characters if ord(character) not in contained)


def test_every_class_can_be_written_in_every_typeface_and_looks_different():
    accents = drawn.accented_vowels()
    assert missing_characters("Aβă♞", "DejaVuSerif") == "♞"
    assert not any(missing_characters(drawn.GLYPHS, typeface) for typeface in TYPEFACES)
    assert not any(missing_characters(accents, typeface) for typeface in drawn.DEJAVU)
    assert not any(missing_characters(drawn.SYMBOLS, typeface) for typeface in ("DejaVuSans", "DejaVuSans-Bold"))
    for characters in (drawn.GLYPHS, drawn.SYMBOLS, accents):
        shapes = [np.asarray(glyph(character, "DejaVuSans", 32), float) for character in characters]
        for i, one in enumerate(shapes):
            for other in shapes[:i]:
                apart = min(abs(one - other).mean(), abs(one[:, ::-1] - other).mean())
                assert apart > 3, f"{characters[i]} has a twin or a mirror twin"


@pytest.mark.parametrize("label", range(16))
def test_scenes_show_what_their_label_says(label):
    layout, n = drawn.LAYOUTS[label // 4], drawn.N_SHAPES[label % 4]
    assert drawn.drawn_tasks()["scenes"].classes[label] == f"{layout}_of_{n}"
    for seed in range(50):
        shapes = np.array(drawn.scene_arrangement(label, np.random.default_rng(seed)))
        assert len(shapes) == n
        spread = np.ptp(shapes[:, :2], axis=0)
        if layout == "nested":
            assert np.all(spread == 0) and np.all(np.diff(shapes[:, 2]) < 0)
            continue
        covered = sum(place(glyph("●", "DejaVuSans", 96), 96, *shape) for shape in shapes)
        assert ndimage.label(covered > 0.5)[1] == n  # apart from each other and inside the image
        assert shapes[:, :2].min() > 0 and shapes[:, :2].max() < 1
        wide, high = spread > 0.25
        assert (wide, high) == {"row": (True, False), "column": (False, True), "diagonal": (True, True)}[layout]


def test_a_character_is_in_its_picture():
    "The mean over many pictures of the brightness of a character's own typefaces differs from that over other characters'."
    draw = drawn.drawn_tasks()["glyphs"].draw
    labels = (drawn.GLYPHS.index("L"), drawn.GLYPHS.index("T"))
    means = [np.mean([draw(k, 32, np.random.default_rng([i, k])).mean(-1) for i in range(150)], axis=0) for k in labels]
    shapes = [np.mean([place(glyph(drawn.GLYPHS[k], face, 32), 32, side=0.77) for face in TYPEFACES], axis=0) for k in labels]
    difference = np.corrcoef((means[0] - means[1]).ravel(), (shapes[0] - shapes[1]).ravel())[0, 1]
    assert difference > 0.5


def test_textures_differ_in_kind_not_in_brightness():
    images, labels, _ = drawn_arrays(small("textures", n_train_per_class=30))
    brightness = images.mean(axis=(1, 2, 3))
    between = np.var([brightness[labels == k].mean() for k in range(len(TEXTURES))])
    assert between < 0.15 * brightness.var()


def test_raw_pixels_do_not_solve_the_drawn_tasks():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    for name in [name for name in NAMES if name != "digits"]:
        images, labels, splits = drawn_arrays(drawn_dataset(name, n_train_per_class=10, n_test_per_class=10))
        X = StandardScaler().fit_transform(images[:, ::2, ::2].reshape(len(images), -1) / 255)
        model = LogisticRegression(C=1e-3, max_iter=100).fit(X[splits == "train"], labels[splits == "train"])
        assert model.score(X[splits == "test"], labels[splits == "test"]) < 0.3, name


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    stored, labels = load_digits(return_X_y=True)
    dataset = drawn_dataset("digits", size=16)
    images, digits, splits = drawn_arrays(dataset)
    shrunk = images[..., 0].reshape(-1, 8, 2, 8, 2).mean((2, 4)).reshape(len(images), -1)
    stored = stored * (255 / 16)
    nearest = ((stored**2).sum(1) - 2 * shrunk @ stored.T).argmin(1)
    assert np.array_equal(labels[nearest], digits)
    assert not set(nearest[splits == "train"]) & set(nearest[splits == "test"])


def test_a_fifth_of_training_images_is_held_out_per_class():
    split = split_images(drawn_dataset("scenes"))
    assert (split == "val").sum() == 0.2 * known_drawn().set_index("name").loc["scenes", "train"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"name": "glyph"}, "did you mean glyphs"),
        ({"name": "scenes", "n_train_per_class": 1}, "at least two"),
        ({"name": "scenes", "n_test_per_class": 0}, "one for the test"),
        ({"name": "scenes", "size": 8}, "side of 16 to 512"),
        ({"name": "scenes", "seed": -1}, "seed -1"),
        ({"name": "digits", "n_train_per_class": 100}, "expected at most 174"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(options, words):
    with pytest.raises(UserError, match=words) as caught:
        drawn_dataset(**options)
    assert "\n" not in str(caught.value)


def test_no_row_beyond_the_last_and_no_arrays_of_files(tmp_path):
    from tests.conftest import write_images
    from transfer_study.images.datasets import image_folder

    dataset = small("scenes")
    with pytest.raises(IndexError, match="no row 80"):
        dataset.read(len(dataset.images))
    with pytest.raises(UserError, match="read from files"):
        drawn_arrays(image_folder(write_images(tmp_path / "squares")))


def test_small_files_are_kept_and_are_still_their_own():
    first, same = (drawn_dataset("symbols", n_train_per_class=2, n_test_per_class=1).reader for _ in range(2))
    assert first(0) is same(0) != first(1)
    assert drawn_dataset("symbols", seed=1, n_train_per_class=2, n_test_per_class=1).reader(0) != first(0)
    large = drawn_dataset("symbols", n_train_per_class=2, n_test_per_class=1, size=96).reader
    assert large(0) is not large(0) and large(0) == large(0) != first(0)
