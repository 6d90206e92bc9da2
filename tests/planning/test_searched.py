"""Planners search several choices by number or by scores, and MPC gives actions of the space."""

import numpy as np
import pytest
from gymnasium import spaces

from persim_gym.actions import ActionLayout
from persim_gym.planning import CEM, ICEM, MPC, MPPI, CategoricalCEM, RandomShooting, searched
from persim_gym.planning.searched import searched_actions
from persim_gym.task import FunctionDynamics, Task, never

WANTED = np.float32([0, 1, 0, 0, 1])
"""The second of three choices, and the second of two."""


def pulled(obs, action):
    """Moves up where the action is the wanted one, and down by how much it differs."""
    assert action.shape[-1] == len(WANTED) and set(np.unique(action)) <= {0.0, 1.0}
    return obs + 1.0 - np.abs(action - WANTED).sum(axis=-1)[..., None]


TASK = Task(lambda obs, action, next_obs: next_obs[..., 0] + 0.01 * action[..., 0], never)
CHOICES = spaces.MultiDiscrete([3, 2])


@pytest.mark.parametrize("planner", [RandomShooting(300, 2), CategoricalCEM(30, 2, elites=5)], ids=str)
def test_combinations_are_drawn_by_number(planner):
    policy = MPC(FunctionDynamics(pulled), TASK, CHOICES, planner=planner)
    assert policy.searched.space == spaces.Discrete(6)
    assert MPC(pulled, TASK, CHOICES).planner == RandomShooting()
    action, state = policy.predict(np.zeros((2, 1), dtype=np.float32))
    assert action.tolist() == [[1, 1], [1, 1]] and all(CHOICES.contains(a) for a in action)
    assert policy.predict(np.zeros(1, dtype=np.float32))[0].tolist() == [1, 1]
    again, _ = policy.predict(np.zeros((2, 1), dtype=np.float32), state=state)
    assert again.tolist() == action.tolist()


@pytest.mark.parametrize("planner", [CEM(100, 2, elites=10), ICEM(100, 2), MPPI(100, 2)], ids=str)
def test_more_combinations_are_searched_by_scores(monkeypatch, planner):
    monkeypatch.setattr(searched, "MAX_NUMBERED_ACTIONS", 5)
    policy = MPC(FunctionDynamics(pulled), TASK, CHOICES, planner=planner)
    assert MPC(pulled, TASK, CHOICES).planner == CEM()
    action, _ = policy.predict(np.zeros((2, 1), dtype=np.float32))
    assert action.tolist() == [[1, 1], [1, 1]] and action.dtype == np.int64


@pytest.mark.parametrize("planner", [CEM(100, 2, elites=10), ICEM(100, 2), MPPI(100, 2)], ids=str)
def test_choices_and_amounts_are_searched_together(planner):
    space = ActionLayout((3, 0)).space([0, 0, 0, -2.0], [1, 1, 1, 2.0])

    def pulled_by_both(obs, action):
        assert set(np.unique(action[..., :3])) <= {0.0, 1.0}
        return obs + action[..., 1:2] - np.abs(action[..., 3:] - 1.5)

    policy = MPC(FunctionDynamics(pulled_by_both), TASK, space, planner=planner)
    action, _ = policy.predict(np.zeros((1, 1), dtype=np.float32))
    assert action[0, :3].tolist() == [0, 1, 0] and abs(action[0, 3] - 1.5) < 0.5 and space.contains(action[0])


def test_rows_of_the_same_dynamics_stay_together():
    one, other = FunctionDynamics(pulled), FunctionDynamics(pulled)
    bound = searched_actions(CHOICES).dynamics([one, other, one])
    assert bound[0] is bound[2] is not bound[1] and bound[0].members == 1


def test_other_spaces_are_searched_as_they_are():
    for space in (spaces.Discrete(3), spaces.Box(-1, 1, (2,))):
        plain = searched_actions(space)
        drawn = np.array([1, 2])
        assert plain.space is space and plain.shown(drawn) is drawn and plain.task(TASK) is TASK
        assert plain.dynamics([pulled]) == [pulled]
