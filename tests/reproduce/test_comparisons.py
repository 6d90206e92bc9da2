"""What follows from a table: wins, losses, distances from the thesis, interquartile means, and how methods were run."""

import math

import numpy as np
import pytest
from scipy.stats import trim_mean
from support.table_rows import a_row, rows_of

from persim_gym.reproduce.comparisons import Wins, departure, groups_of, interquartile, is_judged, losses, spreads, wins
from persim_gym.reproduce.protocol import TABLES
from persim_gym.reproduce.tables import reproduced_table


def cells_of(name, *rows):
    return reproduced_table(TABLES[name], rows).cells


@pytest.mark.parametrize(
    ("name", "metric", "thesis", "cells"),
    [
        # Counted by hand in the thesis's tables.
        ("B.1", "rmse", 20, 20),
        ("B.3", "rmse", 14, 20),
        ("B.4", "return", 13, 20),
        ("B.6", "return", 9, 20),
        # One of four sizes, with a copied or doubtful row, does not count.
        ("B.8", "rmse", 9, 15),
        ("B.10", "return", 9, 15),
        # Two of four.
        ("B.9", "rmse", 2, 10),
        # Only a spread is faulty.
        ("B.11", "return", 5, 20),
    ],
)
def test_in_how_many_of_the_thesis_cells_persim_is_best(name, metric, thesis, cells):
    assert wins(cells_of(name), metric) == Wins(0, 0, thesis, cells)


def test_persim_wins_where_no_other_method_with_data_alone_is_better():
    rows = [
        a_row(agent="0", value=-60.0),
        a_row(agent="0", value=-61.0, method="cadm"),
        a_row(agent="0", value=-20.0, method="true-mpc"),  # It knows the truth.
        a_row(agent="1", value=-500.0),
        a_row(agent="1", value=-500.0, method="bcq-p"),  # A tie.
        a_row(agent="2", value=-90.0),
        a_row(agent="2", value=-89.99, method="bcq-a"),
        a_row(agent="3", value=-90.0),  # Alone.
        a_row(agent="4", value=math.nan, method="cadm"),
        a_row(agent="4", value=-400.0),
    ]
    cells = cells_of("B.4", *rows)
    found = wins(cells, "return")
    assert (found.ours, found.of_ours) == (3, 4)
    ((own, best),) = losses(cells, "return")
    assert (own.agent, own.method, best.method) == ("2", "persim", "bcq-a")


def test_shortened_episodes_do_not_compete():
    short = {"settings": "episode_steps=100"}
    rows = [a_row("B.6", value=900.0), a_row("B.6", value=90.0, method="cadm", **short)]
    assert wins(cells_of("B.6", *rows), "return").of_ours == 0
    rows = [a_row("B.6", value=90.0, **short), a_row("B.6", value=900.0, method="cadm")]
    assert losses(cells_of("B.6", *rows), "return") == []
    assert [mean.method for mean in interquartile(cells_of("B.6", *rows))] == ["cadm"]
    assert not any(is_judged(cell) for cell in cells_of("B.6", *rows) if cell.method == "persim")


def test_lower_errors_win():
    rows = [a_row("B.2", value=0.2), a_row("B.2", value=0.1, method="cadm")]
    assert wins(cells_of("B.2", *rows), "rmse").ours == 0 and len(losses(cells_of("B.2", *rows), "rmse")) == 1
    assert wins(cells_of("B.2", *rows), "r2").of_ours == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("B.4", -57.70 - 2 * 5.63, 0),
        ("B.4", -57.70 - 2 * 5.63 - 0.02, -1),
        ("B.4", -57.70 + 2 * 5.63 + 0.02, 1),
        ("B.4", math.nan, -1),
        ("B.2", 0.021, 0),  # The thesis has 0.014.
        ("B.2", 0.022, -1),
        ("B.2", 0.009, 1),
        ("B.2", math.nan, -1),
    ],
)
def test_what_is_far_from_the_thesis(name, value, expected):
    (cell,) = (cell for cell in cells_of(name, a_row(name, value=value)) if cell.rows)
    assert is_judged(cell) and departure(cell) == expected


def test_cells_that_cannot_be_judged_are_not():
    rows = [a_row("B.2", metric="r2"), a_row("B.11"), a_row("B.8", n_agents=100)]
    for name, row in zip(("B.2", "B.11", "B.8"), rows, strict=True):
        (cell,) = (cell for cell in cells_of(name, row) if cell.rows)
        assert not is_judged(cell)
        with pytest.raises(ValueError, match="choose cells by `is_judged`"):
            departure(cell)


def test_interquartile_means_are_of_all_agents_and_trials():
    rng = np.random.default_rng(0)
    values = rng.normal(-100.0, 30.0, (5, 4))  # [agents, trials]
    rows = [a_row(agent=str(n), seed=seed, value=value) for (n, seed), value in np.ndenumerate(values)]
    (mean,) = interquartile(cells_of("B.4", *rows))
    assert (mean.dataset, mean.n_agents, mean.method, mean.metric) == ("random", 500, "persim", "return")
    assert mean.mean == pytest.approx(trim_mean(values.ravel(), 0.25)) and (mean.agents, mean.trials) == (5, 20)
    low, high = mean.interval
    assert low < mean.mean < high
    assert interquartile(cells_of("B.4", *rows[::-1])) == [mean]


def test_interquartile_means_of_single_trials_have_no_interval_and_logs_have_none():
    (mean,) = interquartile(cells_of("B.4", a_row(value=-60.0), a_row(agent="2", value=-70.0)))
    assert mean.mean == -65.0 and mean.interval is None and mean.agents == 2
    assert interquartile(cells_of("A.1", *rows_of("A.1", "thesis", 1))) == []
    assert {mean.metric for mean in interquartile(cells_of("B.1", *rows_of("B.1")))} == {"rmse", "r2"}


def test_methods_scored_on_the_same_episodes_have_the_same_spread():
    rows = [
        a_row("B.2", method=method, metric=metric, value=value, agent=agent)
        for method, errors in (("persim", (0.005, 0.02)), ("cadm", (0.3, 0.5)))
        for agent, error in zip("01", errors, strict=True)
        for metric, value in (("rmse", error), ("r2", 1 - (error / 0.4) ** 2))
    ]
    found = spreads(cells_of("B.2", *rows), ours=True)
    assert found.pop(("persim", "0"), None) is None  # Its R² rounds to 1 and says nothing.
    assert found == {key: pytest.approx(0.4) for key in (("persim", "1"), ("cadm", "0"), ("cadm", "1"))}


def test_the_thesis_scored_cartpoles_last_agent_on_different_episodes():
    for name in ("B.2", "B.8"):
        thesis = spreads(cells_of(name), ours=False)
        others = [thesis[method, "4"] for method in ("cadm", "pe-ts-cadm")]
        assert 2.5 < min(others) / thesis["persim", "4"] < max(others) / thesis["persim", "4"] < 6.5


def test_groups_are_of_methods_that_were_run_alike():
    rows = [a_row(), a_row(agent="1", seed=0), a_row(agent="1", seed=1), a_row(method="bcq-a", settings="short")]
    one, other = groups_of(cells_of("B.4", *rows))
    assert (one.methods, one.trials, one.episodes, one.settings) == (("persim",), (1, 2), (5, 5), ())
    assert (other.methods, other.trials, other.settings) == (("bcq-a",), (1, 1), ("short",))
