"""Where candidates of a compiled rollout end, decided as `Ends` decides on float32 observations."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.task import Ends


class CompiledRule(NamedTuple):
    """An `Ends` as the kernels take it: K comparisons, `sign * obs[component] > limit` or `>=`, and what they decide.

    Attributes:
        seeks_failure: Whether it looks for a comparison that fails ("all", "not all"), not for one that holds ("any").
        found_runs: Whether a candidate in which such a comparison is found runs on ("all"), instead of ending there.
    """

    component: NDArray[np.int64]
    sign: NDArray[np.float32]
    limit: NDArray[np.float32]
    inclusive: NDArray[np.bool_]
    seeks_failure: bool
    found_runs: bool


def compiled_rule(ends: Ends | None) -> CompiledRule:
    """A rule for the kernels; one without comparisons, K = 0, where there is none."""
    each, where = ([], "any") if ends is None else (ends.each, ends.where)
    sign = np.array([1 if sense[0] == ">" else -1 for _, sense, _ in each], dtype=np.float32)
    return CompiledRule(
        component=np.array([component for component, _, _ in each], dtype=np.int64),
        sign=sign,
        limit=np.array([number for _, _, number in each], dtype=np.float32) * sign,
        inclusive=np.array([len(sense) > 1 for _, sense, _ in each], dtype=np.bool_),
        seeks_failure=where != "any",
        found_runs=where == "all",
    )


@njit(error_model="numpy")
def list_running(live, obs, out, running):  # type: ignore
    """Lists the candidates that run; returns how many.

    Args:
        live: Which run, [C].
        obs: Observations, [C, D].
        out: Observations of all steps, [h, D + E, C]; the first step of others is filled with `obs`.
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
def drop_finished(rule, next_obs, running, count, found):  # type: ignore
    """Takes finished candidates off the list of those that run; returns how many go on.

    Args:
        rule: `CompiledRule`.
        next_obs: Next observations, each a column, [D + E, C].
        running: Candidates that ran, the first `count` entries; those that go on are moved to the front.
        count: How many ran.
        found: Work space, uint8 [C].
    """
    found[:] = 0
    for k in range(len(rule.component)):
        row, sign, limit = next_obs[rule.component[k]], rule.sign[k], rule.limit[k]
        inclusive, seeks_failure = rule.inclusive[k], rule.seeks_failure
        for c in range(len(row)):
            value = sign * row[c]
            holds = (value > limit) | (inclusive & (value == limit))
            found[c] |= holds != seeks_failure
    going_on = 0
    for j in range(count):
        c = running[j]
        running[going_on] = c
        going_on += (found[c] != 0) == rule.found_runs
    return going_on
