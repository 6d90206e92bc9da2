"""Where candidates of a compiled rollout end, decided as `Ends` decides on float32 observations."""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.task import Ends

CompiledRule: TypeAlias = tuple[
    NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], bool, bool
]
"""Component, sign, number times sign and whether equality counts, of K comparisons; whether one that fails decides
instead of one that holds; whether the episode then goes on instead of ending there."""


def compiled_rule(ends: Ends | None) -> CompiledRule:
    """A rule as the kernels take it; one without comparisons, K = 0, where there is none."""
    each, where = ([], "any") if ends is None else (ends.each, ends.where)
    sign = np.array([1 if sense[0] == ">" else -1 for _, sense, _ in each], dtype=np.float32)
    return (
        np.array([component for component, _, _ in each], dtype=np.int64),
        sign,
        np.array([number for _, _, number in each], dtype=np.float32) * sign,
        np.array([len(sense) > 1 for _, sense, _ in each], dtype=np.bool_),
        where != "any",
        where == "all",
    )


@njit(error_model="numpy")
def list_running(live, obs, out, running):  # type: ignore
    """Lists candidates that run; returns how many.

    Args:
        live: Which run, [C].
        obs: Observations, [C, D].
        out: Observations of all steps, [h, D + E, C]; of the first it receives what those have that do not run.
        running: Receives the candidates that run, [C].
    """
    count, (candidates, size) = 0, obs.shape
    for c in range(candidates):
        running[count] = c
        count += live[c]
    if count < candidates and len(out):
        for d in range(out.shape[1]):
            for c in range(candidates):
                out[0, d, c] = obs[c, d] if d < size else np.float32(0.0)
    return count


@njit(error_model="numpy")
def drop_finished(rule, now, running, count, done):  # type: ignore
    """Takes finished candidates off the list of those that run; returns how many are left.

    Args:
        rule: As `compiled_rule` makes it.
        now: Observations, [D + E, C].
        running: Those that ran, the first `count` entries; those that go on are moved to the front.
        count: How many ran.
        done: Work space, uint8 [C].
    """
    component, sign, number, closed, fails, goes_on = rule
    done[:] = 0
    for k in range(len(component)):
        row, s, limit, equal = now[component[k]], sign[k], number[k], closed[k]
        for c in range(len(row)):
            value = s * row[c]
            holds = (value > limit) | (equal & (value == limit))
            done[c] |= holds != fails
    left = 0
    for j in range(count):
        c = running[j]
        running[left] = c
        left += (done[c] != 0) == goes_on
    return left
