"""Every kind of reference opens; downloads come from a server on this machine, complete or not at all."""

import functools
import hashlib
import http.server
import json
import shutil
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from tests import layouts
from tests.conftest import pack, write_images
from transfer_study.core import UserError
from transfer_study.images.catalog import arrival, data_root, download_dataset, find_dataset, open_dataset
from transfer_study.images.mirrors import known_downloads
from transfer_study.images.official import known_datasets


def test_references(tmp_path, monkeypatch):
    write_images(tmp_path / "squares")
    pack(tmp_path / "squares", tmp_path / "squares.tar")
    write_images(tmp_path / "root" / "dtd")
    for reference in ("folder:squares", "squares", "squares.tar", "tar:squares.tar", str(tmp_path / "squares")):
        assert open_dataset(reference, tmp_path).name == "squares"
    monkeypatch.setenv("TRANSFER_STUDY_DATA", str(tmp_path / "root"))
    assert open_dataset("dtd").name == "dtd"
    assert open_dataset("dtd", root=tmp_path / "root").metric == "top1"
    with pytest.raises(UserError, match="did you mean cifar10"):
        open_dataset("cifar01", tmp_path)
    with pytest.raises(UserError, match=r"not found below .*--download cifar10 downloads it, or copy to .*cifar-10-batches-py/"):
        open_dataset("cifar10")
    with pytest.raises(UserError, match="no such folder, tar or zip"):
        open_dataset("images/absent.tar", tmp_path)


def test_a_folder_that_is_called_like_an_official_dataset_is_named(tmp_path):
    write_images(tmp_path / "here" / "dtd", classes=("cat", "dog"))
    pack(write_images(tmp_path / "loose"), tmp_path / "here" / "cifar100.zip")
    write_images(tmp_path / "root" / "dtd", classes=("banded", "dotted"))
    line = "dtd is the official dataset; for the folder here write ./dtd"
    official = open_dataset("dtd", tmp_path / "here", tmp_path / "root")
    assert official.classes == ["banded", "dotted"] and line in official.notes
    own = open_dataset("./dtd", tmp_path / "here", tmp_path / "root")
    assert own.classes == ["cat", "dog"] and line not in own.notes
    for directory, root in (("root", "root"), ("", "root")):  # the folder is the official one; there is none
        assert line not in open_dataset("dtd", tmp_path / directory, tmp_path / root).notes
    with pytest.raises(UserError, match=r"not found below .*; \./dtd lies here; write \./dtd$"):
        open_dataset("dtd", tmp_path / "here", tmp_path / "empty")
    with pytest.raises(UserError, match=r"\./cifar100\.zip lies here; write \./cifar100\.zip$"):
        open_dataset("cifar100", tmp_path / "here", tmp_path / "root")


def test_a_folder_per_class_cannot_be_voc(tmp_path):
    write_images(tmp_path / "voc2007")
    with pytest.raises(UserError, match="multi-label data cannot be read from .*voc2007; move it; transfer-study datasets"):
        open_dataset("voc2007", root=tmp_path)


@pytest.mark.parametrize("name", layouts.ALL)
def test_official_names_open_the_official_layout(tmp_path, name):
    assert find_dataset(name, tmp_path) is None
    folder = layouts.ALL[name](tmp_path)
    assert find_dataset(name, tmp_path) == folder
    assert open_dataset(name, root=tmp_path).metric == known_datasets().set_index("name").loc[name, "metric"]


def test_official_files_come_before_folders_and_folders_before_tars(tmp_path):
    pack(write_images(tmp_path / "loose", classes=("a", "b")), tmp_path / "dtd.tar")
    assert open_dataset("dtd", root=tmp_path).classes == ["a", "b"]
    write_images(tmp_path / "dtd", classes=("c", "d"))
    assert open_dataset("dtd", root=tmp_path).classes == ["c", "d"]
    layouts.dtd(tmp_path)
    assert open_dataset("dtd", root=tmp_path).classes == ["banded", "dotted", "zigzagged"]


