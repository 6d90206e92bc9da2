"""Arrays as they were logged: whether those of an episode fit together, and what is missing in them."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN_ACTION = -1
"""Stands in episodes for a discrete action that was not logged; a continuous one is NaN."""


def known_inputs(episode: Any) -> NDArray[np.bool_]:
    """Which steps of an episode have all of their observation and action, bool [T]."""
    obs, action = np.asarray(episode.observations)[:-1], np.asarray(episode.actions)
    unknown = action == UNKNOWN_ACTION if is_whole(action) else np.isnan(action).any(axis=1)
    known: NDArray[np.bool_] = ~(np.isnan(obs).any(axis=1) | unknown)
    return known


def complete(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which of some transitions by column lack nothing, bool [K]."""
    known: NDArray[np.bool_] = ~(np.isnan(rows["reward"]) | np.isnan(rows["next_obs"]).any(axis=1))
    return known


def checked_complete(rows: Mapping[str, NDArray[Any]], source: str) -> NDArray[np.bool_]:
    """As `complete`, for methods that take whole transitions; warns of those that are left out.

    Raises:
        ValueError: If none is left.
    """
    whole = complete(rows)
    left_out, total = len(whole) - int(whole.sum()), len(whole)
    if left_out == total:
        raise ValueError(f"{source}: all {total:,} transitions lack a value of what followed; leave out columns of it")
    if left_out:
        said = f"{source}: {left_out:,} of {total:,} transitions lack a value of what followed, and are left out"
        warnings.warn(said, stacklevel=3)
    return whole


def is_whole(values: Any) -> bool:
    """Whether values are stored as whole numbers."""
    return np.asarray(values).dtype.kind in "iu"


def check_episode(name: str, episode: Any, like: Any, missing: bool) -> None:
    """Refuses an episode whose arrays do not fit together, or are not of the kind of another episode's.

    Lengths that are wrong in two episodes could make up for each other, and mix the transitions of two agents. Where
    values may be `missing`, infinite ones are refused here: nobody looks at what is left out.

    Raises:
        ValueError: If it is one.
    """
    steps = len(episode.rewards)
    lengths = {"observations": steps + 1, "actions": steps, "terminations": steps}
    wrong = {part: found for part, wanted in lengths.items() if (found := len(getattr(episode, part))) != wanted}
    if wrong:
        raise ValueError(
            f"{name} has {steps} rewards, to which belong {steps + 1} observations and {steps} actions and "
            f"terminations, but {' and '.join(f'{found} {part}' for part, found in wrong.items())}; drop or repair it"
        )
    for part in (*lengths, "rewards"):
        values, others = (np.asarray(getattr(e, part)) for e in (episode, like))
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{name} has {part} of {values.dtype}, which are no numbers; drop or repair it")
        if values.shape[1:] != others.shape[1:] or (part == "actions" and is_whole(values) != is_whole(others)):
            raise ValueError(
                f"{name} has {part} of {values.dtype} {list(values.shape[1:])} a step, those before "
                f"{others.dtype} {list(others.shape[1:])}; drop or repair it"
            )
        with np.errstate(over="ignore"):  # What overflows float32 counts as infinite.
            infinite = missing and np.isinf(values.astype(np.float32)).any()
        if infinite:
            raise ValueError(f"{name} has infinite {part}; a value that is missing is NaN")
