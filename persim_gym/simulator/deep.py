"""Whole rollouts of deep models with continuous actions, compiled: the hot path of planners."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.dense import dense, multiplies_pairs, packed, padded
from persim_gym.simulator.threads import Piece, run_pieces
from persim_gym.simulator.vectors import LANES

MOST = 4096  # candidates rolled out together; within, `LANES` at a time


class DeepRollout:
    """Rolls out one agent's candidates; observations and all sums are float32.

    Action factors are evaluated once for all steps. Inputs of layers after the first are rounded to bfloat16 where the
    processor multiplies it; a member's prediction then moves by far less than members differ.
    """

    def __init__(
        self,
        state_layers: Sequence[tuple[Tensor, Tensor]],
        action_layers: Sequence[tuple[Tensor, Tensor]],
        silu: bool,
        shift: Tensor,
        bounds: tuple[Tensor, Tensor],
        pairs: bool | None = None,
    ) -> None:
        """Keeps copies of the layers as the kernel takes them.

        Args:
            state_layers: Weights [M, inputs, outputs] and biases [M, outputs]; scaling and the agent folded in,
                (D + E) * R outputs.
            action_layers: Likewise; scaling folded in, R outputs.
            silu: Whether hidden units are SiLU, not ReLU.
            shift: Added to every change, [D + E].
            bounds: Lowest and highest observation, [D + E].
            pairs: Whether to round to bfloat16; None for where the processor multiplies it.
        """
        pairs = multiplies_pairs() if pairs is None else pairs
        self._state, self._action = _network(state_layers, pairs), _network(action_layers, pairs)
        self._silu, self._shift = silu, shift.detach().numpy()
        self._bounds = np.stack([bound.detach().numpy() for bound in bounds])
        self._rank = action_layers[-1][0].shape[-1]

    def __call__(self, obs: NDArray[np.float32], actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Observations that follow, [M, C, h, D + E], each component of each step contiguous in memory.

        Args:
            obs: [M, C, D].
            actions: [C, h, A].
        """
        members, candidates, _ = obs.shape
        out = np.empty((actions.shape[1], len(self._shift), members, candidates), dtype=np.float32)
        obs = np.ascontiguousarray(obs, dtype=np.float32)
        actions = np.ascontiguousarray(actions, dtype=np.float32)

        def run(piece: Piece) -> None:
            m, rows = piece
            state, action = (
                (n.first[m], n.biases[m], n.rest[m], n.rest_biases[m], n.widths) for n in (self._state, self._action)
            )
            settings = self._state.per, self._silu, self._rank, self._shift, self._bounds
            _roll(obs[m, rows], actions[rows], *state, *action, *settings, out[:, :, m, rows])

        run_pieces(run, members, candidates, MOST)
        return out.transpose(2, 3, 0, 1)


class Network(NamedTuple):
    """All members' layers of an encoder, as `dense` takes them.

    Attributes:
        first: Weights of the first layer, which sees observations or actions as they are, float32 [M, ...].
        biases: Its biases, [M, width].
        rest: Weights of the other layers, one behind the other, [M, ...].
        rest_biases: Theirs, likewise.
        widths: Inputs, and outputs of every layer, padded.
        per: Inputs that share a word in the other layers, 1 or 2.
    """

    first: NDArray[np.float32]
    biases: NDArray[np.float32]
    rest: NDArray[np.float32] | NDArray[np.int32]
    rest_biases: NDArray[np.float32]
    widths: NDArray[np.int64]
    per: int


