"""Rows of a table in order: agents one after the other, each by time, and where one run ends and the next begins."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.tables.columns import TableColumns
from persim_gym.datasets.tables.roles import Roles, length_text

GAP_STEPS = 3
"""A step longer than so many usual ones ends a run, unless --gap says otherwise."""
IRREGULAR = 0.1  # A step that differs from the usual one by more than this share is irregular.
MAX_RESTARTS = 0.05  # Where numbers run backwards in more of the rows, rows are out of order, not clocks set back.


@dataclass(frozen=True)
class OrderedRows:
    """Rows with an agent and a time, in order.

    Attributes:
        agent: Index of the agent, int32 [K], sorted.
        time: Times as `TableColumns` has them, [K]; None without.
        values: Columns by name, float64 [K].
        first: Rows that begin a run, bool [K].
        dates: Whether times are dates.
        usual: The usual step; None where there are no times, or no steps.
        said: What was left out or put right, one line each.
    """

    agent: NDArray[np.int32]
    time: NDArray[Any] | None
    values: dict[str, NDArray[np.float64]]
    first: NDArray[np.bool_]
    dates: bool
    usual: float | None = None
    said: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of rows K."""
        return len(self.agent)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Lengths of the steps inside of runs."""
        assert self.time is not None
        return np.diff(self.time).astype(np.float64)[~self.first[1:]]


def ordered_rows(
    columns: TableColumns, roles: Roles, gap: float | None = None, every: float | None = None
) -> OrderedRows:
    """Sorts rows by agent and time, and cuts them into runs.

    Args:
        columns: Of a table.
        roles: Which column is what.
        gap: Longest step of one run; None for `GAP_STEPS` usual ones.
        every: Length of the steps that rows are put together to; None to leave them.
    """
    said: list[str] = []
    for name, missing in {roles.agent: columns.agent < 0, roles.time: ~columns.known_time}.items():
        if count := int(missing.sum()):
            said.append(f"{count:,} {'row' if count == 1 else 'rows'} without {name} left out")
    rows = _sorted(columns, (columns.agent >= 0) & columns.known_time, said)
    rows = _without_repeats(rows, columns.agents, said)
    if roles.terminated:
        ended = rows.values[roles.terminated] > 0
        rows.first[1:] |= ended[:-1]
    if every is not None:
        rows = _put_together(rows, roles, every)
    return _cut_at_gaps(rows, gap, said)


def _sorted(columns: TableColumns, keep: NDArray[np.bool_], said: list[str]) -> OrderedRows:
    """Rows that are kept, by agent, and in each agent by time."""
    index: Any = slice(None) if keep.all() else np.flatnonzero(keep)
    agent, time, dates = columns.agent[index], columns.time, columns.dates
    time = None if time is None else time[index]
    if (np.diff(agent) < 0).any():
        order = np.argsort(agent, kind="stable")
        index, agent = np.arange(len(keep))[index][order], agent[order]
        time = None if time is None else time[order]
    first = np.diff(agent, prepend=-1) != 0
    if time is not None:
        back = (np.diff(time, prepend=time[:1]) < 0) & ~first
        some = names_of(np.unique(agent[back]), columns.agents)
        if back.any() and (dates or back.mean() > MAX_RESTARTS):
            said.append(f"rows of {some} did not stand in the order of time; they were sorted")
            order = np.lexsort((time, agent))
            index, time = np.arange(len(keep))[index][order], time[order]
        elif back.any():
            said.append(f"time runs backwards {int(back.sum()):,} times in {some}; a new run begins there")
            first |= back
    values = {name: column[index] for name, column in columns.values.items()}
    return OrderedRows(agent, time, values, first, dates)


def _without_repeats(rows: OrderedRows, agents: list[str], said: list[str]) -> OrderedRows:
    """Rows without those that repeat an agent and time; the first is kept."""
    if rows.time is None:
        return rows
    repeated = ~rows.first & (np.diff(rows.time, prepend=rows.time[:1]) == 0)
    if not (count := int(repeated.sum())):
        return rows
    some = names_of(np.unique(rows.agent[repeated]), agents)
    said.append(f"{count:,} {'row repeats' if count == 1 else 'rows repeat'} a time of {some}; the first one counts")
    keep = ~repeated
    return replace(
        rows,
        agent=rows.agent[keep],
        time=rows.time[keep],
        values={name: column[keep] for name, column in rows.values.items()},
        first=rows.first[keep],
    )


def _put_together(rows: OrderedRows, roles: Roles, every: float) -> OrderedRows:
    """One row for each interval in which there are rows: their first values, and the sum of their rewards.

    A row that ends an episode stays a row of its own.
    """
    assert rows.time is not None  # Without times there is no --every.
    interval = np.floor_divide(rows.time, every if rows.time.dtype.kind == "f" else int(every))
    alone = rows.values[roles.terminated] > 0 if roles.terminated else np.zeros(len(rows), dtype=np.bool_)
    starts = np.flatnonzero(rows.first | (np.diff(interval, prepend=interval[:1]) != 0) | alone)
    values = {}
    for name, column in rows.values.items():
        if name == roles.reward:
            values[name] = np.add.reduceat(column, starts)
        elif np.isnan(column).any():
            where = np.where(np.isnan(column), len(column), np.arange(len(column)))
            values[name] = np.append(column, np.nan)[np.minimum.reduceat(where, starts)]
        else:
            values[name] = column[starts]
    time = (interval[starts] * every).astype(rows.time.dtype)
    return replace(rows, agent=rows.agent[starts], time=time, values=values, first=rows.first[starts])


def _cut_at_gaps(rows: OrderedRows, gap: float | None, said: list[str]) -> OrderedRows:
    if rows.time is None or not (~rows.first).any():
        return replace(rows, said=said)
    steps = rows.steps
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else None
    longest = GAP_STEPS * usual if gap is None and usual is not None else gap
    if usual is None or longest is None:
        return replace(rows, said=said)
    cut = ~rows.first & (np.diff(rows.time, prepend=rows.time[:1]) > longest)
    rows = replace(rows, first=rows.first | cut, usual=usual, said=said)
    irregular = float((np.abs(rows.steps - usual) > IRREGULAR * usual).mean()) if (~rows.first).any() else 0.0
    length, most = (length_text(value, rows.dates) for value in (usual, longest))
    why = f", {GAP_STEPS} times the usual step" if gap is None else ""
    said.append(
        f"the usual step is {length}; a run ends at a step of more than {most}{why} ({int(cut.sum()):,} "
        f"{'gap' if cut.sum() == 1 else 'gaps'})"
    )
    if irregular > 0.01:
        said.append(f"{irregular:.0%} of the other steps differ from the usual one by {IRREGULAR:.0%} or more: --every")
    return rows


def names_of(numbers: NDArray[Any], agents: list[str], most: int = 3) -> str:
    """Some agents by name."""
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return ", ".join(agents[number] for number in numbers[:most]) + more


def counted(agent: NDArray[np.int32], agents: list[str], most: int = 3) -> str:
    """Agents that occur most often, and how often."""
    often = Counter(dict(enumerate(np.bincount(agent, minlength=len(agents)).tolist()))).most_common(most)
    return ", ".join(f"{agents[number]} {count:,}" for number, count in often if count)
