"""Whole rollouts of deep models with continuous actions, compiled: the hot path of planners."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.parallel import Piece, run_pieces
from persim_gym.simulator.kernels.deep_weights import SILU_LOWEST, DeepNetwork
from persim_gym.simulator.kernels.dense import dense, quantize_activations
from persim_gym.simulator.kernels.simd import LANES
from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.simulator.kernels.walls import WallArrays, stop_columns
from persim_gym.task import Ends

MAX_CANDIDATES = 64  # candidates rolled out together; within, `LANES` at a time


class DeepRollout:
    """Rolls out one agent's candidates; observations are float32.

    Weights and inputs of layers after the first are bytes where the processor multiplies those; a member's prediction
    then moves by far less than members differ. A unit that is not finite is not forgotten.
    """

    def __init__(
        self,
        state: DeepNetwork,
        action: DeepNetwork,
        factor: Tensor,
        silu: bool,
        shift: Tensor,
        bounds: tuple[Tensor, Tensor],
        walls: WallArrays,
    ) -> None:
        """Binds what is shared by all agents to one.

        Args:
            state: State encoder, scaling folded in, (D + E) * R outputs.
            action: Action encoder, scaling folded in, R outputs.
            factor: The agent's, [M, R].
            silu: Whether hidden units are SiLU, not ReLU.
            shift: Added to every change, [D + E].
            bounds: Lowest and highest observation, [D + E].
            walls: What stops them at once.
        """
        self._networks, self._factor = (state, action), factor.detach().numpy()
        self._silu, self._shift = silu, shift.detach().numpy()
        self._bounds = np.stack([bound.detach().numpy() for bound in bounds])
        self._walls = walls

    def __call__(
        self, obs: NDArray[np.float32], actions: NDArray[np.float32], live: NDArray[np.bool_], ends: Ends | None
    ) -> NDArray[np.float32]:
        """Observations that follow, [M, C, h, D + E], each component of each step contiguous in memory.

        Args:
            obs: [M, C, D].
            actions: [C, h, A].
            live: Which candidates of which members run, [M, C]; the others stay where they are.
            ends: Where one ends and stays; None for nowhere.
        """
        members, candidates, _ = obs.shape
        out = np.empty((actions.shape[1], len(self._shift), members, candidates), dtype=np.float32)
        obs = np.ascontiguousarray(obs, dtype=np.float32)
        actions = np.ascontiguousarray(actions, dtype=np.float32)
        rule = compiled_rule(ends)

        def run(piece: Piece) -> None:
            m, rows = piece
            state, action = ((*(part[m] for part in network[:5]), network.widths) for network in self._networks)
            settings = self._networks[0].per, self._silu, self._factor[m], self._shift, self._bounds, self._walls
            where = live[m, rows], rule
            _rollout_deep(obs[m, rows], actions[rows], *where, *state, *action, *settings, out[:, :, m, rows])

        run_pieces(run, members, candidates, MAX_CANDIDATES, LANES)
        return out.transpose(2, 3, 0, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _forward_lanes(x, first, biases, rest, rest_scales, rest_biases, widths, per, rows, silu, values, work, steps, out):  # type: ignore
    """An encoder of up to LANES rows; `x` is [inputs, LANES], `out` [outputs, LANES]; words hold `per` inputs."""
    none, zero = np.float32(-np.inf), np.float32(0.0)
    lowest = np.float32(SILU_LOWEST) if silu else zero
    if len(widths) == 2:
        dense(x, steps, first, 0, biases, biases, 0, out, widths[0], widths[1], rows, none, False)
        return
    dense(x, steps, first, 0, biases, biases, 0, values, widths[0], widths[1], rows, zero, silu)
    offset, start = 0, 0
    for layer in range(1, len(widths) - 2):
        inputs, outputs = widths[layer] // per, widths[layer + 1]
        quantize_activations(values, work, steps, widths[layer], lowest)
        dense(work, steps, rest, offset, rest_scales, rest_biases, start, values, inputs, outputs, rows, zero, silu)
        offset += inputs * outputs
        start += outputs
    quantize_activations(values, work, steps, widths[-2], lowest)
    inputs, outputs = widths[-2] // per, widths[-1]
    dense(work, steps, rest, offset, rest_scales, rest_biases, start, out, inputs, outputs, rows, none, False)


@njit(nogil=True, cache=True, error_model="numpy")
def _rollout_deep(  # type: ignore
    obs, actions, live, rule, first, biases, rest, rest_scales, rest_biases, widths,
    a_first, a_biases, a_rest, a_rest_scales, a_rest_biases, a_widths, per, silu, factor, shift, bounds, walls, out,
):  # fmt: skip
    """One member's candidates through all steps; `out` is [h, D + E, C]. Returns the steps that candidates took."""
    candidates, size = obs.shape
    steps, action_size = actions.shape[1], actions.shape[2]
    outs, rank = out.shape[1], len(factor)
    most = max(widths[1:].max(), a_widths[1:].max()) * LANES
    values, work = np.empty(most, dtype=np.float32), np.empty(most // per, dtype=rest.dtype)
    level = np.empty(LANES, dtype=np.float32)
    running = np.empty(candidates, dtype=np.int64)
    left, taken = list_running(live, obs, out, running), 0
    done = np.empty(candidates, dtype=np.uint8)
    now = np.empty((size, LANES), dtype=np.float32)
    push = np.empty((action_size, LANES), dtype=np.float32)
    v = np.empty((widths[-1], LANES), dtype=np.float32)
    w = np.empty((a_widths[-1], LANES), dtype=np.float32)
    total = np.empty(LANES, dtype=np.float32)
    for t in range(steps):
        taken += left
        if t and left < candidates:
            out[t] = out[t - 1]  # what follows overwrites candidates that run
        for low in range(0, left, LANES):
            count = min(LANES, left - low)
            for i in range(LANES):
                c = running[low + min(i, count - 1)]  # spare lanes repeat the last candidate
                for d in range(action_size):
                    push[d, i] = actions[c, t, d]
                for d in range(size):
                    now[d, i] = out[t - 1, d, c] if t else obs[c, d]
            _forward_lanes(
                push, a_first, a_biases, a_rest, a_rest_scales, a_rest_biases, a_widths, per, count, silu,
                values, work, level, w,
            )  # fmt: skip
            for r in range(rank):
                for i in range(LANES):
                    w[r, i] *= factor[r]
            _forward_lanes(
                now, first, biases, rest, rest_scales, rest_biases, widths, per, count, silu, values, work, level, v
            )
            for d in range(outs):
                total[:] = shift[d]
                for r in range(rank):
                    for i in range(LANES):
                        total[i] += v[d * rank + r, i] * w[r, i]
                for i in range(LANES):
                    following = total[i] + now[d, i] if d < size else total[i]
                    # Written so that a NaN stays one: both comparisons with it are false.
                    if following < bounds[0, d]:
                        following = bounds[0, d]
                    elif following > bounds[1, d]:
                        following = bounds[1, d]
                    total[i] = following
                for i in range(count):
                    out[t, d, running[low + i]] = total[i]
        if len(walls[0]):
            stop_columns(walls, out[t], running, left)
        if len(rule[0]):
            left = drop_finished(rule, out[t], running, left, done)
    return taken
