"""Rollouts under other actions: where they begin, which constant action is best, and where they end."""

import numpy as np
import pytest
from support.simulators import own_simulator

from persim_gym.reports.what_if import AS_LOGGED, RANDOM, Start, longest_run, start_of, what_if_rollouts
from persim_gym.simulator.registry import load_simulator


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return load_simulator(str(own_simulator(tmp_path_factory.mktemp("own") / "sim", "", starts=True)))


def test_rollouts_begin_where_the_agents_longest_run_does(cars, save_car):
    simulator = load_simulator(str(save_car()))
    broken = cars.select(~np.isin(np.arange(len(cars)), [10, 130]))
    rows = longest_run(broken, 1)
    assert (broken.agent[rows] == 1).all() and (np.diff(rows) == 1).all() and len(rows) == 99
    start = start_of(simulator, broken, 1)
    assert start is not None and start.actions is not None
    np.testing.assert_array_equal(start.obs, broken.obs[rows[0]])
    np.testing.assert_array_equal(start.following, broken.next_obs[rows[:50]])
    np.testing.assert_array_equal(start.actions, broken.action[rows[:50]])


def test_without_a_log_they_begin_at_a_first_observation_that_is_kept(own):
    start = start_of(own, None, 3)
    assert start is not None and start.actions is None and start.following.shape == (20, 4)
    found = what_if_rollouts(own, start, 3, seed=0)
    assert [r.name for r in found][0] == RANDOM and found[1].name.startswith("constant action: ")


@pytest.mark.parametrize("agent", [0, 3])
def test_the_constant_action_is_the_one_whose_predicted_reward_is_highest(own, agent):
    start = start_of(own, None, agent)
    dynamics, sums = own.dynamics(agent), []
    for action in (0, 1):
        now, total = np.repeat(start.obs[None, None], 1, axis=0), 0.0
        for _ in range(len(start.following)):
            after = dynamics(now, np.array([action]))
            total += float(after[0, 0, 4])
            if after[0, 0, 5] > 0.5:
                break
            now = after[..., :4]
        sums.append(total)
    best = what_if_rollouts(own, start, agent, seed=0)[-1]
    assert best.name == f"constant action: {int(np.argmax(sums))}"
    assert best.earned == pytest.approx(max(sums), rel=1e-5)


def test_a_rollout_stops_where_the_task_ends():
    simulator = load_simulator()
    obs = np.array([0.3, 0.05], dtype=np.float32)
    start = Start(obs, np.zeros((50, 2), dtype=np.float32), np.full(50, 2))
    logged, random, best = what_if_rollouts(simulator, start, 0, seed=0)
    assert logged.name == AS_LOGGED and best.name == "constant action: 2"
    assert best.ended and best.steps < 10 and len(best.middle) == best.steps and best.middle[-1, 0] >= 0.5
    assert best.earned == logged.earned == -(best.steps - 1)  # the goal itself costs nothing
    assert (best.low <= best.middle).all() and (best.middle <= best.high).all()


def test_the_same_seed_draws_the_same(own):
    start = start_of(own, None, 1)
    one, same, other = (what_if_rollouts(own, start, 1, seed)[0].middle for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
