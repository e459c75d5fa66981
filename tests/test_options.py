"""Mistakes in a study file: each a line with its place and what is allowed; and every key has a meaning that can be looked up."""

import pytest

from transfer_study.core import UserError
from transfer_study.options import key_table
from transfer_study.study.file import (
    FeatureOptions,
    FineTuneOptions,
    LinearProtocol,
    NearestNeighbourProtocol,
    NetworkEntry,
    ScratchOptions,
    SourceOptions,
    StudyFile,
    read_study_file,
)  # fmt: skip

HEAD = 'name = "x"\ndatasets = ["dtd"]\n'
NETWORK = '[[networks]]\nname = "resnet50"\n'


@pytest.mark.parametrize("text, lines", [
    (HEAD.replace('["dtd"]', '"dtd"') + NETWORK, ['"dtd": expected list of texts or tables, not empty: write ["dtd"]']),
    (HEAD + 'seeds = [true, 1.5, -1, "2"]\n' + NETWORK, [
        "seeds[1] = true: ", "seeds[2] = 1.5: ", "seeds[3] = -1: ", 'seeds[4] = "2": ',
    ]),
    (HEAD + 'networks = ["resnet50"]', [
        'networks[1] = "resnet50": expected table: write [[networks]] and below it name = "resnet50"',
    ]),
    (HEAD + 'protocols = ["linear", "knn"]\n' + NETWORK, [": expected table: write [protocols.linear], [protocols.knn]"]),
    ('name = "x"\n' + NETWORK + 'datasets = ["dtd"]\nseeds = [1]', [
        "networks[1].datasets: a key of the top of the file", "networks[1].seeds: a key of the top of the file",
    ]),
    ('[study]\nname = "x"\ndatasets = ["dtd"]\n[[study.networks]]\nname = "resnet50"', [
        "study: no such table; its keys, such as datasets, belong to the top of the file",
    ]),
    (HEAD + '[[datasets]]\nfolder = "birds"', ["not TOML: line 3: a table for a key that has a value above"]),
    (HEAD + "[protocols.linear]\n[protocols.linear]", ["not TOML: line 4: a key or a table that stands above already"]),
    (HEAD + 'name = "y"', ["not TOML: end of document: a key or a table that stands above already"]),
    (HEAD + NETWORK.replace("[[", "[").replace("]]", "]"), ["networks: expected list of tables"]),
    (HEAD + NETWORK + "[protocols.linear]\nl2_max = inf", ["protocols.linear.l2_max = inf: expected number above 0"]),
    (HEAD + NETWORK + "[protocols.linear]\nl2_min = 10.0\nl2_max = 1.0", ["protocols.linear: l2_min 10 is above l2_max 1"]),
    (HEAD + NETWORK + "[protocols.scratch]\nsteps = 2.5\nflip = 1", [
        "protocols.scratch.steps = 2.5: ", "flip = 1: expected true or false",
    ]),
    ("", ["name: missing; expected text", "datasets: missing", "networks: missing"]),
    (HEAD + "[[networks]", ["not TOML: "]),
    (HEAD + "source = {\n}", ["not TOML: line 3: a table in { } stands on one line"]),
    (HEAD + 'source = { dataset = "x", }', ["not TOML: line 3: a table in { } stands on one line"]),
    (HEAD + "seeds = “0”", ["not TOML: line 3: no value of TOML; texts stand in straight quotes"]),
    (HEAD + "// seeds", ["not TOML: line 3: expected key = value"]),
    ('name = "x"\n' + NETWORK + '[datasets]\nfolder = "birds"', ["not empty: write [[datasets]], not [datasets]"]),
    ('name = "x"\ndatasets = [{ csv = "a", splits = { train = true, valid = "1", test = [2] } }, { hf = "b", splits = ["0"] }]\n'
     + NETWORK, [
        "datasets[1].splits.train = true: expected text", "datasets[1].splits.test = [2]: expected text",
        "datasets[1].splits.valid: unknown key; did you mean val? allowed: train, val, test",
        'datasets[2].splits = ["0"]: expected table',
    ]),
    (HEAD + 'seeds = 3\nprotocols = "linear"\nsource = "images"\n' + NETWORK, [
        "not empty: write [3]", "protocols = \"linear\": expected table: write [protocols.linear]",
        'source = "images": expected table: write [source] and below it dataset = "images"',
    ]),
    (HEAD + NETWORK + '[[protocols]]\nname = "knn"', ["expected table: write [protocols.knn]"]),
    (HEAD + NETWORK + '[protocols.linear]\nn_train_per_class = 5\n[logging]\nloggers = "csv"', ["write [5]", 'write ["csv"]']),
    (HEAD + 'seed = 1\nn_l2 = 5\ndataset = "a"\n' + NETWORK + "[finetune]\nsteps = 5", [
        "seed: unknown key; did you mean seeds?", "n_l2: a key of [protocols.linear]; write it below that line",
        "dataset: unknown key; did you mean datasets?", "finetune: a table of [protocols]; write [protocols.finetune]",
    ]),
    (HEAD + "[networks]\n[networks]", ["not TOML: line 4: each network stands under a line [[networks]] of its own"]),
    (HEAD + "x = 0,5", ["not TOML: line 3: more stands there than one value: a number has a point"]),
    (HEAD + 'seeds = [0 1]\n', ["not TOML: line 3: a list ends with ], and a comma stands between its values"]),
    (HEAD + 'x = "a\n', ["not TOML: line 3: a text that begins with a quote ends with one, on the same line"]),
    ("name: x\n", ["not TOML: line 1: expected key = value"]),
    ('name = "x"\n' + NETWORK.replace("]]\n", ']]\nweights = \'w\\s.pt\'\n')
     + '[[datasets]]\nfolder = "images\\new"\n[[datasets]]\nfolder = "c"\ngroups = \'_(\\d)\'', [
        'datasets[1].folder = "images\\new": a backslash in double quotes; write / between folders',
        "networks[1].weights = 'w\\s.pt': no such file or folder; write / between folders, not \\",
    ]),
    (HEAD.replace('["dtd"]', '[{ name = "dtd" }]') + NETWORK, [
        "no source given; expected exactly one of the keys reference, hf, folder, tar, csv, torchvision; name only",
    ]),
    (HEAD + NETWORK + "[[protocols.linear]]\nn_l2 = 5", ["expected table: write [protocols.linear], not [[protocols.linear]]"]),
])  # fmt: skip
def test_each_mistake_is_a_line_with_its_place(tmp_path, text, lines):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UserError) as error:
        read_study_file(tmp_path / "study.toml")
    found = sorted(str(error.value).replace(f"{tmp_path}/", "").splitlines())
    assert len(found) == len(lines) and all(line.startswith("study.toml: ") for line in found)
    assert all(any(words in line for line in found) for words in lines)


def test_a_study_file_in_another_language_is_named(tmp_path):
    (tmp_path / "study.yaml").write_text("name: x")
    with pytest.raises(UserError, match=r"written in TOML, this one is called \.yaml"):
        read_study_file(tmp_path / "study.yaml")


def test_a_directory_and_what_is_not_utf8_are_said(tmp_path):
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    for path, words in {tmp_path: "a directory", tmp_path / "latin.toml": "not UTF-8 text (byte 8)"}.items():
        with pytest.raises(UserError) as error:
            read_study_file(path)
        assert words in str(error.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "study.toml").write_text(HEAD + NETWORK, encoding="utf-8-sig")
    assert read_study_file(tmp_path / "study.toml").name == "x"


@pytest.mark.parametrize("part", [
    FeatureOptions, FineTuneOptions, LinearProtocol, NearestNeighbourProtocol, NetworkEntry, ScratchOptions, SourceOptions,
    StudyFile,
])  # fmt: skip
def test_every_key_has_a_meaning(part):
    table = key_table(part)
    assert list(table.index) == list(part.model_json_schema()["properties"]) and (table["meaning"] != "").all()
