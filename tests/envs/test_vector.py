"""True environments in rows: each row is a single environment, and resets are Gymnasium's."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from support.domains import every_domain, random_actions

AGENTS = [0, 4, 17, 499]


@every_domain
def test_a_vector_row_equals_the_single_environment(domain):
    num, steps = 11, 200
    agents = [*AGENTS, *range(100, 107)]
    seeds = list(range(num))
    actions = random_actions(domain, (steps, num))
    rows = gym.make_vec(domain.env_id, num_envs=num, agents=agents)
    first, _ = rows.reset(seed=seeds)
    results = [rows.step(a)[:3] for a in actions]
    for row, (agent, seed) in enumerate(zip(agents, seeds, strict=True)):
        env = gym.make(domain.env_id, agent=agent)
        np.testing.assert_array_equal(env.reset(seed=seed)[0], first[row])
        for (obs, reward, terminated), action in zip(results, actions[:, row], strict=True):
            single = env.step(action)
            np.testing.assert_array_equal(single[0], obs[row])
            assert single[1] == (reward[row] if domain.exact_reward is None else pytest.approx(reward[row], abs=1e-9))
            assert single[2] == terminated[row]
            if single[2] or single[3]:
                break


@every_domain
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_autoreset(domain, mode):
    """Episodes of 3 steps: rows end together, and go on as the mode says."""
    env = gym.make_vec(domain.env_id, num_envs=4, agents=AGENTS, max_episode_steps=3, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    env.reset(seed=0)
    actions = random_actions(domain, (4, 4))
    for action in actions[:3]:
        last, _, terminated, truncated, info = env.step(action)
        assert not terminated.any()
    assert truncated.all()

    if mode is AutoresetMode.SAME_STEP:
        finals = np.stack(list(info["final_obs"]))
        assert info["_final_obs"].all()
        assert not np.array_equal(finals, last)
        assert env.step(actions[3])[3].tolist() == [False] * 4
    elif mode is AutoresetMode.NEXT_STEP:
        obs, reward, terminated, truncated, _ = env.step(actions[3])
        assert (reward == 0.0).all() and not terminated.any() and not truncated.any()
        assert not np.array_equal(obs, last)
        assert not env.step(actions[3])[3].any()
    else:
        with pytest.raises(ValueError, match="have finished; reset them"):
            env.step(actions[3])
        half = np.array([True, True, False, False])
        obs, _ = env.reset(options={"reset_mask": half})
        np.testing.assert_array_equal(obs[~half], last[~half])
        assert (obs[half] != last[half]).any(axis=-1).all()
        with pytest.raises(ValueError, match=re.escape("rows [2, 3] have finished")):
            env.step(actions[3])
