"""Runs of a table as episodes: which transitions can be learned from, agents by number, and what is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.tables.columns import TableColumns
from persim_gym.datasets.tables.roles import Roles
from persim_gym.datasets.tables.rows import OrderedRows, counted, names_of
from persim_gym.datasets.tables.spaces import Part, actions, observations
from persim_gym.labels import Labels


@dataclass(frozen=True)
class TableEpisodes:
    """All that a dataset holds, in order.

    Attributes:
        begin: First row of each episode, int64 [E].
        end: Its last row, which is observed but does nothing any more, int64 [E].
        agent: Number of its agent, int64 [E].
        usable: Rows that begin a transition whose observation and action are complete, bool [K]; what follows may lack
            values.
        missing: Whether values of the episodes are missing.
        rows: The rows.
        obs: Observations of all rows.
        action: Actions of all rows.
        labels: What agents, observations and actions are called.
        table_agents: Index of each numbered agent among the agents of the table, [N].
        candidates: Pairs of rows that follow one another in a run.
        said: What was left out or put right, one line each.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    agent: NDArray[np.int64]
    usable: NDArray[np.bool_]
    missing: bool
    rows: OrderedRows
    obs: Part
    action: Part
    labels: Labels
    table_agents: list[int]
    candidates: int
    said: list[str]

    @property
    def transitions(self) -> int:
        """Number of usable transitions."""
        return int(self.usable.sum())


def table_episodes(
    columns: TableColumns, rows: OrderedRows, roles: Roles, units: Mapping[str, str] | None = None
) -> TableEpisodes:
    """Makes an episode of each run of ordered rows that has a usable transition; missing values stay in it.

    Args:
        columns: Of the table.
        rows: In order.
        roles: Which column is what.
        units: Units by column.

    Raises:
        ValueError: If no transition is usable.
    """
    follows = np.append(~rows.first[1:], False)
    usable = follows & _complete(rows, (*roles.obs, *roles.exogenous, *roles.action))
    said = rows.said + _missing(columns, rows, roles, follows, usable)
    if roles.terminated and (unknown := int(np.isnan(rows.values[roles.terminated]).sum())):
        said.append(f"{unknown:,} cells of {roles.terminated} missing: they count as no")
    observed = np.append(_anything(rows, roles.obs)[1:], False)
    if not (usable & observed).any():  # Of these alone could be learned how observations change.
        raise ValueError(_nothing(columns, rows, roles, int(follows.sum()), said))
    starts = np.flatnonzero(rows.first)
    ends, some = np.append(starts[1:], len(rows)) - 1, np.logical_or.reduceat(usable, starts)
    kept = follows & np.repeat(some, ends - starts + 1)
    starts, ends = starts[some], ends[some]
    obs = observations(columns, rows.values, roles)
    action = actions(columns, rows.values, kept, usable, roles)
    present = np.unique(rows.agent[starts])
    order = numbered_agents([columns.agents[i] for i in present])
    lost = np.setdiff1d(np.arange(len(columns.agents)), present)
    if len(lost):
        few = f"{len(lost):,} of {len(columns.agents):,} agents"
        said.append(f"{few} left out, without a usable transition: {names_of(lost, columns.agents)}")
    number = {int(present[i]): n for n, i in enumerate(order)}
    names = tuple(columns.agents[int(present[i])] for i in order)
    labels = Labels(
        agents=() if names == tuple(map(str, range(len(names)))) else names,
        observations=obs.names,
        actions=action.names if action.sizes else roles.action,
        choices=action.names if action.rows.ndim == 1 else (),
        reward=roles.reward,
        terminated=roles.terminated,
        units=dict(units or {}),
        integers=_whole_numbers(columns, rows, roles),
    )
    return TableEpisodes(
        begin=starts,
        end=ends,
        agent=np.array([number[int(a)] for a in rows.agent[starts]], dtype=np.int64),
        usable=usable,
        missing=_lacks_values(rows, roles, kept),
        rows=rows,
        obs=obs,
        action=action,
        labels=labels,
        table_agents=[int(present[i]) for i in order],
        candidates=int(follows.sum()),
        said=said,
    )


def numbered_agents(names: Sequence[str]) -> list[int]:
    """The order in which agents are numbered: indices into their sorted names.

    Where names are whole numbers, one that is a number of an agent is that agent's, so that both mean the same.
    """
    if not all(name.isdecimal() for name in names) or len({int(name) for name in names}) < len(names):
        return list(range(len(names)))
    own = {int(name): i for i, name in enumerate(names) if int(name) < len(names)}
    others = iter([i for i, name in enumerate(names) if int(name) >= len(names)])
    return [own[n] if n in own else next(others) for n in range(len(names))]


