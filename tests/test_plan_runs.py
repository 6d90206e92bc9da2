"""`persim plan`: returns in the true environment, one row an episode, resumed; intervals; films."""

import csv
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.evaluate import episode_returns
from persim_gym.experiments import plan_runs
from persim_gym.experiments.intervals import mean_interval
from persim_gym.experiments.plan_runs import (
    TRUE,
    PlanSettings,
    plan_returns,
    planner_of,
    planner_text,
    policy_of,
    run_plan_episode,
    stream_of,
    write_video,
)
from persim_gym.planning import CEM, MPPI, RandomShooting

QUICK = PlanSettings("mountaincar", TRUE, "shooting candidates=20 horizon=30")


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    ends = [mean_interval(rng.normal(3.0, 2.0, 30))[1:] for _ in range(300)]
    assert 0.90 <= np.mean([low <= 3.0 <= high for low, high in ends]) <= 0.98
    assert mean_interval([4.0]) == (4.0, 4.0, 4.0)
    with pytest.raises(ValueError, match="needs at least one"):
        mean_interval([])


@pytest.mark.parametrize(
    ("domain", "name", "sizes", "planner"),
    [
        ("cartpole", "", {}, RandomShooting()),
        ("halfcheetah", "", {"candidates": None}, CEM()),
        ("halfcheetah", "mppi", {"candidates": 30, "temperature": 0.5}, MPPI(30, temperature=0.5)),
    ],
)
def test_planners_are_written_and_read(domain, name, sizes, planner):
    assert planner_of(planner_text(domain, name, **sizes)) == planner


def test_planners_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="planner 'best' is not one of shooting"):
        planner_text("cartpole", "best")
    with pytest.raises(ValueError, match="planner shooting has no elites; its sizes: candidates, horizon"):
        planner_text("cartpole", "shooting", elites=3)


def test_an_episode_is_the_policy_in_the_true_environment():
    stream = stream_of(5, 1, 2)
    policy = policy_of(QUICK, "", 1, stream)
    expected = episode_returns(policy, DOMAINS["mountaincar"], 1, episodes=1, seed=stream)[0]
    values = {name: getattr(QUICK, name) for name in QUICK.__dataclass_fields__}
    assert run_plan_episode("", 1, 5, 2, **values)["return"] == expected


def test_rows_that_are_there_are_kept(tmp_path, monkeypatch):
    done = []

    def jobs_here(function, jobs, log, *, constants, **_):
        missing = [job for job in jobs if log.get(job) is None]
        for job in missing:
            done.append((job["agent"], job["episode"]))
            log.add(job, function(**constants, **job))
        return [log.get(job) for job in jobs]

    monkeypatch.setattr(plan_runs, "run_jobs", jobs_here)
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
    pytest.importorskip("imageio")
    import imageio.v3 as iio

    stream = stream_of(0, 0, 0)
    expected = run_plan_episode("", 0, 0, 0, **{n: getattr(QUICK, n) for n in QUICK.__dataclass_fields__})["return"]
    assert write_video(QUICK, "", 0, tmp_path / "film.gif") == expected
    assert stream == stream_of(0, 0, 0)
    frames = iio.imread(tmp_path / "film.gif")
    assert frames.ndim == 4 and 20 < len(frames) <= 2 - expected


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_row_an_episode(tmp_path):
    words = ["plan", "cartpole", "--truth", "--agents", "2", "--episodes", "2", "--candidates", "20", "--horizon", "10"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "plan.csv")], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert re.search(r"2 │ force .* │ +2 │ +[\d.]+ │ [\d.]+ to [\d.]+ │", done.stdout)
    assert len((tmp_path / "plan.csv").read_text(encoding="utf-8").splitlines()) == 3
