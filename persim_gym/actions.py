"""Actions of several columns, of choices and of amounts: what models see of them, and what environments show.

A model sees one vector of numbers, [A]: each choice as ones among zeros, a *block* of as many components as there are
choices; each amount as it is. Environments show choices alone as a `MultiDiscrete` space, and choices together with
amounts as a `ScoreBox`: a Box that every library takes, whose highest component of a block is what is chosen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

ActionSpace = spaces.Discrete | spaces.MultiDiscrete | spaces.Box
"""What environments show: `Discrete` for one choice, `MultiDiscrete` for several, a flat Box (or `ScoreBox`)."""


@dataclass(frozen=True)
class ActionLayout:
    """Which components of an action belong together.

    Attributes:
        sizes: Of each part, in order: its number of choices, or 0 for an amount.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the parts.

        Raises:
            ValueError: If there is none, or one has a negative number of choices.
        """
        if not self.sizes or min(self.sizes) < 0:
            raise ValueError(f"actions have parts of {list(self.sizes)} choices; give 0 for an amount, else at least 1")

    @cached_property
    def size(self) -> int:
        """Numbers A that a model sees."""
        return sum(size or 1 for size in self.sizes)

    @cached_property
    def amounts(self) -> NDArray[np.bool_]:
        """Which components are amounts, bool [A]."""
        return np.repeat([size == 0 for size in self.sizes], [size or 1 for size in self.sizes])

    @cached_property
    def blocks(self) -> list[slice]:
        """Components of each part that is a choice."""
        ends = np.cumsum([size or 1 for size in self.sizes]).tolist()
        return [slice(end - size, end) for size, end in zip(self.sizes, ends, strict=True) if size]

    @property
    def combinations(self) -> int:
        """Number of different actions, amounts left aside."""
        return math.prod(size for size in self.sizes if size)

    def space(self, low: Any = (), high: Any = ()) -> ActionSpace:
        """The space that environments show.

        Args:
            low: Lowest value of each component, [A]; those of choices do not count, and without amounts none do.
            high: Highest value, likewise.
        """
        if not self.amounts.any():
            return spaces.MultiDiscrete(np.array(self.sizes, dtype=np.int64))
        if not self.blocks:
            return spaces.Box(np.float32(low), np.float32(high), dtype=np.float32)
        return ScoreBox(self, np.where(self.amounts, low, -1.0), np.where(self.amounts, high, 1.0))

    def scores(self) -> "ScoreBox":
        """The scores of choices alone, as planners search them where combinations are too many."""
        return ScoreBox(self, -np.ones(self.size), np.ones(self.size))

    def settled(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """What a model sees of scores and amounts, [..., A]: 1 for the highest of a block, the first of equals."""
        seen = np.array(scores, dtype=np.float32)
        for block in self.blocks:
            part = seen[..., block]
            chosen = part.argmax(axis=-1)[..., None]
            part[...] = np.arange(part.shape[-1]) == chosen
        return seen

    def encoded(self, choices: NDArray[Any]) -> NDArray[np.float32]:
        """What a model sees of choices alone, [..., P] to [..., A]."""
        parts = [np.arange(size) == choices[..., p, None] for p, size in enumerate(self.sizes)]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def decoded(self, seen: NDArray[Any]) -> NDArray[Any]:
        """What environments take of what a model sees, [..., A]: choices alone, [..., P], or the same with amounts."""
        if self.amounts.any():
            return seen
        return np.stack([seen[..., block].argmax(axis=-1) for block in self.blocks], axis=-1).astype(np.int64)

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """What a model sees of every combination of choices, [n, A], amounts 0."""
        sizes = [size for size in self.sizes if size]
        each = np.stack(np.unravel_index(np.arange(self.combinations), sizes), axis=-1)
        rows = np.zeros((self.combinations, self.size), dtype=np.float32)
        for block, chosen in zip(self.blocks, each.T, strict=True):
            rows[np.arange(len(rows)), block.start + chosen] = 1.0
        return rows

    def described(self, seen: NDArray[Any], names: Sequence[str] = ()) -> str:
        """An action in words, of what a model sees, [A], and the names of the components, [A]."""
        named = list(names) or [f"action {a}" for a in range(self.size)]
        on = [named[block.start + int(seen[block].argmax())] for block in self.blocks]
        return ", ".join(on + [f"{named[a]}={seen[a]:.4g}" for a in np.flatnonzero(self.amounts)])


class ScoreBox(spaces.Box):
    """A flat float32 Box of amounts and of scores from -1 to 1; in each block of scores the highest chooses.

    Policies that draw around 0, as untrained ones do, then choose all alike.
    """

    def __init__(self, layout: ActionLayout, low: Any, high: Any) -> None:
        """Takes the parts, and bounds of all components, [A] each."""
        super().__init__(np.float32(low), np.float32(high), dtype=np.float32)
        self.layout = layout

    def __repr__(self) -> str:
        """Its parts and bounds."""
        return f"ScoreBox({list(self.layout.sizes)}, {self.low.tolist()}, {self.high.tolist()})"


def layout_of(space: spaces.Space[Any]) -> ActionLayout | None:
    """The parts of actions that models see otherwise than environments show; None for Discrete and plain Box."""
    if isinstance(space, ScoreBox):
        return space.layout
    return ActionLayout(tuple(space.nvec.tolist())) if isinstance(space, spaces.MultiDiscrete) else None


def model_actions(space: spaces.Space[Any], actions: Any) -> Any:
    """What a model sees of actions that are known to be in their space; those of Discrete and plain Box as they are."""
    layout = layout_of(space)
    if layout is None:
        return actions
    return layout.settled(actions) if isinstance(space, ScoreBox) else layout.encoded(np.asarray(actions))


def model_size(space: spaces.Space[Any]) -> int:
    """Numbers A that a model sees of an action; 0 for a discrete one."""
    if isinstance(space, spaces.Discrete):
        return 0
    layout = layout_of(space)
    return (space.shape or (0,))[0] if layout is None else layout.size


def shown_space(space: spaces.Space[Any]) -> ActionSpace:
    """The space that environments show of actions of a dataset's space, which may be nested.

    Raises:
        ValueError: If a part is neither a choice nor numbers; says which.
    """
    if isinstance(space, spaces.Discrete | ScoreBox):
        return space
    sizes, low, high = list[int](), list[float](), list[float]()
    for field, part in parts_of(with_choices(space), "actions"):
        if isinstance(part, spaces.Box):
            sizes += [0] * math.prod(part.shape)
            low += np.ravel(part.low).tolist()
            high += np.ravel(part.high).tolist()
        elif isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
            if np.any(part.start):
                raise ValueError(f"{field} must count choices from 0, not {part.start}; subtract it from the data")
            some = [int(n) for n in np.ravel(part.n if isinstance(part, spaces.Discrete) else part.nvec)]
            sizes += some
            low += [0.0] * sum(some)
            high += [1.0] * sum(some)
        else:
            raise ValueError(f"{field} must be choices or numbers of a fixed size, not {part}")
    return ActionLayout(tuple(sizes)).space(low, high)


def with_choices(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A space whose truth values are choices between two."""
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiDiscrete([2] * math.prod(space.shape or (1,)))
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, with_choices(part)) for key, part in space.spaces.items()])
    return spaces.Tuple(map(with_choices, space.spaces)) if isinstance(space, spaces.Tuple) else space


def parts_of(space: spaces.Space[Any], field: str) -> list[tuple[str, spaces.Space[Any]]]:
    """Every part of a space that holds no others, in the order in which Gymnasium flattens them, and its field."""
    inner: Any = {}
    if isinstance(space, spaces.Dict):
        inner = space.spaces
    elif isinstance(space, spaces.Tuple):
        inner = dict(enumerate(space.spaces))
    else:
        return [(field, space)]
    return [found for key, part in inner.items() for found in parts_of(part, f"{field}[{key!r}]")]
