"""The batched simulator and the SB3 face: rows equal the single environment, resets are whose they should be."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

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
    assert not (terminated | truncated).any() and (reward == 0).all() and not info["disagreement"].any()
    assert ((obs[:, 0] >= -0.6) & (obs[:, 0] <= -0.4) & (obs[:, 1] == 0)).all()


def test_same_step_keeps_the_final_observation():
    rows = make(2, max_episode_steps=1, autoreset_mode=AutoresetMode.SAME_STEP)
    start, _ = rows.reset(seed=0)
    obs, _, _, truncated, info = rows.step(np.array([2, 0]))
    assert truncated.all() and (obs[:, 1] == 0).all()
    assert info["final_obs"][0][1] > 0 > info["final_obs"][1][1] and info["_final_obs"].all()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_infos_are_those_of_gymnasiums_vector_environment_of_single_ones(mode):
    agents, keywords = [0, 2, 1], {"simulator": "cartpole/random-v0"}  # pushed by 2, 18 and 10 N: agent 2 falls first
    mine = make(3, agents=agents, autoreset_mode=mode, **keywords)
    singles = [lambda a=a: gym.make("persim_gym:PersimEnv-v0", agent=a, **keywords) for a in agents]
    theirs = gym.vector.SyncVectorEnv(singles, autoreset_mode=mode)
    infos = [env.reset(seed=[0, 1, 2])[1] for env in (mine, theirs)]
    ended = False
    while not ended:
        assert_same_infos(*infos)
        results = [env.step(np.array([1, 1, 1])) for env in (mine, theirs)]
        infos, ended = [result[4] for result in results], results[0][2].any()
    assert_same_infos(*infos)
    assert ("final_info" in infos[0]) == (mode is AutoresetMode.SAME_STEP)
    if mode is AutoresetMode.NEXT_STEP:  # the step after an end is a reset
        infos = [env.step(np.array([1, 1, 1]))[4] for env in (mine, theirs)]
        assert_same_infos(*infos)
        assert infos[0]["disagreement"][1] == 0 < infos[0]["disagreement"][0]


def assert_same_infos(mine, theirs):
    assert set(mine) == set(theirs)
    for name, column in mine.items():
        if isinstance(column, dict):
            assert_same_infos(column, theirs[name])
        elif name == "final_obs":
            assert [x is None for x in column] == [x is None for x in theirs[name]]
        else:
            assert column.dtype == theirs[name].dtype
            np.testing.assert_allclose(column, theirs[name], rtol=1e-2, atol=1e-6)


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
        ({"agents": [1, 1.7]}, "agent 1.7 is not in this simulator"),
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
        env.env_method("set_wrapper_attr", "other", 5, indices=0)
        outcomes.append(
            [
                env.get_attr("agent", indices),
                env.get_attr("label", indices),
                [env.env_method("has_wrapper_attr", name, indices=indices) for name in ("label", "other", "none")],
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
