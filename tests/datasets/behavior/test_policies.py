"""Behavior policies: what is bundled is what the cards say, and saving and loading lose nothing."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from support.policies import _card, _network

from persim_gym.datasets.behavior import policies as behaviour
from persim_gym.datasets.behavior.policies import (
    MissingPolicyError,
    closest_logger,
    load_behavior_policy,
    policy_covariates,
    policy_names,
    save_behavior_policy,
    with_random_actions,
)
from persim_gym.envs import DOMAINS
from persim_gym.envs.behavior import in_band
from persim_gym.evaluation.returns import episode_returns
from persim_gym.paths import ASSETS

BUNDLED = sorted((p.parent.parent.name, p.parent.name) for p in ASSETS.glob("policies/*/*/card.json"))


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
    monkeypatch.setattr(json, "dumps", lambda *a, **k: 1 / 0)
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
    with pytest.raises(ValueError, match="'surprise' of PolicyCard: missing, or not of this version"):
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
