"""Policies trained inside a simulator: kept, resumed, and what they reached."""

import copy
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.policies import (
    ALGORITHMS,
    load_policy,
    read_policy,
    run_training,
    train_policy,
    truth_of,
    with_defaults,
)
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.registry import load_simulator

QUICK_DQN = {
    "learning_starts": 16, "buffer_size": 400, "batch_size": 8, "train_freq": 4, "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}  # fmt: skip


def test_a_result_says_what_was_trained_and_what_it_reached(quick, tmp_path):
    done = run_training(quick, tmp_path / "out", progress=False)
    stored = json.loads((tmp_path / "out" / "agent-3.json").read_text())
    assert stored == json.loads(json.dumps(asdict(done)))
    assert read_policy(tmp_path / "out" / "agent-3.json", with_defaults(quick)) == done
    assert done.domain == "mountaincar" and done.simulator_sha256 == load_simulator(quick.simulator).card.sha256
    policy = load_policy(tmp_path / "out" / "agent-3.json")
    domain = make_vec_env(agent=3, simulator=quick.simulator).get_attr("domain")[0]
    assert done.true_return == episode_returns(policy, domain, 3, episodes=2, seed=1).mean()
    assert sorted(p.name for p in (tmp_path / "out" / "agent-3").iterdir()) == ["best_model.zip"]


def test_a_finished_training_is_not_done_again_and_another_is_not_mistaken_for_it(quick, tmp_path):
    run_training(quick, tmp_path, progress=False)
    before = (tmp_path / "agent-3" / "best_model.zip").stat().st_mtime_ns
    run_training(quick, tmp_path, progress=False)
    assert (tmp_path / "agent-3" / "best_model.zip").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"is of another training \(seed 0, not 1\); --force trains anew"):
        run_training(replace(quick, seed=1), tmp_path, progress=False)
    assert run_training(replace(quick, seed=1), tmp_path, progress=False, force=True).training.seed == 1
    assert read_policy(tmp_path / "agent-3.json").training.seed == 1


def test_a_training_leaves_nothing_in_the_temporary_folder(quick, tmp_path, monkeypatch):
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run_training(quick, tmp_path / "out", progress=False)
    assert not list(scratch.iterdir())


def test_the_front_door_trains_what_it_is_told_and_goes_on(quick, tmp_path, save_car, monkeypatch):
    simulator = load_simulator(quick.simulator)
    settings = {"n_envs": 4, "hyperparameters": quick.hyperparameters, "progress": False}
    done = train_policy(simulator, 3, "ppo", 128, out=tmp_path / "out", **settings)
    assert done.training == with_defaults(quick)
    assert run_training(quick, tmp_path / "out", progress=False) == done  # read from its file
    monkeypatch.chdir(tmp_path)
    simulator.save(tmp_path / "home" / "car")
    named = train_policy("home/car", 3, "ppo", 128, **settings)
    result = tmp_path / "persim-out" / "policies" / "home-car-ppo" / "agent-3.json"
    assert read_policy(result) == named and named.simulator_return == done.simulator_return
    with pytest.raises(ValueError, match="is not on disk; save it first: simulator.save"):
        train_policy(replace(simulator, folder=tmp_path / "nowhere"), 3, **settings)
    with pytest.raises(ValueError, match="is of another training"):
        train_policy(simulator, 3, "ppo", 128, seed=1, out=tmp_path / "out", **settings)


