"""Runs that go on where they stopped, the thesis's published numbers, figures and the demo."""

import csv
import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import TINY
from rich.console import Console

from persim_gym import jobs as runs
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label, latent_figure, trajectories_figure
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import published_error, published_logging, published_return
from persim_gym.evaluation.returns import RandomPolicy
from persim_gym.jobs import RowLog, run_jobs
from persim_gym.simulator.training import recipe
from persim_gym.workflows.demo import DEMO_METHODS, run_demo

PNG = b"\x89PNG\r\n\x1a\n"


def new_log(path):
    return RowLog(path, ("agent", "seed"), ("value",))


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_log_keeps_its_rows(tmp_path):
    path = tmp_path / "new" / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -123.5})
    for each in (log, new_log(path)):
        assert each.get({"agent": 3, "seed": 0}) == {"agent": "3", "seed": "0", "value": "-123.5"}
        assert each.get({"agent": 3, "seed": 1}) is None
    assert [p.name for p in path.parent.iterdir()] == ["log.csv"]


def test_rows_are_found_by_their_keys_alone(tmp_path):
    log = new_log(tmp_path / "log.csv")
    log.add({"seed": 0, "agent": 3, "other": 9}, {"value": 1})
    assert log.get({"agent": "3", "seed": 0})["value"] == "1"


@pytest.mark.parametrize("kept", range(1, 9))
def test_a_line_that_was_cut_off_anywhere_is_dropped(tmp_path, kept):
    path = tmp_path / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -1.5})
    whole = path.read_bytes()
    log.add({"agent": 4, "seed": 0}, {"value": -123})
    path.write_bytes(path.read_bytes()[: len(whole) + kept])  # of "4,0,-123\r\n"
    again = new_log(path)
    assert again.get({"agent": 4, "seed": 0}) is None
    assert again.get({"agent": 3, "seed": 0})["value"] == "-1.5"
    again.add({"agent": 4, "seed": 0}, {"value": -123})
    assert new_log(path).get({"agent": 4, "seed": 0})["value"] == "-123"


@pytest.mark.parametrize(
    "text", ["agent,value\n3,-1.5\n", "agent,seed,value,more\n3,0,-1.5,2\n", "\nmy notes\n", "notes"]
)
def test_another_table_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="log.csv is another table .* give another file, or move it away"):
        new_log(path)
    assert path.read_text(encoding="utf-8") == text
    path.write_text("", encoding="utf-8")
    assert new_log(path).get({"agent": 3, "seed": 0}) is None


def square(number, plus=0):
    """A job for `run_jobs`, in a worker."""
    if number < 0:
        raise ValueError("no")
    return {"square": number**2 + plus, "process": os.getpid()}


def jobs_log(path):
    return RowLog(path, ("number",), ("square", "process"))


def test_jobs_run_in_workers_once_and_come_back_in_order(tmp_path):
    log = jobs_log(tmp_path / "log.csv")
    log.add({"number": 5}, {"square": "done before", "process": 0})
    jobs = [{"number": n} for n in (4, 5, 2)]
    keywords = {"description": "squares", "constants": {"plus": 1}, "workers": 1, "progress": False}
    rows = run_jobs(square, jobs, log, **keywords)
    assert [row["square"] for row in rows] == ["17", "done before", "5"]
    assert str(os.getpid()) not in {row["process"] for row in rows}
    assert run_jobs(None, jobs, jobs_log(tmp_path / "log.csv"), **keywords) == rows  # nothing left to run


def test_a_failed_job_is_an_error_and_those_before_it_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))  # starts at once
    log = jobs_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match="no"):
        run_jobs(square, [{"number": 3}, {"number": -1}], log, description="", workers=1, progress=False)
    assert jobs_log(tmp_path / "log.csv").get({"number": 3})["square"] == "9"


# --- published numbers ----------------------------------------------------------------------------------------------


def test_published_numbers_are_the_tables():
    assert published_error("mountaincar", "pure", 0) == (0.025, 0.969)  # Table B.1
    assert published_error("mountaincar", "pure", 1) == (0.090, 0.973)
    assert published_return("mountaincar", "pure", 0, "BCQ-A") == -44.79  # Table B.4
    assert published_return("cartpole", "random", 0, "BCQ-A") == 43.90  # Table B.5
    assert published_logging("cartpole", "random") == (22.39, 23.39)  # Table A.1
    assert published_logging("halfcheetah", "pure") == (1894.10, 1000.0)


@pytest.mark.parametrize("domain", ["mountaincar", "cartpole", "halfcheetah"])
@pytest.mark.parametrize("policy", ["pure", "random", "pure-eps-20", "pure-eps-40"])
def test_every_experiment_of_the_thesis_has_published_numbers(domain, policy):
    assert published_logging(domain, policy) is not None
    for agent in range(5):
        assert published_error(domain, policy, agent) is not None
        assert published_return(domain, policy, agent) is not None
        assert published_return(domain, "", agent, "True env + MPC") is not None


def test_what_the_thesis_does_not_have_is_none():
    assert published_error("pendulum", "random", 0) is None
    assert published_return("cartpole", "random", 7) is None
    assert published_logging("pendulum", "random") is None


# --- figures and the demo -------------------------------------------------------------------------------------------


def test_labels_hold_names_values_and_units():
    assert covariate_label(DOMAINS["mountaincar"], 3) == "gravity 0.0025"
    assert covariate_label(DOMAINS["cartpole"], 4) == "force 10 N, length 0.15 m"


def test_figures_are_written(tmp_path):
    domain = DOMAINS["cartpole"]
    policy = RandomPolicy(domain.action_space)
    errors = {a: prediction_error(domain.dynamics(a), domain, a, policy, episodes=5, warmup=2) for a in (0, 3)}
    trajectories_figure(domain, errors, tmp_path / "trajectories.png")
    latent_figure(domain, np.random.default_rng(0).normal(size=(500, 5)), tmp_path / "factors.png")
    for name in ("trajectories", "factors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_the_demo_writes_its_results_and_goes_on_where_it_stopped(tmp_path, monkeypatch, home):
    monkeypatch.setitem(recipe.DEFAULT, "cartpole", TINY)
    console = Console(width=200, record=True, file=io.StringIO())
    result = run_demo("cartpole", [4], 1, tmp_path, console=console)
    with (tmp_path / "results.csv").open() as file:
        rows = {(row["method"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    assert {method for method, _ in rows} == {"persim", *DEMO_METHODS}
    assert rows["true-mpc", "return_mean"] == 200
    assert 0 < rows["persim", "rmse_50step_mean"] == result.errors[4].mean_rmse
    for name in ("trajectories", "latent_factors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    kept = [tmp_path / "simulator" / "weights.safetensors", tmp_path / "episodes.csv"]
    before = [path.read_bytes() for path in kept]
    again = run_demo("cartpole", [4], 1, tmp_path, console=console)
    assert [path.read_bytes() for path in kept] == before
    assert again.returns == result.returns
    assert "trained before" in console.export_text()


def test_the_demo_refuses_domains_it_cannot_plan_in(tmp_path):
    with pytest.raises(ValueError, match="choose from mountaincar, cartpole"):
        run_demo("halfcheetah", [0], 1, tmp_path)


def test_the_demo_refuses_agents_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="agent 612 is not in the cartpole population"):
        run_demo("cartpole", [612], 1, tmp_path)
