"""The protocol holds every number of the thesis, and sizes say what they are."""

import csv
from importlib import resources

import pytest

from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.reproduce.protocol import (
    BESIDE,
    LOGS,
    METHODS,
    NO_DATA,
    PREDICTION,
    RETURN,
    SCALES,
    TABLES,
    Effort,
    Scale,
    cells_of,
)

METRICS = {
    "rmse_50step_mean": PREDICTION,
    "r2_50step_median": PREDICTION,
    "average_reward": RETURN,
    "observed_reward": LOGS,
    "trajectory_length": LOGS,
}
OURS = {theirs: ours for ours, theirs in METHODS.items()}


def published():
    text = (resources.files("persim_gym.evaluation") / "thesis_tables.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", sorted({row["table"] for row in published()}))
def test_every_number_of_a_table_has_a_cell(name):
    cells = {
        (c.domain, c.dataset, c.method, c.n_agents, c.agent, c.metrics)
        for c in cells_of([TABLES[name]], SCALES["thesis"])
        if c.method not in BESIDE
    }
    wanted = {
        (
            row["env"],
            row["dataset"] or NO_DATA,
            OURS[row["method"]],
            int(row["n_agents"]),
            row["agent"] if row["agent"] == "all" else str(int(row["agent"]) - 1),
            METRICS[row["metric"]],
        )
        for row in published()
        if row["table"] == name
    }
    # Of a table that repeats another, only numbers that are not the same are listed.
    assert wanted <= cells if TABLES[name].source else wanted == cells


def test_a_table_that_repeats_another_adds_no_cell():
    for table in TABLES.values():
        if table.source:
            assert set(cells_of([table], SCALES["thesis"])) <= set(cells_of([TABLES[table.source]], SCALES["thesis"]))


def test_what_is_chosen_is_what_runs():
    chosen = cells_of([TABLES["B.4"]], SCALES["quick"], methods=["persim", "true-mpc"])
    assert {c.method for c in chosen} == {"persim", "true-mpc"} and {c.seed for c in chosen} == {0}
    assert len(chosen) == 3 * (4 + 1)  # Three agents; four datasets, and the truth once.
    assert not cells_of([TABLES["B.4"]], SCALES["quick"], domains=["cartpole"])
    assert {c.domain for c in cells_of(TABLES.values(), SCALES["quick"], domains=["cartpole"])} == {"cartpole"}


def test_each_cell_is_run_once_and_first_trials_come_first():
    cells = cells_of(TABLES.values(), SCALES["thesis"])
    assert len(set(cells)) == len(cells)
    assert [c.seed for c in cells] == sorted(c.seed for c in cells) and {c.seed for c in cells} == set(range(5))


def test_the_thesis_scale_is_the_thesis():
    scale = SCALES["thesis"]
    assert (scale.trials, scale.prediction_episodes, scale.agents) == (5, 200, TEST_AGENTS)
    assert scale.effort_of("cartpole", "persim") == Effort(20)
    assert scale.effort_of("halfcheetah", "bcq-p") == Effort(100, training=550_000)


def test_settings_say_what_is_smaller_than_in_the_thesis():
    effort = Effort(1, steps=100, planner=(("candidates", 50),), training=200)
    assert effort.settings() == "candidates=50 training_steps=200 episode_steps=100"
    assert Effort(20).settings() == "as the thesis" and Effort(20).settings("cem") == "planner=cem"
    scale = Scale(1, 1, (0,), {"persim": effort}, Effort(20))
    assert scale.effort_of("cartpole", "persim-cem") == effort and scale.effort_of("cartpole", "cadm") == Effort(20)
