"""Hugging Face datasets from folders and Parquet files on this machine: no network is touched."""

import builtins
import io
import logging
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tests.conftest import write_images
from tests.images.hub_server import serving
from transfer_study.core import UserError
from transfer_study.images.catalog import open_dataset
from transfer_study.images.datasets import image_folder, only_structure
from transfer_study.images.official import count_mismatch
from transfer_study.images.splits import split_images
from transfer_study.selection.images import open_images


@pytest.fixture
def hf(tmp_path, monkeypatch):
    "The library, with a cache of its own."
    library = pytest.importorskip("datasets", reason="the Hugging Face library (extra hf) is not installed")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    return library


def png(value: int) -> dict:
    Image.new("RGB", (4, 4), (value, 2 * value, 0)).save(buffer := io.BytesIO(), "png")
    return {"bytes": buffer.getvalue(), "path": f"{value}.png"}


def parquet(hf, folder, labels, feature, column="label", **more):
    "A Parquet file a split, as the hub keeps them; image `i` of a split is of brightness `i`."
    folder.mkdir(parents=True, exist_ok=True)
    for split, values in labels.items():
        columns = {"image": [png(i) for i in range(len(values))], column: values}
        features = {"image": hf.Image(), column: feature}
        for name, (extra, values_of_extra) in more.items():
            features[name], columns[name] = extra, values_of_extra[split]
        hf.Dataset.from_dict(columns, features=hf.Features(features)).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


LABELS = {"train": [2, 0, 1, 1, 0, 2], "validation": [1, 2, 0], "test": [0, 1, 2, 2]}


def test_parquet_images_and_labels_are_what_was_stored(tmp_path, hf):
    parquet(hf, tmp_path / "shapes", LABELS, hf.ClassLabel(names=["square", "circle", "star"]))
    dataset = open_dataset("hf:shapes", tmp_path)
    assert dataset.name == "shapes" and dataset.metric == "top1" and count_mismatch(dataset) == ""
    assert dataset.counts == {"classes": 3, "train": 6, "val": 3, "test": 4}
    assert dataset.classes == ["square", "circle", "star"]  # the library's order, not the alphabet's
    assert dataset.targets.tolist() == LABELS["train"] + LABELS["validation"] + LABELS["test"]
    assert [dataset.read(i) for i in range(13)] == [png(i)["bytes"] for n in (6, 3, 4) for i in range(n)]
    assert (split_images(dataset) == dataset.images["split"]).all()
    (tmp_path / "shapes/train-00000-of-00001.parquet").rename(tmp_path / "shapes/train-00000-of-00003.parquet")
    with pytest.raises(UserError, match=r"file 00001-of-00003 of train is missing \(2 of 3 such files\)"):
        open_dataset("hf:shapes", tmp_path)


def test_it_travels_to_another_process_and_has_a_stable_fingerprint(tmp_path, hf):
    feature = hf.ClassLabel(names=["square", "circle", "star"])
    parquet(hf, tmp_path / "shapes", LABELS, feature)
    dataset, again = open_dataset("hf:shapes", tmp_path), open_dataset("hf:shapes", tmp_path)
    assert pickle.loads(pickle.dumps(dataset)).read(7) == dataset.read(7)
    assert dataset.fingerprint == again.fingerprint
    parquet(hf, tmp_path / "other/shapes", LABELS | {"test": [0, 1, 2, 1]}, feature)
    assert open_dataset("hf:other/shapes", tmp_path).fingerprint != dataset.fingerprint


def test_a_folder_of_images_is_the_same_as_without_the_library(tmp_path, hf):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    ours, theirs = image_folder(folder), open_dataset(f"hf:{folder}")
    assert theirs.classes == ours.classes and theirs.counts == ours.counts
    for split in ("train", "test"):
        rows = [np.flatnonzero(d.images["split"] == split) for d in (ours, theirs)]
        contents = [{(d.read(i), d.images["class"][i]) for i in of} for d, of in zip((ours, theirs), rows, strict=True)]
        assert contents[0] == contents[1]


