"""What planners share: the unit box and the shifted plan."""

from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from persim_gym.planning.base import Plan, Planner, shifted, unit_box
from persim_gym.planning.by_name import planner_label
from persim_gym.planning.mpc import MPC
from persim_gym.planning.scoring import best_first
from persim_gym.task import Task, never

# --- what all planners have in common -----------------------------------------------------------------------------


def test_actions_at_the_ends_of_a_finer_box_lie_inside_it():
    box = spaces.Box(np.array([-0.7, 0.0]), np.array([0.1, 1 / 3]), dtype=np.float64)
    assert not box.contains(box.high.astype(np.float32))
    ends = unit_box(box, "CEM").actions(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    assert ends.dtype == np.float32 and all(box.contains(end) for end in ends)
    np.testing.assert_allclose(ends, [box.low, box.high], rtol=1e-6)


# --- what is each planner's own -----------------------------------------------------------------------------------


def test_shifting_drops_the_first_action():
    np.testing.assert_array_equal(shifted(np.array([1, 2, 3]), 9), [2, 3, 9])
    moved = shifted(np.arange(12.0).reshape(2, 3, 2), -1.0)
    np.testing.assert_array_equal(moved[0], [[2, 3], [4, 5], [-1, -1]])


@dataclass(frozen=True)
class Constants(Planner):
    """Repeats one of a few actions."""

    candidates: int = 3
    horizon: int = 4
    actions: tuple[int, ...] = (0, 1, 2)

    def _search(self, rows, action_space):
        sequences = np.repeat(np.array(self.actions)[:, None], self.horizon, axis=1)
        returns = rows.score(np.stack([sequences] * len(rows.rngs)))
        return [Plan(sequences[best_first(earned, 1)[0]]) for earned in returns]


def test_a_planner_of_ones_own_writes_its_search_alone():
    def walk(obs, action):
        return obs + (action - 1.0)[..., None]

    policy = MPC(
        walk,
        Task(lambda obs, action, next_obs: next_obs[..., 0], never),
        spaces.Discrete(3),
        planner=Constants(actions=(0, 2, 1)),
    )
    assert policy.predict(np.zeros((2, 1)))[0].tolist() == [2, 2]
    assert planner_label(policy.planner) == "Constants actions=(0,2,1)"
    with pytest.raises(ValueError, match="Constants needs at least one of horizon, got 0"):
        Constants(horizon=0)
