"""What observed and action columns become: arrays, their spaces and the names of their components."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionLayout
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
        sizes: Of actions of several columns that are not all numbers, and not combined: the parts of the components,
            see `ActionLayout`; else nothing.
    """

    rows: NDArray[Any]
    space: spaces.Box | spaces.Discrete
    names: tuple[str, ...]
    exogenous: int = 0
    sizes: tuple[int, ...] = ()


def observations(columns: TableColumns, values: dict[str, NDArray[np.float64]], roles: Roles) -> Part:
    """Observed columns side by side, exogenous ones last; categories as ones among zeros, a component for each.

    Args:
        columns: Knows the categories.
        values: Columns by name, float64 [K].
        roles: Which columns are observed.
    """
    part = _one_hot(columns, values, (*roles.obs, *roles.exogenous))
    learned = sum(len(columns.categories.get(name, " ")) for name in roles.obs)
    return replace(part, exogenous=len(part.names) - learned)


def _one_hot(columns: TableColumns, values: dict[str, NDArray[np.float64]], chosen: Sequence[str]) -> Part:
    """Columns side by side; categories as ones among zeros, a component for each."""
    parts, names, bounds = [], list[str](), list[tuple[float, float]]()
    for name in chosen:
        known = columns.categories.get(name)
        if known is None:
            parts.append(values[name][:, None])
            names.append(name)
            bounds.append((-np.inf, np.inf))
        else:
            hot = (values[name][:, None] == np.arange(len(known))).astype(np.float64)
            parts.append(np.where(np.isnan(values[name])[:, None], np.nan, hot))
            names += [f"{name}={category}" for category in known]
            bounds += [(0.0, 1.0)] * len(known)
    low, high = np.array(bounds, dtype=np.float64).T
    return Part(np.concatenate(parts, axis=1), spaces.Box(low, high, dtype=np.float64), tuple(names))


def actions(
    columns: TableColumns,
    values: dict[str, NDArray[np.float64]],
    kept: NDArray[np.bool_],
    used: NDArray[np.bool_],
    roles: Roles,
) -> Part:
    """Action columns: all numbers, a Box within what was logged; all choices, their combinations that were logged.

    Numbers and choices together, and choices of too many combinations, become a Box in which each choice is a component
    that is 1 where it was made and else 0. A combination that no usable transition shows counts as unknown: nothing
    would be learned of it.

    Args:
        columns: Knows the categories.
        values: Columns by name, float64 [K].
        kept: Rows whose action is kept, bool [K].
        used: Those of them that begin a usable transition, bool [K].
        roles: Which columns are actions.
    """
    choices = [name for name in roles.action if name in columns.categories]
    amounts = [name for name in roles.action if name not in columns.categories]
    if choices and amounts:
        return _side_by_side(columns, values, kept, roles)
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
        return _side_by_side(columns, values, kept, roles)
    known &= np.isin(code, seen)
    rows = np.where(known, np.searchsorted(seen, code), UNKNOWN_ACTION)
    return Part(
        rows, spaces.Discrete(len(seen)), tuple(_combination(columns, choices, sizes, c) for c in seen.tolist())
    )


def _side_by_side(
    columns: TableColumns, values: dict[str, NDArray[np.float64]], kept: NDArray[np.bool_], roles: Roles
) -> Part:
    """Action columns as components of one Box."""
    part = _one_hot(columns, values, roles.action)
    layout = ActionLayout(tuple(len(columns.categories.get(name, ())) for name in roles.action))
    low, high = (bound(part.rows[kept], axis=0) for bound in (np.nanmin, np.nanmax))
    low, high = np.where(layout.amounts, low, 0.0), np.where(layout.amounts, high, 1.0)
    space = spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    return Part(part.rows, space, part.names, sizes=layout.sizes)


def _combination(columns: TableColumns, names: list[str], sizes: list[int], code: int) -> str:
    """What a choice is called: its category, or that of each column."""
    indices = [int(i) for i in np.unravel_index(code, sizes)]
    if len(names) == 1:
        return columns.categories[names[0]][indices[0]]
    return ", ".join(f"{name}={columns.categories[name][i]}" for name, i in zip(names, indices, strict=True))
