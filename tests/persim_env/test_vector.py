"""The simulator in rows: each row is the single environment, and resets are whose they should be."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

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
            assert column.dtype == theirs[name].dtype or (name, column.dtype) == ("halt", np.bool_)
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


def test_rows_draw_their_factors_apart(simulator):
    batched = gym.make_vec(
        "persim_gym:PersimEnv-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        agents=[2, 2, 4],
        simulator=str(simulator.folder),
        factor="sample",
    )
    batched.reset(seed=[7, 8, 7])
    single = gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=str(simulator.folder), factor="sample")
    single.reset(seed=7)
    obs = batched.step(np.array([2, 2, 2]))[0]
    np.testing.assert_allclose(obs[0], single.step(2)[0], rtol=1e-5)
    assert not np.allclose(obs[0], obs[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"agent": 1, "agents": [4, 5, 6]}, "both say which agents"),
        ({"agents": "0-2"}, "agents are numbers or names, one a row"),
    ],
)
def test_agents_are_said_once_and_in_numbers(given, said):
    with pytest.raises(ValueError, match=said):
        gym.make_vec("persim_gym:PersimEnv-v0", num_envs=3, **given)
