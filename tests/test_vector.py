"""The batched simulator and the SB3 face: rows equal the single environment, resets are whose they should be."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from persim_gym.sb3 import make_vec_env

SIMULATORS = ["mountaincar/random-v0", "cartpole/random-v0"]


def make(num_envs, **kwargs):
    return gym.make_vec("persim_gym:PersimEnv-v0", num_envs=num_envs, **kwargs)


@pytest.mark.parametrize("member", ["mean", 3])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_rows_equal_the_single_environments(simulator, member):
    agents = [0, 17, 17, 499, 3]
    rows = make(5, agents=agents, simulator=simulator, member=member, penalty=0.1)
    singles = [
        gym.make("persim_gym:PersimEnv-v0", agent=a, simulator=simulator, member=member, penalty=0.1) for a in agents
    ]
    obs, _ = rows.reset(seed=[10, 11, 12, 13, 14])
    np.testing.assert_array_equal(obs, [e.reset(seed=10 + i)[0] for i, e in enumerate(singles)])
    rng = np.random.default_rng(0)
    for _ in range(8):
        actions = rng.integers(rows.single_action_space.n, size=5)
        obs, reward, terminated, truncated, info = rows.step(actions)
        for i, env in enumerate(singles):
            one = env.step(actions[i])
            np.testing.assert_allclose(obs[i], one[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(reward[i], one[1], rtol=1e-5, atol=1e-6)
            assert (terminated[i], truncated[i]) == one[2:4]
            np.testing.assert_allclose(info["disagreement"][i], one[4]["disagreement"], rtol=1e-3, atol=1e-6)


def test_random_member_is_drawn_anew_for_an_episode_and_row():
    rows = make(200, member="random")
    rows.reset(seed=0)
    first = rows.unwrapped._active.copy()
    assert set(first) == {0, 1, 2, 3, 4}
    rows.reset()
    assert (rows.unwrapped._active != first).any()


def test_next_step_ignores_the_action_of_a_resting_row_and_resets_it():
    rows = make(2, max_episode_steps=2)
    rows.reset(seed=0)
    rows.step(np.array([2, 2]))
    _, _, _, truncated, _ = rows.step(np.array([2, 2]))
    assert truncated.all()
    obs, reward, terminated, truncated, info = rows.step(np.array([0, 0]))
    assert not (terminated | truncated).any() and (reward == 0).all() and not info["_disagreement"].any()
    assert ((obs[:, 0] >= -0.6) & (obs[:, 0] <= -0.4) & (obs[:, 1] == 0)).all()


def test_same_step_keeps_the_final_observation():
    rows = make(2, max_episode_steps=1, autoreset_mode=AutoresetMode.SAME_STEP)
    start, _ = rows.reset(seed=0)
    obs, _, _, truncated, info = rows.step(np.array([2, 0]))
    assert truncated.all() and (obs[:, 1] == 0).all()
    assert info["final_obs"][0][1] > 0 > info["final_obs"][1][1] and info["_final_obs"].all()


def test_disabled_wants_a_reset_of_finished_rows():
    rows = make(2, max_episode_steps=1, autoreset_mode=AutoresetMode.DISABLED)
    rows.reset(seed=0)
    rows.step(np.array([1, 1]))
    with pytest.raises(ValueError, match="reset_mask"):
        rows.step(np.array([1, 1]))
    rows.reset(options={"reset_mask": np.array([True, True])})
    rows.step(np.array([1, 1]))


def test_halt_truncates_the_rows_that_disagree():
    rows = make(2, simulator="cartpole/random-v0", halt=1e-9)
    rows.reset(seed=0)
    _, _, terminated, truncated, info = rows.step(np.array([0, 1]))
    assert truncated.all() and info["halt"].all() and not terminated.any()


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"agents": [1]}, "1 agents for 2 rows"),
        ({"agents": [1, 612]}, "agent 612 is not in this simulator"),
        ({"member": 5}, "member=5"),
        ({"halt": 0.0}, "halt=0.0"),
    ],
)
def test_bad_rows_are_refused(kwargs, said):
    with pytest.raises(ValueError, match=said):
        make(2, **kwargs)


@pytest.mark.parametrize("env_id", ["PersimEnv-v0", "HeteroMountainCar-v0"])
def test_vec_env_reports_ends_as_sb3_wants_them(env_id):
    env = make_vec_env(env_id, agents=[0, 4, 4], n_envs=3, max_episode_steps=3)
    env.seed(5)
    first = env.reset()
    env.seed(5)
    np.testing.assert_array_equal(first, env.reset())
    assert (env.reset() != first).any()  # a seed serves one reset
    for step in range(3):
        obs, reward, done, infos = env.step(np.array([2, 1, 0]))
    assert done.all() and reward.dtype == np.float32 and step == 2
    for row, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and info["terminal_observation"].shape == (2,)
        assert obs[row, 1] == 0.0  # already the next episode
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    with pytest.raises(ValueError, match="leave indices out"):
        env.set_attr("x", 1, indices=[0])


def test_agent_and_agents_exclude_each_other():
    with pytest.raises(ValueError, match="give one of them"):
        make_vec_env(agent=1, agents=[1], n_envs=1)


def test_ppo_learns_inside_the_simulator():
    env = make_vec_env(agent=1, n_envs=16, simulator="cartpole/random-v0", member="random", seed=0, wrapper=VecMonitor)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=256, n_epochs=10, learning_rate=1e-3, seed=0, device="cpu")
    model.learn(1024)
    early = np.mean([e["r"] for e in model.ep_info_buffer])
    model.learn(12_288)
    late = np.mean([e["r"] for e in model.ep_info_buffer])
    assert late > 2 * early, (early, late)
