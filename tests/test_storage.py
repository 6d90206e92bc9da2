"""Folders are written and read whole, and what another process writes is left alone."""

import os

import numpy as np

from persim_gym import storage as scratch
from persim_gym.storage import read_folder, write_folder


def test_what_another_process_is_writing_stays(tmp_path):
    with scratch.scratch_folder(tmp_path / "data") as mine:
        with scratch.scratch_folder(tmp_path / "data") as other:
            assert mine.is_dir() and other.is_dir() and mine != other
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_of_an_unknown_process_is_removed_when_it_is_old(tmp_path):
    new, old = tmp_path / ".data-v0-new", tmp_path / ".data-v0-old"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    other = tmp_path / ".other-v0-old"
    other.mkdir()
    os.utime(other, (0, 0))
    scratch.remove_left_behind(tmp_path / "data-v0")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".data-v0-new", ".other-v0-old"]


def test_a_folder_is_written_and_read_whole(tmp_path):
    tensors = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array([1, 2], dtype=np.int64)}
    write_folder(tmp_path / "new" / "folder", {"name": "x"}, tensors)
    card, read = read_folder(tmp_path / "new" / "folder")
    assert (card["name"], sorted(read)) == ("x", ["a", "b"])
    for name, values in tensors.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype
