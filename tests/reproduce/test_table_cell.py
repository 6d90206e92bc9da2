"""A cell: means, spreads, and whether ours is no worse."""

import math

import pytest
from support.table_rows import a_row

from persim_gym.reproduce.protocol import TABLES
from persim_gym.reproduce.table_cell import format_figure, score
from persim_gym.reproduce.tables import reproduced_table


def the_cell(name, *rows, agent="0", method="persim", dataset="random", n_agents=None, metric=None):
    table = TABLES[name]
    place = table.sizes[0] if n_agents is None else n_agents, method, agent, metric or table.metrics[0]
    (cell,) = (
        c
        for c in reproduced_table(table, rows).cells
        if (c.n_agents, c.method, c.agent, c.metric) == place and c.dataset in (dataset, "-")
    )
    return cell


def test_mean_and_sample_deviation_are_over_trials():
    cell = the_cell("B.12", a_row("B.12", value=199.5), a_row("B.12", value=200.0, seed=1))
    assert cell.mean == 199.75 and cell.std == pytest.approx(0.35, abs=0.005)  # Thesis Table B.12, N = 50.
    alone = the_cell("B.12", a_row("B.12", value=199.5))
    assert alone.mean == 199.5 and alone.std is None and len(alone.rows) == 1


def test_a_cell_that_was_not_run_has_nothing():
    cell = the_cell("B.4")
    assert cell.mean is cell.std is cell.difference is cell.no_worse is None and not cell.rows
    assert cell.published.value == -57.70


@pytest.mark.parametrize(
    ("name", "metric", "value", "no_worse"),
    [
        ("B.4", "return", -57.70, True),
        ("B.4", "return", -57.7049, True),  # It rounds to the thesis's two places.
        ("B.4", "return", -57.706, False),
        ("B.2", "rmse", 0.0144, True),  # The thesis has 0.014.
        ("B.2", "rmse", 0.0146, False),
        ("B.2", "r2", 0.9816, True),  # The thesis has 0.982.
        ("B.2", "r2", 0.9814, False),
        ("B.4", "return", math.nan, False),
        ("B.2", "rmse", math.nan, False),
    ],
)
def test_no_worse_is_decided_on_figures_rounded_as_the_thesis_rounds(name, metric, value, no_worse):
    cell = the_cell(name, a_row(name, value=value, metric=metric), metric=metric)
    assert cell.no_worse is no_worse
    assert math.isnan(value) or cell.difference == pytest.approx(value - cell.published.value)


def test_faulty_cells_and_logs_are_compared_with_nothing():
    copied = the_cell("B.8", a_row("B.8", n_agents=100), n_agents=100)
    assert copied.fault is not None and copied.no_worse is None and copied.difference is not None
    logs = [a_row("A.1", domain="cartpole", method="logging", value=59.0)]
    logged = [cell for cell in reproduced_table(TABLES["A.1"], logs).cells if cell.rows]
    assert [cell.no_worse for cell in logged] == [None] and logged[0].difference == 0.0
    row = a_row("B.11", n_agents=250, value=2000.0)
    assert the_cell("B.11", row, n_agents=250).no_worse is True  # Only the spread is faulty.


def test_higher_scores_are_better_and_nan_is_worst():
    assert score("rmse", 0.1) > score("rmse", 0.2) > score("rmse", math.nan) == -math.inf
    assert score("return", -50.0) > score("return", -60.0) > score("return", math.nan)


def test_figures_are_shown_with_the_places_of_their_metric():
    assert format_figure("rmse", 0.00002, 1) == "2e-05" and format_figure("rmse", 0.0123, 1) == "0.0123"
    assert format_figure("r2", 0.98765, 1) == "0.988" and format_figure("return", -57.706, 2) == "-57.71"