def _whole_numbers(columns: TableColumns, rows: OrderedRows, roles: Roles) -> tuple[str, ...]:
    """Observed columns that are declared to be whole numbers, and are.

    Raises:
        ValueError: If one is a category or has a fraction.
    """
    for name in roles.integer:
        values = rows.values[name]
        fraction = values[np.isfinite(values) & (values != np.rint(values))]
        if name in columns.categories or len(fraction):
            one_hot = "is of categories, which become one-hot"
            what = one_hot if name in columns.categories else f"has values such as {fraction[0]:g}"
            raise ValueError(f"--integer {name}: the column {what}; leave it out there")
    return roles.integer


def _complete(rows: OrderedRows, names: Sequence[str]) -> NDArray[np.bool_]:
    """Rows with a value in each of some columns."""
    complete = np.ones(len(rows), dtype=np.bool_)
    for name in names:
        complete &= ~np.isnan(rows.values[name])
    return complete


def _lacks_values(rows: OrderedRows, roles: Roles, kept: NDArray[np.bool_]) -> bool:
    """Whether anything is missing in steps that are kept, or in the observations that they end with."""
    observed = kept | np.append(False, kept[:-1])
    acted = _complete(rows, tuple(c for c in (*roles.action, roles.reward) if c))
    return not (_complete(rows, (*roles.obs, *roles.exogenous))[observed].all() and acted[kept].all())


def _anything(rows: OrderedRows, names: Sequence[str]) -> NDArray[np.bool_]:
    """Rows with a value in any of some columns."""
    found: NDArray[np.bool_] = ~np.all([np.isnan(rows.values[name]) for name in names], axis=0)
    return found


def _missing(
    columns: TableColumns, rows: OrderedRows, roles: Roles, follows: NDArray[np.bool_], usable: NDArray[np.bool_]
) -> list[str]:
    """What missing cells leave out, a line for each column, and one for the agents that miss most."""
    lines, total = [], int(follows.sum())
    partly, inputs = np.zeros(len(follows), dtype=np.bool_), (*roles.obs, *roles.exogenous, *roles.action)
    for name in dict.fromkeys(c for c in (*inputs, roles.reward) if c):
        missing = np.isnan(rows.values[name])
        if not (cells := int(missing.sum())):
            continue
        out = follows & missing & (name in inputs)
        part = np.zeros_like(usable)
        if name in roles.obs:
            part[:-1] |= usable[:-1] & missing[1:]
        if name == roles.reward:
            part |= usable & missing
        partly |= part
        what = "1 cell" if cells == 1 else f"{cells:,} cells"
        lines.append(f"{what} of {name} missing: {_left_out(out, part, total)}")
    out = follows & ~usable
    if out.any() or partly.any():
        some = counted(rows.agent[out | partly], columns.agents)
        lines.append(f"together {_left_out(out, partly, total, share=True)}, most of {some}")
    return lines


def _left_out(out: NDArray[np.bool_], part: NDArray[np.bool_], total: int, share: bool = False) -> str:
    """How many of so many transitions cannot be used, and how many only in part: what is known of what followed."""
    count, partly = int(out.sum()), int(part.sum())
    whole = f"{count:,} of {total:,} transitions left out" + f" ({count / max(total, 1):.1%})" * share
    also = f"{partly:,}{'' if count else f' of {total:,} transitions'} count{'s' * (partly == 1)} in part"
    return ", ".join([whole] * bool(count or not partly) + [also] * bool(partly))


def _nothing(columns: TableColumns, rows: OrderedRows, roles: Roles, pairs: int, said: list[str]) -> str:
    """Why no transition is left."""
    if len(columns.agents) >= 0.9 * len(rows):
        return (
            f"column {roles.agent} names {len(columns.agents):,} agents in {len(rows):,} rows, and a transition takes "
            "two rows of one agent; give --agent a column that stays the same over the rows of an agent"
        )
    why, remedy = "no two rows follow one another in a run", "give a longer --gap"
    if pairs:
        why, remedy = "each lacks a value", "leave out columns that are mostly empty"
    return f"no transition is left: {why} ({'; '.join(said)}); {remedy}"


def static_values(columns: TableColumns, episodes: TableEpisodes, roles: Roles) -> dict[str, list[Any]]:
    """Values of columns that stay the same in an agent, by column and number of the agent; None where there is none.

    A line is added to what is said where they do not stay the same: then the first one counts.
    """
    found: dict[str, list[Any]] = {}
    for name in roles.static:
        column, codes = columns.values[name], columns.categories.get(name)
        usable = np.flatnonzero(~np.isnan(column) & (columns.agent >= 0))
        agents, first = np.unique(columns.agent[usable], return_index=True)
        value = np.full(len(columns.agents), np.nan)
        value[agents] = column[usable[first]]
        differs = np.unique(columns.agent[usable][column[usable] != value[columns.agent[usable]]])
        if len(differs):
            changing = f"{len(differs):,} of {len(columns.agents):,} agents, such as {columns.agents[differs[0]]}"
            episodes.said.append(f"{name} changes in {changing}; their first value is kept")
        chosen = value[episodes.table_agents]
        found[name] = [None if np.isnan(v) else codes[int(v)] if codes else float(v) for v in chosen]
    return found
