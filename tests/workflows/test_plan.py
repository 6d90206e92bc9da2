"""Planning runs: one row an episode in the true environment, resumed and filmed."""

import csv
import pickle
import re
from dataclasses import replace

import imageio.v3 as imageio
import numpy as np
import pytest
from support.jobs import run_here
from support.simulators import own_simulator
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.planning import CEM, RandomShooting
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise
from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows import plan as plan_runs
from persim_gym.workflows.plan import (
    TRUE_DYNAMICS,
    PlanSettings,
    plan_returns,
    policy_of,
    returns_table,
    run_plan_episode,
    stream_of,
    write_video,
)

QUICK = PlanSettings("mountaincar", TRUE_DYNAMICS, RandomShooting(20, 30))


def test_an_episode_is_the_policy_in_the_true_environment():
    stream = stream_of(5, 1, 2)
    policy = policy_of(QUICK, "", 1, stream)
    expected = episode_returns(policy, DOMAINS["mountaincar"], 1, episodes=1, seed=stream)[0]
    assert run_plan_episode(QUICK, "", 1, 5, 2)["return"] == expected < -8
    assert run_plan_episode(replace(QUICK, steps=8), "", 1, 5, 2)["return"] == -8  # one less a step until the goal


@pytest.fixture
def done(monkeypatch):
    """Jobs, by agent and episode, in the order in which they were done: in this process."""
    finished = []

    def jobs_here(function, jobs, log, **options):
        finished.extend((job["agent"], job["episode"]) for job in jobs if log.get(job) is None)
        return run_here(function, jobs, log, **options)

    monkeypatch.setattr(plan_runs, "run_jobs", jobs_here)
    return finished


def test_an_agent_that_is_named_twice_counts_once(tmp_path, done):
    returns = plan_returns(QUICK, "", [1, 0, 1], 1, tmp_path / "plan.csv")
    assert done == [(1, 0), (0, 0)]
    assert [len(returns[agent]) for agent in (0, 1)] == [1, 1]


def test_one_episode_has_no_interval():
    table = returns_table("title", "cartpole", {0: np.array([3.0]), 1: np.array([3.0, 5.0])})
    assert list(table.columns[-1].cells) == ["-", "3.0 to 5.0"]


def test_rows_that_are_there_are_kept(tmp_path, done):
    out = tmp_path / "plan.csv"
    first = plan_returns(QUICK, "", [0, 1], 1, out)
    again = plan_returns(QUICK, "", [0, 1], 2, out)
    assert done == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert again[0][0] == first[0][0] and len(again[1]) == 2
    with out.open(encoding="utf-8") as file:
        assert [(row["agent"], row["dynamics"]) for row in csv.DictReader(file)] == [(str(a), "true") for a in "0101"]
    with pytest.raises(ValueError, match="agent 612 is not in the mountaincar population"):
        plan_returns(QUICK, "", [612], 1, out)
    with pytest.raises(ValueError, match="at least one agent and one episode"):
        plan_returns(QUICK, "", [1], 0, out)


def test_a_film_shows_the_episode_that_the_row_is_of(tmp_path):
    stream = stream_of(0, 0, 0)
    expected = run_plan_episode(QUICK, "", 0, 0, 0)["return"]
    assert write_video(QUICK, "", 0, tmp_path / "film.gif") == expected
    assert write_video(replace(QUICK, steps=3), "", 0, tmp_path / "short.gif") == -3
    assert stream == stream_of(0, 0, 0)
    frames = imageio.imread(tmp_path / "film.gif")
    assert frames.ndim == 4 and 20 < len(frames) <= 2 - expected


def test_planning_is_for_the_reward_that_the_simulator_learned(tmp_path):
    folder = str(own_simulator(tmp_path / "own", "cartpole"))
    policy = policy_of(PlanSettings("cartpole", "hash", RandomShooting(5, 3)), folder, 2, 0)
    assert policy.task == load_simulator(folder).task != DOMAINS["cartpole"].task


def test_an_agent_without_a_true_environment_is_refused(tmp_path):
    folder = str(own_simulator(tmp_path / "own", "cartpole", n_agents=501))
    with pytest.raises(ValueError, match="agent 500 is not in the cartpole population"):
        plan_returns(PlanSettings("cartpole", "hash", RandomShooting()), folder, [500], 1, tmp_path / "plan.csv")


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_row_an_episode(tmp_path):
    words = ["plan", "cartpole", "--truth", "--agents", "2", "--episodes", "2", "--candidates", "20", "--horizon", "10"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "plan.csv")], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert re.search(r"2 │ force .* │ +2 │ +[\d.]+ │ [\d.]+ to [\d.]+ │", done.stdout)
    assert len((tmp_path / "plan.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_planners_reach_the_episodes_as_they_are_and_have_rows_of_their_own(tmp_path, monkeypatch):
    """As if in other processes: what travels there is pickled."""
    seen, out = [], tmp_path / "plan.csv"

    def jobs_here(function, jobs, log, *, constants, **options):
        travelled = pickle.loads(pickle.dumps(constants))
        seen.extend(travelled["settings"].planner for job in jobs if log.get(job) is None)
        return run_here(function, jobs, log, constants=travelled, **options)

    monkeypatch.setattr(plan_runs, "run_jobs", jobs_here)
    planners = [CEM(10, 3, 2, 5), CEM(10, 3, 2, 5, first_std=(0.1, 0.9)), CEM(10, 3, 2, 5, first_std=(0.2, 0.9))]
    for planner in [*planners, *planners]:
        plan_returns(PlanSettings("pendulum", TRUE_DYNAMICS, planner, steps=3), "", [0], 1, out)
    assert seen == planners
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sizes = "cem candidates=10 horizon=3 iterations=2 elites=5"
    assert [row["planner"] for row in rows] == [sizes, f"{sizes} first_std=(0.1,0.9)", f"{sizes} first_std=(0.2,0.9)"]
    assert len({row["return"] for row in rows}) == 3


def test_noise_is_planned_under_and_named_beside_the_dynamics(simulator, cars, tmp_path, monkeypatch):
    known = replace(cars.select(cars.agent < 5), n_agents=5)
    noisy = replace(simulator, noise=fitted_noise(simulator.model, known)).save(tmp_path / "noisy")
    settings = PlanSettings("mountaincar", "hash", RandomShooting(5, 3), noise="gaussian", steps=2)
    assert settings.columns["dynamics"] == "hash, gaussian noise"
    assert replace(settings, noise="none").columns["dynamics"] == "hash"
    policy = policy_of(settings, noisy, 2, 0)
    assert policy.dynamics.members == 4 * simulator.model.config.members
    assert run_plan_episode(settings, noisy, 2, 0, 0)["return"] == -2
    monkeypatch.setattr(plan_runs, "logged_data", lambda simulator: known)
    assert run_plan_episode(replace(settings, noise="residual"), noisy, 2, 0, 0)["return"] == -2
    plain = simulator.save(tmp_path / "plain")
    with pytest.raises(ValueError, match="holds no noise of its transitions"):
        policy_of(settings, plain, 2, 0)
