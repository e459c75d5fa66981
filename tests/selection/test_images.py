"""Images without a test split: what is opened, what stays together, what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import pack, png_bytes, write_images
from transfer_study.core import UserError
from transfer_study.images.class_folders import class_folders, has_test_images
from transfer_study.images.drawn import drawn_dataset
from transfer_study.images.listed import grouped_list
from transfer_study.images.splits import draw_split, group_folds, joined_groups, read_groups
from transfer_study.selection.checks import CHECK_COLUMNS, check_images, finding_lines
from transfer_study.selection.images import (
    check_outside,
    open_images,
    prepare_images,
)
from transfer_study.selection.images import (
    write_images as write_dataset,
)


@pytest.fixture
def photos(tmp_path):
    "Class folders of drawn scenes, 12 images each, without a split."
    return write_dataset(
        drawn_dataset("scenes", n_train_per_class=12, n_test_per_class=1, size=48), tmp_path / "photos", ("train",)
    )


def test_folder_and_tar_are_the_same_images(photos, tmp_path):
    folder, tar = class_folders(photos), class_folders(pack(photos, tmp_path / "photos.tar"))
    assert folder.fingerprint == tar.fingerprint and folder.read(3) == tar.read(3)
    below = class_folders(pack(photos, tmp_path / "below.tar", prefix="download/photos/"))
    assert below.classes == folder.classes and len(below.images) == len(folder.images)


def test_hidden_folders_and_other_files_are_no_images(photos):
    before = class_folders(photos)
    (photos / ".ipynb_checkpoints").mkdir()
    (photos / ".ipynb_checkpoints" / "copy.png").write_bytes(before.read(0))
    (photos / before.classes[0] / "notes.txt").write_text("no image")
    assert class_folders(photos).fingerprint == before.fingerprint


def test_a_given_test_split_is_used(tmp_path):
    folder = write_images(tmp_path / "squares")
    assert has_test_images(folder)
    prepared = prepare_images(open_images(folder))
    assert len(prepared.test) == 8 and "given test images" in prepared.notes[-1]


def test_lists_and_hub_datasets_without_test_images_are_all_for_training(photos, tmp_path):
    given = class_folders(photos)
    rows = given.images[["name", "class"]].set_axis(["image", "label"], axis=1)
    rows.to_csv(photos / "list.csv", index=False)
    for reference in (photos / "list.csv", f"csv:{photos / 'list.csv'}", {"csv": str(photos / "list.csv")}):
        listed = open_images(reference)
        assert listed.counts == given.counts and listed.classes == given.classes
    drawn = open_images({"csv": str(photos / "list.csv"), "test_share": 0.2})
    assert drawn.counts["test"] and drawn.fingerprint != listed.fingerprint
    hf = pytest.importorskip("datasets", reason="the Hugging Face library (extra hf) is not installed")
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=given.classes)})
    columns = {"image": [{"bytes": given.read(i), "path": None} for i in range(len(rows))], "label": given.targets.tolist()}
    (tmp_path / "hub").mkdir()
    hf.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    assert open_images(f"hf:{tmp_path / 'hub'}").counts == given.counts


def test_validation_images_become_the_test_where_there_is_none(tmp_path):
    folder = write_images(tmp_path / "squares", val=3)
    for path in (folder / "test").rglob("*.png"):
        path.unlink()
    for path in (folder / "test").iterdir():
        path.rmdir()
    (folder / "test").rmdir()
    prepared = prepare_images(open_images(folder))
    assert len(prepared.test) == 6 and prepared.dataset.classes == ["bright", "dim"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda photos: [path.rename(photos / path.name) for path in sorted(photos.glob("*/*.png"))[:1]],
            "lies in no class folder",
        ),
        (lambda photos: (photos / "empty").mkdir(), "folder 'empty' contains no image"),
        (
            lambda photos: [path.write_text("text") and path.rename(path.with_suffix("")) for path in photos.rglob("*.png")],
            "no image files",
        ),
    ],
)
def test_what_has_no_label_is_one_line(photos, break_it, message):
    break_it(photos)
    with pytest.raises(UserError, match=message) as caught:
        open_images(photos)
    assert "\n" not in str(caught.value)


def test_copies_and_groups_stay_on_one_side(photos):
    for path in sorted(photos.rglob("*.png"))[::4]:
        Image.open(path).resize((60, 60)).save(path.with_name(f"copy_{path.name}"))
    prepared = prepare_images(open_images(photos), groups=r"(\d)\.png$")
    table = prepared.dataset.images.set_index("name")
    assert len(prepared.duplicates) >= 20
    for pair in prepared.duplicates.itertuples(index=False):
        assert table["split"][pair.source_image] == table["split"][pair.target_image]
    digit = table.index.str.extract(r"(\d)\.png$")[0].to_numpy()
    assert all(len(set(prepared.dataset.images["split"][digit == one])) == 1 for one in np.unique(digit))
    assert "group in training and test" not in set(check_images(prepared)["check"])
    images = prepared.dataset.images
    in_class = (images["class"] == images["class"].iloc[0]).to_numpy()
    findings = check_images(replace(prepared, groups=np.where(in_class, -1, np.arange(len(images)))))
    (alone,) = findings[findings["check"] == "class in one group"].itertuples()
    n_train = (in_class & (images["split"] == "train")).sum()
    assert alone.image == images["class"].iloc[0]
    assert alone.detail.startswith(f"its {n_train} training images, which are one group,")

def test_blank_pages_stay_on_one_side_and_are_counted(photos):
    "Equal files are copies whatever they show; images of one colour are counted, because no others are compared with them."
    labels = open_images(photos).classes[:2]
    for label in labels:
        for i in range(6):
            (photos / label / f"blank{i}.png").write_bytes(png_bytes(color=(255, 255, 255)))
    (photos / labels[0] / "grey.png").write_bytes(png_bytes(color=(99, 99, 99)))
    for seed in range(3):
        prepared = prepare_images(open_images(photos), seed=seed)
        images = prepared.dataset.images
        blank = images["name"].str.contains("/blank")
        assert images["split"][blank].nunique() == 1 and len(set(prepared.groups[blank])) == 1
        assert prepared.notes[0].startswith("13 images of nearly one colour are compared byte for byte only (first: ")
    findings = check_images(prepared)
    assert (findings["check"] == "copies with different labels").sum() == 6
    (photos / labels[0] / "broken.png").write_bytes(b"not an image")
    assert len(prepare_images(open_images(photos)).undecodable) == 1


def test_classes_without_test_images_and_classes_held_out_whole_are_said(photos, tmp_path):
    "All images of a class are one group: none is drawn for the test, and cross-validation counts it as wrong."
    dataset = open_images(photos)
    first = dataset.classes[0]
    of_first = dataset.images["name"].str.startswith(f"{first}/")
    table = pd.DataFrame({"image": dataset.images["name"][of_first], "group": "one"})
    table.to_csv(tmp_path / "g.csv", index=False)
    prepared = prepare_images(dataset, str(tmp_path / "g.csv"))
    n, n_train = of_first.sum(), len(prepared.train)
    (limit,) = prepared.limits
    of_all, first_images = f"1 of {len(dataset.classes)} classes", f"(first: {first!r} with {n} images)"
    assert limit.startswith(f"no test image drawn of {of_all}, because training needs its images {first_images}")
    assert limit in prepared.notes
    most = 100 * (1 - n / n_train)
    assert prepared.notes[-1].startswith(f"cross-validation holds {of_all} out whole (first: {first!r})")
    assert prepared.notes[-1].endswith(f"these {n} images as wrong: no network can reach more than {most:.1f} % in the table")
    assert prepare_images(dataset).limits == ()
    given = dataset.images["split"].where(of_first | (dataset.images.index % 3 > 0), "test")
    (limit,) = prepare_images(replace(dataset, images=dataset.images.assign(split=given))).limits
    assert limit.startswith(f"no test image of 1 of {len(dataset.classes)} classes (first: ")


def test_groups_in_a_column_of_a_list_are_those_of_a_table(photos, tmp_path):
    names = class_folders(photos).images["name"]
    table = pd.DataFrame({"file": "photos/" + names, "label": names.str.split("/").str[0], "plot": names.str[-5]})
    table.to_csv(tmp_path / "list.csv", index=False)
    table.rename(columns={"file": "image", "plot": "group"}).to_csv(tmp_path / "groups.csv", index=False)
    entry = grouped_list(tmp_path / "list.csv", "plot")
    assert entry and grouped_list(photos, "plot") is None and grouped_list(tmp_path / "list.csv", "row") is None
    column = prepare_images(open_images(entry))
    given = prepare_images(open_images(tmp_path / "list.csv"), str(tmp_path / "groups.csv"))
    assert column.groups.tolist() == given.groups.tolist() and column.group_names.tolist() == given.group_names.tolist()
    assert column.dataset.images["split"].tolist() == given.dataset.images["split"].tolist()


def test_images_that_only_carry_an_official_name_are_said_to(photos):
    (limit,) = prepare_images(replace(open_images(photos), name="dtd")).limits
    assert limit.startswith("not the official images: dtd: ") and "classes found, 47 expected" in limit


def test_a_group_on_both_sides_of_a_given_split_is_a_finding(tmp_path):
    "Patient 1 is in train/ and test/; patients 2 and 3 are not; without groups nothing is known of it."
    dataset = drawn_dataset("scenes", n_train_per_class=2, n_test_per_class=1, size=48)
    folder, names = tmp_path / "scans", {"train": ["p1_0.png", "p2_0.png"], "test": ["p1_1.png"]}
    for (split, label), part in dataset.images.groupby(["split", "class"]):
        (folder / split / label).mkdir(parents=True)
        for row, name in zip(part.index, names[split], strict=True):
            (folder / split / label / name).write_bytes(dataset.read(row))
    findings = check_images(prepare_images(open_images(folder), groups=r"p(\d)_"))
    (shared,) = findings[findings["check"] == "group in training and test"].itertuples()
    assert shared.detail.startswith("group 1: 16 training and 16 test images")
    assert shared.image.startswith("train/") and shared.other.startswith("test/")
    assert "group in training and test" not in set(check_images(prepare_images(open_images(folder)))["check"])


def test_the_split_depends_on_the_seed_alone(photos):
    one, again, other = (prepare_images(open_images(photos), seed=seed).dataset.images["split"].tolist() for seed in (0, 0, 1))
    assert one == again and one != other
    assert 0.15 < np.mean(np.array(one) == "test") < 0.25


def test_undecodable_images_are_listed_and_left_where_they_are(photos):
    broken = sorted(photos.rglob("*.png"))[0]
    broken.write_bytes(b"not an image")
    prepared = prepare_images(open_images(photos))
    assert prepared.undecodable["name"].tolist() == [broken.relative_to(photos).as_posix()] and broken.exists()
    assert broken.relative_to(photos).as_posix() not in set(prepared.dataset.images["name"])


def test_a_class_that_cannot_be_decoded_is_named_with_its_own_reason(tmp_path):
    folder = write_images(tmp_path, train=4, test=0, classes=("a", "b", "c")) / "train"
    (folder / "a" / "0.png").write_text("")
    for path in [*folder.glob("b/*"), *folder.glob("c/*")]:
        path.write_bytes(path.read_bytes()[:60])
    reason = r"no image of class 'b' can be decoded \(such classes: 2\); the first, b/0.png: .+; save its images again"
    with pytest.raises(UserError, match=reason):
        prepare_images(open_images(folder))


def test_images_are_known_by_their_contents_and_other_files_are_named(photos):
    first = sorted(photos.rglob("*.png"))[0]
    first.rename(first.with_suffix(""))
    (photos / "notes.txt").write_text("taken in May")
    dataset = open_images(photos)
    assert first.with_suffix("").relative_to(photos).as_posix() in set(dataset.images["name"])
    assert prepare_images(dataset).notes[0] == "left out: not images: 1 (notes.txt)"


def test_a_table_of_groups_is_checked(tmp_path):
    names = pd.Series(["a/1.jpg", "a/2.jpg", "b/3.jpg"])
    table = tmp_path / "groups.csv"
    table.write_text("image,group\na/1.jpg,anna\n2.jpg,anna\n")
    assert read_groups(str(table), names).fillna("").tolist() == ["anna", "anna", ""]
    table.write_text("image,group\n1.JPG,anna\nB/3,berta\n")
    assert read_groups(str(table), names).fillna("").tolist() == ["anna", "", "berta"]
    table.write_text("image,group\na/1.jpg,anna\na/1.jpg,anna\n")  # a row for each finding
    assert read_groups(str(table), names).fillna("").tolist() == ["anna", "", ""]
    for text, message in (
        ("name,who\nx,y\n", "expected image and group"),
        ("image,group\nz.jpg,q\n", "not among the images"),
        ("image,group\na/1.jpg,q\na/1.jpg,r\n", "listed in two groups"),
        ("image,group\n", "lists no image"),
        ("image,group\na/1.jpg,q\n,r\n", "no image in line 3"),
        ("image,group,group\na/1.jpg,q,r\n", "image and group, each once"),
        ("image,group\na/1.jpg,q\na/2.jpg\n", "line 3 has 1 cells, the header has 2"),
        ("image,group\na/1.jpg,q\na/2.jpg,q,left\n", r"line 3 has 3 cells, the header has 2; .* needs quotes"),
        ("image,group\na/1.jpg,q,left\na/2.jpg,r,left\n", "line 2 has 3 cells, the header has 2; name every column"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=message):
            read_groups(str(table), names)
    for wrong, message in (("missing.csv", "no such file"), ("(", "not a regular expression"), ("zzz", "matches no image name")):
        with pytest.raises(UserError, match=message):
            read_groups(wrong, names)


def test_folds_hold_whole_groups_and_every_class_is_trained_on():
    random = np.random.default_rng(0)
    groups = random.integers(0, 30, 200)
    y = (groups + random.integers(0, 2, 200)) % 4
    for divided in (group_folds(y, groups), draw_split(y, groups)):
        assert all(len(set(divided[groups == group])) == 1 for group in np.unique(groups))
    lone = np.where(np.arange(200) < 3, 4, y)  # a class of one group
    assert set(lone[draw_split(lone, np.where(lone == 4, 99, groups)) == "train"]) == {0, 1, 2, 3, 4}
    with pytest.raises(UserError, match="one image only, or only images that belong together .*none can be held out"):
        group_folds(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))


def test_groups_that_leave_nothing_to_cross_validate_are_refused_with_the_dataset(photos, tmp_path):
    "Two groups in each class: one is drawn for the test, and the other could only be held out whole."
    names = class_folders(photos).images["name"]
    rows = [f"{name},{name.split('/')[0]} {i % 2}" for i, name in enumerate(names)]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *rows]))
    with pytest.raises(UserError, match="^dataset photos: every class has one image only, or only images that belong together"):
        prepare_images(open_images(photos), groups=str(tmp_path / "groups.csv"))


def test_groups_are_joined_through_others():
    joined = joined_groups(pd.Series(["a", None, "a", "b", None]), np.array([[2, 3], [1, 4]]))
    assert joined[0] == joined[2] == joined[3] != joined[1] == joined[4]


def test_a_table_of_groups_that_is_no_table_is_one_line(tmp_path):
    (tmp_path / "groups.csv").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as csv: the file is empty"):
        read_groups(str(tmp_path / "groups.csv"), pd.Series(["cat/0.png"]))
    (tmp_path / "groups.csv").write_bytes("image,group\n0.png,M\u00fcller\n".encode("latin-1"))
    groups = read_groups(str(tmp_path / "groups.csv"), pd.Series(["cat/0.png"]))
    assert groups[0] == "M\u00fcller" and "read as Latin-1" in groups.attrs["notes"][0]


def test_a_group_may_be_called_na(tmp_path):
    (tmp_path / "groups.csv").write_text("image,group\n0.png,NA\n1.png,\n")
    groups = read_groups(str(tmp_path / "groups.csv"), pd.Series(["cat/0.png", "cat/1.png"]))
    assert groups[0] == "NA" and groups.isna().tolist() == [False, True]


def test_test_images_without_a_class_are_no_class(photos, tmp_path):
    "The layout of competitions: train/<class>/<image>, and test/<image>."
    (tmp_path / "photos").rename(tmp_path / "train")
    (tmp_path / "cup").mkdir()
    (tmp_path / "train").rename(tmp_path / "cup/train")
    given = open_images(tmp_path / "cup/train")
    (tmp_path / "cup/test").mkdir()
    (tmp_path / "cup/test/1.png").write_bytes(given.read(0))
    with pytest.raises(UserError, match="train/ holds folders of classes, and beside it lies test/, .*; move it elsewhere, or"):
        open_images(tmp_path / "cup")
    for folder in ("Meta", f"val/{given.classes[0]}"):
        (tmp_path / "cup" / folder).mkdir(parents=True)
        (tmp_path / "cup" / folder / "0.png").write_bytes(given.read(0))
    with pytest.raises(UserError, match="beside it lie Meta/, test/, .*; move them elsewhere, or give .*cup/train alone"):
        open_images(tmp_path / "cup")
    shutil.rmtree(tmp_path / "cup/Meta")
    shutil.rmtree(tmp_path / "cup/test")
    assert "val" in open_images(tmp_path / "cup").counts


def test_folders_inside_classes_are_said(photos):
    given = class_folders(photos)
    (photos / "all").mkdir()
    for label in given.classes[:2]:
        (photos / label).rename(photos / "all" / label)
    inside = ", ".join(f"all/{label}" for label in given.classes[:2])
    assert class_folders(photos).notes[0].startswith(f"folders inside classes are not classes: {inside}; their images belong")


def test_results_do_not_lie_among_the_classes(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    for images, out in ((photos, photos / "runs"), (photos, tmp_path), (".", "runs/recommend"), ("folder:.", "..")):
        with pytest.raises(UserError, match="among the folders of its classes; give --out"):
            check_outside(images, Path(out))
    check_outside(photos, tmp_path / "runs")
    check_outside(photos, photos / ".runs")
    written = photos / "runs/recommend/photos"
    written.mkdir(parents=True)
    (written / "recommendation.json").write_text("{}")
    (written / "curve.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"results lie in \., among the folders of its classes; move runs elsewhere"):
        check_outside(".", Path("runs/recommend"))
    with pytest.raises(UserError, match=r"'runs' is no class, but holds results .* \(runs/.*json\); move it elsewhere$"):
        open_images(photos)
    (photos / "runs").rename(tmp_path / "runs")
    assert len(open_images(photos).classes) == 16


def test_a_list_of_groups_as_other_programs_write_it(photos, tmp_path):
    names = pd.Series(["cat/0.png", "dog/0.png", "cat/1.png"])
    (tmp_path / "g.csv").write_text("Image;Group\ncat/0.png; a\n1.png; b\nelse.png; c\n")
    groups = read_groups(str(tmp_path / "g.csv"), names)
    assert groups.fillna("").tolist() == ["a", "", "b"]
    (tmp_path / "g.csv").write_text("image,group\n0.png,a\n")
    with pytest.raises(UserError, match="image '0.png' could be 'cat/0.png' or 'dog/0.png'; write the whole name"):
        read_groups(str(tmp_path / "g.csv"), names)
    first = class_folders(photos).images["name"].iloc[0]
    (tmp_path / "g.csv").write_text(f"image,group\n{first},a\nelse.png,b\n")
    notes = prepare_images(open_images(photos), str(tmp_path / "g.csv")).notes
    assert notes[1] == f"groups {tmp_path}/g.csv: 1 of its images are not among the images (first: else.png)"


def test_classes_inside_of_domains_are_one_by_one_option(tmp_path):
    "As in PACS: art/dog and photo/dog are one class; given as a folder, a tar, or with test images."
    for seed, domain in enumerate(("art", "photo")):
        shutil.copytree(write_images(tmp_path / str(seed), train=6, test=0) / "train", tmp_path / "pacs" / domain)
    for place in (tmp_path / "pacs", pack(tmp_path / "pacs", tmp_path / "pacs.tar"), f"folder:{tmp_path / 'pacs'}"):
        given = open_images(str(place), class_level=2)
        assert given.classes == ["bright", "dim"] and given.counts["train"] == 24
    for split in ("train", "test"):
        shutil.copytree(tmp_path / "pacs", tmp_path / "split" / split)
    assert open_images(tmp_path / "split", class_level=2).counts == {"classes": 2, "train": 24, "val": 0, "test": 24}
    (tmp_path / "list.csv").write_text("image,label\n0.png,dim\n")
    for other in (tmp_path / "list.csv", tmp_path / "nowhere"):
        with pytest.raises(UserError, match="class_level 2 is for a folder.*check the path, or leave class_level out"):
            open_images(other, class_level=2)
    with pytest.raises(UserError, match="hf:pacs: class_level 2 is for a folder, tar or zip of class folders, which this is not"):
        open_images("hf:pacs", class_level=2)


@pytest.mark.parametrize("name", ["csv", "hf", "tar", "folder", "drawn"])
def test_a_folder_may_be_called_like_the_prefix_of_a_reference(photos, monkeypatch, name):
    photos.rename(photos.parent / name)
    monkeypatch.chdir(photos.parent)
    assert len(open_images(name).images) == len(open_images(f"folder:{name}").images) == len(open_images(f"./{name}").images) > 0


@pytest.mark.parametrize("counts", [{"lynx": 12, "elk": 2, "roc": 6}, {"lynx": 12, "elk": 1, "roc": 6}])
def test_a_list_with_a_rare_class_reads_like_the_folder_of_its_images(tmp_path, counts):
    lines = ["image,label"]
    for label, n in counts.items():
        (tmp_path / "wild" / label).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng([len(lines), i]).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "wild" / label / f"{i}.png")
            lines.append(f"wild/{label}/{i}.png,{label}")
    (tmp_path / "wild.csv").write_text("\n".join(lines))
    listed, folder = open_images(tmp_path / "wild.csv"), open_images(tmp_path / "wild")
    assert set(listed.images["split"]) == {"train"} and listed.notes == ()
    assert listed.images["class"].value_counts().to_dict() == folder.images["class"].value_counts().to_dict() == counts
    prepared = prepare_images(listed)
    assert len(prepared.test) and set(prepared.dataset.images["class"].iloc[prepared.train]) == set(counts)


@pytest.mark.parametrize("seed", range(5))
def test_one_large_group_does_not_become_the_test_set(seed):
    "Of 18 images of each class, one group has 15, 9 and 6; the others are groups of three images of one class."
    y = np.repeat([0, 1, 2], 18)
    groups = np.concatenate([[0] * 15, [1] * 3, [0] * 9, np.repeat([2, 3, 4], 3), [0] * 6, np.repeat([5, 6, 7, 8], 3)])
    split = draw_split(y, groups, seed)
    assert np.bincount(y[split == "test"]).tolist() == [3, 3, 3] and not (groups[split == "test"] == 0).any()
    assert np.array_equal(split, draw_split(y, groups, seed)) and all(len(set(split[groups == g])) == 1 for g in range(9))
    assert np.bincount(y[draw_split(y, groups, seed, 0.6) == "test"]).tolist()[0] in (3, 15)


def test_every_class_of_several_groups_is_tested():
    "Two groups of each class: the smaller one, although it is more than the share."
    y, groups = np.repeat([0, 1], 10), np.repeat([0, 1, 2, 3], [6, 4, 3, 7])
    for seed in range(5):
        split = draw_split(y, groups, seed)
        assert {*groups[split == "test"]} == {1, 2}


def test_other_draws_are_those_of_the_folds():
    random = np.random.default_rng(0)
    for _ in range(5):
        y, groups = random.integers(0, 4, 200), random.permutation(np.arange(200) // 2)
        assert np.array_equal(draw_split(y, groups) == "test", group_folds(y, groups) == 0)


@pytest.mark.parametrize(
    "texts",
    [
        ["ill/01 a.png", "ill/02.png", "ok/o\u0308.png"],
        ["ill/01 a", "02", "o\u0308"],
        ["ill\\01 a.png", "ill\\02.png", "ok\\o\u0308.png"],
        [r"C:\data\p\ill\01 a.png", r"C:\data\p\ill\02.png", "C:\\data\\p\\ok\\o\u0308.png"],
        ["ill/01%20a.png", "ill/02.png", "ok/o%CC%88.png"],
        ["https://host/p/ill/01%20a.png?x=1", "https://host/p/ill/02.png", "https://host/p/ok/o%CC%88.png"],
    ],
)
def test_groups_name_images_as_lists_do(tmp_path, texts):
    names = pd.Series(["ill/01 a.png", "ill/02.png", "ok/\u00f6.png"])
    pd.DataFrame({"image": texts, "group": ["x", "x", "y"]}).to_csv(tmp_path / "g.csv", index=False)
    groups = read_groups(str(tmp_path / "g.csv"), names)
    assert groups.tolist() == ["x", "x", "y"]
    moved = any("data" in text or "host" in text for text in texts)
    assert ["the ends of its paths name the images" in note for note in groups.attrs["notes"]] == [True] * moved


def test_a_name_that_fits_two_images_or_twice_is_one_line(tmp_path):
    names = pd.Series(["a/1.jpg", "a/1.png", "b/2.jpg", "2.jpg"])
    for text, message in (
        ("1,x\n", "image '1' could be 'a/1.jpg' or 'a/1.png'; write the whole name"),
        ("a/1.png,x\n1.png,y\n", "image 'a/1.png' is listed twice, as 'a/1.png' and '1.png'"),
    ):
        (tmp_path / "g.csv").write_text(f"image,group\n{text}")
        with pytest.raises(UserError, match=message):
            read_groups(str(tmp_path / "g.csv"), names)
    (tmp_path / "g.csv").write_text("image,group\n2.jpg,x\n")  # the whole name of one, the end of another
    assert read_groups(str(tmp_path / "g.csv"), names).fillna("").tolist() == ["", "", "", "x"]


@pytest.mark.parametrize("pattern", ["P*", "(P*)", r"(P\d+)?"])
def test_a_pattern_that_matches_nothing_is_one_line(pattern):
    names = pd.Series(["ill/P00_0.png", "ok/1.png"])
    with pytest.raises(UserError, match="matches without any letter in 'ill/P00_0.png' .such images: 2.; expected an expression"):
        read_groups(pattern, names)
    assert read_groups(r"P\d+|ok/(1)", names).tolist() == [None, "1"]


def test_only_equal_pixels_are_an_exact_copy(tmp_path):
    pixels = np.random.default_rng(0).integers(40, 140, (40, 40, 3), np.uint8)
    for label, others in {"a": [pixels], "b": [pixels, pixels + 110, np.repeat(pixels[..., :1], 3, axis=2)]}.items():
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(8):
            noise = np.random.default_rng([ord(label), i]).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / f"set/{label}/{i}.png")
        for i, other in enumerate(others):
            Image.fromarray(other).save(tmp_path / f"set/{label}/copy{i}.{'bmp' if i == 0 else 'png'}")
    gray = Image.fromarray(pixels[..., 0])
    gray.save(tmp_path / "set/a/gray.png")
    findings = check_images(prepare_images(open_images(tmp_path / "set")))
    said = {
        (row.image, row.other): row.detail.partition(", labelled")[0]
        for row in findings[findings["check"] == "copies with different labels"].itertuples()
    }
    assert said["a/copy0.bmp", "b/copy0.bmp"] == said["a/gray.png", "b/copy2.png"] == "exact copy"
    assert said["a/copy0.bmp", "b/copy1.png"] == "near-duplicate, the same picture with other pixel values"


def test_a_number_of_classes_is_not_taken_for_a_number_of_images():
    rows = [("few images", "daisy", "", "9 training images"), ("few images", "rose", "", "9 training images"),
            ("class in one group", "daisy", "", "one group"), ("class in one group", "rose", "", "one group"),
            ("undecodable", "a.png", "", "cut"), ("undecodable", "b.png", "", "cut"),
            ("imbalance", "daisy", "rose", "9, 99")]  # fmt: skip
    assert finding_lines(pd.DataFrame(rows, columns=CHECK_COLUMNS)) == [
        "few images: 2 classes; first: daisy: 9 training images", "class in one group: 2 classes; first: daisy: one group",
        "undecodable: 2; first: a.png: cut", "imbalance: 9, 99",
    ]  # fmt: skip
