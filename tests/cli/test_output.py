"""Lists of agents on the command line; and what verbs print fits a screen of 80 columns."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.cli.evaluate import logged_error_table
from persim_gym.cli.output import numbers
from persim_gym.cli.train import say_quality
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import PredictionError
from persim_gym.planning.by_name import planner_label, planner_of
from persim_gym.workflows import demo, plan

WIDTH = 80


@pytest.mark.parametrize(
    ("text", "agents"),
    [("3", [3]), ("0,1,17", [0, 1, 17]), ("0-4,17", [0, 1, 2, 3, 4, 17]), (" 2 - 2, 0", [2, 0])],
)
def test_lists_of_agents_hold_numbers_and_ranges(text, agents):
    assert numbers(text) == agents


def test_a_list_of_too_many_agents_is_refused_before_it_is_built():
    with pytest.raises(ValueError, match="'0-999999999999' names 1,000,000,000,000 agents; name up to 10,000,000"):
        numbers("3,0-999999999999")


def test_a_range_that_runs_backwards_is_turned_round():
    with pytest.raises(ValueError, match="'5-2' runs backwards; write 2-5"):
        numbers("0,5-2")


@pytest.mark.parametrize("text", ["", "all", "-1", "1,,2", "1-", "0-2-4", "1.5"])
def test_what_is_not_a_list_of_agents_is_refused(text):
    with pytest.raises(ValueError, match="not a list of agents"):
        numbers(text)


# --- width: nothing is cut off, and no number is folded ---------------------------------------------------------------


def lines_of(*tables):
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.export_text().splitlines()


@pytest.mark.parametrize("words", ["envs", "datasets list", "simulators list", "methods", "doctor"])
def test_lists_fit(words, monkeypatch, home):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    shown = CliRunner().invoke(app, words.split()).stdout
    rows = [line for line in shown.splitlines() if not line.startswith("yours are in")]
    assert max(map(len, rows)) <= WIDTH and "…" not in shown


@pytest.mark.parametrize("name", ["mountaincar", "cartpole"])
def test_the_tables_of_the_demo_fit(name):
    agents = [0, 1, 499]
    true = np.zeros((2, 51, 2))
    errors = {agent: PredictionError(np.full(2, 0.0123), np.full(2, -12.345), true, true) for agent in agents}
    returns = {(method, agent): np.array([-500.0, -123.4]) for method in demo.DEMO_METHODS for agent in agents}
    lines = lines_of(
        demo.demo_error_table(DOMAINS[name], errors), demo.demo_returns_table(DOMAINS[name], returns, agents)
    )
    assert not re.search("…", "".join(lines))
    assert sum(line.startswith("│") for line in lines) == 2 * len(agents)  # a row is a line


@pytest.mark.parametrize("name", DOMAINS)
def test_returns_of_planning_fit(name):
    rows = {agent: np.array([-12345.6, 12345.6]) for agent in (0, 499)}
    lines = lines_of(
        plan.returns_table(
            f"{name}/random-v0, {planner_label(planner_of(DOMAINS[name].action_space, name))}", name, rows
        )
    )
    assert "…" not in "".join(lines) and sum(bool(re.match(r"│ +\d", line)) for line in lines) == len(rows)


def test_errors_on_logged_data_fit():
    error = {
        "columns": ["observation 45"],
        "one_step_rmse": [1e-5],
        "one_step_r2": [None],
        "steps": [50],
        "open_loop": [2],
    }
    lines = lines_of(logged_error_table("my/fleet-of-many-machines-v0", error))
    assert "…" not in "".join(lines) and sum(line.startswith("│") for line in lines) == 2


def test_the_error_of_a_column_that_was_never_held_out_is_not_known(capsys):
    error = {"held_out": {"transitions": 50, "rmse": [0.5, None], "no_change_rmse": [1.0, None]}, "columns": ["a", "b"]}
    say_quality(SimpleNamespace(card=SimpleNamespace(domain="", error=error, trust={})))
    assert "  a: RMSE 0.5; predicting no change has 1\n  b: not known\n" in capsys.readouterr().out
