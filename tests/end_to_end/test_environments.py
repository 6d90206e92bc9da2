"""What Gymnasium tests of its own environments, of every environment that is registered here."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.utils.passive_env_checker import env_render_passive_checker
from gymnasium.vector import AutoresetMode, VectorEnv

import persim_gym  # noqa: F401

IDS = [env_id for env_id, spec in gym.registry.items() if str(spec.entry_point).startswith("persim_gym.")]
every_id = pytest.mark.parametrize("env_id", IDS)
MODES = ["sync", "async", "vector_entry_point"]
STEPS = 20


def episode(env, actions):
    """All that resets and steps return."""
    seen = [env.reset(seed=3)]
    for action in actions:
        seen.append(env.step(action))
        if seen[-1][2]:
            break
    return seen


def actions_of(env, count=STEPS):
    """Random actions, the same ones every time."""
    env.action_space.seed(7)
    return [env.action_space.sample() for _ in range(count)]


def test_all_that_this_package_registers_are_found():
    assert len(IDS) == len(persim_gym.DOMAINS) + 1


@every_id
def test_one_seed_gives_one_episode_infos_included(env_id):
    one, other = (gym.make(env_id, agent=2) for _ in range(2))
    actions = actions_of(one)
    assert data_equivalence(actions, actions_of(other), exact=True)
    first = episode(one, actions)
    assert data_equivalence(first, episode(other, actions), exact=True)
    assert data_equivalence(first, episode(one, actions), exact=True)
    assert not data_equivalence(first[0], one.reset(seed=4), exact=True)


@every_id
def test_its_specification_is_plain_json_and_makes_the_same_environment(env_id):
    env = gym.make(env_id, agent=2, max_episode_steps=6)
    stored = env.spec.to_json()
    json.loads(stored)
    again = gym.make(EnvSpec.from_json(stored))
    assert again.spec.max_episode_steps == env.spec.max_episode_steps == 6
    actions = actions_of(env, 6)
    first, second = episode(env, actions), episode(again, actions)
    assert data_equivalence(first, second, exact=True)
    assert first[-1][3] or first[-1][2]


@every_id
def test_a_specification_is_plain_however_agents_were_named(env_id):
    assert json.loads(gym.make(env_id, agent=np.int64(3)).spec.to_json())["kwargs"]["agent"] == 3
    for agents in (np.array([1, 3]), range(1, 4, 2), (1, 3), [np.int64(1), np.int32(3)]):
        rows = gym.make_vec(env_id, num_envs=2, agents=agents, autoreset_mode=AutoresetMode.SAME_STEP)
        assert json.loads(rows.spec.to_json())["kwargs"]["agents"] == [1, 3]
        again = gym.make_vec(EnvSpec.from_json(rows.spec.to_json()))
        np.testing.assert_array_equal(again.reset(seed=0)[0], rows.reset(seed=0)[0])


@every_id
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_every_mode_are_the_single_environment(env_id, mode):
    rows = gym.make_vec(env_id, num_envs=2, vectorization_mode=mode, agent=2)
    assert rows.spec.id == env_id and rows.num_envs == 2 and rows.render_mode is None
    json.loads(rows.spec.to_json())
    single = gym.make(env_id, agent=2)
    assert rows.single_action_space == single.action_space
    assert rows.single_observation_space == single.observation_space
    actions = actions_of(single, 5)
    seen = episode(single, actions)
    rows.reset(seed=[3, 4])
    for action, (obs, reward, terminated, truncated, info) in zip(actions, seen[1:], strict=False):
        batch = rows.step(np.stack([action, action]))
        np.testing.assert_allclose(batch[0][0], obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch[1][0], reward, rtol=1e-5, atol=1e-6)
        assert (batch[2][0], batch[3][0]) == (terminated, truncated)
        assert {name for name in batch[4] if not name.startswith("_")} == set(info)
    rows.close()


@every_id
@pytest.mark.parametrize("mode", ["human", "rgb_array", "rgb_array_list"])
def test_every_render_mode_draws(env_id, mode):
    assert gym.make(env_id).metadata["render_modes"] == ["human", "rgb_array"]
    env = gym.make(env_id, render_mode=mode, disable_env_checker=True)
    try:
        env.reset(seed=0)
        env.step(env.action_space.sample())
        frames = env.render()
        if mode == "rgb_array":
            env_render_passive_checker(env.unwrapped)
    except RuntimeError as error:
        assert re.search("OpenGL does not start|there is no display", str(error))
        pytest.skip(str(error))
    finally:
        env.close()
    assert frames is None if mode == "human" else len(frames) == 2 or frames.shape[2] == 3


@every_id
def test_actions_past_the_bounds_are_clipped_or_refused(env_id):
    env = gym.make(env_id, disable_env_checker=True)
    space = env.action_space
    env.reset(seed=0)
    if isinstance(space, gym.spaces.Discrete):
        for action in (-1, space.n, space.n + 5):
            with pytest.raises(
                ValueError, match=rf"action {re.escape(repr(action))} is outside the action space; expected Discrete"
            ):
                env.step(action)
        return
    for bound, sign in ((space.high, 1), (space.low, -1)):
        ahead = []
        for action in (bound, np.nextafter(bound, sign * np.inf), bound + 100 * sign):
            env.reset(seed=0)
            ahead.append(env.step(action.astype(np.float32))[:3])
        assert data_equivalence(ahead[0], ahead[1], exact=True) and data_equivalence(ahead[0], ahead[2], exact=True)
    with pytest.raises(ValueError, match="is outside the action space"):
        env.step(np.full(space.shape, np.nan, dtype=np.float32))


@every_id
def test_actions_of_a_wrong_size_are_refused_in_one_line_that_names_both(env_id):
    single, rows = gym.make(env_id, disable_env_checker=True), gym.make_vec(env_id, num_envs=3)
    action = single.action_space.sample()
    shape = np.shape(action)
    longer = np.zeros(shape[0] + 1 if shape else 2, dtype=np.asarray(action).dtype)
    cases = [(single, longer, shape), (rows, np.stack([action] * 2), (3, *shape)), (rows, action, (3, *shape))]
    for env, wrong, expected in cases:
        env.reset(seed=0)
        with pytest.raises(ValueError) as error:
            env.step(wrong)
        said = str(error.value)
        assert f"action of shape {np.shape(wrong)} is outside" in said and f"of shape {expected}" in said
        assert "\n" not in said


@every_id
def test_a_step_before_the_first_reset_is_refused(env_id):
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        gym.make(env_id).unwrapped.step(gym.make(env_id).action_space.sample())
    rows = gym.make_vec(env_id, num_envs=2)
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        rows.step(rows.action_space.sample())


@every_id
def test_other_libraries_recognise_the_rows_as_gymnasiums(env_id):
    """By the class, or as skrl does by the modules of its direct bases."""
    rows = gym.make_vec(env_id, num_envs=2)
    assert isinstance(rows, VectorEnv)
    assert any(base.__module__.startswith("gymnasium.") for base in type(rows).__bases__)