def test_a_validation_split_of_another_name_and_labels_as_text(tmp_path, hf):
    labels = {"train": ["b", "a", "b", "a"], "valid": ["a", "b"], "test": ["b", "a"]}
    loaded = parquet(hf, tmp_path / "letters", labels, hf.Value("string"))
    (loaded / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {split}-*.parquet\n" for split in labels)
        + "---\n"
    )
    dataset = open_dataset("hf:letters:small", tmp_path)
    assert dataset.name == "letters-small" and dataset.counts["val"] == 2 and dataset.classes == ["a", "b"]
    assert dataset.targets.tolist() == [1, 0, 1, 0, 0, 1, 1, 0]


def test_one_that_bears_an_official_name_is_counted_like_it(tmp_path, hf):
    labels = {"train": list(range(100)) * 2, "test": list(range(100))}
    coarse = {split: [k // 5 for k in values] for split, values in labels.items()}
    names = [f"fine{k}" for k in range(100)]
    more = {"coarse_label": (hf.ClassLabel(num_classes=20), coarse)}
    parquet(hf, tmp_path / "cifar100", labels, hf.ClassLabel(names=names), "fine_label", **more)
    dataset = open_dataset("hf:cifar100", tmp_path)
    assert dataset.classes == names
    line = "dataset cifar100: the labels are those of the column 'fine_label', not of 'coarse_label'; to take another,"
    assert dataset.notes[-1].startswith(line) and "not used" not in "".join(dataset.notes)
    named = open_dataset({"hf": "cifar100", "label": "coarse_label"}, tmp_path)
    assert len(named.classes) == 20 and named.notes[-1] == "dataset cifar100: columns not used: fine_label"
    expected = "cifar100: 200 training images found, 50,000 expected; 100 test images found, 10,000 expected"
    assert count_mismatch(dataset) == expected


def test_files_that_are_not_there_are_named(tmp_path, hf):
    "A clone without Git LFS, or without git annex get."
    parquet(hf, tmp_path / "clone", {"train": [0, 1] * 4, "test": [0, 1]}, hf.ClassLabel(names=["a", "b"]))
    files = sorted((tmp_path / "clone").rglob("*.parquet"))
    kept = files[0].read_bytes()
    files[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:2ed4bb4a6808004c98691f64b366827f\nsize 7717354\n")
    for reference in ("hf:clone", f"csv:{files[0]}"):
        with pytest.raises(UserError, match=rf"{files[0].name}:? (is )?a pointer of Git LFS, not the .* itself; git lfs pull"):
            open_dataset(reference, tmp_path)
    files[0].unlink()
    files[0].symlink_to(".git/annex/objects/x.parquet")
    with pytest.raises(UserError, match=rf"{files[0].name} is a link to nothing \(such files: 1\); put the files in the place"):
        open_dataset("hf:clone", tmp_path)
    files[0].unlink()
    files[0].write_bytes(kept)
    assert open_dataset("hf:clone", tmp_path).counts["test"] == 2


def test_what_the_library_cannot_tell_is_asked_for(tmp_path, hf):
    feature, text = hf.ClassLabel(names=["square", "circle", "star"]), hf.Value("string")
    cases = {
        "no_test": ({"train": [0, 1], "validation": [0, 1]}, feature, {}, "no split 'test', found: train, validation"),
        "hidden": ({"train": [0, 1, 0, 1], "test": [-1, -1]}, feature, {}, "labels are missing in split test"),
        "unseen": ({"train": [0, 1, 0, 1], "test": [2, 1]}, feature, {}, "class 'star' is in test but not in train"),
        "numbers": ({"train": [0.5, 1.0], "test": [1.0, 0.5]}, hf.Value("float32"), {}, "float32, such as 0.5; save it as whole"),
        "blank": ({"train": ["a", "b", " ", ""], "test": ["a", "b"]}, text, {}, r"row 2 \(from 0\) of split train .* \(2 of 4\)"),
        "none": ({"train": ["a", "b"], "test": ["a", None, "b"]}, text, {}, r"row 1 .* of split test .*remove .*\(1 of 3\)"),
        "some": ({"train": [0, 1, 0, -1], "test": [0, 1]}, feature, {}, "row 3 .* has no label"),
        "unnamed": ({"train": [0, 1], "test": [0, 1]}, hf.ClassLabel(names=["", "a"]), {}, "row 0 .* a blank one"),
        "lists": ({"train": [["a"], ["b", ""]], "test": [["a"], ["b"]]}, hf.List(text), {}, "row 1 .* a blank one"),
    }
    for name, (labels, kind, more, message) in cases.items():
        parquet(hf, tmp_path / name, labels, kind, **more)
        with pytest.raises(UserError, match=message):
            open_dataset(f"hf:{name}", tmp_path)
    two = {split: values for split, values in LABELS.items()}
    parquet(hf, tmp_path / "two", two, feature, "shape", colour=(feature, two))
    with pytest.raises(UserError, match="one label column expected, 2 found among the columns shape, colour"):
        open_dataset("hf:two", tmp_path)


def test_all_columns_that_are_unclear_are_named_at_once(tmp_path, hf):
    feature, text = hf.ClassLabel(names=["a", "b", "c"]), hf.Value("string")
    images = {split: [png(i) for i in range(len(values))] for split, values in LABELS.items()}
    parquet(hf, tmp_path / "both", LABELS, feature, "shape", colour=(feature, LABELS), mask=(hf.Image(), images))
    message = "2 found among the columns image, mask; one label .* shape, colour; name it with --image or --label of recommend"
    with pytest.raises(UserError, match=message):
        open_dataset("hf:both", tmp_path)
    assert open_dataset({"hf": "both", "image": "mask", "label": "shape"}, tmp_path).counts["train"] == 6
    kinds = {split: [f"kind {label}" for label in values] for split, values in LABELS.items()}
    captions = {split: [f"picture {i}" for i in range(len(values))] for split, values in LABELS.items()}
    parquet(hf, tmp_path / "captions", captions, text, "text")
    with pytest.raises(UserError, match='the columns text; name it with --label text of recommend, label = "text" in a study'):
        open_dataset("hf:captions", tmp_path)
    parquet(hf, tmp_path / "named", kinds, text, "kind")
    dataset = open_dataset("hf:named", tmp_path)
    assert dataset.classes == ["kind 0", "kind 1", "kind 2"]
    assert dataset.notes[-1] == "dataset named: the labels are those of the column 'kind'"
    assert open_dataset({"hf": "named", "label": "kind"}, tmp_path).fingerprint == dataset.fingerprint
    parquet(hf, tmp_path / "more", kinds, text, "kind", place=(text, kinds))
    with pytest.raises(UserError, match='0 found among the columns kind, place; name it with --label of recommend, label = "…"'):
        open_dataset("hf:more", tmp_path)
    layouts.text(tmp_path / "list/list.csv", "image,label\n1.png,cat\n2.png,dog\n")
    with pytest.raises(UserError, match="no column holds images, found: image, label; a table of the paths .* csv:FILE"):
        open_images(f"hf:{tmp_path / 'list'}")
    (tmp_path / "bare").mkdir()
    for i in range(6):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"bare/{i}.png")
    with pytest.raises(UserError, match="images without labels; list these in a metadata.csv"):
        open_images(f"hf:{tmp_path / 'bare'}")
    rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(6)]
    layouts.text(tmp_path / "bare/metadata.csv", "\n".join(["file_name,label", *rows]))
    assert open_images(f"hf:{tmp_path / 'bare'}").counts["train"] == 6


def test_vectors_of_zeros_and_ones_are_no_lists_of_classes(tmp_path, hf):
    vectors = {"train": [[0, 1], [1, 0], [1, 1], [0, 1]], "test": [[1, 0], [0, 1]]}
    parquet(hf, tmp_path / "vectors", vectors, hf.List(hf.Value("int64")))
    with pytest.raises(UserError, match="column 'label' contains vectors of 0 and 1; save the list of its classes"):
        open_dataset("hf:vectors", tmp_path)
    lists = {split: [[i for i, value in enumerate(row) if value] for row in rows] for split, rows in vectors.items()}
    parquet(hf, tmp_path / "lists", lists, hf.List(hf.Value("int64")))
    matrix = open_dataset("hf:lists", tmp_path).label_matrix
    assert matrix.to_numpy().tolist() == [*vectors["train"], *vectors["test"]]


def test_classes_of_two_images_leave_none_to_draw(tmp_path, hf):
    parquet(hf, tmp_path / "few", {"train": [0, 1, 0, 1]}, hf.ClassLabel(names=["a", "b"]))
    with pytest.raises(UserError, match="no test image can be drawn, .* three or more images of a class"):
        open_images(f"hf:{tmp_path / 'few'}")


def test_a_test_split_with_hidden_labels_is_no_test_split(tmp_path, hf):
    labels = LABELS | {"test": [-1] * 4}
    parquet(hf, tmp_path / "hidden", labels, hf.ClassLabel(names=["a", "b", "c"]))
    with pytest.raises(UserError) as failure:
        open_dataset("hf:hidden", tmp_path)
    assert 'name another split with splits = { train = "train", test = "validation" }, or draw test' in str(failure.value)
    named = open_dataset({"hf": "hidden", "splits": {"train": "train", "test": "validation"}}, tmp_path)
    assert named.counts == {"classes": 3, "train": 6, "val": 0, "test": 3}
    assert open_dataset({"hf": "hidden", "test_share": 0.3}, tmp_path).counts["val"] == 3
    dataset = open_images(f"hf:{tmp_path / 'hidden'}")
    assert dataset.counts == {"classes": 3, "train": 6, "val": 3, "test": 0}
    assert any("left out: 4 rows of split 'test'" in note for note in dataset.notes)


def test_what_can_be_no_name_on_the_hub_is_no_folder(tmp_path, hf):
    for reference in ("hf:data/pets/images", "hf:./pets", "hf: food101", "hf:~/pets"):
        with pytest.raises(UserError, match=r"no such folder, and no name on the hub \(NAME, OWNER/NAME"):
            open_dataset(reference, tmp_path)
    parquet(hf, tmp_path / "a:b", LABELS, hf.ClassLabel(names=["a", "b", "c"]))
    assert open_dataset("hf:a:b", tmp_path).counts["train"] == 6
    with pytest.raises(UserError, match="it was not downloaded before, and HF_HUB_OFFLINE forbids to ask the hub"):
        open_dataset("hf:nobody/nothing", tmp_path)
    files = {"pets.zip": "give it without hf:$", "pets.arrow": "give its folder$", "pets.csv": "give its folder, or, .*csv:"}
    for name, advice in files.items():
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=f"{name}: is a file; {advice}"):
            open_dataset(f"hf:{name}", tmp_path)