class Stop(BaseCallback):
    """Ctrl-C after some steps."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def _on_step(self):
        if self.num_timesteps >= self.after:
            raise KeyboardInterrupt
        return True


def test_a_policy_sees_scaled_observations_and_learns_from_normalized_rewards(quick, tmp_path, monkeypatch):
    hyper = {**quick.hyperparameters, "scale_observations": True, "normalize_reward": True}
    rewards, collect = [], PPO.collect_rollouts

    def watched(self, *arguments, **keywords):
        going_on = collect(self, *arguments, **keywords)
        rewards.append(self.rollout_buffer.rewards.copy())
        return going_on

    monkeypatch.setattr(PPO, "collect_rollouts", watched)
    done = run_training(replace(quick, hyperparameters=hyper), tmp_path, progress=False)
    assert done.training.hyperparameters == hyper | with_defaults(quick).hyperparameters
    assert -1 < rewards[-1].mean() < 0 and -2 <= done.simulator_return / 500 <= 0  # MountainCar's own are -1 a step
    policy = load_policy(tmp_path / "agent-3.json")
    corners = np.array([policy.observation_space.low, policy.observation_space.high])
    seen = policy.policy.features_extractor(torch.as_tensor(corners))
    np.testing.assert_allclose(seen, [[-1, -1], [1, 1]], atol=1e-6)


def test_what_was_trained_in_other_weights_is_not_taken_for_done(quick, tmp_path, car_model, save_car):
    folder = Path(quick.simulator)
    run_training(quick, tmp_path / "out", progress=False)
    run_training(replace(quick, truth=True), tmp_path / "true", progress=False)
    other = copy.deepcopy(car_model)
    other.delta_std.mul_(1.01)
    save_car(folder, model=other)
    with pytest.raises(ValueError, match="was trained in other weights of simulator"):
        run_training(quick, tmp_path / "out", progress=False)
    run_training(replace(quick, truth=True), tmp_path / "true", progress=False)  # the truth is the same


NORMALIZED = {"scale_observations": True, "normalize_reward": True}


@pytest.mark.parametrize("algo", ["ppo", "dqn", "normalized"])
def test_an_interrupted_training_goes_on(quick, tmp_path, monkeypatch, algo):
    training = {
        "ppo": quick,
        "dqn": replace(quick, algo="dqn", hyperparameters=QUICK_DQN),
        "normalized": replace(quick, hyperparameters={**quick.hyperparameters, **NORMALIZED}),
    }[algo]
    normalized, algo = algo == "normalized", training.algo
    learn, seen = ALGORITHMS[algo].learn, []

    def stopped(self, total, callback, **kwargs):
        return learn(self, total, callback=[*callback.callbacks, Stop(72)], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ALGORITHMS[algo], "learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_training(training, tmp_path, progress=False)
    checkpoint = tmp_path / "agent-3" / "checkpoint"
    assert json.loads((checkpoint / "card.json").read_text())["steps"] == 72

    def watched(self, total, **kwargs):
        seen.append((total, self.num_timesteps, getattr(self, "replay_buffer", None)))
        if algo == "dqn":
            with np.load(checkpoint / "buffer.npz") as stored:
                assert self.replay_buffer.pos == stored["pos"] == 72 // 4 - 1  # the last is not stored yet
                np.testing.assert_array_equal(self.replay_buffer.observations, stored["observations"])
        if normalized:
            stored = json.loads((checkpoint / "card.json").read_text())["returns"]
            assert vars(self.get_vec_normalize_env().ret_rms) == stored and stored["count"] > 72 and stored["var"] > 1
        return learn(self, total, **kwargs)

    monkeypatch.setattr(ALGORITHMS[algo], "learn", watched)
    run_training(training, tmp_path, progress=False)
    assert seen[0][:2] == (128 - 72, 72)
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algo": "a2c"}, "no algorithm 'a2c'; known: ppo, dqn, sac, td3"),
        ({"algo": "sac"}, "sac does not fit mountaincar's .*use one of ppo, dqn"),
        ({"agent": 6}, "agent 6 is not in this simulator"),
        ({"environment": {"penalty": -1.0}}, "penalty=-1.0"),
    ],
)
def test_an_impossible_training_is_refused(quick, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        run_training(replace(quick, **change), tmp_path, progress=False)


def test_an_agent_that_was_personalized_is_tested_in_the_simulator_alone(quick, tmp_path, cars):
    stranger = replace(cars.select(cars.agent == 2), agent=np.zeros(100, dtype=np.int64), n_agents=1)
    load_simulator().personalize(stranger).save(tmp_path / "501")
    training = replace(quick, simulator=str(tmp_path / "501"), agent=500)
    assert truth_of(training) is None and truth_of(replace(training, agent=499)) is DOMAINS["mountaincar"]
    done = run_training(training, tmp_path / "out", progress=False)
    assert (done.domain, done.true_return) == ("mountaincar", None) and -500 <= done.simulator_return <= 0


@pytest.mark.slow
def test_ppo_saved_by_sb3_is_the_same_policy(quick, tmp_path):
    env = make_vec_env(agent=3, n_envs=2, simulator=quick.simulator)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(64)
    model.save(tmp_path / "m")
    obs = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    again = PPO.load(tmp_path / "m", env=env, device="cpu")
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], again.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize("double", [True, False], ids=["float64", "autocast"])
def test_torchs_settings_change_no_training(double, quick, tmp_path):
    def seen(folder):
        trained = run_training(quick, folder, progress=False)
        action, _ = load_policy(folder / "agent-3.json").predict(np.zeros(2, dtype=np.float32))
        return trained.simulator_return, action

    usual = seen(tmp_path / "usual")
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=not double):
            torch.set_default_dtype(torch.float64 if double else torch.float32)
            assert seen(tmp_path / "other") == usual
            assert torch.get_default_dtype() == (torch.float64 if double else torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
