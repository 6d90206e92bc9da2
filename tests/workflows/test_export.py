"""`persim export`: an ONNX file says what the policy or the simulator says."""

from functools import partial
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.models import SHAPES, random_inputs, random_model
from support.offline import SPECS, logged
from support.simulators import own_simulator

from persim_gym.baselines.registry import BASELINES, load_baseline, train_baseline
from persim_gym.cli import main
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.onnx_files import OnnxPolicy
from persim_gym.onnx_files.runtime import open_session
from persim_gym.policies import PolicyTraining, load_policy, run_training, train
from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows.export import OneAgent, export

HAS_EXTRA = all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
needs_extra = pytest.mark.skipif(not HAS_EXTRA, reason="the extra onnx is not installed")
NETS = {"policy_kwargs": {"net_arch": [8, 8]}}
LEARNING = {"learning_starts": 16, "buffer_size": 200, "batch_size": 8, **NETS}
ALGORITHMS = {
    "ppo": {"n_steps": 16, "batch_size": 32, "n_epochs": 1, **NETS},
    "ppo on a scale": {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "scale_observations": True, **NETS},
    "ppo, continuous": {"n_steps": 16, "batch_size": 32, "n_epochs": 1, **NETS},
    "dqn": LEARNING,
    "sac": LEARNING,
    "td3": LEARNING,
}
CONTINUOUS = ("ppo, continuous", "sac", "td3")


def trained(case, save_car, save_robot, tmp_path, monkeypatch):
    """Folder of a policy that was hardly trained, of agent 2."""
    for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
        monkeypatch.setattr(train, name, 1)
    simulator = save_robot("pendulum") if case in CONTINUOUS else save_car(tmp_path / "car")
    training = PolicyTraining(2, case[:3], str(simulator), steps=64, n_envs=2, hyperparameters=ALGORITHMS[case])
    run_training(training, tmp_path / "policies", progress=False)
    return tmp_path / "policies"


@needs_extra
@pytest.mark.slow
@pytest.mark.parametrize("case", ALGORITHMS)
def test_a_trained_policy_acts_as_its_file_does(case, save_car, save_robot, tmp_path, monkeypatch):
    folder = trained(case, save_car, save_robot, tmp_path, monkeypatch)
    policy = load_policy(folder / "agent-2.json")
    written = export(folder, out=tmp_path / "policy.onnx")
    assert written.difference <= 1e-5 and case[:3] in written.what
    again = OnnxPolicy(tmp_path / "policy.onnx")
    rng = np.random.default_rng(5)
    space = policy.observation_space
    obs = np.clip(rng.normal(0, 3, (70, *space.shape)), space.low, space.high).astype(np.float32)
    actions, state = again.predict(obs)
    expected, _ = policy.predict(obs, deterministic=True)
    assert state is None and actions.dtype == expected.dtype and again.facts["what"] == written.what
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    one, _ = again.predict(obs[3])
    np.testing.assert_allclose(one, expected[3], atol=1e-5)
    assert policy.action_space.contains(one)


@needs_extra
@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_acts_as_its_file_does(name, kind, tmp_path):
    settings = ["layers=[16,16]", "batch=8", "iterations=20"]
    settings += ["generative_layers=[16,16]"] if kind == "continuous" and name.startswith("bcq") else []
    agent = 1 if name == "bcq-a" else None
    folder = tmp_path / "trained"
    options = {"agent": agent, "settings": settings, "spec": SPECS[kind], "out": folder, "progress": False}
    train_baseline(name, logged(kind), **options)
    export(folder, out=tmp_path / "policy.onnx")
    obs = np.random.default_rng(5).normal(size=(70, 3)).astype(np.float32)
    expected, _ = load_baseline(folder, float32=True).predict(obs, deterministic=True)
    np.testing.assert_allclose(OnnxPolicy(tmp_path / "policy.onnx").predict(obs)[0], expected, atol=1e-5)