def test_labels_of_any_whole_number_and_spelling_are_classes(tmp_path, hf):
    given = {"uint16": [0, 1], "uint32": [0, 1], "float64": [0.0, 1.0], "bool": [False, True]}
    columns = {kind: (hf.Value(kind), {"train": labels * 2, "test": labels}) for kind, labels in given.items()}
    parquet(hf, tmp_path / "kinds", {"train": [0, 1] * 2, "test": [0, 1]}, hf.Value("int8"), **columns)
    for kind in given:
        dataset = open_dataset({"hf": "kinds", "label": kind}, tmp_path)
        assert dataset.classes == (["False", "True"] if kind == "bool" else ["0", "1"])
        assert dataset.targets.tolist() == [0, 1, 0, 1, 0, 1]
    spelled = {"train": ["zo\u00eb", "cat", " zoe\u0308", "cat"], "test": ["zoe\u0308", "cat "]}
    parquet(hf, tmp_path / "pets", spelled, hf.Value("string"))
    assert open_dataset("hf:pets", tmp_path).classes == ["cat", "zo\u00eb"]
    parquet(hf, tmp_path / "named", {"train": [1, 0, 2, 1], "test": [0, 1, 2]}, hf.ClassLabel(names=["cat ", "ant", "cat"]))
    named = open_dataset("hf:named", tmp_path)
    assert named.classes == ["cat", "ant"] and named.targets.tolist() == [1, 0, 0, 1, 0, 1, 0]
    several = {split: [[label, "x"] for label in labels] for split, labels in spelled.items()}
    parquet(hf, tmp_path / "several", several, hf.List(hf.Value("string")))
    assert open_dataset("hf:several", tmp_path).label_matrix.sum().to_dict() == {"cat": 3, "zo\u00eb": 3, "x": 6}


