"""Whole rollouts of deep models with continuous actions, compiled: the hot path of planners."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.parallel import Piece, run_pieces
from persim_gym.simulator.kernels.deep_weights import SILU_LOWEST, DeepNetwork
from persim_gym.simulator.kernels.dense import dense, quantize_activations
from persim_gym.simulator.kernels.simd import LANES
from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.simulator.kernels.walls import WallArrays, clip, stop_columns
from persim_gym.task import Ends

# Candidates that one thread takes at a time; within, `LANES` of them are rolled out together.
MAX_DEEP_PIECE = 64


class DeepWeights(NamedTuple):
    """A deep model bound to one agent, every member; or one member of it, without the axis M.

    Attributes:
        state: State encoder, scaling folded in, (D + E) * R outputs.
        action: Action encoder, scaling folded in, R outputs.
        factor: The agent's latent factor, [M, R].
        shift: Added to every change, [D + E].
        low: Lowest prediction, [D + E].
        high: Highest prediction, [D + E].
        walls: What stops predictions at once.
        silu: Whether hidden units are SiLU, not ReLU.
    """

    state: DeepNetwork
    action: DeepNetwork
    factor: NDArray[np.float32]
    shift: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    walls: WallArrays
    silu: bool


def rollout_deep(
    obs: NDArray[np.float32],
    actions: NDArray[np.float32],
    live: NDArray[np.bool_],
    ends: Ends | None,
    weights: DeepWeights,
) -> NDArray[np.float32]:
    """Observations that follow, step by step, by every member.

    Weights and inputs of layers after the first are bytes where the processor multiplies those; a member's prediction
    then moves by far less than members differ. A candidate with a unit that is not finite is not finite from there on.

    Args:
        obs: Observations, [M, C, D].
        actions: Actions, [C, h, A].
        live: Which candidates of which members run, [M, C]; the others stay where they are.
        ends: Where one ends and stays; None for nowhere.
        weights: The model bound to one agent.

    Returns:
        [M, C, h, D + E], each component of each step contiguous in memory.
    """
    members, candidates, _ = obs.shape
    out = np.empty((actions.shape[1], len(weights.shift), members, candidates), dtype=np.float32)
    obs = np.ascontiguousarray(obs, dtype=np.float32)
    actions = np.ascontiguousarray(actions, dtype=np.float32)
    rule = compiled_rule(ends)
    each = [
        weights._replace(state=weights.state.member(m), action=weights.action.member(m), factor=weights.factor[m])
        for m in range(members)
    ]

    def run(piece: Piece) -> None:
        m, some = piece
        _rollout_deep(obs[m, some], actions[some], live[m, some], rule, each[m], out[:, :, m, some])

    run_pieces(run, members, candidates, MAX_DEEP_PIECE, LANES)
    return out.transpose(2, 3, 0, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _rollout_deep(obs, actions, live, rule, weights, out):  # type: ignore
    """One member's candidates through all steps; `out` is [h, D + E, C]. Returns the steps that candidates took."""
    state_encoder, action_encoder, factor, shift, lowest, highest, walls, silu = weights
    candidates, size = obs.shape
    steps, outs, rank = len(out), out.shape[1], len(factor)
    running = np.empty(candidates, dtype=np.int64)
    left, taken = list_running(live, obs, out, running), 0
    found = np.empty(candidates, dtype=np.uint8)
    width = max(state_encoder.widths[1:].max(), action_encoder.widths[1:].max())
    values = np.empty((width, LANES), dtype=np.float32)
    words = np.empty((width // state_encoder.inputs_per_word, LANES), dtype=state_encoder.rest.dtype)
    x = np.empty((size, LANES), dtype=np.float32)
    action = np.empty((actions.shape[2], LANES), dtype=np.float32)
    v = np.empty((state_encoder.widths[-1], LANES), dtype=np.float32)
    w = np.empty((action_encoder.widths[-1], LANES), dtype=np.float32)
    following = np.empty(LANES, dtype=np.float32)
    for t in range(steps):
        taken += left
        if t and left < candidates:
            out[t] = out[t - 1]  # what follows overwrites candidates that run
        for begin in range(0, left, LANES):
            count = min(LANES, left - begin)
            for i in range(LANES):
                c = running[begin + min(i, count - 1)]  # spare lanes repeat the last candidate
                for d in range(len(action)):
                    action[d, i] = actions[c, t, d]
                for d in range(size):
                    x[d, i] = out[t - 1, d, c] if t else obs[c, d]
            _encode(action_encoder, action, count, silu, values, words, w)
            for r in range(rank):
                for i in range(LANES):
                    w[r, i] *= factor[r]
            _encode(state_encoder, x, count, silu, values, words, v)
            for d in range(outs):
                following[:] = shift[d]
                for r in range(rank):
                    for i in range(LANES):
                        following[i] += v[d * rank + r, i] * w[r, i]
                for i in range(count):
                    value = following[i] + x[d, i] if d < size else following[i]
                    out[t, d, running[begin + i]] = clip(value, lowest[d], highest[d])
        stop_columns(walls, out[t], running, left)
        if len(rule.component):
            left = drop_finished(rule, out[t], running, left, found)
    return taken


@njit(nogil=True, cache=True, error_model="numpy")
def _encode(network, x, used_lanes, silu, values, words, out):  # type: ignore
    """Runs one member's encoder, a candidate in each lane, from `x`, [inputs, LANES], to `out`, [outputs, LANES].

    `values` and `words` are work space: what a layer makes, and the same as the next one takes it.
    """
    widths, last = network.widths, len(network.widths) - 2
    lane_scales = np.empty(LANES, dtype=np.float32)
    lowest = np.float32(SILU_LOWEST) if silu else np.float32(0.0)
    weight, unit = 0, 0  # where the weights and the outputs of a layer after the first begin
    for layer in range(last + 1):
        inputs, outputs = widths[layer], widths[layer + 1]
        target = values[:outputs] if layer < last else out
        least, curved = (np.float32(0.0), silu) if layer < last else (np.float32(-np.inf), False)
        if layer == 0:
            first, biases = network.first, network.first_biases
            dense(x, lane_scales, first, biases, biases, target, used_lanes, least, curved)
        else:
            quantize_activations(values[:inputs], words, lane_scales, lowest)
            taken = words[: inputs // network.inputs_per_word]
            weights, scales, biases = network.rest[weight:], network.rest_scales[unit:], network.rest_biases[unit:]
            dense(taken, lane_scales, weights, scales, biases, target, used_lanes, least, curved)
            weight += len(taken) * outputs
            unit += outputs
