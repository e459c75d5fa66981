"""Which files of a folder are images of which class and split: every name that people use, and no guess where it matters."""

import io
import pickle
import re
import shutil
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tests.conftest import pack, png_bytes, tiff_of_bands, write_images
from transfer_study.core import UserError
from transfer_study.images.catalog import data_root, open_dataset
from transfer_study.images.class_folders import class_folders
from transfer_study.images.datasets import dataset_name, image_folder, limit_pixels, only_structure
from transfer_study.images.decoding import MAX_PIXELS, BadImage, decode
from transfer_study.images.layout import NoTestImages
from transfer_study.images.unlabelled import unlabelled_images
from transfer_study.selection.images import open_images


@pytest.mark.parametrize(
    "names",
    [("Train", "Test", "Val"), ("training", "testing", "valid"), ("TRAIN", "evaluation", "validation"), ("train", "eval", "dev")],
)
def test_the_hubs_names_of_splits_are_the_usual_ones(tmp_path, names):
    usual = image_folder(write_images(tmp_path / "usual", train=3, test=2, val=1))
    folder = write_images(tmp_path / "other", train=3, test=2, val=1)
    for usual_name, name in zip(("train", "test", "val"), names, strict=True):
        (folder / usual_name).rename(folder / f"{name}_")
    for name in names:
        (folder / f"{name}_").rename(folder / name)
    other = image_folder(folder)
    assert other.fingerprint == usual.fingerprint and other.counts["val"] == 2
    assert [other.read(i) for i in range(12)] == [usual.read(i) for i in range(12)]


def test_validation_images_never_become_test_images(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=0, val=2)
    with pytest.raises(
        UserError,
        match=r"no images in test/, only training and validation images; .* rename the folder of the images to score to test/",
    ):
        image_folder(folder)


@pytest.mark.parametrize("packed", ["", ".tar", ".zip"])
def test_a_file_above_nested_splits_is_left_out(tmp_path, packed):
    "As in the clone of a repository, with a README above data/train."
    folder = tmp_path / "clone"
    write_images(folder / "data", train=3, test=2, val=1)
    (folder / "README.md").write_text("# Beans")
    path = folder.with_name(f"clone{packed}")
    if packed == ".tar":
        pack(folder, path)
    elif packed == ".zip":
        shutil.make_archive(folder, "zip", folder)
    dataset = image_folder(path)
    assert dataset.counts == {"classes": 2, "train": 6, "val": 2, "test": 4}
    assert dataset.notes == ("dataset clone: left out: outside train/, val/, test/: 1 (README.md)",)


def test_test_images_without_classes_beside_validation_images(tmp_path):
    folder = write_images(tmp_path / "flowers", train=3, test=0, val=2)
    (folder / "test").mkdir()
    (folder / "train/dim/0.png").rename(folder / "test" / "0.png")
    advice = "move what lies there elsewhere, or into test/<class>/; rename"
    with pytest.raises(UserError, match=rf"no images in test/ \(left out: .*: 1\), .* {advice}"):
        image_folder(folder)
    (folder / "val").rename(folder / "test" / "val")  # as `mv val test` does where test/ exists
    with pytest.raises(UserError, match=r"test/val/ is no class: .*; move its folders up into test/"):
        image_folder(folder)


def test_the_exact_name_of_a_split_wins_and_the_other_is_said(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2, val=1)
    before = image_folder(folder)
    shutil.copytree(folder / "val", folder / "validation")
    assert image_folder(folder).fingerprint == before.fingerprint
    assert "outside train/, val/, test/: 2 (validation/bright/0.png, …)" in image_folder(folder).notes[0]
    (folder / "val").rename(folder / "valid")
    with pytest.raises(UserError, match="valid and validation are both the val images"):
        image_folder(folder)


def test_the_parent_of_two_datasets_is_refused(tmp_path):
    for name in ("pets", "birds"):
        write_images(tmp_path / "images" / name, train=2, test=1)
    with pytest.raises(UserError, match="contains 2 datasets, birds and pets; give one of them"):
        image_folder(tmp_path / "images")
    with pytest.raises(UserError, match="contains 2 datasets"):
        image_folder(pack(tmp_path / "images", tmp_path / "images.tar"))


