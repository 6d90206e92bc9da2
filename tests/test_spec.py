"""Tasks that are learned or imported by reference."""

import pickle

import numpy as np
import pytest
import torch

from persim_gym.spec import learned_task, task_at

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