def test_shards_that_pandas_wrote_are_images_by_their_bytes(tmp_path, hf):
    import pyarrow.parquet

    files = [png(i)["bytes"] for i in range(4)]
    columns = {
        "structs": [png(i) for i in range(4)], "more": [png(i) | {"width": 4, "path": None} for i in range(4)],
        "gap": [None, *files[1:]], "large": pyarrow.array(files, pyarrow.large_binary()),
    }  # fmt: skip
    other = {"mask": [b"\0\1"] * 4, "label": ["a", "b", "a", "b"]}
    for name, images in {"one": {"photo": files}, "several": columns}.items():
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            pyarrow.parquet.write_table(pyarrow.table(images | other), tmp_path / name / f"{split}.parquet")
    dataset = pickle.loads(pickle.dumps(open_dataset("hf:one", tmp_path)))
    assert [dataset.read(i) for i in range(8)] == files * 2
    for column in columns:
        same = pickle.loads(pickle.dumps(open_dataset({"hf": "several", "image": column}, tmp_path)))
        assert [same.read(i) for i in range(8)] == [b"" if column == "gap" and i % 4 == 0 else files[i % 4] for i in range(8)]
    with pytest.raises(UserError, match="one image column expected, 4 found among the columns structs, more, gap, large"):
        open_dataset("hf:several", tmp_path)
    with pytest.raises(UserError, match="column 'mask' does not contain images"):
        open_dataset({"hf": "one", "image": "mask"}, tmp_path)