def test_folders_inside_classes_are_said(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for split in ("train", "test"):
        (folder / split / "animals").mkdir()
        for label in ("dim", "bright"):
            (folder / split / label).rename(folder / split / "animals" / label)
        shutil.copytree(folder / split / "animals/dim", folder / split / "things")
    dataset = image_folder(folder)
    assert dataset.classes == ["animals", "things"]
    for split in ("train", "test"):
        shutil.copytree(folder / split / "animals/dim", tmp_path / "again" / split / "things/dim")
        shutil.copytree(folder / split / "animals", tmp_path / "again" / split / "animals")
    for given in (image_folder(tmp_path / "again"), class_folders(tmp_path / "again/train")):
        assert "class_level = 2 in a study file (folders of equal names, such as dim, are then one class)" in given.notes[0]
    assert dataset.notes == (
        "dataset squares: folders inside classes are not classes: animals/bright, animals/dim; "
        "their images belong to the class above, such as 'animals'",  # a level of classes would leave out the images of things
    )  # fmt: skip


@pytest.mark.parametrize(("places", "advice"), [
    (("amazon/images/bag", "amazon/images/cup", "dslr/images/bag"), "level 3 .* bag, are .* one folder alone, such as amazon"),
    (("benign/SOB/adenosis", "malignant/SOB/lobular"), "--class-level 3 of recommend, class_level = 3 in a study file$"),
    (("n1/images", "n2/images"), "belong to the class above, such as 'n1'$"),
    (("dog/greg", "dog", "cat"), "belong to the class above, such as 'dog'$"),
])  # fmt: skip
def test_the_level_that_is_proposed_has_classes_of_all_images(tmp_path, places, advice):
    given = class_folders(class_images(tmp_path / "set", places))
    assert re.search(advice, given.notes[0])
    if named := re.search(r"--class-level (\d)", given.notes[0]):
        leaves = {place.rpartition("/")[2] for place in places}
        assert set(class_folders(tmp_path / "set", class_level=int(named[1])).classes) == leaves


JOINED = (
    "2 classes are joined from folders of equal names, such as 'bright' of art, photo; "
    "if these are classes of their own, give each folder a name of its own"
)


@pytest.mark.parametrize("packed", [False, True])
def test_classes_can_be_inside_of_domains(tmp_path, packed):
    "As in PACS: art/dog and photo/dog are one class."
    domains = tmp_path / "pacs"
    write_images(tmp_path / "one", train=6, test=2)
    for split in ("train", "test"):
        for domain in ("art", "photo"):
            shutil.copytree(tmp_path / "one" / split, domains / split / domain)
    place = pack(domains, tmp_path / "pacs.tar", "pacs/") if packed else domains
    outer, inner = image_folder(place), open_dataset({"folder": str(place), "class_level": 2})
    assert (outer.classes, inner.classes) == (["art", "photo"], ["bright", "dim"])
    assert inner.counts == {"classes": 2, "train": 24, "val": 0, "test": 8} and "inside" not in str(inner.notes)
    assert inner.notes[0] == f"dataset pacs: {JOINED}" and JOINED not in str(outer.notes)
    assert outer.fingerprint != inner.fingerprint
    (domains / "train/art/0.png").write_bytes(png_bytes())
    stray = image_folder(domains, class_level=2)
    assert "left out: beside the folders of the classes: 1 (train/art/0.png)" in stray.notes[0]


@pytest.mark.parametrize("packed", [False, True])
def test_classes_inside_of_domains_without_test_images(tmp_path, packed):
    domains = tmp_path / "pacs"
    for seed, domain in enumerate(("art", "photo")):
        shutil.copytree(write_images(tmp_path / str(seed), train=6, test=0) / "train", domains / domain)
    place = pack(domains, tmp_path / "pacs.tar", "data/pacs/") if packed else domains
    given = class_folders(place, class_level=2)
    assert (class_folders(place).classes, given.classes) == (["art", "photo"], ["bright", "dim"])
    assert given.fingerprint != class_folders(place).fingerprint and given.notes == (JOINED,)
    drawn = open_dataset({"folder": str(place), "class_level": 2, "test_share": 0.25})
    assert f"dataset pacs: {JOINED}" in drawn.notes
    assert drawn.counts == {"classes": 2, "train": 18, "val": 0, "test": 6}
    (domains / "art/0.png").write_bytes(png_bytes())
    with pytest.raises(UserError, match="art/0.png lies in no class folder"):
        class_folders(domains, class_level=2)


def test_pictures_and_archives_that_are_not_read_are_named(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for name in ("a.svg", "b.psd", "c.dcm", "more.zip", "notes.txt", "splits.csv"):
        (folder / "train/dim" / name).write_bytes(b"x" * 80)
    (note,) = image_folder(folder).notes
    assert "SVG, PSD, PDF, DICOM), which have to be saved as PNG first: 3 (train/dim/a.svg, …)" in note
    assert "archives, which have to be unpacked first: 1 (train/dim/more.zip); not images: 1 (train/dim/notes.txt)" in note
    assert "tables, which are not read beside folders of classes (one of images, labels and splits: csv:PATH): 1" in note


def test_images_beside_labels_of_object_detection_are_named(tmp_path):
    "As YOLO has them."
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / f"images/{i}.png").write_bytes(png_bytes())
        (tmp_path / f"labels/{i}.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(UserError, match="images/ is no class but the layout of object detection or segmentation"):
        class_folders(tmp_path)


def test_links_to_places_outside_are_said_without_test_images_too(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=0) / "train"
    (folder / "dim").rename(tmp_path / "elsewhere")
    (folder / "dim").symlink_to(tmp_path / "elsewhere")
    assert class_folders(folder).notes == ("1 link to places outside of the folder followed (first: dim)",)


def test_classes_that_differ_only_in_spaces_are_said(tmp_path):
    folder = write_images(tmp_path / "pets", train=3, test=0, classes=("dog", "dog ")) / "train"
    assert "classes that differ only in case or spaces: 'dog' and 'dog '" in class_folders(folder).notes[0]
    split = write_images(tmp_path / "split", train=3, test=2)
    (split / "test/dim").rename(split / "test/dim ")
    with pytest.raises(UserError, match="class 'dim ' is in test but not in train .*; train has 'dim'"):
        image_folder(split)


def test_a_class_that_holds_no_image_is_refused_whatever_else_it_holds(tmp_path):
    for name in ("Thumbs.db", ".DS_Store", "notes.txt"):
        folder = write_images(tmp_path / name, train=3, test=2)
        (folder / "train/grey").mkdir()
        (folder / "train/grey" / name).write_bytes(b"x")
        with pytest.raises(UserError, match=r"train/grey contains no image \(left out: .*: 1\); add images or remove the folder"):
            image_folder(folder)


def test_images_without_a_class_are_said(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    (folder / "train/loose.png").write_bytes(png_bytes())
    assert "beside the folders of the classes: 1 (train/loose.png)" in image_folder(folder).notes[0]
    shutil.rmtree(folder / "test/dim")
    assert image_folder(folder).notes[1] == "dataset squares: 1 of its classes without test images: dim"


def test_a_difference_in_case_is_named(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2, classes=("Cat", "dog"))
    (folder / "test/Cat").rename(folder / "test/cat")
    with pytest.raises(UserError, match=r"class 'cat' is in test but not in train \(such classes: 1\); train has 'Cat'"):
        image_folder(folder)


def stored(kind: str) -> bytes:
    Image.effect_noise((16, 16), 90).convert("RGB").save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


def test_what_can_be_decoded_is_an_image_whatever_its_suffix(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    kinds = {
        "a.jfif": "JPEG",
        "b.jpe": "JPEG",
        "c": "PNG",
        "d.jp2": "JPEG2000",
        "e.image": "BMP",
        "f.pnm": "PPM",
        "g.jpg": "WEBP",
    }
    kinds |= {"h.avif": "AVIF", "i.unknown": "AVIF"} if features.check("avif") else {}
    for name, kind in kinds.items():
        (folder / "train/dim" / name).write_bytes(stored(kind))
    for name, text in {
        "notes.txt": b"BMW and Volkswagen",
        "P5": b"P5 is a road",
        "page.html": b"<html></html>",
        "empty": b"",
    }.items():
        (folder / "train/dim" / name).write_bytes(text)
    for dataset in (image_folder(folder), image_folder(pack(folder, tmp_path / "a.tar"))):
        assert dataset.counts["train"] == 6 + len(kinds) and "not images: 4 (train/dim/P5, …)" in dataset.notes[0]
        assert all(decode(dataset.read(i)).size in ((40, 40), (16, 16)) for i in range(len(dataset.images)))


def test_a_heic_file_is_an_image_that_names_what_to_install(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    (folder / "train/dim/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    dataset = image_folder(folder)
    row = dataset.images.index[dataset.images["name"] == "train/dim/IMG_1.HEIC"][0]
    with pytest.raises(BadImage, match="HEIC.*pip install pillow-heif|heif|HEIF"):
        decode(dataset.read(row))


def test_a_limit_of_pixels_can_be_set_and_is_part_of_the_fingerprint(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    plain, small = image_folder(folder), open_dataset(str(folder), max_pixels=1000)
    assert (
        plain.max_pixels == MAX_PIXELS and plain.fingerprint == limit_pixels(plain, MAX_PIXELS).fingerprint != small.fingerprint
    )
    with pytest.raises(BadImage, match="40 × 40 pixels, more than 1,000.*max_pixels = 1600 in a study file"):
        decode(small.read(0), small.max_pixels)
    with pytest.raises(UserError, match="max_pixels"):
        open_dataset(str(folder), max_pixels=0)


def test_names_of_datasets_are_whole(tmp_path):
    for name in ("set.v1", "set.v2", "a.tar.old", "my.zip"):
        assert dataset_name(write_images(tmp_path / name, train=2, test=1)) == name
    pack(tmp_path / "set.v1", tmp_path / "set.v3.tar")
    assert image_folder(tmp_path / "set.v3.tar").name == "set.v3"
    assert image_folder(f"{tmp_path / 'set.v1'}/").name == image_folder(tmp_path / "set.v2/../set.v1").name == "set.v1"


def test_the_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_images(tmp_path / "pets", train=2, test=1)
    pack(tmp_path / "pets", tmp_path / "pets.tar")
    assert (
        len({open_dataset(f"{kind}~/pets{suffix}").fingerprint for kind, suffix in (("", ""), ("folder:", ""), ("tar:", ".tar"))})
        == 1
    )
    assert image_folder("~/pets").counts["train"] == 4 and str(data_root("~/images")) == str(tmp_path / "images")


def test_a_dataset_from_a_zip_travels_to_another_process(tmp_path):
    write_images(tmp_path / "pets", train=2, test=1)
    shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets")
    dataset = open_dataset("pets.zip", tmp_path)
    assert pickle.loads(pickle.dumps(dataset)).read(3) == dataset.read(3) == image_folder(tmp_path / "pets").read(3)


def test_layouts_of_other_tasks_and_archives_of_others_say_what_to_do(tmp_path):
    write_images(tmp_path / "yolo", train=2, test=1, classes=("images",))
    (tmp_path / "yolo/train/labels").mkdir()
    write_images(tmp_path / "flat/x", train=1, test=0)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/train.zip").write_bytes(b"")
    (tmp_path / "list").mkdir()
    (tmp_path / "list/labels.csv").write_text("")
    for name in ("parquet/data/train-00000-of-00001.parquet", "shards/000.cls", "shards/000.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "set.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(600))
    (tmp_path / "set.rar").write_bytes(b"Rar!" + bytes(600))
    for name, message in {
        "yolo": "the layout of object detection", "packed": "unpack the archives inside it", "list": "with csv = ",
        "parquet": "give the folder as hf:PATH", "shards": "a shard of WebDataset",
        "set.7z": "a 7z archive, which", "set.rar": "a rar archive, which",
    }.items():  # fmt: skip
        for opened in (image_folder, class_folders):
            if (name, opened) not in (("yolo", class_folders), ("shards", class_folders)):
                with pytest.raises(UserError, match=message):
                    opened(tmp_path / name)


def test_files_of_other_programs_say_what_they_are(tmp_path):
    for name, members, message in (
        ("a.xlsm", ("xl/workbook.xml", "xl/styles.xml"), "a workbook of Excel, .* save it as CSV, and give it as csv:PATH"),
        ("a.docx", ("word/document.xml", "word/media/1.png"), "a document of Word, .* a folder for each class"),
        ("a.ods", ("mimetype", "META-INF/manifest.xml"), r"LibreOffice \(OpenDocument\), .* save it as CSV"),
        ("a.npz", ("train_images.npy", "test_images.npy"), r"arrays of NumPy, not images; write each image to a file"),
        ("a.pt", ("a/data.pkl", "a/data/0"), "a file of PyTorch, not images; write each image to a file"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for member in members:
                packed.writestr(member, b"x")
        for opened in (image_folder, class_folders, unlabelled_images):
            with pytest.raises(UserError, match=message):
                opened(tmp_path / name)
    for start, message in {
        b"PAR1": "as hf:FOLDER", b"\x93NUMPY": "an array of NumPy", b"%PDF-1.7": "a PDF", b"ARROW1\0\0": "as hf:FOLDER$",
        b"\x80\x04\x95": "a pickle of Python", b"\xff\xd8\xff\xe0": "an image, .* give the folder",
        b"BZh9": r"decompress it \(bunzip2\)",
    }.items():
        (tmp_path / "other").write_bytes(start + bytes(600))
        with pytest.raises(UserError, match=message):
            class_folders(tmp_path / "other")
    for name, message in {"scan.nii.gz": r"medical images .* save each as PNG", "images.npy": "arrays are not read"}.items():
        for folder in ("cat", "dog"):
            (tmp_path / name / folder).mkdir(parents=True)
            (tmp_path / name / folder / name).write_bytes(b"x")
        with pytest.raises(UserError, match=f"no image files.*; {message}"):
            class_folders(tmp_path / name)
    (tmp_path / "coco/train2017").mkdir(parents=True)
    (tmp_path / "coco/train2017/1.png").write_bytes(png_bytes())
    (tmp_path / "coco/instances.json").write_text("{}")
    with pytest.raises(UserError, match="one class only, 'train2017'; .*; labels in JSON or XML files are not read"):
        class_folders(tmp_path / "coco")


@pytest.mark.parametrize(("folders", "message"), [
    (("train", "test"), "test/, train/ are splits, not classes; expected train/<class>/<image> and .*, or a table"),
    (("images/train", "images/val"), "train/, val/ are splits, not classes"),
    (("train/images", "train/masks", "val/images", "val/masks"), "images/ is no class but the layout of object detection"),
    (("VOC/JPEGImages", "VOC/SegmentationClass"), "JPEGImages/ is no class"),
    (("train", "bus"), ""), (("freight_train", "passenger_train"), ""),
    (("set_train/set/cat", "set_train/set/dog", "set_test/set/cat"), "set_test/, set_train/ are splits, not classes"),
    (("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), "fold1/, fold2/ are splits"),
    (("cat/train", "cat/test", "dog/train", "dog/test"), "test/ and train/ lie inside of classes, such as cat/"),
    (("train_mini/rose", "train_mini/daisy", "val/rose", "val/daisy"), "train_mini/, val/ are splits.* of train_mini/ to"),
    (("small_car", "train_small", "val"), ""),
    (("train", "test1"), "test1/, train/ are splits"), (("train_images", "test_images"), "are splits"),
    (("Training set", "Test set", "sample"), "Test set/, Training set/ are splits"), (("test A/day", "test B/day"), ""),
    (("fold/cam1", "no_fold/cam2"), ""), (("train wreck/wiki", "train station/wiki"), ""), (("valid", "invalid"), ""),
    (("rose", "daisy", "all/rose", "all/daisy"), "all/ is no class: it holds daisy/ and rose/, which are classes too; remove"),
    (("ill/images", "ill/masks", "well/images", "well/masks"), "ill/masks/ lies beside the images of ill/"),
    (("bus/test", "car/test"), ""),
    (("HAM10000_images_part_1", "HAM10000_images_part_2"), "images_part_2/ are parts of one set, not classes; .* of its class$"),
    (("images_001/images", "images_002/images"), "are parts of one set.* --class-level 2"),
    (("batch 1/cat", "batch 2/dog"), "are parts of one set"),
    (("Sample001", "Sample002"), ""), (("part1", "part2"), ""), (("images of cats", "images of dogs"), ""),
    (("data_1", "rose_2"), ""),
])  # fmt: skip
def test_folders_of_splits_and_of_parts_are_no_classes(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.png").write_bytes(png_bytes())
    if message:
        with pytest.raises(UserError, match=message):
            class_folders(tmp_path)
        if "lie inside" in message:
            with pytest.raises(UserError, match=message):
                image_folder(tmp_path)
    else:
        assert class_folders(tmp_path).classes == sorted({folder.split("/")[0] for folder in folders})


@pytest.mark.parametrize("packed", [False, True])
def test_masks_beside_their_images_are_no_images_of_a_class(tmp_path, packed):
    "As BUSI names them; a file that is only called so, such as a photograph of a mask, is an image."
    for name in ("ill/ill (1).png", "ill/2_mask.png", "ill/mask.png", "well/ill (1)_mask.png", "well/mask_1.png", "well/1.png"):
        for split in ("", "train/", "test/"):
            (path := tmp_path / f"{'splits/' * bool(split)}{split or 'plain/'}{name}").parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes())

    def place(folder: str) -> Path:
        return Path(shutil.make_archive(str(tmp_path / folder), "zip", tmp_path / folder)) if packed else tmp_path / folder

    assert image_folder(place("splits")).counts["train"] == len(class_folders(place("plain")).images) == 6
    for folder, read in (("splits/train", image_folder), ("plain", class_folders)):
        (tmp_path / folder / "ill/ill (1)_mask_1.png").write_bytes(png_bytes())
        with pytest.raises(UserError, match=r"ill/ill \(1\)_mask_1\.png is called like a mask of ill \(1\)\.png \("):
            read(place(folder.split("/")[0]))


@pytest.mark.parametrize("top", ["", "train/"])
@pytest.mark.parametrize(("folders", "message"), [
    (("p1/0", "p1/1", "p2/0", "p2/1", "all/p1/0", "all/p1/1", "all/p2/0"),
     "{}all/p1/ is no class: it holds 0/ and 1/, which are classes too; remove {}all/, or give it alone"),
    (("p1/0", "p1/1", "p2/0", "p2/1", "p2/old/0", "p2/old/1"), "{}p2/old/ is no class: .*; remove {}p2/old/, or give it alone"),
    (("p1/0/images", "p1/0/masks", "p1/1/images", "p2/0/images"), "{}p1/0/masks/ lies beside the images of {}p1/0/"),
])  # fmt: skip
def test_below_domains_the_folder_to_remove_is_named_with_its_path(tmp_path, top, folders, message):
    "A set of patients with a second copy beside them: no patient may be taken for the copy."
    for folder in folders:
        for split in (top, "test/") if top else ("",):
            (tmp_path / f"{split}{folder}").mkdir(parents=True)
            (tmp_path / f"{split}{folder}/0.png").write_bytes(png_bytes())
    message = f": {message.format(*['test/' if top else ''] * message.count('{}'))}"  # the first in the order of the paths
    with pytest.raises(UserError, match=message):
        image_folder(tmp_path, class_level=2) if top else class_folders(tmp_path, class_level=2)


@pytest.mark.parametrize("top", ["", "train/"])
def test_an_empty_folder_below_a_domain_is_named_with_its_path(tmp_path, top):
    for folder in ("a/cat", "a/dog", "b/cat", "b/dog"):
        for split in (top, "test/") if top else ("",):
            (tmp_path / f"{split}{folder}").mkdir(parents=True)
            for i in range(2):
                (tmp_path / f"{split}{folder}/{i}.png").write_bytes(png_bytes())
    (tmp_path / f"{top}b/cow").mkdir()
    with pytest.raises(UserError, match=f"{top}b/cow'? contains no image; add images"):
        image_folder(tmp_path, class_level=2) if top else class_folders(tmp_path, class_level=2)
    (tmp_path / f"{top}b/cow").rmdir()
    (tmp_path / f"{top}b/cat/near").mkdir()
    (tmp_path / f"{top}b/cat/near/0.png").write_bytes(png_bytes())
    dataset = image_folder(tmp_path, class_level=2) if top else class_folders(tmp_path, class_level=2)
    assert "not classes: b/cat/near; their images belong to the class above, such as 'cat'" in dataset.notes[0]


def linked(folder: Path, names: tuple[str, ...]) -> Path:
    "A folder of links to nothing, as in a clone of git-annex without its files."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to("../.git/annex/objects/x.jpg")
    return folder


def test_refusals_say_that_links_lead_to_nothing(tmp_path):
    advice = r"; put the files in the place of these links \(those of git-annex and DataLad: git annex get .\)$"
    links = r"\(left out: links .* to nothing .*"
    bare = linked(tmp_path / "bare", ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg"))
    with pytest.raises(UserError, match=rf"no image files {links}: 3 \(cat/0.jpg, …\)\); expected <class>/<image>.*{advice}"):
        class_folders(bare)
    with pytest.raises(UserError, match=rf"no image in 0 files {links}: 3 \(cat/0.jpg, …\)\); .*{advice}"):
        unlabelled_images(bare)
    half = write_images(tmp_path / "half", train=3, test=0) / "train"
    with pytest.raises(UserError, match=rf"folder 'dog' contains no image {links}: 2\){advice}"):
        class_folders(linked(half, ("dog/0.jpg", "dog/1.jpg")))
    split = linked(write_images(tmp_path / "split", train=3, test=2), ("train/dog/0.jpg", "test/dog/0.jpg"))
    with pytest.raises(UserError, match=rf"test/dog {links}: 1\), train/dog {links}: 1\) contain no image{advice}"):
        image_folder(split)
    untested = write_images(tmp_path / "untested", train=3, test=0)
    shutil.rmtree(untested / "test", ignore_errors=True)
    with pytest.raises(UserError, match=rf"no images in test/; expected test/<class>/<image> {links}: 1\){advice}"):
        image_folder(linked(untested, ("test/0.jpg",)))


def test_raw_files_and_thumbnails_of_cameras_are_counted_and_no_images(tmp_path):
    folder = write_images(tmp_path / "pets", train=2, test=1)
    (folder / "train/dim/0.CR2").write_bytes(b"II*\0\x10\0\0\0CR")
    (folder / "train/dim/film.THM").write_bytes(png_bytes())
    for dataset in (image_folder(folder), class_folders(folder / "train")):
        (note,) = dataset.notes
        assert "thumbnails of cameras, which have to be saved as JPEG first: 2 (" in note and dataset.counts["train"] == 4


def test_that_only_the_first_page_or_frame_is_used_is_said(tmp_path):
    folder = write_images(tmp_path / "pets", train=2, test=1)
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("scan.tif", "animation.gif"):
        pages[0].save(folder / "train/dim" / name, save_all=True, append_images=pages[1:])
    pages[0].save(folder / "train/dim/one.tif")
    (folder / "train/dim/damaged.gif").write_bytes(b"GIF89a")
    line = "2 of 4 GIF, TIFF, WebP and AVIF images hold several pages or frames, of which only the first is used (first: "
    rows = [f"pets/{'/'.join(path.parts[-3:])},{path.parts[-2]},{path.parts[-3]}" for path in sorted(folder.rglob("*.*"))]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,split", *rows]))
    for dataset in (
        image_folder(folder), image_folder(pack(folder, tmp_path / "a.tar")), class_folders(folder / "train"),
        unlabelled_images(folder), open_dataset("list.csv", tmp_path),
    ):  # fmt: skip
        assert any(line in note for note in dataset.notes), dataset.name
    with only_structure():
        assert image_folder(folder).notes == ()


def test_bands_that_are_not_used_are_said(tmp_path):
    folder = write_images(tmp_path / "tiles", train=2, test=1)
    (folder / "train/dim/near_infrared.tif").write_bytes(tiff_of_bands(np.zeros((8, 8, 4), np.uint16)))
    Image.new("RGBA", (8, 8), "red").save(folder / "train/dim/alpha.tif")
    (note,) = image_folder(folder).notes
    assert "1 of 2 GIF, TIFF, WebP and AVIF images hold more bands than red, green and blue, which are not used (" in note


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_greys_in_a_narrow_band_are_said(tmp_path, suffix):
    "Raw values of a thermal camera."
    folder = write_images(tmp_path / "seals", train=2, test=1)
    for i, top in enumerate((52_181, 65_535)):
        values = np.linspace(51_241, top, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(values).save(folder / f"train/dim/thermal{i}{suffix}")
    (folder / "train/dim/damaged.png").write_bytes(png_bytes()[:40])
    line = (
        f"1 of 9 PNG, TIFF, PGM and JPEG 2000 images hold 16-bit greys in a narrow band, of which decoding leaves "
        f"fewer than 32 of 256 levels; stretch all images by one range first (first: train/dim/thermal0{suffix})"
    )
    for dataset in (image_folder(folder), image_folder(pack(folder, tmp_path / "seals.tar"))):
        assert dataset.notes == (f"dataset seals: {line}",)
    with only_structure():
        assert image_folder(folder).notes == ()


def test_test_images_that_are_training_images_are_counted(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    assert image_folder(folder).notes == ()
    shutil.copy(folder / "train/dim/1.png", folder / "test/dim/9.png")
    (note,) = image_folder(folder).notes
    assert "1 image is byte for byte in two splits, first: test/dim/9.png and train/dim/1.png; " in note
    shutil.rmtree(folder / "test")
    (folder / "test").symlink_to("train")
    assert "6 images are byte for byte in two splits" in image_folder(folder).notes[0]


def test_empty_files_are_no_copies_of_each_other(tmp_path):
    folder = write_images(tmp_path / "squares", train=3, test=2)
    for name in ("train/dim/8.png", "test/dim/9.png"):
        (folder / name).write_bytes(b"")
    rows = [f"squares/{'/'.join(path.parts[-3:])},{path.parts[-2]},{path.parts[-3]}" for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,split", *rows]))
    assert image_folder(folder).notes == open_dataset("list.csv", tmp_path).notes == ()


def test_copies_are_counted_in_the_split_that_was_drawn(tmp_path):
    "However the images are packed, and also where groups change the draw; nothing is said of copies that stay on one side."
    photos = tmp_path / "photos"
    shutil.copytree(write_images(tmp_path / "squares", train=8, test=0) / "train", photos)
    for i in range(4):
        shutil.copy(photos / "dim/1.png", photos / "dim" / f"copy{i}.png")
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    lines = [f"{name},{name.split('/')[0]},{'copies' if 'copy' in name or name == 'dim/1.png' else name}" for name in names]
    (photos / "list.csv").write_text("image,label\n" + "".join(f"{line.rpartition(',')[0]}\n" for line in lines))
    (tmp_path / "g.csv").write_text("image,group\n" + "".join(f"{line.split(',')[0]},{line.split(',')[2]}\n" for line in lines))
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    pack(photos, tmp_path / "photos.tar")
    entries = [{"folder": name} for name in ("photos", "photos.zip", "photos.tar")] + [{"csv": "photos/list.csv"}]
    for entry in entries:
        (note,) = [note for note in open_dataset(entry | {"test_share": 0.5}, tmp_path).notes if "byte for byte" in note]
        dataset = open_dataset(entry | {"test_share": 0.5}, tmp_path)
        is_copy = dataset.images["name"].str.contains("copy|dim/1.png")
        split = dataset.images["split"][is_copy]
        assert split.nunique() == 2, "otherwise the test shows nothing"
        assert f": {(split != split.iloc[0]).sum()} image" in note and not dataset.contents
        grouped = open_dataset(entry | {"test_share": 0.5, "groups": str(tmp_path / "g.csv")}, tmp_path)
        assert grouped.images["split"][is_copy].nunique() == 1
        assert not [note for note in grouped.notes if "byte for byte" in note]
    assert not [note for note in open_images(photos / "list.csv").notes if "byte for byte" in note]


def test_images_without_folders_of_classes_say_what_to_do(tmp_path):
    for name, message in {
        "_classes.csv": "csv:FOLDER/{test,train,valid}/_classes.csv", "metadata.csv": "give the folder as hf:PATH",
        "_annotations.coco.json": "a folder for each class",
        "data-00000-of-00001.arrow": "give the folder as hf:PATH",
    }.items():  # fmt: skip
        for split in ("train", "valid", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            (tmp_path / name / split / name).write_text("x")
            (tmp_path / name / split / "1.png").write_bytes(png_bytes())
        with pytest.raises(UserError, match=f"no images in train/.*{message}"):
            image_folder(tmp_path / name)


def test_classes_that_differ_only_in_case_are_said(tmp_path):
    folder = write_images(tmp_path / "pets", train=3, test=2, classes=("Cat", "cat", "dog"))
    assert image_folder(folder).notes == (
        "dataset pets: classes that differ only in case or spaces: 'Cat' and 'cat'; if they are one, use one name",
    )  # fmt: skip


def test_addresses_and_references_to_nothing_are_said(tmp_path):
    for reference in ("https://example.com/pets.zip", "file:///pets"):
        with pytest.raises(UserError, match="an address, not a folder or file; download it"):
            open_dataset(reference, tmp_path)
    for page, name in {"someone/pets": "someone/pets", "food101/tree/main": "food101"}.items():
        for prefix in ("", "hf:"):
            with pytest.raises(UserError, match=f"an address, not a folder or file; write hf:{name}$"):
                open_dataset(f"{prefix}https://huggingface.co/datasets/{page}", tmp_path)
    for name in ("pets.tgz", "pets.png"):
        with pytest.raises(UserError, match=f"{name}: no such folder, tar or zip"):
            open_dataset(name, tmp_path)
    for kind in ("csv", "hf", "folder", "tar", "zip", "drawn"):
        with pytest.raises(UserError, match=f"nothing follows {kind}:; expected a"):
            open_dataset(f"{kind}:", tmp_path)


def test_binary_files_and_splits_without_classes_bring_a_next_step(tmp_path):
    for folder, names, message in (
        ("MNIST/raw", ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"), 'of MNIST .idx. are .* torchvision = "MNIST"'),
        ("cifar-10-batches-py", ("batches.meta", "data_batch_1"), 'of CIFAR-10 are not read; .* torchvision = "CIFAR10"'),
        ("tfds/1.0.0", ("dataset_info.json", "pets-train.tfrecord-00000-of-00001"), "TFRecord.* are not read; write each"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).write_bytes(b"\0\0\x08\x03" * 20)
        for path in (tmp_path / folder.split("/")[0], *([tmp_path / folder / names[1]] if "json" not in names[0] else [])):
            with pytest.raises(UserError, match=message):
                class_folders(path)
    tiny, part = tmp_path / "tiny", tmp_path / "bottle"
    for folder in (
        tiny / "train/n1/images", tiny / "train/n2/images", tiny / "val/images", tiny / "test/images",
        part / "train/good", part / "train/cracked", part / "test/good", part / "test/broken",
    ):  # fmt: skip
        folder.mkdir(parents=True)
        for i in range(3):
            (folder / f"{i}.png").write_bytes(png_bytes())
    (tiny / "val/val_annotations.txt").write_text("val_0.JPEG\tn1\n")
    message = r"class 'images' is in val .*; their labels may be in val/val_annotations.txt; move those"
    with pytest.raises(UserError, match=message) as error:
        image_folder(tiny)
    assert "the images of val/ and test/ are in no folders" in str(error.value)
    shutil.rmtree(tiny / "test")
    with pytest.raises(UserError, match=message):
        open_images(tiny)
    (tiny / "val/n1").mkdir()
    (tiny / "val/images").rename(tiny / "val/n1/images")
    assert open_images(tiny).counts == {"classes": 2, "train": 6, "val": 3, "test": 0}
    with pytest.raises(UserError, match="class 'broken' is in test but not in train .*move some there, take it out of test, or"):
        image_folder(part)


def class_images(folder, places, n=4):
    "Images of their own below each of the places; an empty folder for n = 0."
    for place in places:
        (folder / place).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", (8, 8 + i), (len(place), 40 * i, 0)).save(folder / place / f"{i}.png")
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("places", "message"), [
    (("cat", "dog"), "expected train/<class>/<image> and test/<class>/<image>, found: cat, dog"),
    (("train/cat", "train/dog"), "no images in test/; expected"),
    (("train/cat", "train/dog", "val/cat", "val/dog"), "rename the folder of the images to score to test/"),
])  # fmt: skip
def test_folders_without_test_images_get_keys_that_draw_them(tmp_path, places, message, packed):
    folder = class_images(tmp_path / "pets", places)
    if not packed and "train/cat" in places:
        (folder / "test").mkdir()  # an empty one is none, as for a recommendation
    given = pack(folder, tmp_path / "pets.tar") if packed else folder
    with pytest.raises(NoTestImages, match=re.escape(message)) as error:
        open_dataset(str(given))
    keys = str(error.value).partition("to draw test images, write ")[2].partition(" in the datasets")[0]
    assert open_dataset(tomllib.loads(f"keys = {keys}")["keys"]).counts["test"] == 2
    assert open_dataset({"tar" if packed else "folder": str(given), "test_share": 0.2}).counts["test"] == 2


def test_what_keeps_test_images_from_being_drawn_is_said_first(tmp_path):
    folder = class_images(tmp_path / "pets", ("cat", "dog"))
    class_images(folder, ("cow", "hen"), 0)
    message = "folders 'cow', 'hen' contain no image; add images, or move them elsewhere"
    for opened in (lambda: open_dataset(str(folder)), lambda: open_dataset({"folder": str(folder), "test_share": 0.2})):
        with pytest.raises(UserError, match=message):
            opened()
    split = class_images(tmp_path / "split", ("train/cat", "train/dog", "test/cat", "test/dog"))
    class_images(split, ("test/cow", "test/hen"), 0)
    with pytest.raises(UserError, match="test/cow, test/hen contain no image; add images or remove the folders"):
        open_dataset(str(split))


@pytest.mark.parametrize("inner", ["", "{}/"])
def test_folders_of_splits_are_moved_as_the_message_says(tmp_path, inner):
    "As seg_train/seg_train/<class>, which many sets of Kaggle have."
    folder = tmp_path / "land"
    for name in ("seg_train", "seg_test"):
        class_images(folder / name, [f"{inner.format(name)}{label}" for label in ("sea", "ice")])
    with pytest.raises(UserError, match="move the folders .*: those of seg_test/ to test/, those of seg_train/ to train/"):
        open_dataset(str(folder))
    for split in ("train", "test"):
        (folder / f"seg_{split}").rename(folder / split)  # with the folder inside, if there is one
    if inner:
        with pytest.raises(UserError, match="'seg_test' is in test .*; if the folders inside are the classes, move them up"):
            open_dataset(str(folder))
        for split in ("train", "test"):
            for label in ("sea", "ice"):
                (folder / split / f"seg_{split}" / label).rename(folder / split / label)
            (folder / split / f"seg_{split}").rmdir()
    assert open_dataset(str(folder)).classes == ["ice", "sea"]


def test_a_folder_test_beside_classes_is_said_or_told_from_a_class(tmp_path):
    folder = class_images(tmp_path / "scans", ("ill", "well", "test"))
    assert class_folders(folder).notes == ("called like a split, but read as a class: test/; if it is none, move it elsewhere",)
    shutil.rmtree(folder / "test")
    class_images(folder, ("test/ill", "test/well"), 3)
    with pytest.raises(UserError, match="test/ is no class: .*; move the folders beside it into train/, or remove test/"):
        open_images(folder)
    (folder / "train").mkdir()
    for label in ("ill", "well"):
        (folder / label).rename(folder / "train" / label)
    assert open_images(folder).counts == {"classes": 2, "train": 8, "val": 0, "test": 6}


@pytest.mark.parametrize(("places", "files", "message"), [
    (("train", "test1"), (), "the images of test1/, train/ lie in no folders of classes: .* such as test/<class>/"),
    (("train_images/cat", "train_images/dog", "test_images"), (), "of train_images/ to train/; .* test_images/ lie in no"),
    (("TrainData/cat", "TrainData/dog", "TestData/cat", "TestData/dog"), (), "TestData/ to test/, those of TrainData/ to train/"),
    (("train/cat", "train/dog", "holdout/cat", "holdout/dog"), (), "which is not called test/; .* in holdout/, call it test/;"),
    (("train/cat", "train/dog", "small/0"), (), "lies small/, which does not hold test images in such folders; move it"),
    (("S/S/train/a", "S/S/train/b", "S/S/valid/a", "S/S/valid/b", "test/test"), (), r"train/ and valid/, .* give \S+/S/S alone"),
    (("train/cat", "train/dog", "val/Cat", "val/dog"), (), "'Cat' is in val but not in train .*; train has 'cat': use one name"),
    (("images",), ("train.txt", "test.txt"), "join test.txt, train.txt into one table .* split, and give it as csv:PATH"),
    (("images",), ("train.txt",), "if train.txt lists the images and their labels, give it as csv:PATH"),
    ((), ("train.dvc", "test.dvc"), "files of DVC stand for images that are not here: dvc pull"),
    (("images/train", "images/val"), ("data.yaml",), "labels of object detection .YOLO. are not read"),
])  # fmt: skip
def test_layouts_of_downloads_say_what_to_do(tmp_path, places, files, message):
    folder = class_images(tmp_path / "set", places)
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_text("images/0.png 1\n")
    with pytest.raises(UserError, match=message):
        class_folders(folder)


def test_the_folder_of_the_training_images_is_named_with_its_path(tmp_path):
    folder = class_images(tmp_path / "ILSVRC", ("Data/CLS-LOC/train/n1", "Data/CLS-LOC/train/n2", "Data/CLS-LOC/val"))
    with pytest.raises(UserError, match="train/ holds folders of classes, and beside it lies val/, .* give .* alone") as error:
        class_folders(folder)
    assert set(class_folders(re.search("give (.*) alone", str(error.value))[1]).classes) == {"n1", "n2"}


def test_a_table_in_an_archive_is_unpacked_first(tmp_path):
    folder = class_images(tmp_path / "set", ["images"])
    (folder / "labels.csv").write_text("image,label\nimages/0.png,a\n")
    with pytest.raises(UserError, match="images and their labels, unpack the archive and give it as csv:PATH"):
        class_folders(pack(folder, tmp_path / "set.tar"))


def test_lists_of_splits_and_images_outside_of_splits_are_said(tmp_path):
    folder = class_images(tmp_path / "birds", ("images/a", "images/b"))
    (folder / "meta/meta").mkdir(parents=True)  # folders without images that stand elsewhere are no classes
    for name in ("train_test_split.txt", "meta/meta/TestImages.txt", "latest.txt"):
        (folder / name).write_text("1 0\n")
    words = r"not images: 1 \(latest.txt\); lists of a split, which are not read beside folders of classes .*: 2 \(meta"
    assert re.search(words, class_folders(folder).notes[0])
    split = class_images(tmp_path / "fruit", ("train/a", "train/b", "test/a", "test/b", "several"))
    (split / "LICENSE").write_text("MIT")
    words = "outside train/, test/: 1 (LICENSE); images outside train/, test/: 4 (several/0.png, …)"
    assert image_folder(split).notes[0].endswith(words)


def test_the_files_of_an_official_dataset_are_told_from_a_folder(tmp_path):
    folder = class_images(tmp_path / "food-101", ("images/pie", "images/soup"))
    (folder / "meta").mkdir()
    words = f"food101: with that name in place of the folder, and --data-root {tmp_path}, its official splits are read"
    assert f"these are the files of {words}" in class_folders(folder).notes
    with pytest.raises(NoTestImages, match=re.escape(words)):
        open_dataset(str(folder))
    aircraft = class_images(tmp_path / "fgvc-aircraft-2013b", ["data/images"])
    with pytest.raises(UserError, match="these are the files of fgvc_aircraft"):
        class_folders(aircraft)


def test_folders_of_test_images_that_are_empty_are_said(tmp_path):
    folder = class_images(tmp_path / "pets", ("train/cat", "train/dog"))
    class_images(folder, ("test/cat", "test/dog"), 0)
    with pytest.raises(UserError, match="test/cat, test/dog contain no image; add images or remove the folders"):
        open_images(folder)
