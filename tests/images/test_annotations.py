"""Annotation files that are not what they should be: named, and never run."""

import pickle

import numpy as np
import pytest
from scipy.io import savemat

from tests import layouts
from transfer_study.core import UserError
from transfer_study.images.annotations import from_one_based, read_fields, read_json, read_lines, read_mat, read_pickle


def test_lines_are_stripped_whatever_their_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \nthree")
    assert read_lines(tmp_path / "a.txt") == ["one", "two", "three"]


def test_fields_keep_the_spaces_of_the_last_and_skip_comments(tmp_path):
    layouts.text(tmp_path / "a.txt", "#Image CLASS-ID", "1 Boeing 717", "2  F-16A/B")
    assert read_fields(tmp_path / "a.txt", 2) == [["1", "Boeing 717"], ["2", "F-16A/B"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "a.txt is missing"), (b"", "a.txt is empty"), (b" \n\n", "a.txt is empty"), (b"\xff\xd8\xff\xe0", "a.txt: not text")],
)
def test_text_that_is_none(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_lines(tmp_path / "a.txt")


def test_json_that_is_none(tmp_path):
    layouts.text(tmp_path / "a.json", '{"a": [1,')
    with pytest.raises(UserError, match="a.json: not JSON"):
        read_json(tmp_path / "a.json")


def test_a_single_label_is_still_an_array(tmp_path):
    savemat(tmp_path / "a.mat", {"labels": 3})
    assert read_mat(tmp_path / "a.mat", "labels")[0].tolist() == [3]


def test_an_hdf5_mat_file_is_named(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(UserError, match="a.mat: a file of MATLAB 7.3 .HDF5., which SciPy does not read"):
        read_mat(tmp_path / "a.mat", "labels")


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], [1, 4], [1.5], [np.nan, 1]])
def test_labels_that_do_not_run_from_1(tmp_path, labels):
    with pytest.raises(UserError, match="a.mat"):
        from_one_based(np.array(labels), 3, tmp_path / "a.mat")


def test_labels_of_small_unsigned_integers_do_not_wrap(tmp_path):
    assert from_one_based(np.array([1, 255], dtype=np.uint8), 255, tmp_path).tolist() == [0, 254]


ARRAYS = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3], "names": ["a", "b", "c"]}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickled_arrays_of_every_protocol(tmp_path, protocol):
    (tmp_path / "batch").write_bytes(pickle.dumps(ARRAYS, protocol))
    data, labels, names = read_pickle(tmp_path / "batch", "data", "labels", "names")
    assert (data == ARRAYS["data"]).all() and labels == [1, 2, 3] and names == ["a", "b", "c"]


def test_pickles_of_python_2(tmp_path):
    (tmp_path / "batch").write_bytes(layouts.python2_pickle(ARRAYS))
    assert b"numpy.core.multiarray" in (tmp_path / "batch").read_bytes()
    data, names = read_pickle(tmp_path / "batch", "data", "names")
    assert (data == ARRAYS["data"]).all() and names == ["a", "b", "c"]


@pytest.mark.parametrize(
    "harmful",
    [b"cos\nsystem\n(S'x'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.", b"c_codecs\ndecode\n(S'x'\ntR."],
)
def test_a_pickle_that_calls_anything_is_refused(tmp_path, harmful):
    (tmp_path / "batch").write_bytes(harmful)
    with pytest.raises(UserError, match="it would call"):
        read_pickle(tmp_path / "batch", "data")


@pytest.mark.parametrize(("content", "message"), [({"x": 1}, "no entry 'data'; found: x"), ([1, 2], "not a pickle of arrays")])
def test_a_pickle_of_something_else(tmp_path, content, message):
    (tmp_path / "batch").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        read_pickle(tmp_path / "batch", "data")
    with pytest.raises(UserError, match="absent is missing"):
        read_pickle(tmp_path / "absent", "data")