def test_a_readme_without_metadata_is_no_news(tmp_path, hf, caplog, monkeypatch):
    parquet(hf, tmp_path / "letters", {"train": ["a", "b", "a", "b"], "test": ["a", "b"]}, hf.Value("string"))
    (tmp_path / "letters/README.md").write_text("# my data\n")
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    assert open_dataset("hf:letters", tmp_path).counts["train"] == 4
    assert not caplog.records and logging.getLogger("huggingface_hub").level < logging.CRITICAL


def test_what_cannot_be_loaded_is_one_line(tmp_path, hf, monkeypatch, caplog):
    with pytest.raises(UserError, match="hf:nobody/nothing: cannot be loaded \\(") as failure:
        open_dataset("hf:nobody/nothing", tmp_path)
    assert "\n" not in str(failure.value)
    layouts.text(tmp_path / "empty/notes.txt2", "x")
    with pytest.raises(UserError, match=r"cannot be loaded \([^\n]*\)$"):
        open_dataset("hf:empty", tmp_path)
    parquet(hf, tmp_path / "more", {"train": [0, 1]}, hf.Value("int8"), note=(hf.Value("int8"), {"train": [0, 1]}))
    described = "features:\n  - {name: image, dtype: image}\n  - {name: label, dtype: int8}"
    layouts.text(tmp_path / "more/README.md", f"---\ndataset_info:\n  {described}\n---\n")
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    with pytest.raises(UserError, match=r"the columns differ from those of its description: .*\{'note'\}\)\)$"):
        open_dataset("hf:more", tmp_path)
    assert not [record for record in caplog.records if record.name.startswith("datasets")]
    with pytest.raises(UserError, match="parquet: is a file; give its folder"):
        open_dataset("hf:more/train-00000-of-00001.parquet", tmp_path)


