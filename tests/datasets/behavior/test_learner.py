"""Learners of behavior policies: their networks in NumPy, and checkpoints that lose nothing."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.evaluation import evaluate_policy

from persim_gym.datasets.behavior.learner import greedy_layers, load_checkpoint, make_learner, save_checkpoint
from persim_gym.datasets.behavior.policies import PolicyNetwork, policy_covariates
from persim_gym.envs import DOMAINS


def _trained(algorithm, env_id, **keywords):
    env = gym.make(env_id)
    model = algorithm("MlpPolicy", env, learning_starts=50, seed=0, device="cpu", **keywords)
    return model.learn(80)


@pytest.mark.parametrize(("algorithm", "env_id"), [(DQN, "persim_gym:HeteroCartPole-v0"), (TD3, "Pendulum-v1")])
def test_numpy_policy_equals_the_sb3_network_it_came_from(algorithm, env_id):
    model = _trained(algorithm, env_id, policy_kwargs={"net_arch": [256, 256]}, batch_size=32)
    policy = PolicyNetwork(greedy_layers(model), model.action_space)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(64, *model.observation_space.shape)).astype(np.float32)
    for given in (obs, obs[0]):
        ours, theirs = policy.predict(given)[0], model.predict(given, deterministic=True)[0]
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert policy.predict(obs)[1] is None
    mean, _ = evaluate_policy(policy, model.get_env(), n_eval_episodes=1)
    assert np.isfinite(mean)


def test_sac_goes_on_with_its_entropy_coefficient(tmp_path):
    recipe = DOMAINS["pendulum"].behavior
    covariates = policy_covariates("pendulum", "test")
    learner = make_learner(recipe, "pendulum", covariates, seed=0)
    learner.learn(520)  # a few updates past learning_starts
    assert learner.log_ent_coef.item() != 0.0
    save_checkpoint(learner, 1.0, tmp_path / "checkpoint.pt")
    again = make_learner(recipe, "pendulum", covariates, seed=0)
    load_checkpoint(again, 0, tmp_path / "checkpoint.pt")
    assert again.log_ent_coef.item() == learner.log_ent_coef.item()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"position": 10**9}, "it counts what cannot be"),
        ({"position": -1}, "it counts what cannot be"),
        ({"counters": {"num_timesteps": 1, "_n_updates": 1, "predict": 1}}, "it is of another version"),
        ({"counters": {"num_timesteps": 1.5, "_n_updates": 1, "_n_calls": 1}}, "it counts what cannot be"),
        ({"buffer": {}}, "it is of another version"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_checkpoint_of_what_cannot_be_is_refused(change, said, tmp_path):
    learner = _trained(DQN, "persim_gym:HeteroCartPole-v0", buffer_size=100, policy_kwargs={"net_arch": [8]})
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(learner, 1.0, path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ValueError, match=rf"^{path} cannot be read \({said}\); remove it to start anew$"):
        load_checkpoint(learner, 0, path)
