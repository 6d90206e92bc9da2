"""Bounds of continuous actions: planners and policies choose between them, so that a simulator needs some."""

from dataclasses import replace

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import layout_of
from persim_gym.spec import EnvironmentSpec
from persim_gym.transitions import LoggedData

LOGGED_BOUNDS = "logged"
_READ_BLOCKS = 256  # Blocks of rows that are read together.
_ROUNDING = 1e-5  # Logged actions may be past given bounds by so much, as rounding leaves them.

ActionBounds = str | tuple[float, float] | None
"""Bounds of all actions, (lowest, highest) or "lowest,highest"; "logged" for those of the data, each action's own; None
or "" for those of the action space."""


def with_action_bounds(spec: EnvironmentSpec, data: LoggedData, given: ActionBounds = None) -> EnvironmentSpec:
    """The spaces of a training whose actions have bounds.

    Args:
        spec: Spaces as the data have them.
        data: The data.
        given: The bounds.

    Raises:
        ValueError: If the actions have no bounds and none are given, or those that are given are none of these actions.
    """
    space, source = spec.action_space, data.source
    if not given:
        if isinstance(space, spaces.Box) and (without := _without_bounds(space)):
            raise ValueError(
                f"{source}: action {without[0]} has no bounds for planners and policies to choose between; give "
                f"--action-bounds {LOGGED_BOUNDS} for those of the data, or two numbers, as --action-bounds -2,2 (in "
                f'Python action_bounds="{LOGGED_BOUNDS}" or (-2, 2))'
            )
        return spec
    if not isinstance(space, spaces.Box):
        raise ValueError(f"{source}: actions are {space}, which are not bounded by numbers; leave action bounds out")
    lowest, highest = _logged_range(data)
    layout = layout_of(space)
    amounts = np.ones(len(lowest), dtype=np.bool_) if layout is None else layout.amounts
    if given == LOGGED_BOUNDS:
        low, high = lowest, highest
        if (still := np.flatnonzero(amounts & (low == high))).size:
            raise ValueError(f"{source}: action {still[0]} is always {low[still[0]]:g}; give its bounds as two numbers")
    else:
        low, high = (np.full_like(lowest, bound) for bound in _pair(given))
        slack = _ROUNDING * np.maximum(1, np.maximum(np.abs(low), np.abs(high)))
        if (outside := np.flatnonzero(amounts & ((lowest < low - slack) | (highest > high + slack)))).size:
            d = outside[0]
            raise ValueError(
                f"{source}: action {d} goes from {lowest[d]:g} to {highest[d]:g}, outside of {low[d]:g} to {high[d]:g}"
                "; give wider action bounds"
            )
    bounded = spaces.Box(low, high, dtype=np.float32) if layout is None else layout.space(low, high)
    return replace(spec, action_space=bounded)


def _without_bounds(space: spaces.Box) -> list[int]:
    """Actions whose lowest or highest value is infinite, or the largest float32, which stands for that."""
    most = np.maximum(np.abs(space.low), np.abs(space.high))
    return [int(d) for d in np.flatnonzero(most >= np.finfo(np.float32).max)]


def _pair(given: str | tuple[float, float]) -> tuple[np.float32, np.float32]:
    """Two numbers, the lower one first.

    Raises:
        ValueError: If they are none.
    """
    try:
        low, high = map(np.float32, given.split(",") if isinstance(given, str) else given)
        fit = bool(np.isfinite(high) and np.isfinite(low) and low < high)
    except (TypeError, ValueError):
        fit = False
    if not fit:
        raise ValueError(f"action bounds {given!r} are neither {LOGGED_BOUNDS} nor two numbers, the lower one first")
    return low, high


def _logged_range(data: LoggedData) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest logged actions, [A] each."""
    blocks = np.arange(len(data.block_lengths))
    parts = [data.read(blocks[i : i + _READ_BLOCKS])["action"] for i in range(0, len(blocks), _READ_BLOCKS)]
    return np.min([part.min(axis=0) for part in parts], axis=0), np.max([part.max(axis=0) for part in parts], axis=0)
