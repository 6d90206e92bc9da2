"""Logging policies: what is bundled is what the cards say, and training, saving and loading lose nothing."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.evaluation import evaluate_policy

from persim_gym import storage as files
from persim_gym.datasets.behavior import policies as behaviour
from persim_gym.datasets.behavior import train as train_loggers
from persim_gym.datasets.behavior.configs import BEHAVIOR_CONFIGS, BehaviorConfig, in_band
from persim_gym.datasets.behavior.learner import greedy_layers, load_checkpoint, make_learner, save_checkpoint
from persim_gym.datasets.behavior.policies import (
    MissingPolicyError,
    PolicyCard,
    PolicyNetwork,
    closest_logger,
    load_behavior_policy,
    policy_covariates,
    policy_names,
    save_behavior_policy,
    with_random_actions,
)
from persim_gym.datasets.behavior.train import train_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.paths import ASSETS

BUNDLED = sorted((p.parent.parent.name, p.parent.name) for p in ASSETS.glob("policies/*/*/card.json"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("domain", "name"), BUNDLED)
def test_bundled_policy_earns_what_its_card_says(domain, name):
    policy = load_behavior_policy(domain, name)
    card = policy.card
    assert (card.domain, card.name) == (domain, name)
    assert card.covariates == policy_covariates(domain, name)
    assert in_band(card.mean_return, card.threshold)
    episodes = 20 if DOMAINS[domain].episode_steps <= 500 else 8
    returns = episode_returns(policy, DOMAINS[domain], episodes=episodes, seed=1, **card.covariates)
    standard_error = card.std_return * np.sqrt(1 / episodes + 1 / card.episodes)
    assert abs(returns.mean() - card.mean_return) < 4 * standard_error + 1.0


@pytest.mark.parametrize("domain", ["mountaincar", "cartpole", "halfcheetah", "pendulum"])
def test_every_training_agent_has_its_logger(domain):
    assert {name for d, name in BUNDLED if d == domain} == set(policy_names(domain))


def test_what_ships_with_the_package_stays_small():
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 10e6


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


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,), dtype=np.float32)])
def test_random_actions_replace_their_share(space):
    actions = np.full((20_000, *space.shape), space.sample() * 0, dtype=space.dtype)
    mixed = with_random_actions(actions, space, 0.3, np.random.default_rng(0))
    assert mixed.dtype == actions.dtype and all(space.contains(a) for a in mixed[:100])
    share = np.mean((mixed != actions).reshape(len(actions), -1).any(axis=1))
    assert share == pytest.approx(0.2 if isinstance(space, spaces.Discrete) else 0.3, abs=0.01)  # a third repeats
    np.testing.assert_array_equal(with_random_actions(actions, space, 0.0, np.random.default_rng(0)), actions)


def test_predict_rejects_observations_of_another_size():
    policy = _network()
    with pytest.raises(ValueError, match=r"takes \(4,\) or \(B, 4\)"):
        policy.predict(np.zeros(3))


def _network():
    rng = np.random.default_rng(0)
    layers = tuple(
        (rng.normal(size=(out, size)).astype(np.float32), rng.normal(size=out).astype(np.float32))
        for size, out in ((4, 8), (8, 2))
    )
    return PolicyNetwork(layers, spaces.Discrete(2))


def _card(name="test"):
    return PolicyCard(
        domain="cartpole",
        name=name,
        algorithm="DQN",
        hyperparameters={"gamma": 0.99},
        covariates=policy_covariates("cartpole", name),
        threshold=(150.0, None),
        steps=10,
        seconds=1.0,
        seed=0,
        mean_return=160.0,
        std_return=1.0,
        episodes=100,
        versions={"numpy": "2"},
    )


def test_saved_policy_loads_with_the_same_weights_and_goes_before_the_bundled_one(home):
    for _ in range(2):  # the second replaces the first
        folder = save_behavior_policy(_network().layers, _card())
    assert sorted(p.name for p in folder.parent.iterdir()) == ["test"]
    loaded = load_behavior_policy("cartpole", "test")
    for mine, theirs in zip(_network().layers, loaded.layers, strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])
    assert loaded.card.mean_return == 160.0 and loaded.card.threshold == (150.0, None)


def test_interrupted_save_keeps_the_old_policy(home, monkeypatch):
    folder = save_behavior_policy(_network().layers, _card())
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(files.json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_behavior_policy(_network().layers, _card())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["test"]


def test_tampered_weights_are_rejected(home):
    folder = save_behavior_policy(_network().layers, _card())
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="SHA-256"):
        load_behavior_policy("cartpole", "test")


def test_card_of_another_version_is_rejected(home):
    folder = save_behavior_policy(_network().layers, _card())
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"surprise": 1}))
    with pytest.raises(ValueError, match="another version .surprise"):
        load_behavior_policy("cartpole", "test")


def test_missing_policy_names_the_command_that_trains_it(home, monkeypatch):
    monkeypatch.setattr(behaviour, "ASSETS", home)
    with pytest.raises(MissingPolicyError, match="persim datasets train-loggers --domain cartpole --name logger-3"):
        load_behavior_policy("cartpole", "logger-3")
    with pytest.raises(ValueError, match="no policy 'logger-5'; known: logger-0, "):
        load_behavior_policy("cartpole", "logger-5")
    with pytest.raises(ValueError, match="unknown domain"):
        load_behavior_policy("cartpol", "test")


@pytest.mark.parametrize(
    ("domain", "covariates", "index"),
    [
        ("mountaincar", {"gravity": 0.0001}, 0),
        ("mountaincar", {"gravity": 0.00052}, 0),
        ("mountaincar", {"gravity": 0.00053}, 1),
        ("mountaincar", {"gravity": 0.0035}, 4),
        ("cartpole", {"force": 10.0, "length": 0.5}, 2),
        ("cartpole", {"force": 2.0, "length": 0.5}, 0),
        ("cartpole", {"force": 10.0, "length": 0.15}, 4),
        # 2.2 N of 16 N is a shorter way than 0.1 m of 0.7 m
        ("cartpole", {"force": 12.2, "length": 0.6}, 3),
        ("cartpole", {"force": 14.0, "length": 0.59}, 1),
        ("halfcheetah", {"mass": 0.3, "damping": 1.7}, 0),
        ("halfcheetah", {"mass": 1.7, "damping": 0.3}, 1),
        ("halfcheetah", {"mass": 0.3, "damping": 0.3}, 2),
        ("halfcheetah", {"mass": 1.7, "damping": 1.7}, 3),
        ("halfcheetah", {"mass": 1.0, "damping": 1.0}, 0),
    ],
)
def test_closest_logger(domain, covariates, index):
    assert closest_logger(domain, covariates) == index


def test_closest_logger_wants_every_covariate():
    with pytest.raises(ValueError, match="give all of force, length"):
        closest_logger("cartpole", {"force": 10.0})


TINY = BehaviorConfig(
    "DQN",
    {"learning_starts": 20, "batch_size": 8, "buffer_size": 1_000, "policy_kwargs": {"net_arch": [8]}},
    logger=(50.0, 70.0),
    test=(50.0, 70.0),
    max_steps=1_000,
    evaluate_every=50,
)


def _answers(monkeypatch, *answers):
    """Lets evaluations return these numbers one after the other, or raise them."""
    remaining = iter(answers)

    def answer(*args, **kwargs):
        value = next(remaining)
        if isinstance(value, BaseException):
            raise value
        return np.full(3, float(value))

    monkeypatch.setattr(train_loggers, "episode_returns", answer)


def test_training_stops_in_the_band_once_confirmed(home, monkeypatch):
    _answers(monkeypatch, 10, 90, 60, 40, 60, 61)  # below, above, not confirmed, confirmed
    train_behavior_policy("cartpole", "logger-1", root=home, recipe=TINY, progress=False)
    card = load_policy_from(home).card
    assert (card.steps, card.mean_return, card.covariates) == (200, 61.0, {"force": 14.0, "length": 0.5})
    assert not list(home.glob("training/cartpole/*"))


def test_logger_of_the_default_agent_is_not_a_stage_of_the_test_policy(home, monkeypatch):
    _answers(monkeypatch, *[60] * 4)
    seeds = []
    for name in ("test", "logger-2"):
        folder = train_behavior_policy("cartpole", name, recipe=TINY, progress=False)
        seeds.append(json.loads((folder / "card.json").read_text())["seed"])
    assert policy_covariates("cartpole", "test") == policy_covariates("cartpole", "logger-2")
    assert seeds == [0, 1]


def load_policy_from(root):
    return behaviour.read_behavior_policy(root / "cartpole" / "logger-1", "cartpole")


def test_interrupted_training_goes_on_where_it_stopped(home, monkeypatch):
    _answers(monkeypatch, 10, 10, 10, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train_behavior_policy("cartpole", "logger-1", root=home, recipe=TINY, progress=False)
    (checkpoint,) = home.glob("training/cartpole/logger-1-seed0/*")
    state = torch.load(checkpoint, weights_only=True)
    assert state["counters"]["num_timesteps"] == 200
    learner = make_learner(TINY, "cartpole", {"force": 14.0, "length": 0.5}, seed=0)
    load_checkpoint(learner, 0, checkpoint)
    for name, value in learner.policy.state_dict().items():
        assert torch.equal(value, state["parameters"]["policy"][name])
    assert learner.replay_buffer.pos == len(state["buffer"]["actions"]) == 199  # the 200th was not stored yet
    _answers(monkeypatch, 10, 60, 60)
    train_behavior_policy("cartpole", "logger-1", root=home, recipe=TINY, progress=False)
    assert load_policy_from(home).card.steps == 300


def test_killed_training_goes_on_from_its_last_checkpoint(home, monkeypatch):
    _answers(monkeypatch, 10, 10, 10, 10, MemoryError())  # at steps 50 … 250; nothing is saved then
    with pytest.raises(MemoryError):
        train_behavior_policy("cartpole", "logger-1", root=home, recipe=TINY, progress=False)
    (checkpoint,) = home.glob("training/cartpole/logger-1-seed0/*")
    assert torch.load(checkpoint, weights_only=True)["counters"]["num_timesteps"] == 200
    _answers(monkeypatch, 10, 60, 60)  # at steps 250 and 300
    train_behavior_policy("cartpole", "logger-1", root=home, recipe=TINY, progress=False)
    assert load_policy_from(home).card.steps == 300


def test_training_that_never_arrives_says_so(home, monkeypatch):
    _answers(monkeypatch, *[10] * 20)
    recipe = replace(TINY, max_steps=200)
    with pytest.raises(RuntimeError, match="did not reach 50.0 within 200 steps"):
        train_behavior_policy("cartpole", "logger-1", root=home, recipe=recipe, progress=False)


def test_train_loggers_skips_what_is_there(home, monkeypatch):
    folder = save_behavior_policy(_network().layers, _card())
    monkeypatch.setattr(train_loggers, "train_behavior_policy", lambda *a: 1 / 0)
    assert train_loggers.train_behavior_policies(["cartpole"], ["test"]) == [folder]


def test_sac_goes_on_with_its_entropy_coefficient(tmp_path):
    recipe = BEHAVIOR_CONFIGS["pendulum"]
    covariates = policy_covariates("pendulum", "test")
    learner = make_learner(recipe, "pendulum", covariates, seed=0)
    learner.learn(520)  # a few updates past learning_starts
    assert learner.log_ent_coef.item() != 0.0
    save_checkpoint(learner, 1.0, tmp_path / "checkpoint.pt")
    again = make_learner(recipe, "pendulum", covariates, seed=0)
    load_checkpoint(again, 0, tmp_path / "checkpoint.pt")
    assert again.log_ent_coef.item() == learner.log_ent_coef.item()
