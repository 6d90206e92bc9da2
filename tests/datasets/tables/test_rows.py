"""Rows in order: sorted, without repeats, cut where time says so; and what is said of it."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from support.tables import small_rows

from persim_gym.datasets.tables.columns import table_columns
from persim_gym.datasets.tables.roles import Roles, duration, length_text
from persim_gym.datasets.tables.rows import ordered_rows

ROLES = Roles("id", "t", ("x",), ("a",), "r")
MINUTES = [f"2024-01-01 00:0{m}" for m in range(4)]


def ordered(columns, roles=ROLES, **options):
    return ordered_rows(table_columns(pa.table(columns), roles), roles, **options)


def values(rows):
    return rows.values["x"].tolist()


def test_agents_may_be_mixed():
    columns = small_rows()
    mixed = {name: [v for pair in zip(c[:4], c[4:], strict=True) for v in pair] for name, c in columns.items()}
    assert values(ordered(mixed)) == columns["x"]


def test_dates_that_run_backwards_are_sorted_and_said():
    columns = small_rows(t=[MINUTES[i] for i in (2, 0, 1, 3, 0, 1, 2, 3)])
    rows = ordered(columns)
    assert values(rows) == [1.5, 2.5, 0.0, 3.5, 10.0, 11.5, 12.5, 13.5]
    assert rows.said[0] == "rows of A-1 did not stand in the order of time; they were sorted"


def test_a_clock_that_starts_again_begins_a_run():
    many = small_rows(id=["A-1"] * 80, t=[float(i % 40) for i in range(80)], x=[0.0] * 80, a=["u"] * 80, r=[0.0] * 80)
    rows = ordered(many)
    assert np.flatnonzero(rows.first).tolist() == [0, 40]
    assert rows.said[0] == "time runs backwards 1 times in A-1; a new run begins there"


def test_rows_that_repeat_a_time_are_left_out():
    rows = ordered(small_rows(t=[0, 1, 1, 2, 0, 1, 2, 3]))
    assert values(rows) == [0.0, 1.5, 3.5, 10.0, 11.5, 12.5, 13.5]
    assert rows.said[0] == "1 row repeats a time of A-1; the first one counts"


def test_rows_without_agent_or_time_are_left_out():
    rows = ordered(small_rows(id=["A-1", None, "A-1", "A-1", *["A-2"] * 4], t=[0, 1, 2, None, 0, 1, 2, 3]))
    assert values(rows) == [0.0, 2.5, 10.0, 11.5, 12.5, 13.5]
    assert rows.said[:2] == ["1 row without id left out", "1 row without t left out"]


def test_irregular_steps_are_told():
    rows = ordered(small_rows(t=[0, 1, 2, 4.5, 0, 1, 2, 3]))
    assert (
        rows.usual == 1 and rows.said[-1] == "17% of the other steps differ from the usual one by 10% or more: --every"
    )


def test_without_times_rows_follow_one_another():
    rows = ordered(small_rows(t=None), Roles("id", "", ("x",), ("a",), "r"))
    assert rows.time is None and np.flatnonzero(rows.first).tolist() == [0, 4] and rows.said == []


@pytest.mark.parametrize("form", ["{}", "{}Z", "{}:00+01:00"])
def test_dates_with_and_without_zones_are_read(form):
    rows = ordered(small_rows(t=[form.format(m) for m in MINUTES * 2]))
    assert rows.dates and rows.usual == 60e9


def test_other_dates_are_read_as_they_are_said_to_be_written():
    columns = small_rows(t=["01.02.2024", "02.02.2024", "03.02.2024", "04.02.2024"] * 2)
    days = table_columns(pa.table(columns), ROLES, "%d.%m.%Y")
    assert days.dates and (np.diff(days.time[:4]) == 86_400 * 10**9).all()


def test_a_time_of_day_is_a_number_of_seconds_which_begins_runs_anew():
    days = [dt.time(hour, minute) for hour in range(24) for minute in (0, 30)] * 2
    count = len(days)
    rows = ordered(small_rows(id=["A"] * count, t=days, x=[0.0] * count, a=["u"] * count, r=[0.0] * count))
    assert not rows.dates and rows.time.tolist()[:2] == [0.0, 1800.0]
    assert np.flatnonzero(rows.first).tolist() == [0, 48]


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("5min", 300e9), ("1.5 h", 5400e9), ("2d", 172_800e9), ("500ms", 5e8)]
)
def test_lengths_of_time(text, nanoseconds):
    assert duration("gap", text, dates=True) == nanoseconds
    assert duration("gap", length_text(nanoseconds, True), dates=True) == nanoseconds


@pytest.mark.parametrize("text", ["5", 5, "0min", "-1h", "5 years", ""])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="--gap"):
        duration("gap", text, dates=True)
