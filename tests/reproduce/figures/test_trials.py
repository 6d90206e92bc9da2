"""One result of each cell and trial counts, as in the tables, and no return of a shortened episode."""

from support.made_up_results import made_up

from persim_gym.reproduce.figures.trials import Place, by_place
from persim_gym.reproduce.protocol import Effort

PLACE = Place("mountaincar", "random", 500, "0", "persim", 0)


def test_of_several_the_one_of_most_episodes_counts():
    rows = [made_up(1.0, episodes=5), made_up(2.0, episodes=20), made_up(3.0, episodes=10), made_up(4.0, metric="r2")]
    assert by_place(rows, "rmse") == {PLACE: 2.0}
    assert by_place([*rows, made_up(5.0, episodes=20)], "rmse") == {PLACE: 5.0}


def test_returns_of_shortened_episodes_are_left_out():
    short = Effort(1, steps=100).settings
    rows = [made_up(7.0, metric="return", settings=short, episodes=99), made_up(8.0, metric="return")]
    assert by_place(rows, "return") == {PLACE: 8.0}
    assert by_place([made_up(9.0, settings=short)], "rmse") == {PLACE: 9.0}  # Errors do not depend on it.
