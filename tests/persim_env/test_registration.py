"""The one time limit of PersimEnv-v0 is Gymnasium's: the caller's, else the simulator's."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeAwareObservation, TimeLimit
from support.simulators import save_model

from persim_gym.envs import DOMAINS
from persim_gym.persim_env.env import PersimEnv
from persim_gym.sb3 import make_vec_env
from persim_gym.spec import DOMAIN_TASK, EnvironmentSpec

OWN, ENDLESS = 40, 90
LIMITS = [({}, OWN), ({"max_episode_steps": 60}, 60), ({"max_episode_steps": 3}, 3), ({"max_episode_steps": -1}, None)]
"""Keywords of the caller, and the time limit that they ask for."""
with_limits = pytest.mark.parametrize(("keywords", "limit"), LIMITS, ids=["own", "longer", "shorter", "none"])
with_modes = pytest.mark.parametrize("mode", ["sync", "async", "vector_entry_point"])


@pytest.fixture
def folder(car_model, cars, tmp_path):
    """A simulator of cars that roll in the valley, of `OWN` steps an episode."""
    space = DOMAINS["mountaincar"]
    spec = EnvironmentSpec(space.observation_space, space.action_space, OWN, DOMAIN_TASK)
    return str(save_model(car_model, name="tiny", domain="mountaincar", data=cars, spec=spec, folder=tmp_path / "tiny"))


def steps_of(env):
    """Steps until rows or the only environment are truncated; None for more than `ENDLESS`."""
    env.reset(seed=0)
    action = np.ones(env.action_space.shape, dtype=np.int64) if hasattr(env, "num_envs") else 1
    for steps in range(1, ENDLESS):
        *_, truncated, _ = env.step(action)
        if np.any(truncated):
            assert np.all(truncated)
            return steps
    return None


@with_limits
def test_a_single_environment_has_the_limit_that_its_specification_tells(folder, keywords, limit):
    env = gym.make("PersimEnv-v0", simulator=folder, **keywords)
    gym.make("PersimEnv-v0", simulator="cartpole/random-v0")  # Another simulator's limit is not this one's.
    assert env.spec.max_episode_steps == steps_of(env) == limit
    stored = EnvSpec.from_json(env.spec.to_json())
    for spec in (env.spec, stored):
        again = gym.make(spec)
        assert again.spec.max_episode_steps == steps_of(again) == limit


def test_gymnasiums_wrapper_is_the_only_limit(folder):
    assert steps_of(PersimEnv(simulator=folder)) is None
    env, limits = gym.make("PersimEnv-v0", simulator=folder), 0
    aware = TimeAwareObservation(env, normalize_time=False).observation_space
    assert aware.high[-1] == OWN
    while isinstance(env, gym.Wrapper):
        limits += isinstance(env, TimeLimit)
        env = env.env
    assert limits == 1


@with_modes
@with_limits
def test_rows_have_the_same_limit_in_every_mode(folder, mode, keywords, limit):
    env = gym.make_vec("PersimEnv-v0", num_envs=2, vectorization_mode=mode, simulator=folder, **keywords)
    gym.make("PersimEnv-v0", simulator="cartpole/random-v0")
    assert steps_of(env) == limit
    if mode == "vector_entry_point":
        assert env.spec.max_episode_steps == limit
    spec = EnvSpec.from_json(env.spec.to_json())
    env.close()
    again = gym.make_vec(spec)
    assert steps_of(again) == limit
    again.close()


@pytest.mark.parametrize("env_id", ["PersimEnv-v0", "HeteroMountainCar-v0"])
@with_limits
def test_stable_baselines3_has_the_same_limit(folder, env_id, keywords, limit):
    persim = env_id == "PersimEnv-v0"
    env = make_vec_env(env_id, agents=[1, 2], n_envs=2, **keywords, **({"simulator": folder} if persim else {}))
    limit = limit if keywords or persim else DOMAINS["mountaincar"].episode_steps
    assert env.batched.spec.max_episode_steps == limit
    env.reset()
    ends = [t for t in range(1, ENDLESS) if env.step(np.array([1, 1]))[2].all()]
    assert (ends[0] if ends else None) == (None if limit is None or limit >= ENDLESS else limit)


def test_a_limit_of_the_callers_may_be_that_of_another_simulator(folder):
    """Of the one that an environment was made of last."""
    gym.make("PersimEnv-v0", simulator="cartpole/random-v0")
    rows = gym.make_vec("PersimEnv-v0", num_envs=2, simulator=folder, max_episode_steps=200)
    assert rows.spec.max_episode_steps == 200 and steps_of(rows) is None


def test_the_registered_specification_is_not_changed_by_who_reads_it():
    spec = gym.spec("PersimEnv-v0")
    for simulator, steps in (("cartpole/random-v0", 200), ("mountaincar/random-v0", 500)):
        assert gym.make(spec, simulator=simulator).spec.max_episode_steps == steps
        assert gym.make("PersimEnv-v0", simulator=simulator).spec.max_episode_steps == steps


@pytest.mark.parametrize("env_id", ["PersimEnv-v0", "HeteroPendulum-v0"])
@pytest.mark.parametrize("steps", [0, -2])
def test_a_limit_that_is_none_is_refused(env_id, steps):
    with pytest.raises(ValueError, match=f"max_episode_steps={steps} must be positive, or -1 for no time limit"):
        gym.make_vec(env_id, num_envs=2, max_episode_steps=steps)