@needs_extra
@pytest.mark.slow
@pytest.mark.parametrize("member", ["mean", "all", "1"])
def test_a_file_of_dynamics_predicts_what_the_simulator_does_walls_and_bounds_too(member, tmp_path):
    simulator = load_simulator("mountaincar/random-v0")
    written = export(simulator.card.name, agent=17, member=member, out=tmp_path / "car.onnx")
    assert written.outputs == {"next_obs": "float32[5, B, 2]" if member == "all" else "float32[B, 2]"}
    session = open_session(tmp_path / "car.onnx")
    # Towards the left wall, which takes all speed, and past the fastest speed.
    obs = np.float32([[-1.2, -0.01], [-1.19, -0.05], [-0.3, 0.0699], [-0.5, 0.0]])
    action = np.array([0, 1, 2, 1])
    (found,) = session.run(["next_obs"], {"obs": obs, "action": action})
    each = simulator.dynamics(17)(obs, action)
    expected = {"mean": each.mean(0), "all": each, "1": each[1]}[member]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if member != "mean":
        stopped = found.reshape(-1, 4, 2)[:, 0]
        assert (stopped[:, 0] == np.float32(-1.2)).all() and (stopped[:, 1] == 0).all()


@needs_extra
@pytest.mark.slow
def test_learned_reward_and_end_are_outputs_of_their_own(tmp_path):
    folder = own_simulator(tmp_path / "own", "")
    written = export(folder, agent=1, member="all", out=tmp_path / "own.onnx")
    assert written.outputs == {
        "next_obs": "float32[1, B, 4]", "reward": "float32[1, B]", "terminated": "float32[1, B]"
    }  # fmt: skip
    obs, action = np.float32([[1, -2, 0.5, 3]]), np.array([1])
    outputs = open_session(tmp_path / "own.onnx").run(None, {"obs": obs, "action": action})
    expected = load_simulator(folder).dynamics(1)(obs, action)
    np.testing.assert_allclose(
        np.concatenate([outputs[0], *(x[..., None] for x in outputs[1:])], -1), expected, atol=1e-5
    )


@needs_extra
@pytest.mark.slow
def test_the_command_says_what_the_file_takes_and_gives(save_car, tmp_path, monkeypatch, capsys):
    file = tmp_path / "car.onnx"
    monkeypatch.setattr(
        "sys.argv", ["persim", "export", str(save_car(tmp_path / "car")), "--agent", "3", "--out", str(file)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().out
    assert not end.value.code and file.is_file()
    assert (
        "dynamics of agent 3" in said
        and "takes obs float32[B, 2], action int64[B]; gives next_obs float32[B, 2]" in said
    )


@needs_extra
@pytest.mark.slow
def test_a_policy_of_a_file_acts_wherever_policies_do(save_car, save_robot, tmp_path, monkeypatch):
    folder = trained("ppo", save_car, save_robot, tmp_path, monkeypatch)
    export(folder / "agent-2.json", out=tmp_path / "policy.onnx")
    policies = OnnxPolicy(tmp_path / "policy.onnx"), load_policy(folder / "agent-2.json")
    domain = DOMAINS["mountaincar"]
    one, other = (episode_returns(policy, domain, 2, episodes=3, steps=50) for policy in policies)
    np.testing.assert_array_equal(one, other)
    env = gym.make("PersimEnv-v0", agent=2, simulator=str(tmp_path / "car"))
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        action, _ = policies[0].predict(obs)
        obs, *_ = env.step(action)


@pytest.mark.parametrize("member", ["mean", "all", "1"])
@pytest.mark.parametrize("walls", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_module_of_one_agent_is_the_models_prediction(shape, walls, member):
    model = random_model(SHAPES[shape]).float()
    if walls:
        model.walls[0, 1, 1], model.walls[0, 1, 2] = -0.5, 0.25
    _, obs, action = random_inputs(SHAPES[shape], 50)
    obs, action = obs.float(), action if SHAPES[shape].n_actions else action.float()
    simulator = type("Simulator", (), {"model": model})()
    with torch.no_grad():
        each = model.predict(torch.full((50,), 3), obs, action)
        (found,) = OneAgent(simulator, 3, member)(obs, action)
    expected = {"mean": each.mean(0), "all": each, "1": each[1]}[member]
    torch.testing.assert_close(found, expected)
    assert not walls or bool((found[..., 2] == 0.25).any())


def test_what_is_missing_or_one_too_many_is_one_line(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    to = partial(export, out=tmp_path / "x.onnx")
    for attempt, said in (
        (partial(to, folder), "say which: --agent N"),
        (partial(to, folder, agent=77), "agent 77 is not in this simulator"),
        (partial(to, folder, agent=1, member="most"), 'use "mean", "all", or a number 0–2'),
        (partial(to, tmp_path / "agent-3.json"), "no policy"),
        (partial(to, tmp_path / "agent-3.json", agent=3), "leave --agent out"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            attempt()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "x.onnx").exists()
