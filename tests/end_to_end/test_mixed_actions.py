"""Actions of choices and amounts, and of several choices: from a table or a dataset to environments and policies."""

from dataclasses import replace

import gymnasium as gym
import minari
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from minari.data_collector import EpisodeBuffer
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_sb3_env
from support.recipes import TINY

from persim_gym.actions import ScoreBox
from persim_gym.datasets import from_table, load
from persim_gym.planning import CEM, MPC, RandomShooting
from persim_gym.planning.online_mpc import OnlineMPC
from persim_gym.policies import PolicyTraining, run_training
from persim_gym.policies import train as policy_training
from persim_gym.sb3 import make_vec_env
from persim_gym.workflows.own.returns import constant_actions, references
from persim_gym.workflows.train import train

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*None:UserWarning:minari", "ignore:.*a symmetric and normalized", "ignore:.*infinity. This is"
)
RECIPE = replace(TINY, epochs=40, action_layers=(16,), learning_rate=5e-3, schedule="one-cycle", polish=True)
AGENTS, STEPS = 8, 80
PUSH = {"off": 0.0, "slow": 0.3, "fast": 1.0}


def pump_rows(agents=AGENTS, steps=STEPS, prefix="P", seed=0):
    """Tanks that a pump fills in one of three modes, and a valve drains by an amount; pumps differ."""
    rng, names = np.random.default_rng(seed), list(PUSH)
    rows = {name: [] for name in ("pump", "level", "mode", "valve", "reward")}
    for agent in range(agents):
        level = rng.uniform(0, 2)
        for _ in range(steps):
            mode, valve = names[rng.integers(3)], round(float(rng.uniform(0, 2)), 3)
            for name, value in zip(rows, (f"{prefix}-{agent}", level, mode, valve, -abs(level - 1)), strict=True):
                rows[name].append(value)
            level = 0.9 * level + (0.5 + 0.1 * agent) * PUSH[mode] - 0.2 * valve + 0.1
    return rows