def test_configurations_archives_and_delta_tables_are_named(tmp_path, hf):
    for name in ("full", "mini"):
        parquet(hf, tmp_path / "two" / name, {"train": [0, 1], "test": [0, 1]}, hf.ClassLabel(names=["a", "b"]))
    files = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("full", "mini"))
    (tmp_path / "two" / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    with pytest.raises(UserError, match=r"it has the configurations full, mini; write one of them .* hf:NAME:full"):
        open_dataset("hf:two", tmp_path)
    write_images(tmp_path / "train", train=2, test=0)
    shutil.make_archive(tmp_path / "zipped" / "data" / "train", "zip", tmp_path / "train" / "train")
    with pytest.raises(UserError, match=r"unpack the archives in it, such as data/train.zip, and give the folder without hf:"):
        open_dataset("hf:zipped", tmp_path)
    parquet(hf, tmp_path / "delta", LABELS, hf.ClassLabel(names=["a", "b", "c"]))
    (tmp_path / "delta" / "_delta_log").mkdir()
    log = tmp_path / "delta" / "_delta_log" / "00000000000000000000.json"
    log.write_text('{"add": {"path": "train-00000-of-00001.parquet"}}\n')
    assert open_dataset("hf:delta", tmp_path).counts["train"] == 6
    log.write_text('{"remove": {"path": "train-00000-of-00001.parquet"}}\n')
    with pytest.raises(UserError, match="a Delta table whose files hold removed rows"):
        open_dataset("hf:delta", tmp_path)


def test_the_hub_is_asked_once_and_what_it_says_is_one_line(tmp_path, hf, monkeypatch):
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        with pytest.raises(UserError, match=r"hf:nobody/nothing: cannot be loaded \(404 .*; check the name and the revision"):
            open_dataset("hf:nobody/nothing", tmp_path)
        server.status = {"api/datasets/gated": 401}
        with pytest.raises(UserError, match=r"hf:gated/images: cannot be loaded \(401 .*if it is gated, accept the conditions"):
            open_dataset({"hf": "gated/images", "revision": "v1"}, tmp_path)
        paths = [path.removeprefix("/api/datasets/") for _, path, _ in server.requests]
        assert paths == ["nobody/nothing", "gated/images/revision/v1"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"hf:some/images: cannot be loaded \(127.0.0.1:9 is not reached: .*the connection"):
        open_dataset("hf:some/images", tmp_path)
    assert hf.config.HF_HUB_OFFLINE is False


def test_without_the_library_the_message_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "datasets" or name.startswith("datasets."):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.split(".")[0] == "datasets"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r'hf:beans needs the Hugging Face library: pip install "transfer_study\[hf\]"'):
        open_dataset("hf:beans")


def test_splits_columns_and_test_images_can_be_named(tmp_path, hf):
    names = hf.ClassLabel(names=["square", "circle", "star"])
    labels = {"train": [2, 0, 1, 1, 0, 2] * 2, "validation": [1, 2, 0]}
    parquet(hf, tmp_path / "shapes", labels, names, column="kind")
    splits = 'splits = { train = "train", test = "validation" }'
    with pytest.raises(UserError, match=f"found: train, validation; in a study file name the splits with {splits}, or"):
        open_dataset({"hf": "shapes"}, tmp_path)
    dataset = open_dataset({"hf": "shapes", "splits": {"train": "train", "test": "validation"}, "label": "kind"}, tmp_path)
    assert dataset.counts == {"classes": 3, "train": 12, "val": 0, "test": 3}
    drawn = open_dataset({"hf": "shapes", "splits": {"train": "train"}, "test_share": 0.25, "name": "drawn"}, tmp_path)
    assert drawn.name == "drawn" and drawn.counts == {"classes": 3, "train": 9, "val": 0, "test": 3}
    for column in ("image", "label"):
        with pytest.raises(UserError, match="no column 'colour'; columns of this dataset: image, kind"):
            open_dataset({"hf": "shapes", "splits": {"train": "train", "test": "validation"}, column: "colour"}, tmp_path)


def test_lists_of_labels_make_multi_label_data(tmp_path, hf):
    labels = {"train": [[0], [1, 2], [0, 2]], "test": [[2], [0, 1], []]}
    parquet(hf, tmp_path / "shapes", labels, hf.List(hf.ClassLabel(names=["square", "circle", "star"])))
    dataset = open_dataset("hf:shapes", tmp_path)
    assert dataset.metric == "map" and dataset.classes == ["square", "circle", "star"]
    assert dataset.targets.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("named", [True, False])
