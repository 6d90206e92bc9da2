"""Policies trained inside a simulator: kept, resumed, one file an agent, and one policy for all."""

import copy
import importlib.util
import json
import socket
from dataclasses import asdict, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import UNBOUNDED
from persim_gym.evaluation.returns import episode_returns
from persim_gym.policies import (
    ALGORITHMS,
    PolicyTraining,
    load_policy,
    read_policy,
    train,
    train_policy,
    truth_of,
    with_defaults,
)
from persim_gym.policies.parallel import train_policies
from persim_gym.policies.preprocessing import ScaledObservation
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.registry import load_simulator
from persim_gym.studies.policy_training import reached, training_table
from persim_gym.wrappers import AgentObservation, AgentVecEnv, latent_factors

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def quick(save_car, tmp_path, monkeypatch):
    """A training of a second in the small MountainCar simulator."""
    monkeypatch.setattr(train, "TIMES", 2)
    monkeypatch.setattr(train, "JUDGED", 2)
    monkeypatch.setattr(train, "TESTED", 2)
    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    return PolicyTraining(3, "ppo", str(save_car(tmp_path / "car")), steps=128, n_envs=4, hyperparameters=small)


QUICK_DQN = {
    "learning_starts": 16, "buffer_size": 400, "batch_size": 8, "train_freq": 4, "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}  # fmt: skip


def test_a_result_says_what_was_trained_and_what_it_reached(quick, tmp_path):
    done = train_policy(quick, tmp_path / "out", progress=False)
    stored = json.loads((tmp_path / "out" / "agent-3.json").read_text())
    assert stored == json.loads(json.dumps(asdict(done)))
    assert read_policy(tmp_path / "out" / "agent-3.json", with_defaults(quick)) == done
    assert done.domain == "mountaincar" and done.simulator_sha256 == load_simulator(quick.simulator).card.sha256
    policy = load_policy(tmp_path / "out" / "agent-3.json")
    domain = make_vec_env(agent=3, simulator=quick.simulator).get_attr("domain")[0]
    assert done.true_return == episode_returns(policy, domain, 3, episodes=2, seed=1).mean()
    assert sorted(p.name for p in (tmp_path / "out" / "agent-3").iterdir()) == ["best_model.zip"]


def test_a_finished_training_is_not_done_again_and_another_is_not_mistaken_for_it(quick, tmp_path):
    train_policy(quick, tmp_path, progress=False)
    before = (tmp_path / "agent-3" / "best_model.zip").stat().st_mtime_ns
    train_policy(quick, tmp_path, progress=False)
    assert (tmp_path / "agent-3" / "best_model.zip").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="is of another training"):
        train_policy(replace(quick, seed=1), tmp_path, progress=False)


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
    done = train_policy(replace(quick, hyperparameters=hyper), tmp_path, progress=False)
    assert done.training.hyperparameters == hyper | with_defaults(quick).hyperparameters
    assert -1 < rewards[-1].mean() < 0 and -2 <= done.simulator_return / 500 <= 0  # MountainCar's own are -1 a step
    policy = load_policy(tmp_path / "agent-3.json")
    corners = np.array([policy.observation_space.low, policy.observation_space.high])
    seen = policy.policy.features_extractor(torch.as_tensor(corners))
    np.testing.assert_allclose(seen, [[-1, -1], [1, 1]], atol=1e-6)


def test_unbounded_observations_are_seen_as_they_are():
    space = gym.spaces.Box(np.float32([-UNBOUNDED, 2, -np.inf]), np.float32([UNBOUNDED, 4, 5]))
    seen = ScaledObservation(space)(torch.tensor([[7.0, 3.5, 9.0]]))
    np.testing.assert_allclose(seen, [[7.0, 0.5, 9.0]])


def test_what_was_trained_in_other_weights_is_not_taken_for_done(quick, tmp_path, car_model, save_car):
    folder = Path(quick.simulator)
    train_policy(quick, tmp_path / "out", progress=False)
    train_policy(replace(quick, true=True), tmp_path / "true", progress=False)
    other = copy.deepcopy(car_model)
    other.delta_std.mul_(1.01)
    save_car(folder, model=other)
    with pytest.raises(ValueError, match="was trained in other weights of simulator"):
        train_policy(quick, tmp_path / "out", progress=False)
    train_policy(replace(quick, true=True), tmp_path / "true", progress=False)  # the truth is the same


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
            train_policy(training, tmp_path, progress=False)
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
    train_policy(training, tmp_path, progress=False)
    assert seen[0][:2] == (128 - 72, 72)
    assert not checkpoint.exists()


