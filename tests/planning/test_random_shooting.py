"""Random shooting: the best plan of small problems, repeatable, and warm-started."""

import itertools

import numpy as np
import pytest
from gymnasium import spaces
from support.dynamics import counter, ending_at, plain_returns

from persim_gym.planning import Plan
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.task import Task


def plan(planner, dynamics, task, obs, actions=2, seed=0, **keywords):
    space = spaces.Discrete(actions)
    (only,) = planner.plan(dynamics, task, obs, space, np.random.default_rng(seed), **keywords)
    return only.sequence


def test_random_shooting_finds_the_best_of_all_sequences():
    """A walk on a ring of seven rooms with different rewards; it ends in room 5."""
    rewards = np.array([0.0, -1.0, 4.0, 2.0, -3.0, 9.0, 1.0])
    task = Task(
        lambda obs, action, next_obs: rewards[next_obs[..., 0].astype(int)], lambda next_obs: next_obs[..., 0] == 5
    )

    def dynamics(obs, action):
        return (obs + np.where(action == 1, 1, -2)[..., None]) % 7

    for room in range(5):
        every = np.array(list(itertools.product(range(2), repeat=6)))
        returns = plain_returns(dynamics, task, np.array([float(room)]), every)
        best = plan(RandomShooting(candidates=1500, horizon=6), dynamics, task, np.array([float(room)]))
        assert plain_returns(dynamics, task, np.array([float(room)]), best[None]) == returns.max()


def test_the_same_seed_draws_the_same_plan():
    planner = RandomShooting(candidates=20, horizon=10)
    one, again, other = (plan(planner, counter, ending_at(99), np.zeros(2), 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_the_last_plan_shifted_by_one_step_is_candidate_zero():
    seen = []

    def recording(obs, action):
        seen.append(action.copy())
        return counter(obs, action)

    planner = RandomShooting(candidates=20, horizon=5)
    plan(planner, recording, ending_at(99), np.zeros(2), previous=Plan(np.array([1, 2, 3, 4, 5])))
    drawn = np.random.default_rng(0).integers(2, size=(20, 5))
    np.testing.assert_array_equal(np.stack(seen, axis=1)[0], [2, 3, 4, 5, drawn[0, -1]])
    np.testing.assert_array_equal(np.stack(seen, axis=1)[1:], drawn[1:])


def test_a_good_plan_is_kept_by_the_warm_start():
    task = Task(lambda obs, action, next_obs: 1.0 * (action == 1), lambda next_obs: next_obs[..., 0] < 0)
    best = plan(RandomShooting(10, 40), counter, task, np.zeros(2), previous=Plan(np.ones(40, dtype=int)))
    assert best[:39].all()


def test_random_shooting_refuses_continuous_actions():
    with pytest.raises(ValueError, match="random shooting draws discrete actions, not Box"):
        RandomShooting().plan(counter, ending_at(1), np.zeros(2), spaces.Box(-1, 1, (2,)), np.random.default_rng(0))


def test_actions_of_a_space_that_starts_elsewhere_are_drawn_from_it():
    (drawn,) = RandomShooting(50, 10).plan(
        counter, ending_at(99), np.zeros(2), spaces.Discrete(2, start=3), np.random.default_rng(0)
    )
    assert set(drawn.sequence) <= {3, 4}