def test_a_column_of_lists_of_labels_is_found_by_its_type(tmp_path, hf, named):
    labels = {split: [[0], [0, 1], []] for split in ("train", "test")}
    kind = hf.ClassLabel(names=["dog", "cat"]) if named else hf.Value("int64")
    boxes = {"boxes": (hf.List(hf.Value("float32")), {split: [[0.5]] * 3 for split in labels})}
    parquet(hf, tmp_path / "several", labels, hf.List(kind), "labels", **boxes)
    dataset = open_dataset("hf:several", tmp_path)
    assert dataset.metric == "map" and dataset.classes == (["dog", "cat"] if named else ["0", "1"])
    assert dataset.label_matrix.to_numpy().tolist() == [[1, 0], [1, 1], [0, 0]] * 2
    with pytest.raises(UserError, match="several: its images have several labels each; a recommendation needs one label"):
        open_images(f"hf:{tmp_path / 'several'}")


def test_rows_without_an_image_are_counted_and_no_copies_of_each_other(tmp_path, hf):
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=["square", "circle"])})
    for split in ("train", "test"):
        images = [None if i in (2, 4) else png(i + 20 * (split == "test")) for i in range(12)]
        (tmp_path / "gaps").mkdir(exist_ok=True)
        part = hf.Dataset.from_dict({"image": images, "label": [0, 1] * 6}, features=features)
        part.to_parquet(tmp_path / f"gaps/{split}-00000-of-00001.parquet")
    line = (
        "row 2 (from 0) of split train has no image (such rows: 4 of 24); "
        'remove these rows, or in a study file leave them out with on_bad_image = "skip"'
    )
    assert open_dataset("hf:gaps", tmp_path).notes == (f"dataset gaps: {line}",)
    with only_structure():
        assert open_dataset("hf:gaps", tmp_path).notes == ()


def test_a_split_whose_files_no_metadata_lists_is_named(tmp_path, hf):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for split in ("train", "test"):
        for path in (folder / split).rglob("*.png"):
            path.rename(folder / split / f"{path.parent.name}{path.name}")
    names = sorted(path.name for path in (folder / "train").glob("*.png"))
    (folder / "train/metadata.csv").write_text("\n".join(["file_name,label", *(f"{name},{name[:3]}" for name in names)]))
    with pytest.raises(UserError, match=r"split 'test' has no rows, because no metadata lists its files; list them ") as error:
        open_dataset(f"hf:{folder}")
    assert "Instruction" not in str(error.value) and "\n" not in str(error.value)
    names = sorted(path.name for path in (folder / "test").glob("*.png"))
    (folder / "test/metadata.csv").write_text("\n".join(["file_name,label", *(f"{name},{name[:3]}" for name in names)]))
    assert open_dataset(f"hf:{folder}").counts == {"classes": 2, "train": 6, "val": 0, "test": 4}, "the advice works"


def test_splits_that_the_library_saved(tmp_path, hf):
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=["square", "circle", "star"])})
    twelve = hf.Dataset.from_dict({"image": [png(i) for i in range(12)], "label": [0, 1, 2] * 4}, features=features)
    twelve.save_to_disk(tmp_path / "saved")
    dataset = open_dataset({"hf": "saved", "test_share": 0.25}, tmp_path)
    assert dataset.counts == {"classes": 3, "train": 9, "val": 0, "test": 3} and dataset.classes == ["square", "circle", "star"]
    assert dataset.read(5) == png(5)["bytes"]
    six, hidden = twelve.select(range(6)), hf.Dataset.from_dict({"image": [png(0)], "label": [-1]}, features=features)
    hf.DatasetDict({"train": twelve, "test": six, "test_shifted": six, "extra": hidden}).save_to_disk(tmp_path / "several")
    several = open_dataset("hf:several", tmp_path)
    assert several.counts == {"classes": 3, "train": 12, "val": 0, "test": 6} and several.read(13) == png(1)["bytes"]
    assert several.notes[1:] == ("dataset several: left out: 6 rows of split 'test_shifted', 1 row of split 'extra'",)
    assert "byte for byte" in several.notes[0]
    shifted = open_dataset({"hf": "several", "splits": {"train": "train", "test": "test_shifted"}}, tmp_path)
    assert shifted.notes[1:] == ("dataset several: left out: 6 rows of split 'test', 1 row of split 'extra'",)
    assert "byte for byte" in shifted.notes[0]
    with pytest.raises(UserError, match="labels are missing in split extra"):
        open_dataset({"hf": "several", "splits": {"train": "train", "test": "extra"}}, tmp_path)


