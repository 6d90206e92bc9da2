"""Transitions on disk: all of them, checked when read, and whole or not at all."""

import json

import numpy as np
import pytest
from support.disk import big
from support.missing import lacking

from persim_gym.transition_store import TransitionStore, hash_on_disk, write_transitions


def test_a_file_holds_the_transitions(file, cars):
    data = big(cars)
    rows = file.read(range(len(file.block_lengths)))
    for name, values in rows.items():
        np.testing.assert_array_equal(values, getattr(data, name), err_msg=name)
    np.testing.assert_array_equal(file.starts()[0], data.starts()[0])
    np.testing.assert_array_equal(file.starts()[1], data.starts()[1])
    assert len(file) == len(data) and len(np.unique(file.sample(5).trajectory)) == 5


def test_a_damaged_file_says_to_delete_it(file):
    (file.folder / "rows.f32").write_bytes(b"short")
    with pytest.raises(ValueError, match=f"{file.folder} cannot be read .*delete it"):
        TransitionStore(file.folder)


def test_data_in_memory_know_the_hash_that_they_would_have_on_disk(file, cars):
    assert hash_on_disk(big(cars)) == file.content_hash() != big(cars).content_hash()


def test_an_interrupted_write_leaves_no_file(cars, tmp_path):
    def pieces():
        yield cars.select(cars.trajectory == 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_transitions(tmp_path / "rows", pieces(), n_agents=6, source="big")
    assert list(tmp_path.iterdir()) == []


# --- missing values -------------------------------------------------------------------------------------------------


def test_a_file_keeps_what_is_missing_and_where(cars, tmp_path):
    data = lacking(big(cars)).select(np.arange(5400) % 100 != 40)
    pieces = (data.select(data.trajectory == n) for n in range(54))
    file = write_transitions(tmp_path / "rows", pieces, n_agents=6, source="big")
    again = TransitionStore(tmp_path / "rows").sample(54)
    assert file.missing and again.missing
    for name in ("obs", "next_obs", "reward", "trajectory", "pieces"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name), err_msg=name)
    some = file.sample(3, seed=1)
    assert len(np.unique(some.trajectory)) == 3 and some.pieces.max() == 5
    assert hash_on_disk(data) == file.content_hash()


def test_a_file_of_an_earlier_version_has_nothing_missing(file):
    header = json.loads((file.folder / "header.json").read_text())
    del header["missing"]
    (file.folder / "header.json").write_text(json.dumps(header))
    assert not TransitionStore(file.folder).missing