def test_drawn_references_are_dispatched():
    drawn = pytest.importorskip("transfer_study.images.drawn", reason="this version draws no images")
    name = drawn.known_drawn()["name"].iloc[-1]
    assert open_dataset(f"drawn:{name}").counts["test"] > 0


def test_the_data_root_is_given_or_the_environments_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TRANSFER_STUDY_DATA", raising=False)
    assert data_root() == tmp_path / "cache" / "transfer_study"
    monkeypatch.setenv("TRANSFER_STUDY_DATA", str(tmp_path / "data"))
    assert data_root() == tmp_path / "data" and data_root(tmp_path / "given") == tmp_path / "given"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file: a file; expected the directory of the official datasets"):
        data_root(tmp_path / "file")


def test_what_has_no_source_names_the_files(tmp_path):
    none = pd.DataFrame(columns=["name", "url", "md5"], dtype=str)
    with pytest.raises(UserError, match=r"no source is known; copy to .*: stanford_cars/: .*cars_test_annos_withlabels.mat"):
        download_dataset("stanford_cars", tmp_path, none)
    assert not tmp_path.exists() or not any(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path, monkeypatch):
    "A folder, and the address at which a server on this machine shows it."
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def tar_gz(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.add(member, member.name)
    return path


def publish(name, server, root):
    "The official archives of a small dataset on the server, and the table of their addresses."
    folder, address = server
    source = layouts.ALL[name](root / "source")
    if name == "voc2007":
        files = []
        for which in ("trainval", "test"):
            files.append(folder / f"VOC{which}_06-Nov-2007.tar")
            with tarfile.open(files[-1], "w") as tar:
                for path in sorted(source.rglob("*")):
                    in_test = path.stem.endswith("test") or path.stem in layouts.VOC["test"]
                    if path.is_file() and in_test == (which == "test"):
                        tar.add(path, f"VOCdevkit/VOC2007/{path.relative_to(source)}")
    elif name == "oxford_pets":
        files = [tar_gz(folder / f"{part}.tar.gz", source / part) for part in ("images", "annotations")]
    elif name == "oxford_flowers":
        files = [tar_gz(folder / "102flowers.tgz", source / "jpg")]
        files += [shutil.copy(source / mat, folder / mat) for mat in ("imagelabels.mat", "setid.mat")]
    elif name == "caltech101":
        inner = tar_gz(root / "101_ObjectCategories.tar.gz", source / "101_ObjectCategories")
        files = [folder / "caltech-101.zip"]
        with zipfile.ZipFile(files[0], "w") as packed:
            packed.write(inner, "caltech-101/101_ObjectCategories.tar.gz")
            packed.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"not a tar")
    else:
        files = [tar_gz(folder / f"{name}.tar.gz", source)]
    rows = [(name, f"{address}/{file.name}", hashlib.md5(file.read_bytes()).hexdigest()) for file in map(layouts.Path, files)]
    return pd.DataFrame(rows, columns=["name", "url", "md5"])


@pytest.mark.parametrize("name", layouts.ALL)
def test_a_download_is_the_dataset(tmp_path, server, name):
    downloads = publish(name, server, tmp_path)
    dataset = download_dataset(name, tmp_path / "root", downloads)
    assert dataset.fingerprint == open_dataset(name, root=tmp_path / "source").fingerprint
    assert [path.name for path in (tmp_path / "root").iterdir()] == [name]
    about = arrival(name, tmp_path / "root")
    assert about["source"].endswith("official archive" + "s" * (len(downloads) > 1)) and about["counts"] == dataset.counts
    invented = [
        note for note in about["notes"] if note.startswith("another list of classes: label 0 is 'fine00', officially 'apple'")
    ]
    assert len(invented) == (name == "cifar100")  # whose small copy has invented classes
    with pytest.raises(UserError, match="exists already at .*; remove it to download it again"):
        download_dataset(name, tmp_path / "root", downloads)


def test_a_download_that_is_not_as_published_leaves_nothing_behind(tmp_path, server):
    downloads = publish("dtd", server, tmp_path)
    for change, message in [
        ({"md5": "0" * 32}, "cannot download .* \\(its MD5 is not 0000"),
        ({"url": downloads["url"] + ".gone"}, "cannot download .* \\(.*404"),
        ({"url": "http://127.0.0.1:9/other.tar.gz"}, "cannot download "),
    ]:
        with pytest.raises(UserError, match=message):
            download_dataset("dtd", tmp_path / "root", downloads.assign(**change))
        assert find_dataset("dtd", tmp_path / "root") is None
    download_dataset("dtd", tmp_path / "root", downloads)


@pytest.mark.parametrize("md5", [True, False])
def test_an_archive_that_is_harmful_or_cut_short_leaves_nothing_behind(tmp_path, server, md5):
    downloads = publish("dtd", server, tmp_path)
    archive = server[0] / "dtd.tar.gz"
    whole = archive.read_bytes()
    with tarfile.open(tmp_path / "harmful.tar.gz", "w:gz") as tar:
        tar.add(layouts.Path(__file__), "../outside.jpg")
    for content in (whole[: len(whole) // 2], (tmp_path / "harmful.tar.gz").read_bytes()):
        archive.write_bytes(content)
        checked = downloads.assign(md5=hashlib.md5(content).hexdigest() if md5 else "")
        with pytest.raises(UserError, match="damaged|not unpacked"):
            download_dataset("dtd", tmp_path / "root", checked)
        assert find_dataset("dtd", tmp_path / "root") is None and not list(tmp_path.rglob("outside.jpg"))
    archive.write_bytes(whole)
    download_dataset("dtd", tmp_path / "root", downloads if md5 else downloads.assign(md5=""))


def test_an_archive_fetched_before_is_not_fetched_again(tmp_path, server):
    downloads = publish("dtd", server, tmp_path)
    archives = tmp_path / "root/.downloads/dtd"
    archives.mkdir(parents=True)
    shutil.move(server[0] / "dtd.tar.gz", archives / "dtd.tar.gz")  # the server has it no more
    assert download_dataset("dtd", tmp_path / "root", downloads).counts["train"] == 9


def test_an_unknown_download_suggests_names(tmp_path):
    with pytest.raises(UserError, match="did you mean dtd"):
        download_dataset("dtt", tmp_path)


def test_the_command_lists_and_names_what_to_do(tmp_path, command):
    layouts.dtd(tmp_path)
    layouts.text(tmp_path / "food101.tar", "x")
    code, out, _ = command("datasets", "--data-root", tmp_path, "--json")
    found = pd.DataFrame(json.loads(out)).set_index("name")["found"]
    assert code == 0 and found[found].index.tolist() == ["food101", "dtd"]
    code, out, err = command("datasets", "dtd", "food101", "--data-root", tmp_path)
    assert code == 0 and "dtd is not exactly the official dataset: 3 classes found, 47 expected" in err and out.count("yes") == 2
    assert "food101 is not exactly the official dataset: " in err, "what cannot be opened is no official dataset either"
    code, out, err = command("datasets", "--data-root", tmp_path)
    assert code == 0 and "oxford_flowers" in out and "--download NAME" in err
    code, out, _ = command("datasets", "stanford_cars", "birdsnap", "--sources")
    assert code == 0 and "4 official archives" in out and "mteb/birdsnap @ fd23015" in out
    code, _, err = command("datasets", "--data-root", tmp_path, "--download", "stanford_car")
    assert code == 2 and "did you mean stanford_cars" in err and len(err.splitlines()) == 1
    code, _, err = command("datasets", "--data-root", tmp_path, "--download", "dtd")
    assert code == 2 and "already at" in err


@pytest.fixture
def addresses(tmp_path, monkeypatch):
    "Writes the list of sources that the command reads: the addresses are the network's, everything else is as it is."
    real = __import__("transfer_study.core", fromlist=["data_path"]).data_path
    table = tmp_path / "downloads.csv"
    monkeypatch.setattr("transfer_study.images.mirrors.data_path", lambda name: table if name == "downloads.csv" else real(name))
    return lambda downloads: downloads.to_csv(table, index=False)


def test_the_command_downloads_and_reports_other_counts(tmp_path, command, server, addresses):
    addresses(publish("dtd", server, tmp_path))
    root = ["--data-root", tmp_path / "root"]
    code, out, err = command("datasets", *root, "--download", "dtd")
    assert code == 0 and "ImageDataset(dtd: 3 classes, 9 train, 3 val, 6 test)" in out
    assert "not the official images: dtd: 3 classes found, 47 expected" in err and "dtd: downloading " in err
    code, out, err = command("datasets", *root)
    assert "1 official archive" in out and "dtd is not exactly the official dataset: 3 classes found, 47 expected" in err
    code, out, _ = command("datasets", *root, "--json")
    assert pd.DataFrame(json.loads(out)).set_index("name").loc["dtd", "differences"][0].startswith("3 classes found")


def test_downloads_at_the_same_time_do_not_take_each_others_folder_away(tmp_path):
    "Those that have no source end at once and remove what is empty, while others begin."
    none, names = known_downloads().iloc[:0], known_datasets()["name"].tolist()

    def get(i: int) -> str:
        with pytest.raises(UserError) as error:
            download_dataset(names[i % len(names)], tmp_path / "root", none)
        return str(error.value)

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(get, range(600)))
    assert all("no source is known" in reason or "another process is downloading it" in reason for reason in reasons)
    assert not (tmp_path / "root").exists()


def test_all_are_downloaded_at_once_and_what_fails_is_a_line(tmp_path, command, server, addresses):
    addresses(pd.concat([publish(name, server, tmp_path / name) for name in ("dtd", "food101")]))
    layouts.cifar10(tmp_path / "root")
    root = ["--data-root", tmp_path / "root"]
    code, out, err = command("datasets", *root, "--download", "all", "eurosat", "--jobs", 3, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 2 and rows["dtd"]["train"] == 9 and rows["food101"]["test"] == 3 and "cifar10" not in rows
    assert "all: 1 of 12 datasets are below" in err and "10 of 12 datasets not downloaded" in err
    assert all("no source is known" in row["error"] for name, row in rows.items() if name not in ("dtd", "food101", "eurosat"))
    assert "eurosat" in rows, "a name beside a set of names is lost"
    listed = json.loads(command("datasets", *root, "all", "--json")[1])
    assert [row["name"] for row in listed] == known_datasets()["name"].tolist()
    code, out, _ = command("datasets", *root, "--download", "dtd,food101")
    assert code == 2 and out == ""


def test_what_differs_is_in_the_plan_and_in_the_results(tmp_path, weights, command):
    from transfer_study.study.study import Study, dataset_counts, dataset_notes

    layouts.birdsnap(tmp_path, gone=("Acadian_Flycatcher/14.jpg",))
    lines = ['name = "birds"', 'datasets = ["birdsnap"]', "[[networks]]", 'name = "test_resnet"', "source_accuracy = 0.5"]
    (tmp_path / "study.toml").write_text("\n".join([*lines, f'weights = "{weights / "test_resnet"}.safetensors"']))
    (tmp_path / "birdsnap" / "arrival.json").write_text(json.dumps({"notes": ["from a mirror"]}))
    code, _, err = command(
        "plan", tmp_path / "study.toml", "--data-root", tmp_path, "--out", tmp_path / "runs", "--device", "cpu"
    )
    assert code == 0 and "dataset birdsnap: from a mirror" in err and "not the official images: birdsnap: 2 classes found" in err
    Study.from_file(tmp_path / "study.toml", tmp_path).run(tmp_path / "runs", "cpu", processes=1, n_workers=0, progress=False)
    assert "dataset birdsnap: from a mirror" in dataset_notes(tmp_path / "runs" / "birds")
    (line,) = dataset_counts(tmp_path / "runs" / "birds")["count_mismatch"]
    assert "3 test images found, 2,443 expected; 1 file missing, first: images/Acadian_Flycatcher/14.jpg" in line
