"""What observed and action columns become: arrays, their spaces and the names of their components."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.datasets.tables.columns import TableColumns
from persim_gym.datasets.tables.roles import Roles
from persim_gym.logged_arrays import UNKNOWN_ACTION

MAX_COMBINATIONS = 1000
"""Different combinations of several action columns that are choices."""


@dataclass(frozen=True)
class Part:
    """Observations or actions of K rows.

    Attributes:
        rows: Values, float64 [K, D], NaN where the table has none; or int64 [K] of a discrete action, then
            `UNKNOWN_ACTION`.
        space: Space of one row.
        names: Names of the D components, or of the choices.
        exogenous: How many of the components, the last ones, come from outside.
    """

    rows: NDArray[Any]
    space: spaces.Box | spaces.Discrete
    names: tuple[str, ...]
    exogenous: int = 0


def observations(columns: TableColumns, values: dict[str, NDArray[np.float64]], roles: Roles) -> Part:
    """Observed columns side by side, exogenous ones last; categories as ones among zeros, a component for each.

    Args:
        columns: Knows the categories.
        values: Columns by name, float64 [K].
        roles: Which columns are observed.
    """
    parts, names, bounds, learned = [], list[str](), list[tuple[float, float]](), 0
    for name in (*roles.obs, *roles.exogenous):
        known = columns.categories.get(name)
        if known is None:
            parts.append(values[name][:, None])
            names.append(name)
            bounds.append((-np.inf, np.inf))
        else:
            chosen = values[name][:, None]
            parts.append(np.where(np.isnan(chosen), np.nan, chosen == np.arange(len(known))))
            names += [f"{name}={category}" for category in known]
            bounds += [(0.0, 1.0)] * len(known)
        if name in roles.obs:
            learned = len(names)
    low, high = np.array(bounds, dtype=np.float64).T
    space = spaces.Box(low, high, dtype=np.float64)
    return Part(np.concatenate(parts, axis=1), space, tuple(names), len(names) - learned)


def actions(
    columns: TableColumns,
    values: dict[str, NDArray[np.float64]],
    kept: NDArray[np.bool_],
    used: NDArray[np.bool_],
    roles: Roles,
) -> Part:
    """Action columns: all numbers, a Box within what was logged; all choices, their combinations that were logged.

    A combination that no usable transition shows counts as unknown: nothing would be learned of it.

    Args:
        columns: Knows the categories.
        values: Columns by name, float64 [K].
        kept: Rows whose action is kept, bool [K].
        used: Those of them that begin a usable transition, bool [K].
        roles: Which columns are actions.

    Raises:
        ValueError: If some are numbers and some are choices, or there are too many combinations.
    """
    choices = [name for name in roles.action if name in columns.categories]
    amounts = [name for name in roles.action if name not in columns.categories]
    if choices and amounts:
        raise ValueError(
            f"actions are numbers ({', '.join(amounts)}) and choices ({', '.join(choices)}), which no action space "
            f"here holds together; leave one kind out, or group the numbers: --categorical {amounts[0]}"
        )
    if amounts:
        rows = np.column_stack([values[name] for name in amounts])
        low, high = (bound(rows[kept], axis=0).astype(np.float32) for bound in (np.nanmin, np.nanmax))
        return Part(rows, spaces.Box(low, high, dtype=np.float32), tuple(amounts))
    sizes = [len(columns.categories[name]) for name in choices]
    code, known = np.zeros(len(used), dtype=np.int64), kept.copy()
    for name, size in zip(choices, sizes, strict=True):
        code = code * size + np.nan_to_num(values[name]).astype(np.int64)
        known &= ~np.isnan(values[name])
    seen = np.unique(code[used])
    if len(seen) > MAX_COMBINATIONS:
        raise ValueError(
            f"{len(seen):,} combinations of {', '.join(choices)} are more choices than {MAX_COMBINATIONS:,}; leave one "
            "out, or make numbers of those that are: --continuous COLUMN"
        )
    known &= np.isin(code, seen)
    rows = np.where(known, np.searchsorted(seen, code), UNKNOWN_ACTION)
    return Part(
        rows, spaces.Discrete(len(seen)), tuple(_combination(columns, choices, sizes, c) for c in seen.tolist())
    )


def _combination(columns: TableColumns, names: list[str], sizes: list[int], code: int) -> str:
    """What a choice is called: its category, or that of each column."""
    indices = [int(i) for i in np.unravel_index(code, sizes)]
    if len(names) == 1:
        return columns.categories[names[0]][indices[0]]
    return ", ".join(f"{name}={columns.categories[name][i]}" for name, i in zip(names, indices, strict=True))
