"""Whole rollouts of small models, one hidden layer and discrete actions, compiled: the hot path of planners."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.parallel import Piece, run_pieces
from persim_gym.simulator.kernels.simd import LANES
from persim_gym.simulator.kernels.small_forward import SmallWeights, small_network, sort_by_key
from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.simulator.kernels.walls import clip, stop_columns
from persim_gym.task import Ends

# Candidates that are rolled out together: so many of their observations stay in a core's nearest cache.
MAX_SMALL_PIECE = 1024


def rollout_small(
    obs: NDArray[np.float32],
    actions: NDArray[np.int64],
    live: NDArray[np.bool_],
    ends: Ends | None,
    weights: SmallWeights,
) -> NDArray[np.float32]:
    """Observations that follow, step by step, by every member.

    Args:
        obs: Observations, [M, C, D].
        actions: Actions, [C, h].
        live: Which candidates of which members run, [M, C]; the others stay where they are.
        ends: Where one ends and stays; None for nowhere.
        weights: The model bound to one agent, G = 1.

    Returns:
        [M, C, h, D + E], each component of each step contiguous in memory.
    """
    members, candidates, size = obs.shape
    outs = len(weights.low)
    out = np.empty((actions.shape[1], outs, members, candidates), dtype=np.float32)
    actions = np.ascontiguousarray(actions, dtype=np.int64)  # one layout, so that the kernel is compiled once
    obs = np.ascontiguousarray(obs, dtype=np.float32)
    rule = compiled_rule(ends)
    dims = (0,) * size, (0,) * outs  # see `small_network`

    def run(piece: Piece) -> None:
        m, some = piece
        _rollout_member(obs[m, some], actions[some], live[m, some], rule, weights, m, *dims, out[:, :, m, some])

    run_pieces(run, members, candidates, MAX_SMALL_PIECE, LANES)
    return out.transpose(2, 3, 0, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _rollout_member(obs, actions, live, rule, weights, m, in_dims, out_dims, out):  # type: ignore
    """Member `m`'s candidates through all steps; `out` is [h, D + E, C]. Returns the steps that candidates took."""
    candidates, steps = actions.shape
    size, outs = len(in_dims), len(out_dims)
    first, first_bias = weights.first[m], weights.first_bias[m]
    last, last_bias = weights.last[0, m], weights.last_bias[0, m]
    now = np.empty((size, candidates), dtype=np.float32)
    for c in range(candidates):
        for d in range(size):
            now[d, c] = obs[c, d]
    running = np.empty(candidates, dtype=np.int64)
    left, taken = list_running(live, obs, out, running), 0
    found = np.empty(candidates, dtype=np.uint8)
    order = np.empty(candidates, dtype=np.int64)
    starts = np.empty(len(last) + 2, dtype=np.int64)
    x = np.empty((size, LANES), dtype=np.float32)
    change = np.empty((outs, LANES), dtype=np.float32)
    for t in range(steps):
        taken += left
        if t and left < candidates:
            out[t] = out[t - 1]  # what follows overwrites candidates that run
        sort_by_key(running[:left], actions[:, t], order, starts)
        for a in range(len(last)):
            for begin in range(starts[a], starts[a + 1], LANES):
                count = min(LANES, starts[a + 1] - begin)
                for i in range(LANES):
                    c = order[begin + min(i, count - 1)]  # spare lanes repeat the last candidate
                    for d in range(size):
                        x[d, i] = now[d, c]
                small_network(x, first, first_bias, last[a], change, in_dims, out_dims, weights.silu)
                for d in range(outs):
                    shift, low, high = last_bias[a, d], weights.low[d], weights.high[d]
                    for i in range(count):
                        c = order[begin + i]
                        following = change[d, i] + shift
                        if d < size:
                            following += x[d, i]
                        following = clip(following, low, high)
                        if d < size:
                            now[d, c] = following
                        out[t, d, c] = following
        stop_columns(weights.walls, out[t], running, left)
        stop_columns(weights.walls, now, running, left)
        if len(rule.component):
            left = drop_finished(rule, out[t], running, left, found)
    return taken