def imported(name, **options):
    roles = {"agent": "pump", "obs": "level", "action": ["mode", "valve"], "reward": "reward"}
    return from_table(pa.table(pump_rows(**options)), name=name, progress=False, **roles)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A simulator of pumps, by choices and amounts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(tmp_path_factory.mktemp("home")))
        imported("my/pumps-v0")
        yield train("my/pumps-v0", recipe=RECIPE, holdout=False, progress=False)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A simulator of a dataset whose actions are a Dict of choices."""
    rng, buffers = np.random.default_rng(0), []
    space = spaces.Dict(heat=spaces.Discrete(3), light=spaces.MultiBinary(1))
    for agent in range(4):
        heat, light = rng.integers(3, size=60), rng.integers(2, size=(60, 1)).astype(np.int8)
        obs = np.concatenate([[0.0], np.cumsum(0.1 * (heat - 1) * (1 + agent) + 0.05 * light[:, 0])])[:, None]
        ends = {"terminations": np.zeros(60, dtype=bool), "truncations": np.arange(60) == 59}
        buffers.append(
            EpisodeBuffer(
                observations=obs.astype(np.float32), actions={"heat": heat, "light": light},
                rewards=obs[1:, 0], options={"agent": agent}, **ends,
            )
        )  # fmt: skip
    box = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    minari.create_dataset_from_buffers("my/lamps-v0", buffers, observation_space=box, action_space=space)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(tmp_path_factory.mktemp("home")))
        yield train("my/lamps-v0", recipe=RECIPE, holdout=False, progress=False)


def env_of(simulator, **keywords):
    return gym.make("persim_gym:PersimEnv-v0", simulator=str(simulator.folder), **keywords)


def test_a_simulator_of_choices_and_amounts_learns_both(mixed):
    assert isinstance(mixed.action_space, ScoreBox) and mixed.action_space.layout.sizes == (3, 0)
    assert mixed.labels.actions == ("mode=fast", "mode=off", "mode=slow", "valve")
    dynamics, obs = mixed.dynamics("P-7"), np.full((6, 1), 1.0, dtype=np.float32)
    modes, valves = ["off", "slow", "fast"] * 2, [0.0] * 3 + [2.0] * 3
    seen = np.array(
        [[m == n for n in ("fast", "off", "slow")] + [v] for m, v in zip(modes, valves, strict=True)], dtype=np.float32
    )
    true = [0.9 + 1.2 * PUSH[m] - 0.2 * v + 0.1 for m, v in zip(modes, valves, strict=True)]
    np.testing.assert_allclose(dynamics(obs, seen).mean(axis=0)[:, 0], true, atol=0.15)


def test_several_choices_are_several_choices_of_the_environment(several):
    assert isinstance(several.action_space, spaces.MultiDiscrete) and several.action_space.nvec.tolist() == [3, 2]
    data = load("my/lamps-v0")
    assert data.action.shape == (240, 5) and (data.action.sum(axis=1) == 2).all()
    env = env_of(several, agent=3)
    env.reset(options={"obs": np.zeros(1, dtype=np.float32)})
    assert env.step(np.array([2, 0]))[0][0] > 0.15 > env.step(np.array([0, 1]))[0][0]


@pytest.mark.parametrize("kind", ["mixed", "several"])
def test_gymnasium_and_stable_baselines3_take_the_environment(kind, request):
    simulator = request.getfixturevalue(kind)
    env = env_of(simulator, agent=1)
    check_env(env.unwrapped)
    check_sb3_env(env)
    rows = gym.make_vec("persim_gym:PersimEnv-v0", num_envs=3, simulator=str(simulator.folder), agent=1)
    rows.reset(seed=[1, 2, 3])
    env.reset(seed=2)
    actions = rows.action_space.sample()
    np.testing.assert_allclose(rows.step(actions)[0][1], env.step(actions[1])[0], rtol=1e-5)
    policy = PPO("MlpPolicy", make_vec_env(agent=1, n_envs=2, simulator=str(simulator.folder)), n_steps=4, batch_size=4)
    policy.learn(8)
    action, _ = policy.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


@pytest.mark.parametrize(("kind", "planner"), [("mixed", CEM), ("several", RandomShooting)])
def test_the_default_planner_plans_and_learns(kind, planner, request):
    simulator = request.getfixturevalue(kind)
    policy = MPC(simulator.dynamics(2), simulator.task, simulator.action_space)
    assert isinstance(policy.planner, planner)
    small = planner(**{"candidates": 40, "horizon": 4} | ({"elites": 5} if planner is CEM else {}))
    policy = MPC(simulator.dynamics(2), simulator.task, simulator.action_space, planner=small)
    env = env_of(simulator, agent=2)
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        action, _ = policy.predict(obs)
        assert env.action_space.contains(action)
        obs = env.step(action)[0]
    online = OnlineMPC(policy, simulator.online(2))
    before = online.dynamics.factor.clone()
    for _ in range(3):
        action, _ = online.predict(obs)
        obs = env.step(action)[0]
    assert not (online.dynamics.factor == before).all()
    env.unwrapped.learn(np.zeros(1), env.action_space.sample(), np.full(1, 9.0))


def test_planning_earns_more_than_random_actions_and_constant_ones_have_names(mixed):
    path = str(mixed.folder)
    found = references(path, None, 7, [0, 1], steps=30)
    assert len(list(constant_actions(mixed))) == 9
    best = next(name for name in found if name.startswith("constant"))
    assert "mode=" in best and "valve=" in best
    policy, total = MPC(mixed.dynamics(7), mixed.task, mixed.action_space, planner=CEM(60, 5, elites=8)), 0.0
    env = env_of(mixed, agent=7)
    obs, _ = env.reset(seed=0)
    for _ in range(30):
        obs, reward, *_ = env.step(policy.predict(obs)[0])
        total += reward
    assert total > found["random actions"].earned.max()


def test_new_agents_are_personalized_from_their_own_table(mixed):
    imported("my/more-v0", agents=2, steps=40, prefix="N", seed=1)
    bigger = mixed.personalize(load("my/more-v0"), names=("N-0", "N-1"))
    obs, fast = np.full((1, 1), 1.0, dtype=np.float32), np.float32([[1, 0, 0, 0]])
    assert bigger.dynamics("N-0")(obs, fast)[..., 0].mean() == pytest.approx(0.9 + 0.5 + 0.1, abs=0.15)


def test_algorithms_that_do_not_fit_are_named(mixed, several, tmp_path, monkeypatch):
    for simulator, algo, said in ((several, "dqn", "use ppo$"), (mixed, "dqn", "use one of ppo, sac, td3")):
        with pytest.raises(ValueError, match=f"{algo} does not fit .*{said}"):
            run_training(PolicyTraining(1, algo, str(simulator.folder)), tmp_path, progress=False)
    for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
        monkeypatch.setattr(policy_training, name, 1)
    training = PolicyTraining(1, "ppo", str(several.folder), steps=64, n_envs=4)
    assert np.isfinite(run_training(training, tmp_path, progress=False).simulator_return)
    assert policy_training.load_policy(tmp_path / "agent-1.json").predict(np.zeros((2, 1)))[0].shape == (2, 2)
