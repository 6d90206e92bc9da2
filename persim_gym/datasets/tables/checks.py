"""What will hurt when a simulator is trained on a table: warnings, one line each."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.tables.columns import TableColumns
from persim_gym.datasets.tables.episodes import TableEpisodes
from persim_gym.datasets.tables.roles import Roles
from persim_gym.datasets.tables.rows import OrderedRows, names_of

MOSTLY = 0.995  # A column that has one value in this share of its rows, or more, hardly changes.
EQUAL = 0.99  # A column that is another's next value in this share of the changes, or more, tells it.
FEW_TRANSITIONS = 500  # In all: of fewer, none are kept to measure the error on.
FEW_EACH = 30  # Transitions of an agent, in the median: fewer tell little of what it is like.
CALIBRATED_AGENTS = 100  # `persim calibrate` takes so many.
LOOKED_AT = 1_000_000  # Rows that are compared, at most.


def warnings_of(columns: TableColumns, rows: OrderedRows, episodes: TableEpisodes, roles: Roles) -> list[str]:
    """What will hurt.

    Args:
        columns: Of the table.
        rows: In order.
        episodes: What a dataset would hold.
        roles: Which column is what.
    """
    one_by_one = *_leaks(rows, roles), *_constant(columns, rows, roles)
    return [*one_by_one, *_actions(columns, episodes), *_too_little(episodes)]


def _leaks(rows: OrderedRows, roles: Roles) -> Iterator[str]:
    """Observed columns that hold what comes after the action: another column's next value, or the reward."""
    some = slice(0, LOOKED_AT)
    follows = ~rows.first[some][1:]
    for name in roles.obs:
        now = rows.values[name][some]
        if roles.reward and roles.reward != name and _equal(now, rows.values[roles.reward][some], np.isfinite(now)):
            yield f"{name} is the reward of the same row, which is not known before the action; leave it out of --obs"
        for other in dict.fromkeys(c for c in (*roles.obs, *roles.exogenous, roles.reward) if c and c != name):
            values = rows.values[other][some]
            changes = follows & (np.diff(values) != 0)
            if _equal(now[:-1], values[1:], changes):
                yield f"{name} is the next value of {other}: it tells the future; leave it out of --obs"


def _equal(one: NDArray[np.float64], other: NDArray[np.float64], where: NDArray[np.bool_]) -> bool:
    """Whether two columns are equal, nearly everywhere that counts."""
    known = where & np.isfinite(one) & np.isfinite(other)
    if known.sum() < 10 or np.ptp(one[known]) == 0:
        return False
    close = np.isclose(one[known], other[known], rtol=1e-9, atol=0)
    return bool(close.mean() >= EQUAL)


def _constant(columns: TableColumns, rows: OrderedRows, roles: Roles) -> Iterator[str]:
    """Columns that never change, or hardly ever."""
    for name in dict.fromkeys(c for c in (*roles.obs, *roles.action, roles.reward) if c):
        values = rows.values[name][~np.isnan(rows.values[name])]
        if not len(values):
            continue
        different, counts = np.unique(values[:LOOKED_AT], return_counts=True)
        value = different[np.argmax(counts)]
        shown = columns.categories[name][int(value)] if name in columns.categories else f"{value:g}"
        if len(different) == 1:
            yield f"{name} is {shown} in all rows: nothing can be learned of it; leave it out"
        elif (share := counts.max() / counts.sum()) >= MOSTLY:
            yield f"{name} is {shown} in {share:.1%} of the rows: little can be learned of what changes it"


def _actions(columns: TableColumns, episodes: TableEpisodes) -> Iterator[str]:
    """Agents that only ever did one thing."""
    used = episodes.usable
    action = episodes.action.rows[used].reshape(int(used.sum()), -1)
    agents, first, index = np.unique(episodes.rows.agent[used], return_index=True, return_inverse=True)
    differs = (action != action[first[index]]).any(axis=1)
    still = agents[np.bincount(index, weights=differs) == 0]
    if len(still):
        yield f"one action only in {names_of(still, columns.agents)}: other actions are guessed from other agents"


def _too_little(episodes: TableEpisodes) -> Iterator[str]:
    """Data that are too few for what is asked."""
    total, agents = episodes.transitions, len(episodes.table_agents)
    counts = np.bincount(episodes.rows.agent[episodes.usable], minlength=max(episodes.table_agents) + 1)
    each = counts[episodes.table_agents]
    if total < FEW_TRANSITIONS:
        yield f"{total:,} transitions are few: none will be kept to measure the error on (from {FEW_TRANSITIONS} on)"
    if (middle := float(np.median(each))) < FEW_EACH:
        yield f"an agent has {middle:.0f} transitions in the median, which tell little of it: {FEW_EACH} are better"
    if agents == 1:
        yield "there is one agent only: nothing tells how agents differ, and it is learned as one"
    elif agents < CALIBRATED_AGENTS:
        yield f"{agents} agents are fewer than the {CALIBRATED_AGENTS} that `persim calibrate` takes to measure trust"
