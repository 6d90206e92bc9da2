"""Actions of a space: checked, or drawn at random, one or a batch."""

from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionSpace, layout_of

AnySpace = TypeVar("AnySpace", bound=spaces.Space[Any])


def own_space(space: AnySpace) -> AnySpace:
    """A copy with a random stream of its own: who seeds or samples it touches no other environment."""
    own = deepcopy(space)
    own.seed()
    return own


def checked_actions(space: spaces.Space[Any], actions: Any, batch: tuple[int, ...] = ()) -> NDArray[Any]:
    """Returns actions as models see them; those of a Box are clipped to it, as Gymnasium's robots do.

    One rounding past a bound is common: Stable-Baselines3's own scaling of actions does that.

    Args:
        space: Space of one action, Discrete, MultiDiscrete or Box.
        actions: One action or a batch of them.
        batch: Expected leading shape; () for one action.

    Returns:
        int64 [*batch] (Discrete) or float32 [*batch, A] (see `persim_gym.actions`).

    Raises:
        ValueError: If the shape is wrong, a discrete action lies outside the space, or an action of a Box is NaN.
    """
    layout = layout_of(space)
    if isinstance(space, spaces.Discrete):
        if not batch and isinstance(actions, int | np.integer) and not isinstance(actions, bool):
            if space.start <= actions < space.start + space.n:  # Comparing one number costs less than an array.
                return np.array(actions, dtype=np.int64)
        array = np.asarray(actions)
        inside = (
            array.shape == batch
            and array.dtype.kind in "iu"
            and bool(((array >= space.start) & (array < space.start + space.n)).all())
        )
        if inside:
            return array.astype(np.int64, copy=False)
    elif isinstance(space, spaces.Box):
        array = np.asarray(actions)
        if array.shape == (*batch, *space.shape) and array.dtype.kind in "iuf":
            array = np.clip(array.astype(np.float32, copy=False), space.low, space.high)
            if not np.isnan(array).any():
                return array if layout is None else layout.settled(array)
    elif isinstance(space, spaces.MultiDiscrete) and layout is not None:
        array = np.asarray(actions)
        if array.shape == (*batch, *space.shape) and array.dtype.kind in "iu":
            if bool(((array >= 0) & (array < space.nvec)).all()):
                return layout.encoded(array)
    else:
        raise ValueError(f"only Discrete, MultiDiscrete and Box actions are supported, not {space}")
    wanted = f"a batch of shape {batch} of actions in {space}" if batch else f"{space}"
    if array.shape != (*batch, *(space.shape or ())):
        given, wanted = f"of shape {array.shape}", f"{wanted}, of shape {(*batch, *(space.shape or ()))}"
    else:
        given = " ".join(f"{actions!r}".split())
    raise ValueError(f"action {given} is outside the action space; expected {wanted}")


def checked_options(options: dict[str, Any] | None, *known: str) -> dict[str, Any]:
    """Options of a reset; none is an empty dict.

    Raises:
        ValueError: If one is unknown.
    """
    options = options or {}
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"reset knows no option {', '.join(unknown)}; known: {', '.join(known)}")
    return options


def random_actions(space: ActionSpace, rng: np.random.Generator, num: int) -> NDArray[np.int64] | NDArray[np.float32]:
    """Uniformly random actions, int64 [num] (Discrete) or [num, P] (MultiDiscrete), or float32 [num, A] (Box)."""
    if isinstance(space, spaces.Discrete):
        return space.start + rng.integers(space.n, size=num)
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(space.nvec, size=(num, *space.shape))
    return rng.uniform(space.low, space.high, size=(num, *space.shape)).astype(np.float32)
