"""Small datasets in the official layouts of the paper's twelve, in the real annotation formats."""

import io
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (value * 7 % 256, value * 13 % 256, value)).save(path)


def remove(folder: Path, *files: str) -> None:
    for file in files:
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def food101(root: Path) -> Path:
    folder = root / "food-101"
    split = {"train": {"waffles": [3, 1, 2], "apple_pie": [5, 6]}, "test": {"waffles": [9], "apple_pie": [7, 8]}}
    for name, classes in split.items():
        lines = [f"{label}/{i}" for label, numbers in classes.items() for i in numbers]
        text(folder / f"meta/{name}.txt", *lines)
        text(folder / f"meta/{name}.json", json.dumps({k: [f"{k}/{i}" for i in v] for k, v in classes.items()}))
        for i, line in enumerate(lines):
            image(folder / f"images/{line}.jpg", i)
    return folder


def dtd(root: Path) -> Path:
    folder = root / "dtd"
    for k, label in enumerate(("banded", "dotted", "zigzagged")):
        for i in range(6):
            image(folder / f"images/{label}/{label}_{i:04d}.jpg", 10 * k + i)
    for partition in (1, 2):  # the second exchanges training and test images
        numbers = {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}
        numbers = numbers if partition == 1 else {"train": (4, 5), "val": (3,), "test": (0, 1, 2)}
        for split, chosen in numbers.items():
            lines = [f"{label}/{label}_{i:04d}.jpg" for label in ("banded", "dotted", "zigzagged") for i in chosen]
            text(folder / f"labels/{split}{partition}.txt", *lines)
    return folder


def oxford_pets(root: Path) -> Path:
    folder = root / "oxford-iiit-pet"
    lines = {"trainval": [], "test": []}
    for label, (name, species, breed) in enumerate([("Abyssinian", 1, 1), ("american_pit_bull", 2, 1), ("Bengal", 1, 2)], 1):
        for i in range(5):
            image(folder / f"images/{name}_{i}.jpg", 10 * label + i)
            lines["trainval" if i < 3 else "test"].append(f"{name}_{i} {label} {species} {breed}")
    for split, of_split in lines.items():
        text(folder / f"annotations/{split}.txt", *of_split)
    text(folder / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID", *lines["trainval"], *lines["test"])
    return folder


def fgvc_aircraft(root: Path) -> Path:
    data = root / "fgvc-aircraft-2013b/data"
    variants = ["A300B4", "Boeing 717", "F-16A/B"]
    text(data / "variants.txt", *variants)
    numbers = {"train": (0, 1), "val": (2,), "test": (3, 4)}
    of_split = {s: [f"{k}{i:06d} {v}" for k, v in enumerate(variants) for i in chosen] for s, chosen in numbers.items()}
    of_split["trainval"] = of_split["train"] + of_split["val"]
    for split, lines in of_split.items():
        text(data / f"images_variant_{split}.txt", *lines)
        for line in lines:
            image(data / f"images/{line.split()[0]}.jpg", int(line[0]) + int(line[1:7]))
    return data.parent


def oxford_flowers(root: Path, first: int = 1) -> Path:
    folder = root / "flowers-102"
    labels = np.repeat([77, 1, 102], 5)  # image i has labels[i - 1]; neither in order nor all of them
    for i in range(1, 16):
        image(folder / f"jpg/image_{i:05d}.jpg", i)
    savemat(folder / "imagelabels.mat", {"labels": (labels - 1 + first)[None].astype(np.uint8)})
    sets = {"trnid": [1, 6, 11], "valid": [2, 7, 12], "tstid": [3, 4, 5, 8, 9, 10, 13, 14, 15]}
    savemat(folder / "setid.mat", {name: np.array([ids], dtype=np.uint16) for name, ids in sets.items()})
    return folder


CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012"]


def structs(**columns) -> np.ndarray:
    "A MATLAB structure array of one row."
    table = np.zeros((1, len(next(iter(columns.values())))), dtype=[(name, object) for name in columns])
    for name, values in columns.items():
        table[name][0] = values
    return table


def car_boxes(n: int) -> dict:
    return {f"bbox_{corner}": [1.0] * n for corner in ("x1", "y1", "x2", "y2")}


def stanford_cars(root: Path) -> Path:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array([CARS], dtype=object)})
    for split, labels in {"train": [3, 1, 2, 2, 3, 1], "test": [2, 3, 1]}.items():
        files = [f"{i:05d}.jpg" for i in range(1, len(labels) + 1)]
        annotations = structs(**car_boxes(len(labels)), **{"class": [np.uint8(k) for k in labels], "fname": files})
        name = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}[split]
        savemat(folder / name, {"annotations": annotations})
        for i, file in enumerate(files):
            image(folder / f"cars_{split}/{file}", i)
    savemat(folder / "devkit/cars_test_annos.mat", {"annotations": structs(**car_boxes(3), fname=files)})
    return folder


def stanford_cars_later(root: Path) -> Path:
    folder = root / "stanford_cars"
    labels, test = [3, 1, 2, 2, 3, 1, 2, 3, 1], [0] * 6 + [1] * 3
    files = [f"car_ims/{i:06d}.jpg" for i in range(1, 10)]
    annotations = structs(relative_im_path=files, **car_boxes(9), **{"class": labels, "test": test})
    for i, file in enumerate(files):
        image(folder / file, i)
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": np.array([CARS], dtype=object)})
    return folder


