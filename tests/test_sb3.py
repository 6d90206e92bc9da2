"""The Stable-Baselines3 face: as its own vector environments of single ones."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from persim_gym.sb3 import make_vec_env


@pytest.mark.parametrize("env_id", ["PersimEnv-v0", "HeteroMountainCar-v0"])
def test_vec_env_reports_ends_as_sb3_wants_them(env_id):
    env = make_vec_env(env_id, agents=[0, 4, 4], n_envs=3, max_episode_steps=3)
    env.seed(5)
    first = env.reset()
    env.seed(5)
    np.testing.assert_array_equal(first, env.reset())
    assert (env.reset() != first).any()  # a seed serves one reset
    for _ in range(3):
        obs, reward, done, infos = env.step(np.array([2, 1, 0]))
    assert done.all() and reward.dtype == np.float32
    for row, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and info["terminal_observation"].shape == (2,)
        assert obs[row, 1] == 0.0  # already the next episode
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3


@pytest.fixture
def twins():
    """Three rows, natively batched, and as Stable-Baselines3 makes them of single environments."""
    agents = [0, 17, 3]
    native = make_vec_env(agents=agents, n_envs=3, render_mode="rgb_array")
    dummy = DummyVecEnv([lambda a=a: gym.make("PersimEnv-v0", agent=a, render_mode="rgb_array") for a in agents])
    yield native, dummy
    native.close()
    dummy.close()


@pytest.mark.parametrize("indices", [None, 1, [2, 0], [-1], range(2)])
def test_attributes_and_methods_go_by_index_as_in_dummy_vec_env(twins, indices):
    outcomes = []
    for env in twins:
        env.set_attr("label", "seen", indices=indices)
        assert env.env_method("set_wrapper_attr", "other", 5, indices=0) == [True]
        assert env.env_method("set_wrapper_attr", "unknown", 5, force=False, indices=0) == [False]
        assert env.env_method("set_wrapper_attr", "label", "seen", force=False, indices=indices) == [True] * len(
            env.get_attr("label", indices)
        )
        outcomes.append(
            [
                env.get_attr("agent", indices),
                env.get_attr("label", indices),
                [env.env_method("has_wrapper_attr", name, indices=indices) for name in ("label", "other", "unknown")],
                env.env_method("get_wrapper_attr", "agent", indices=indices),
                [space.n for space in env.get_attr("action_space", indices)],
                [s.card.name for s in env.get_attr("simulator", indices)],
                [d.name for d in env.get_attr("domain", indices)],
                env.env_is_wrapped(Monitor, indices),
            ]
        )
    assert outcomes[0] == outcomes[1]


def test_what_a_row_lacks_is_an_error_as_in_dummy_vec_env(twins):
    for env in twins:
        with pytest.raises(AttributeError):
            env.get_attr("nothing", 0)
        with pytest.raises(AttributeError):
            env.env_method("nothing")
    with pytest.raises(AttributeError, match="reaches all 3 rows"):
        twins[0].env_method("step", 0, indices=1)


def test_seeds_and_options_serve_one_reset_as_in_dummy_vec_env(twins):
    for env in twins:
        assert env.seed(7) == [7, 8, 9]
        env.set_options([{}, {"obs": [-0.9, 0.01]}, {}])
    first = [env.reset() for env in twins]
    np.testing.assert_array_equal(*first)
    np.testing.assert_array_equal(first[0][1], np.float32([-0.9, 0.01]))
    for env, before in zip(twins, first, strict=True):
        again = env.reset()
        assert (again[:, 0] != before[:, 0]).all() and (again[:, 1] == 0).all()


def test_one_row_resets_alone(twins):
    for env in twins:
        env.seed(0)
        env.reset()
        env.step(np.array([2, 2, 2]))
    obs = [env.env_method("reset", seed=4, options={"obs": [0.1, 0.0]}, indices=1)[0][0] for env in twins]
    np.testing.assert_array_equal(*obs)
    after = [env.step(np.array([0, 0, 0]))[0] for env in twins]
    np.testing.assert_allclose(*after, atol=1e-6)


def test_steps_equal_those_of_dummy_vec_env(twins):
    for env in twins:
        env.seed(3)
        env.reset()
    for t in range(3):
        (obs, reward, done, infos), other = (env.step(np.array([t % 3, 2, 0])) for env in twins)
        np.testing.assert_allclose(obs, other[0], atol=1e-6)
        np.testing.assert_allclose(reward, other[1])
        np.testing.assert_array_equal(done, other[2])
        assert (obs.dtype, reward.dtype, done.dtype) == tuple(a.dtype for a in other[:3])
        for mine, theirs in zip(infos, other[3], strict=True):
            assert set(mine) == set(theirs)
            assert type(mine["disagreement"]) is float and type(mine["halt"]) is bool
    np.testing.assert_array_equal(twins[0].render(), twins[1].render())


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
