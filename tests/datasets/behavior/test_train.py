"""Training of behavior policies: ends in the band, goes on where it stopped, skips what is there."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.policies import _card, _network

from persim_gym.datasets.behavior import policies as behaviour
from persim_gym.datasets.behavior import train as train_loggers
from persim_gym.datasets.behavior.learner import load_checkpoint, make_learner
from persim_gym.datasets.behavior.policies import policy_covariates, save_behavior_policy
from persim_gym.datasets.behavior.train import train_behavior_policy
from persim_gym.envs.behavior import BehaviorConfig

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


@pytest.mark.parametrize("double", [True, False], ids=["float64", "autocast"])
def test_torchs_settings_change_no_weight(double, tmp_path, monkeypatch):
    def weights(root):
        _answers(monkeypatch, 60, 60)
        train_behavior_policy("cartpole", "logger-1", root=root, recipe=TINY, progress=False)
        return load_policy_from(root).layers

    usual = weights(tmp_path / "usual")
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=not double):
            torch.set_default_dtype(torch.float64 if double else torch.float32)
            other = weights(tmp_path / "other")
    finally:
        torch.set_default_dtype(torch.float32)
    for one, again in zip(usual, other, strict=True):
        np.testing.assert_array_equal(one[0], again[0])
        np.testing.assert_array_equal(one[1], again[1])


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