def birdsnap(root: Path, gone: tuple[str, ...] = ()) -> Path:
    folder = root / "birdsnap"
    species = ["Acadian Flycatcher", "Anna's Hummingbird"]
    rows, test = [], []
    for k, name in enumerate(species, 1):
        place = name.replace(" ", "_").replace("'", "")
        for i in range(5):
            path = f"{place}/{k}{i}.jpg"
            rows.append(f"http://farm.example/{k}{i}.jpg\t{'0' * 32}\t{path}\t{k}\t1\t2\t3\t4\tnull")
            test += [path] if i >= 3 else []
            if path not in gone:
                image(folder / "images" / path, 10 * k + i)
    text(folder / "images.txt", "url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\tback_x", *rows)
    lines = [f"{k}\t{name}\tGenus species\t{name.replace(' ', '_')}" for k, name in enumerate(species, 1)]
    text(folder / "species.txt", "id\tcommon\tscientific\tdir", *lines)
    text(folder / "test_images.txt", "path", *test)
    return folder


def sun397(root: Path, partitions: str = "") -> Path:
    folder = root / "SUN397"
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/z/zoo"]
    text(folder / "ClassName.txt", *classes)
    for label in classes:
        for i in range(7):
            image(folder / label[1:] / f"sun_{label[1]}{i}.jpg", i)
    for number, (train, test) in {"01": ((0, 1, 2), (3, 4)), "02": ((3, 4), (0, 1, 2))}.items():
        for file, chosen in {"Training": train, "Testing": test}.items():
            lines = [f"{label}/sun_{label[1]}{i}.jpg" for label in classes for i in chosen]
            text(folder / partitions / f"{file}_{number}.txt", *lines)
    return folder


def caltech101(root: Path, n: int = 33) -> Path:
    folder = root / "caltech101"
    for k, label in enumerate(("BACKGROUND_Google", "accordion", "yin_yang")):
        for i in range(1, n + 1 + k):
            image(folder / f"101_ObjectCategories/{label}/image_{i:04d}.jpg", 50 * k + i)
    text(folder / "101_ObjectCategories/BACKGROUND_Google/tmp", "x")
    return folder


class Python2Pickler(pickle._Pickler):
    "Writes bytes and text as Python 2 did, which is how CIFAR's files were made."

    def save_string(self, value) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_string, str: save_string}


def python2_pickle(value) -> bytes:
    Python2Pickler(stream := io.BytesIO(), protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar_batch(n: int, seed: int, **more) -> dict:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"batch_label": "a batch", "data": pixels, "filenames": [f"{seed}_{i}.png" for i in range(n)], **more}


def cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for i, file in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]):
        labels = [int(k) for k in np.random.default_rng(i).permutation(10)]
        (folder / file).write_bytes(python2_pickle(cifar_batch(len(labels), i, labels=labels)))
    (folder / "batches.meta").write_bytes(python2_pickle({"num_cases_per_batch": 10, "label_names": names, "num_vis": 3072}))
    return folder


def cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"fine{k:02d}" for k in range(100)]
    for i, (file, n) in enumerate({"train": 3, "test": 1}.items()):
        labels = [int(k) for k in np.random.default_rng(i).permutation(np.repeat(np.arange(100), n))]
        batch = cifar_batch(len(labels), i, fine_labels=labels, coarse_labels=[k // 5 for k in labels])
        (folder / file).write_bytes(python2_pickle(batch))
    meta = {"fine_label_names": names, "coarse_label_names": [f"coarse{k}" for k in range(20)]}
    (folder / "meta").write_bytes(python2_pickle(meta))
    return folder


VOC = {  # image: [(class, difficult), …]
    "train": {"000005": [("chair", 0), ("chair", 1)], "000007": [("car", 0)], "000009": [("car", 0), ("chair", 1)]},
    "val": {"000012": [("car", 1)], "000016": [("chair", 0), ("car", 0)]},
    "test": {"000001": [("car", 0)], "000002": [("chair", 0), ("car", 1)], "000003": [("chair", 1), ("chair", 1)]},
}
VOC_TARGETS = [[0, 1], [1, 0], [1, -1], [-1, 0], [1, 1], [1, 0], [-1, 1], [0, -1]]  # car, chair: by hand, from the above


def voc2007(root: Path, class_files: bool = True, annotations: bool = True) -> Path:
    folder = root / "VOCdevkit/VOC2007"
    for split, images in VOC.items():
        text(folder / f"ImageSets/Main/{split}.txt", *images)
        for label in ("chair", "car"):
            lines = []
            for name, objects in images.items():
                difficult = [d for k, d in objects if k == label]
                lines.append(f"{name} {(-1 if not difficult else 0 if all(difficult) else 1):2d}")
            if class_files:
                text(folder / f"ImageSets/Main/{label}_{split}.txt", *lines)
        for i, (name, objects) in enumerate(images.items()):
            image(folder / f"JPEGImages/{name}.jpg", i)
            found = "".join(f"<object><name>{k}</name><difficult>{d}</difficult></object>" for k, d in objects)
            if annotations:
                text(folder / f"Annotations/{name}.xml", f"<annotation><filename>{name}.jpg</filename>{found}</annotation>")
    return folder


ALL = {
    "food101": food101, "cifar10": cifar10, "cifar100": cifar100, "birdsnap": birdsnap, "sun397": sun397,
    "stanford_cars": stanford_cars, "fgvc_aircraft": fgvc_aircraft, "voc2007": voc2007, "dtd": dtd,
    "oxford_pets": oxford_pets, "caltech101": caltech101, "oxford_flowers": oxford_flowers,
}  # fmt: skip
