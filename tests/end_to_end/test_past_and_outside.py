"""Own data whose next value depends on the past and on what comes from outside: learned, simulated, planned in."""

import csv
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from typer.testing import CliRunner

import persim_gym
from persim_gym.cli import app
from persim_gym.datasets import from_table, load
from persim_gym.datasets.of_simulator import logged_data
from persim_gym.planning import CEM, MPC
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.diagnostics.bands import prediction_bands
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.task import Task, never

pd = pytest.importorskip("pandas")
DELAY, AGENTS, STEPS = 2, 8, 60
RECIPE = TrainingRecipe(
    rank=2, members=2, state_layers=(16,), action_layers=(8,), activation="silu", standardize=True, agent_mean=1.0,
    agent_std=0.3, epochs=60, batch=64, learning_rate=5e-3, polish=True,
)  # fmt: skip


def tanks(agents=AGENTS, seed=0):
    """A tank's level: an action takes two steps to arrive, and a load from outside empties it."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(agents):
        strength, level, load = 0.5 + number / agents, 0.0, 0.0
        waiting = [0.0] * DELAY
        for step in range(STEPS):
            action = rng.uniform(-1, 1)
            rows.append((f"T-{number}", step, level, action, load, -abs(level)))
            level = 0.9 * level + strength * waiting[0] - 0.5 * load
            waiting, load = [*waiting[1:], action], 0.7 * load + 0.3 * rng.normal()
    return pd.DataFrame(rows, columns=["id", "time", "level", "valve", "load", "reward"])


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    roles = {"agent": "id", "time": "time", "obs": "level", "action": "valve", "reward": "reward"}
    from_table(tanks(), name="my/delayed-tanks-v0", exogenous="load", progress=False, force=True, **roles)
    out = tmp_path_factory.mktemp("tanks") / "simulator"
    return persim_gym.train("my/delayed-tanks-v0", recipe=RECIPE, history="valve=2", out=out, progress=False)


def made(simulator, **keywords):
    return gym.make("persim_gym:PersimEnv-v0", simulator=str(simulator.folder), **keywords)


def test_the_past_is_what_makes_it_predictable(simulator, tmp_path):
    without = persim_gym.train("my/delayed-tanks-v0", recipe=RECIPE, out=tmp_path / "without", progress=False)
    ours, theirs = (s.card.error["one_step_rmse"][0] for s in (simulator, without))
    assert ours < 0.2 * theirs


def test_it_is_on_disk_as_it_was(simulator):
    again = load_simulator(simulator.folder)
    assert again.spec == simulator.spec and again.model.config.context == ((1, 0.0), (4, 0.0), (2, 0.0))
    assert again.spec.labels.observations == ("level", "load", "valve 1 step before", "valve 2 steps before")
    np.testing.assert_array_equal(again.series.values, simulator.series.values)


def test_an_episode_begins_with_the_logged_past_and_replays_the_logged_load(simulator):
    env, logged = made(simulator, agent="T-3"), tanks()[lambda t: t.id == "T-3"].reset_index()
    obs, _ = env.reset(seed=0)
    expected = [logged.level[DELAY], logged.load[DELAY], logged.valve[DELAY - 1], logged.valve[DELAY - 2]]
    np.testing.assert_allclose(obs, expected, rtol=1e-5)
    steps, done = DELAY, False
    while not done:
        action = np.array([logged.valve[steps]], dtype=np.float32)
        before, (obs, _, terminated, truncated, info) = obs, env.step(action)
        steps, done = steps + 1, terminated or truncated
        np.testing.assert_allclose(obs[1], logged.load[steps], rtol=1e-5)
        assert obs[2] == action[0] and obs[3] == before[2]
        assert abs(obs[0] - logged.level[steps]) < 0.5
    assert steps == STEPS - 1 and truncated and info["halt"] == 0  # The log ends there, and belief does not.


def test_the_load_may_be_anothers_or_ones_own(simulator, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "storms.py").write_text("import numpy\n\n\ndef rise(rng):\n    return numpy.linspace(0, 1, 9)\n")
    other = made(simulator, agent="T-3", exogenous="agent:T-5")
    other.reset(seed=0)
    theirs = tanks()[lambda t: t.id == "T-5"].load[DELAY + 1 :]
    np.testing.assert_allclose(other.unwrapped.exogenous_ahead()[:, 0], theirs, rtol=1e-5)
    series = np.linspace(0, 1, 9)
    for given in (series, lambda rng: series, "storms:rise"):
        env = made(simulator, agent="T-3", exogenous=given)
        first, _ = env.reset(seed=0)
        seen = [first[1], *(env.step(env.action_space.sample())[0][1] for _ in range(8))]
        np.testing.assert_allclose(seen, series, atol=1e-6)
    held = made(simulator, agent="T-3", exogenous="held")
    first, _ = held.reset(seed=0)
    assert held.step(held.action_space.sample())[0][1] == first[1] and held.unwrapped.exogenous_ahead() is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lodged", 'is none of "logged", "held"'),
        ("agent:T-99", "agent T-99 is none of these 8 agents"),
        (np.zeros((4, 2)), r"is \(4, 2\); it must be finite, \[T, 1\]"),
        ("no_such_module:name", "cannot be imported"),
    ],
)
def test_a_series_that_is_none_is_refused(simulator, given, said):
    with pytest.raises(ValueError, match=said):
        made(simulator, agent=0, exogenous=given)


@pytest.mark.filterwarnings("ignore::UserWarning")  # On spaces without bounds, which tables have.
def test_gymnasium_takes_it(simulator):
    check_env(made(simulator, agent=1, exogenous="held").unwrapped, skip_render_check=True)


def test_rows_of_a_batch_are_single_environments(simulator):
    batch = gym.make_vec("persim_gym:PersimEnv-v0", num_envs=2, agents=["T-2", "T-6"], simulator=str(simulator.folder))
    rows, _ = batch.reset(seed=[4, 5])
    singles = [made(simulator, agent=name) for name in ("T-2", "T-6")]
    starts = [env.reset(seed=seed)[0] for env, seed in zip(singles, (4, 5), strict=True)]
    np.testing.assert_array_equal(rows, starts)
    rng = np.random.default_rng(0)
    for _ in range(5):
        action = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        rows, *_ = batch.step(action)
        np.testing.assert_allclose(rows, [env.step(a)[0] for env, a in zip(singles, action, strict=True)], atol=1e-5)


def test_stable_baselines_takes_it(simulator):
    ppo = pytest.importorskip("stable_baselines3").PPO
    env = make_vec_env(n_envs=2, agent=1, simulator=str(simulator.folder))
    ppo("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32)


def test_a_new_agent_brings_its_own_log(simulator):
    new = tanks(agents=AGENTS + 1, seed=3)
    roles = {"agent": "id", "time": "time", "obs": "level", "action": "valve", "reward": "reward"}
    one = new[new.id == f"T-{AGENTS - 1}"].assign(id="new")
    from_table(one, name="my/delayed-new-v0", exogenous="load", progress=False, force=True, **roles)
    extended = simulator.personalize(load("my/delayed-new-v0"), names=["new"])
    assert extended.agent_number("new") == AGENTS
    like, new = (extended.model.agent_encoder(torch.tensor([number])) for number in (AGENTS - 1, AGENTS))
    assert (like - new).abs().max() < 0.2 * like.abs().max()
    np.testing.assert_allclose(extended.series.of(len(extended.start_agents) - 1)[:, 0], one.load[DELAY:], rtol=1e-5)


def test_trust_is_measured_along_the_logged_load(simulator):
    data = logged_data(simulator)
    windows = cut_windows(data, np.flatnonzero(np.diff(data.trajectory, prepend=-1)), 12)
    error, spread = open_loop(simulator.model, simulator.known_beliefs(), windows)
    held = replace(windows, following=np.where(np.arange(4) == 1, windows.obs[:, None], windows.following))
    assert np.median(error) < 0.5 * np.median(open_loop(simulator.model, simulator.known_beliefs(), held)[0])
    assert np.isfinite(spread).all()


def test_online_learning_sees_whole_observations(simulator):
    env = made(simulator, agent="T-0")
    obs, _ = env.reset(seed=0)
    following, *_ = env.step(np.array([0.5], dtype=np.float32))
    env.unwrapped.learn(obs, np.array([0.5]), following)


def test_foresight_reaches_the_level_that_holding_misses(simulator):
    """A load that comes in two steps is met by who knows of it, since an action takes as long."""
    target = Task(lambda obs, action, following: -((following[..., 0]) ** 2), never)
    load = np.zeros(30, dtype=np.float32)
    load[10:20] = 1.0
    missed = {}
    for known in (True, False):
        env = made(simulator, agent="T-7", exogenous=load)
        planner, ahead = CEM(candidates=100, horizon=6, iterations=4), env.unwrapped.exogenous_ahead
        dynamics = simulator.dynamics("T-7")
        mpc = MPC(dynamics, target, simulator.action_space, planner=planner, foresight=ahead if known else None)
        obs, _ = env.reset(seed=1)
        levels = []
        for _ in range(29):
            action, _ = mpc.predict(obs)
            obs, *_ = env.step(action)
            levels.append(obs[0])
        missed[known] = float(np.square(levels[8:16]).mean())
    assert missed[True] < 0.5 * missed[False]


@pytest.mark.parametrize("noise", ["gaussian", "residual"])
def test_noise_moves_what_is_learned_and_the_past_follows_it_exactly(simulator, noise):
    env, plain = (made(simulator, agent="T-3", noise=kind) for kind in (noise, "none"))
    (before, _), (same, _) = env.reset(seed=0), plain.reset(seed=0)
    np.testing.assert_array_equal(before, same)
    moved = []
    for step in range(20):
        action = np.array([0.9 * np.sin(step)], dtype=np.float32)
        obs, expected = env.step(action)[0], plain.step(action)[0]
        moved.append(obs[0] - expected[0])
        assert obs[1] == expected[1]  # The load comes from outside.
        np.testing.assert_array_equal(obs[2:], [action[0], before[2]])
        before = obs
    assert np.abs(moved).max() > 0


def test_noise_and_bands_come_with_a_training_that_holds_out(simulator):
    assert simulator.noise is not None and simulator.band_scale is not None
    data, inside = load_simulator(simulator.folder).with_past(load("my/delayed-tanks-v0")), []
    known = np.full((8, 4), np.nan)
    for agent in range(AGENTS):
        own = data.select(data.agent == agent)
        known[:, 1] = own.next_obs[20:28, 1]
        found = prediction_bands(simulator, agent, own.obs[20], own.action[20:28], known=known)
        assert found.calibrated and found.lower.shape == (8, 1)
        inside.append((found.lower <= own.next_obs[20:28, :1]) & (own.next_obs[20:28, :1] <= found.upper))
    assert np.mean(inside) > 0.75


def test_plans_foresee_the_load_under_noise(simulator):
    env = made(simulator, agent="T-2", noise="gaussian")
    obs, _ = env.reset(seed=0)
    task = Task(lambda obs, action, next_obs: -(next_obs[..., 0] ** 2), never)
    dynamics = simulator.dynamics("T-2", noise="gaussian", draws=2)
    ahead = env.unwrapped.exogenous_ahead
    policy = MPC(dynamics, task, simulator.action_space, planner=CEM(10, 4, 2, elites=3), foresight=ahead)
    for _ in range(3):
        action, _ = policy.predict(obs)
        obs = env.step(action)[0]
    assert np.isfinite(obs).all()


@pytest.mark.slow
def test_the_verb_plans_with_what_comes_or_without(simulator, tmp_path):
    run = ["plan", str(simulator.folder), "--agent", "T-7", "--episodes", "1", "--candidates", "60", "--horizon", "4"]
    for option in ([], ["--no-foresight"]):
        said = CliRunner().invoke(app, [*run, "--steps", "5", "--out", str(tmp_path / "plans.csv"), *option])
        assert said.exit_code == 0, said.output
    rows = [row["dynamics"] for row in csv.DictReader((tmp_path / "plans.csv").read_text().splitlines())]
    assert rows == [f"{simulator.card.sha256[:12]}, foresight", simulator.card.sha256[:12]]
