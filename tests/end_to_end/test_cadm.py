"""A context-aware model serves where a simulator does: evaluate, plan, environments."""

import copy
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support.cadm import SMALL

from persim_gym import evaluate, load_simulator
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.datasets import load
from persim_gym.models import load_learned
from persim_gym.persim_env.env import PersimEnv
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.sb3 import make_vec_env
from persim_gym.workflows.plan import PlanSettings, known_dynamics, policy_of

BOTH = pytest.mark.parametrize("kind", ["cadm", "pe-ts-cadm"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a model of CartPole by variant; trained for an instant."""
    data, root = load("cartpole/random-v0", progress=False), tmp_path_factory.mktemp("cadm")
    for kind in ("cadm", "pe-ts-cadm"):
        settings = replace(SMALL, steps=30)
        train_cadm(data, probabilistic=kind != "cadm", settings=settings, out=root / kind, progress=False)
    return lambda kind: str(root / kind)


def played(env, steps=12, seed=0):
    """Observations along alternating actions."""
    seen = [env.reset(seed=seed)[0]]
    seen += [env.step(t % 2)[0] for t in range(steps)]
    return np.stack(seen)


@BOTH
@pytest.mark.filterwarnings("ignore:.*Box observation space m.* is -?infinity")
def test_an_environment_keeps_both_contracts(trained, kind):
    env = PersimEnv(agent=3, simulator=trained(kind))
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)


@BOTH
def test_a_reset_clears_the_history_and_a_copy_has_its_own(trained, kind):
    env = PersimEnv(agent=3, simulator=trained(kind))
    first = played(env)
    np.testing.assert_array_equal(played(env), first)
    env.reset(seed=0)
    env.step(0)
    other, third = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    following = env.step(1)[0]
    for one in (other, third):
        np.testing.assert_array_equal(one.step(1)[0], following)
    np.testing.assert_array_equal(following, first[2])


@BOTH
def test_a_row_of_a_vector_environment_is_the_single_one(trained, kind):
    rows = gym.make_vec("persim_gym:PersimEnv-v0", num_envs=3, agents=[3, 4, 3], simulator=trained(kind))
    seen = [rows.reset(seed=[0, 1, 2])[0]]
    seen += [rows.step(np.full(3, t % 2))[0] for t in range(12)]
    for row, agent in enumerate([3, 4, 3]):
        single = played(PersimEnv(agent=agent, simulator=trained(kind)), seed=row)
        np.testing.assert_allclose(np.stack(seen)[:, row], single, atol=1e-4)
    rows.close()


@BOTH
def test_evaluate_and_plan_serve_it(trained, kind):
    errors = evaluate(trained(kind), [1], episodes=10)
    assert 0 < errors[1].mean_rmse < 100
    domain, weights, folder = known_dynamics(trained(kind), truth=False)
    policy = policy_of(PlanSettings(domain, weights, RandomShooting(10, 5)), folder, 1, 0)
    obs = np.zeros(4, dtype=np.float32)
    actions = [int(policy.predict(obs + t / 100)[0]) for t in range(3)]
    policy.reset()
    assert actions == [int(policy.predict(obs + t / 100)[0]) for t in range(3)]


def test_stable_baselines_steps_it(trained):
    env = make_vec_env(agents=[0, 1], n_envs=2, simulator=trained("pe-ts-cadm"), member="random")
    env.reset()
    obs, reward, _, infos = env.step(np.array([0, 1]))
    assert obs.shape == (2, 4) and reward.tolist() == [1.0, 1.0]
    assert all(info["disagreement"] > 0 for info in infos)


def test_what_needs_beliefs_says_that_there_are_none(trained):
    folder = trained("cadm")
    with pytest.raises(ValueError, match="holds no beliefs"):
        PersimEnv(agent=3, simulator=folder, factor="sample")
    env = PersimEnv(agent=3, simulator=folder)
    with pytest.raises(ValueError, match="holds no beliefs"):
        env.learn(np.zeros(4), 0, np.zeros(4))
    with pytest.raises(ValueError, match="holds 'cadm', no simulator"):
        load_simulator(folder)
    with pytest.raises(ValueError, match="agent 500 is not of this model's population"):
        PersimEnv(agent=500, simulator=folder)


def test_models_are_found_by_path_and_by_name(trained):
    assert load_learned(trained("cadm")).card.kind == "cadm"
    assert load_learned("cartpole/random-v0").card.name == "cartpole/random-v0"


def test_noise_is_refused(trained):
    for serve in (
        lambda: PersimEnv(3, trained("cadm"), noise="gaussian"),
        lambda: load_learned(trained("cadm")).dynamics(3, noise="gaussian"),
    ):
        with pytest.raises(ValueError, match="has no noise='gaussian'; leave noise out"):
            serve()