def test_one_policy_an_agent_and_what_is_there_is_kept(quick, tmp_path, monkeypatch):
    first = train_policy(replace(quick, agent=5), tmp_path / "out", progress=False)
    monkeypatch.setattr(  # joblib's workers are other processes: quick there too
        "persim_gym.policies.parallel._here",
        lambda jobs, out, workers, tensorboard: (train_policy(j, out, progress=False) for j in jobs),
    )
    done = train_policies(quick, [5, 0], tmp_path / "out", progress=False)
    assert [d.training.agent for d in done] == [5, 0] and done[0] == first
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["agent-0.json", "agent-5.json"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # of Ray: sockets, its own defaults
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_policies_are_trained_in_other_processes(tmp_path, backend):
    if backend == "ray":
        pytest.importorskip("ray")
    out, training = tmp_path / "out", PolicyTraining(0, "ppo", "cartpole/random-v0", steps=512, n_envs=8)
    run = {"backend": backend, "workers": 1, "progress": False}
    first = train_policies(training, [2], out, **run)
    before = (out / "agent-2.json").stat().st_mtime_ns
    done = train_policies(training, [1, 2], out, **run)
    assert [d.training.agent for d in done] == [1, 2] and done[1] == first[0]
    assert (out / "agent-2.json").stat().st_mtime_ns == before
    assert sorted(p.name for p in out.iterdir()) == ["agent-1", "agent-1.json", "agent-2", "agent-2.json"]
    for d in done:
        path, obs = out / f"agent-{d.training.agent}.json", np.zeros((1, 4), dtype=np.float32)
        assert load_policy(path).predict(obs)[0].shape == (1,) and read_policy(path) == d
    here = train_policies(training, [1], tmp_path / "here", workers=1, progress=False)
    assert (here[0].simulator_return, here[0].true_return) == (done[0].simulator_return, done[0].true_return)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algo": "a2c"}, "algorithm 'a2c' is not one of ppo, dqn, sac, td3"),
        ({"algo": "sac"}, "sac does not fit mountaincar's .*use one of ppo, dqn"),
        ({"agent": 6}, "agent 6 is not in this simulator"),
        ({"environment": {"penalty": -1.0}}, "penalty=-1.0"),
    ],
)
def test_an_impossible_training_is_refused(quick, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        train_policy(replace(quick, **change), tmp_path, progress=False)


def test_an_agent_that_was_personalized_is_tested_in_the_simulator_alone(quick, tmp_path, cars):
    stranger = replace(cars.select(cars.agent == 2), agent=np.zeros(100, dtype=np.int64), n_agents=1)
    load_simulator().personalize(stranger)[0].save(tmp_path / "501")
    training = replace(quick, simulator=str(tmp_path / "501"), agent=500)
    assert truth_of(training) is None and truth_of(replace(training, agent=499)) is DOMAINS["mountaincar"]
    done = train_policy(training, tmp_path / "out", progress=False)
    assert (done.domain, done.true_return) == ("mountaincar", None) and -500 <= done.simulator_return <= 0


def test_an_unknown_backend_is_refused(quick, tmp_path):
    with pytest.raises(ValueError, match="backend 'slurm' is not one of local, ray"):
        train_policies(quick, [0], tmp_path, backend="slurm")


def test_a_cluster_that_does_not_answer_is_reported_at_once(quick, tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens there
        with pytest.raises(ValueError, match=f"no Ray cluster answers at 127.0.0.1:{port}: .*ray start --head"):
            train_policies(quick, [0], tmp_path, backend="ray", address=f"127.0.0.1:{port}", progress=False)


def test_the_table_compares_returns_or_the_steps_they_count():
    assert reached(190.0, 200.0) == pytest.approx(0.95)
    assert reached(-105.0, -100.0) == pytest.approx(100 / 105)
    head = {"simulator": "mountaincar/random-v0", "algo": "dqn", "steps": "1000", "agent": "2"}
    rows = [
        {**head, "place": place, "seed": str(seed), "return": str(value), "seconds": "10"}
        for place, values in (("simulator", (-110, -100)), ("truth", (-100, -100)))
        for seed, value in enumerate(values)
    ]
    line = training_table(rows).splitlines()[2]
    assert "| -105.0 ± 5.0 | -100.0 ± 0.0 | 95.2 % | 10/10 |" in line


# --- one policy for all agents --------------------------------------------------------------------------------------


def test_latent_factors_are_standardised_and_follow_the_agents(car_model, save_car, tmp_path):
    simulator = load_simulator(str(save_car(tmp_path / "car")))
    factors = latent_factors(simulator)
    assert factors.shape == (6, 3 * 3)
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(factors.std(axis=0), 1, atol=1e-4)
    raw = car_model.agent_encoder.factor.detach().numpy().transpose(1, 0, 2).reshape(6, -1)
    np.testing.assert_allclose(factors, (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-3)


def test_the_wrappers_append_the_agents_own_factor(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    factors = latent_factors(load_simulator(folder))
    single = AgentObservation(gym.make("PersimEnv-v0", agent=4, simulator=folder), factors, 4)
    obs, _ = single.reset(seed=0)
    assert single.observation_space.contains(obs) and single.observation_space.contains(single.step(1)[0])
    rows = AgentVecEnv(make_vec_env(agents=[1, 4], n_envs=2, simulator=folder, max_episode_steps=2), factors, [1, 4])
    rows.seed(0)
    obs = rows.reset()
    np.testing.assert_array_equal(obs[1], single.reset(seed=1)[0])
    rows.step(np.array([2, 2]))
    obs, _, done, infos = rows.step(np.array([2, 2]))
    assert done.all()
    for row, agent in enumerate((1, 4)):
        np.testing.assert_array_equal(obs[row, 2:], factors[agent])
        np.testing.assert_array_equal(infos[row]["terminal_observation"][2:], factors[agent])
        assert (infos[row]["terminal_observation"][:2] != obs[row, :2]).all()
    assert rows.observation_space.contains(obs[0]) and rows.observation_space == single.observation_space


def test_agents_without_a_factor_and_wrong_numbers_are_refused(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    env = make_vec_env(agents=[1, 4], n_envs=2, simulator=folder)
    factors = latent_factors(load_simulator(folder))
    with pytest.raises(ValueError, match="agents 1–9, but latent factors of 0–5 only"):
        AgentVecEnv(env, factors, [1, 9])
    with pytest.raises(ValueError, match="1 agents for 2 rows"):
        AgentVecEnv(env, factors, [1])


# --- examples -------------------------------------------------------------------------------------------------------


def run_example(name, *arguments):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(module.options().parse_args(list(arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["mountaincar/random-v0", "cartpole/random-v0"])
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_examples_of_discrete_actions_run(algorithm, simulator):
    value = run_example(algorithm, "--simulator", simulator, "--steps", "4000", "--episodes", "3")
    low, high = (-500, 0) if simulator.startswith("mountain") else (1, 200)
    assert low <= value <= high


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["pendulum", "halfcheetah"])
@pytest.mark.parametrize("algorithm", ["sac", "td3", "ppo"])
def test_examples_of_continuous_actions_run(algorithm, domain, save_robot):
    value = run_example(algorithm, "--simulator", str(save_robot(domain)), "--steps", "3000", "--episodes", "1")
    low, high = (-2000, 0) if domain == "pendulum" else (-2000, 2000)
    assert low <= value <= high


@pytest.mark.slow
def test_one_policy_learns_for_many_agents():
    few, many = (
        run_example("one_policy_for_all", "--rows", "64", "--steps", steps, "--episodes", "5")
        for steps in ("64", "100000")
    )
    # an untrained policy may hold one agent's pole upright by chance, not the poles of all five
    assert np.mean(list(many.values())) > 2 * np.mean(list(few.values())), (few, many)


@pytest.mark.slow
def test_ppo_saved_by_sb3_is_the_same_policy(quick, tmp_path):
    env = make_vec_env(agent=3, n_envs=2, simulator=quick.simulator)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(64)
    model.save(tmp_path / "m")
    obs = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    again = PPO.load(tmp_path / "m", env=env, device="cpu")
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], again.predict(obs, deterministic=True)[0])
