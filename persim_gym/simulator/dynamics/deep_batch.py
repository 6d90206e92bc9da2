"""Predictions of models of any depth over many rows, in blocks of rows whose activations stay in the cache.

Matrix products are NumPy's; what lies between them is compiled. Torch's batched product over all rows at once moves
every layer's activations through main memory.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.simulator.dynamics.folding import scaled_layers
from persim_gym.simulator.kernels.deep_step import activate_rows, contract_rows
from persim_gym.simulator.kernels.walls import stop_columns
from persim_gym.simulator.model.encoders import DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import wall_arrays

BATCH_BLOCK = 128  # Rows whose activations stay in the cache together.
Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Weight [outputs, inputs] and bias [outputs] of each layer of one member."""


class BlockPredictions:
    """Next observations by every member of a factored ensemble, any number of layers; units are folded into weights."""

    def __init__(self, model: FactoredEnsemble, factors: torch.Tensor) -> None:
        """Binds B rows to the latent factors of their agents, [M, B, R]."""
        s = model.config
        self._size, self._silu = s.obs_dim, s.activation == "silu"
        states, actions = model.state_encoder, model.action_encoder
        assert isinstance(states, EnsembleMLP)
        with torch.no_grad():
            self._factor = factors.transpose(1, 2).contiguous().numpy().copy()  # [M, R, B]
            unit = model.delta_std.repeat_interleave(s.rank)
            self._states = _by_member(scaled_layers(states, model.obs_mean, model.obs_std, unit))
            self._table: NDArray[np.float32] | None = None
            self._actions: list[Layers] = []
            if isinstance(actions, DiscreteActionEncoder):
                table = actions(torch.arange(s.n_actions)).transpose(1, 2)  # [M, R, actions]
                self._table = np.ascontiguousarray(table.numpy())
            else:
                assert isinstance(actions, EnsembleMLP)
                self._actions = _by_member(scaled_layers(actions, model.action_mean, model.action_std))
        self._mean, self._low, self._high = (part.numpy() for part in (model.delta_mean, model.obs_low, model.obs_high))
        self._walls = wall_arrays(model.walls)
        self._scratch: dict[tuple[int, int, int], NDArray[np.float32]] = {}

    def rebind(self, row: int, factor: torch.Tensor) -> None:
        """Gives one row another latent factor, [M, R]."""
        self._factor[:, :, row] = factor.numpy()

    def __call__(self, obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
        """Maps [B, D] and int64 [B] or float32 [B, A] to predictions with rows last, [M, D + E, B]."""
        each = np.empty((len(self._states), len(self._low), len(obs)), dtype=np.float32)
        blocks = [slice(start, start + BATCH_BLOCK) for start in range(0, len(obs), BATCH_BLOCK)]
        x = [np.ascontiguousarray(obs[rows, : self._size].T) for rows in blocks]  # [D, rows]
        a = [np.ascontiguousarray(action[rows].T) for rows in blocks]
        with np.errstate(invalid="ignore", over="ignore"):  # The caller refuses what is not finite.
            self._fill(each, blocks, x, a)
        if len(self._walls[0]):
            rows = np.arange(len(obs))
            for member in each:
                stop_columns(self._walls, member, rows, len(rows))
        return each

    def _fill(
        self,
        each: NDArray[np.float32],
        blocks: list[slice],
        x: list[NDArray[np.float32]],
        a: list[NDArray[Any]],
    ) -> None:
        for m, layers in enumerate(self._states):  # Blocks are the inner loop: one member's weights stay in the cache.
            for k, rows in enumerate(blocks):
                if self._table is not None:
                    w = np.ascontiguousarray(self._table[m][:, a[k]])
                else:
                    w = self._forward(self._actions[m], a[k], 100)
                v = self._forward(layers, x[k], 0)
                contract_rows(v, w, self._factor[m], x[k], self._mean, self._low, self._high, rows.start, each[m])

    def _forward(self, layers: Layers, x: NDArray[np.float32], first: int) -> NDArray[np.float32]:
        """All layers on [inputs, rows]; the result is overwritten by the next call with the same `first`."""
        for i, (weight, bias) in enumerate(layers):
            key = first + i, len(weight), x.shape[1]
            if key not in self._scratch:
                self._scratch[key] = np.empty(key[1:], dtype=np.float32)
            out = np.matmul(weight, x, out=self._scratch[key])
            activate_rows(out, bias, i == len(layers) - 1, self._silu)
            x = out
        return x


def _by_member(layers: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Layers]:
    """Layers of all members, [M, inputs, outputs] and [M, 1, outputs], as each member's own."""
    return [
        [(np.ascontiguousarray(weight[m].T.numpy()), bias[m, 0].numpy()) for weight, bias in layers]
        for m in range(len(layers[0][0]))
    ]