def test_a_column_divides_a_single_split(tmp_path, hf):
    labels, places = {"train": [0, 1] * 4}, {"train": ["Train", "Test", "Test", "Train"] * 2}
    parquet(hf, tmp_path / "one", labels, hf.Value("int8"), Split=(hf.Value("string"), places))
    dataset = pickle.loads(pickle.dumps(open_dataset("hf:one", tmp_path)))
    assert dataset.counts == {"classes": 2, "train": 4, "val": 0, "test": 4}
    assert [dataset.read(i) for i in range(8)] == [png(i)["bytes"] for i in (0, 3, 4, 7, 1, 2, 5, 6)]
    assert open_dataset({"hf": "one", "splits": {"train": "Test", "test": "Train"}}, tmp_path).read(0) == png(1)["bytes"]
    undivided = open_dataset({"hf": "one", "splits": {"train": "train"}, "test_share": 0.25}, tmp_path)
    assert undivided.counts == {"classes": 2, "train": 6, "val": 0, "test": 2}
    kinds = {
        "folds": (hf.ClassLabel(names=["a", "b"]), [0, 1] * 4, "no split 'train', found: a, b; in a study file name"),
        "gap": (hf.Value("string"), ["train", None] * 4, "4 of 8 rows have no value in the column 'split'"),
        "hidden": (hf.ClassLabel(names=["train", "test"]), [0, -1] * 4, "4 of 8 rows have no value in the column 'split'"),
    }
    for name, (feature, values, message) in kinds.items():
        parquet(hf, tmp_path / name, labels, hf.Value("int8"), split=(feature, {"train": values}))
        with pytest.raises(UserError, match=message):
            open_dataset(f"hf:{name}", tmp_path)


def test_a_column_of_another_name_divides_a_single_split(tmp_path, hf):
    "Test images are not trained on because their column is called `subset` or `is_test`."
    labels, text = {"train": [0, 1] * 4}, hf.Value("string")
    parquet(hf, tmp_path / "split", labels, hf.Value("int8"), split=(text, {"train": ["train", "test", "test", "train"] * 2}))
    expected = open_dataset("hf:split", tmp_path)
    columns = {
        "subset": (text, ["train", "test", "test", "train"] * 2),
        "partition": (hf.ClassLabel(names=["train", "test"]), [0, 1, 1, 0] * 2),
        "is_test": (hf.Value("bool"), [False, True, True, False] * 2), "is_train": (hf.Value("int64"), [1, 0, 0, 1] * 2),
    }  # fmt: skip
    for name, (feature, values) in columns.items():
        parquet(hf, tmp_path / name, labels, hf.Value("int8"), **{name: (feature, {"train": values})})
        found = open_dataset(f"hf:{name}", tmp_path)
        assert found.fingerprint == expected.fingerprint, name
        assert found.notes == (f"dataset {name}: the splits are those of the column {name!r}: 4 train, 4 test",)
    places = {"train": ["train", "train", "test", "test"] * 2}
    both = {"subset": (text, places), "phase": (text, {"train": ["test", "train"] * 4})}
    parquet(hf, tmp_path / "both", labels, hf.Value("int8"), fold=(hf.Value("int8"), {"train": [0, 1] * 4}), **both)
    with pytest.raises(UserError, match="the columns 'subset' and 'phase' hold splits; call the right one split"):
        open_dataset("hf:both", tmp_path)
    chosen = open_dataset({"hf": "both", "split": "subset"}, tmp_path)
    assert [chosen.read(i) for i in (0, 4)] == [png(i)["bytes"] for i in (0, 2)]
    assert chosen.notes == ("dataset both: columns not used: fold, phase",)
    with pytest.raises(UserError, match="no column 'part' divides it; found: the columns image, label, fold, subset, phase"):
        open_dataset({"hf": "both", "split": "part"}, tmp_path)
    parquet(hf, tmp_path / "gap", labels, hf.Value("int8"), subset=(text, {"train": ["test", None] * 4}))
    with pytest.raises(UserError, match="4 of 8 rows have no value in the column 'subset'"):
        open_dataset("hf:gap", tmp_path)
