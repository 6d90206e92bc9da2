"""One result of each cell and trial counts, the one of the tables, and no return of a shortened episode."""

import pytest
from support.made_up_results import made_up

from persim_gym.reproduce.figures.trials import Place, by_place
from persim_gym.reproduce.protocol import TABLES, Effort
from persim_gym.reproduce.tables import reproduced_table

PLACE = Place("mountaincar", "random", 500, "0", "persim", 0)


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_the_one_that_tables_show_counts(order):
    rows = [made_up(1.0, episodes=5), made_up(2.0, episodes=20), made_up(3.0, settings="training_steps=9")][::order]
    assert by_place([*rows, made_up(4.0, metric="r2", episodes=200)], "rmse") == {PLACE: 2.0}
    (shown,) = [cell for cell in reproduced_table(TABLES["B.1"], rows).run if cell.metric == "rmse"]
    assert shown.values == [2.0]


def test_returns_of_shortened_episodes_are_left_out():
    short = Effort(1, steps=100).settings()
    rows = [made_up(7.0, metric="return", settings=short, episodes=99), made_up(8.0, metric="return")]
    assert by_place(rows, "return") == {PLACE: 8.0}
    assert by_place([made_up(9.0, settings=short)], "rmse") == {PLACE: 9.0}  # Errors do not depend on it.
