"""Trained baselines act as Stable-Baselines3's policies do."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from support.offline import OBS_DIM, SPECS, logged, of_cartpole

from persim_gym.baselines.registry import BASELINES, train_baseline
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns

SMALL = ["layers=[16,16]", "batch=8"]


@pytest.fixture(scope="module", params=[(name, kind) for name in BASELINES for kind in SPECS], ids="-".join)
def policy(request, tmp_path_factory):
    name, kind = request.param
    own = 1 if name == "bcq-a" else None
    settings = [*SMALL, "standardize=true"]
    if kind == "continuous" and name.startswith("bcq"):
        settings.append("generative_layers=[16,16]")
    return train_baseline(
        name, logged(kind), agent=own, settings=settings, iterations=20, spec=SPECS[kind],
        out=tmp_path_factory.mktemp("policy") / "it", progress=False,
    )  # fmt: skip


def test_actions_have_the_shapes_of_stable_baselines3(policy):
    space, obs = policy.spec.action_space, np.random.default_rng(0).normal(size=(5, OBS_DIM)).astype(np.float32)
    for deterministic in (True, False):
        many, state = policy.predict(obs, None, np.ones(5, dtype=bool), deterministic)
        one, _ = policy.predict(obs[0], deterministic=deterministic)
        assert state is None
        assert many.shape == (5, *space.shape) and one.shape == space.shape
        assert many.dtype == one.dtype == space.dtype
        assert all(space.contains(action) for action in many) and space.contains(np.asarray(one)[()])


def test_deterministic_actions_repeat_and_do_not_depend_on_other_rows(policy):
    obs = np.random.default_rng(0).normal(size=(5, OBS_DIM)).astype(np.float32)
    many = policy.predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(many, policy.predict(obs, deterministic=True)[0])
    np.testing.assert_allclose(many[2], policy.predict(obs[2], deterministic=True)[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (1, 2, OBS_DIM)])
def test_observations_of_another_size_are_refused(policy, shape):
    with pytest.raises(ValueError, match=r"this policy takes \(3,\) or \(B, 3\)"):
        policy.predict(np.zeros(shape))


def test_a_policy_is_scored_by_our_functions_and_by_stable_baselines3(tmp_path):
    data = of_cartpole()
    policy = train_baseline("bc", data, iterations=20, settings=SMALL, out=tmp_path / "bc", progress=False)
    returns = episode_returns(policy, DOMAINS["cartpole"], 0, episodes=3)
    assert returns.shape == (3,) and (returns > 0).all()
    env = gym.make("persim_gym:HeteroCartPole-v0", agent=0)
    mean, _ = evaluate_policy(policy, env, n_eval_episodes=2, warn=False)
    assert mean > 0