def _network(layers: Sequence[tuple[Tensor, Tensor]], pairs: bool) -> Network:
    weights: list[NDArray[Any]] = []
    biases: list[NDArray[np.float32]] = []
    widths = [layers[0][0].shape[1]]
    for weight, bias in layers:
        members, inputs, outputs = weight.shape
        wide = np.zeros((members, widths[-1], padded(outputs)), dtype=np.float32)
        wide[:, :inputs, :outputs] = weight.detach().numpy()
        more = np.zeros((members, padded(outputs)), dtype=np.float32)
        more[:, :outputs] = bias.detach().numpy()
        weights.append(packed(wide, pairs and bool(weights)))
        biases.append(more)
        widths.append(padded(outputs))
    nothing = np.zeros((len(biases[0]), 0), dtype=np.int32 if pairs else np.float32)
    return Network(
        weights[0],
        biases[0],
        np.concatenate([nothing, *weights[1:]], axis=1),
        np.concatenate([nothing.astype(np.float32), *biases[1:]], axis=1),
        np.array(widths),
        2 if pairs else 1,
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _forward(x, first, biases, rest, rest_biases, widths, per, silu, work, other, out):  # type: ignore
    """An encoder of LANES rows; `x` is [inputs, LANES], `out` [outputs, LANES]; words hold `per` inputs."""
    none, zero = np.float32(-np.inf), np.float32(0.0)
    if len(widths) == 2:
        dense(x, first, 0, biases, 0, out, widths[0], widths[1], none, False)
        return
    dense(x, first, 0, biases, 0, work, widths[0], widths[1], zero, silu)
    offset, start = 0, 0
    for layer in range(1, len(widths) - 2):
        inputs, outputs = widths[layer] // per, widths[layer + 1]
        dense(work, rest, offset, rest_biases, start, other, inputs, outputs, zero, silu)
        offset += inputs * outputs
        start += outputs
        work, other = other, work
    dense(work, rest, offset, rest_biases, start, out, widths[-2] // per, widths[-1], none, False)


@njit(nogil=True, cache=True, error_model="numpy")
def _roll(  # type: ignore
    obs, actions, first, biases, rest, rest_biases, widths, a_first, a_biases, a_rest, a_rest_biases, a_widths,
    per, silu, rank, shift, bounds, out,
):  # fmt: skip
    """One member's candidates through all steps; `out` is [h, D + E, C]."""
    candidates, size = obs.shape
    steps, action_size = actions.shape[1], actions.shape[2]
    outs = out.shape[1]
    most = max(widths[1:].max(), a_widths[1:].max()) * LANES
    work, other = np.empty(most, dtype=rest.dtype), np.empty(most, dtype=rest.dtype)
    now = np.empty((size, LANES), dtype=np.float32)
    push = np.empty((action_size, LANES), dtype=np.float32)
    v = np.empty((widths[-1], LANES), dtype=np.float32)
    w = np.empty((steps, a_widths[-1], LANES), dtype=np.float32)
    total = np.empty(LANES, dtype=np.float32)
    for low in range(0, candidates, LANES):
        count = min(LANES, candidates - low)
        for t in range(steps):
            for i in range(LANES):  # spare lanes repeat the last candidate
                for d in range(action_size):
                    push[d, i] = actions[low + min(i, count - 1), t, d]
            _forward(push, a_first, a_biases, a_rest, a_rest_biases, a_widths, per, silu, work, other, w[t])
        for i in range(LANES):
            for d in range(size):
                now[d, i] = obs[low + min(i, count - 1), d]
        for t in range(steps):
            _forward(now, first, biases, rest, rest_biases, widths, per, silu, work, other, v)
            for d in range(outs):
                total[:] = shift[d]
                for r in range(rank):
                    for i in range(LANES):
                        total[i] += v[d * rank + r, i] * w[t, r, i]
                for i in range(LANES):
                    following = total[i] + now[d, i] if d < size else total[i]
                    # Written so that a NaN stays one: both comparisons with it are false.
                    if following < bounds[0, d]:
                        following = bounds[0, d]
                    elif following > bounds[1, d]:
                        following = bounds[1, d]
                    total[i] = following
                if d < size:
                    now[d] = total
                out[t, d, low : low + count] = total[:count]
