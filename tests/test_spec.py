"""Spaces on a card, and tasks that are learned or imported by reference."""

import json
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from persim_gym.spec import EnvironmentSpec, flat_box, learned_task, task_at

LARGEST = float(np.finfo(np.float32).max)

# --- spaces -------------------------------------------------------------------------------------------------------


def test_infinite_bounds_are_kept_by_a_card_that_is_json():
    spec = EnvironmentSpec(flat_box([-np.inf, -1.0], [np.inf, 2.5]), flat_box([-np.inf], [3.0]), 20)
    stored = json.loads(json.dumps(spec.to_json(), allow_nan=False))
    assert EnvironmentSpec.from_json(stored) == spec
    assert stored["observation"]["low"][0] == -LARGEST


@pytest.mark.parametrize("largest", [LARGEST, 1e39, np.inf])
def test_bounds_as_large_as_float32_has_them_are_infinite(largest):
    """Cards and datasets of earlier versions have the largest float32 where there is no bound."""
    space = flat_box(np.array([-largest, -2.0]), np.array([largest, 2.0]))
    np.testing.assert_array_equal(space.low, [-np.inf, -2.0])
    np.testing.assert_array_equal(space.high, [np.inf, 2.0])
    sides = {"low": [-largest, -2.0], "high": [largest, 2.0], "shape": [2]}
    stored = {"observation": sides, "action": {"n": 2}, "episode_steps": 9, "task": "learned"}
    assert EnvironmentSpec.from_json(stored).observation_space == space


def test_bounds_are_none_where_nothing_is_bounded():
    actions = spaces.Discrete(2)
    for largest in (LARGEST, np.inf):
        low = np.float32([-largest, -largest])
        assert EnvironmentSpec(spaces.Box(low, -low), actions, 9).bounds is None
        low[0] = -1.0
        bounds = EnvironmentSpec(spaces.Box(low, -low), actions, 9).bounds
        np.testing.assert_array_equal(bounds, [[-1, -np.inf], [1, np.inf]])


# --- learned reward and termination -------------------------------------------------------------------------------


def test_a_learned_task_reads_its_two_columns_of_arrays_and_tensors():
    task = pickle.loads(pickle.dumps(learned_task(2)))
    for rows in (np.array([[0, 0, -3.0, 0.4], [0, 0, 7.0, 0.6]]), torch.tensor([[0, 0, -3.0, 0.4], [0, 0, 7.0, 0.6]])):
        assert list(task.reward(None, None, rows)) == [-3.0, 7.0]
        assert list(task.terminated(rows)) == [False, True]


# --- the user's own task ------------------------------------------------------------------------------------------


def test_a_task_whose_module_fails_says_how(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_tasks.py").write_text("raise RuntimeError('no such file: prices.csv')")
    with pytest.raises(ValueError, match=r"'broken_tasks:mine' cannot be imported \(no such file: prices.csv\)"):
        task_at("broken_tasks:mine")
    with pytest.raises(ValueError, match="'.tasks:mine' cannot be imported"):
        task_at(".tasks:mine")
