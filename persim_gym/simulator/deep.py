"""Whole rollouts of deep models with continuous actions, in torch: the hot path of planners."""

from collections.abc import Callable, Sequence

import llvmlite.binding
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.threads import Piece, run_pieces

MOST = 256  # candidates rolled out together: their activations stay in a core's cache

_BFLOAT_UNITS = ("avx512bf16", "amx-bf16", "bf16")  # of x86 and ARM


def layer_type() -> torch.dtype:
    """What layers after the first compute in: bfloat16 where the processor multiplies it, else float32."""
    features = llvmlite.binding.get_host_cpu_features()
    return torch.bfloat16 if any(features.get(unit) for unit in _BFLOAT_UNITS) else torch.float32


class DeepRollout:
    """Rolls out one agent's candidates; observations and their sums of changes are float32 throughout.

    Action factors are evaluated once for all steps. Layers after the first compute in `kind`; rounded to bfloat16 a
    member's prediction moves by far less than members differ.
    """

    def __init__(
        self,
        state_layers: Sequence[tuple[Tensor, Tensor]],
        action_layers: Sequence[tuple[Tensor, Tensor]],
        activate: Callable[[Tensor], Tensor],
        shift: Tensor,
        bounds: tuple[Tensor, Tensor] | None,
        kind: torch.dtype,
    ) -> None:
        """Keeps copies of the layers in the type that they compute in.

        Args:
            state_layers: Weights [M, inputs, outputs] and biases [M, outputs]; scaling and the agent folded in, D * R
                outputs.
            action_layers: Likewise; scaling folded in, R outputs.
            activate: Activation, in place.
            shift: Added to every change, [D].
            bounds: Lowest and highest observation, [D]; None for no bounds.
            kind: See the class.
        """
        self._state, self._action = _converted(state_layers, kind), _converted(action_layers, kind)
        self._activate, self._shift, self._bounds = activate, shift, bounds

    def __call__(self, obs: NDArray[np.float32], actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Observations that follow, [M, C, h, D].

        Args:
            obs: [M, C, D].
            actions: [C, h, A].
        """
        members, candidates, size = obs.shape
        starts = torch.tensor(obs, dtype=torch.float32)
        steps = torch.tensor(actions, dtype=torch.float32).transpose(0, 1)  # [h, C, A]
        out = torch.empty(members, len(steps), candidates, size)

        @torch.inference_mode()
        def run(piece: Piece) -> None:
            member, rows = piece
            self._roll(member, starts[member, rows], steps[:, rows], out[member, :, rows])

        run_pieces(run, members, candidates, MOST)
        result: NDArray[np.float32] = out.numpy()
        return result.transpose(0, 2, 1, 3)

    def _roll(self, member: int, now: Tensor, actions: Tensor, out: Tensor) -> None:
        """One member's candidates: [C, D] and [h, C, A] into [h, C, D]."""
        size = now.shape[-1]
        factors = self._layers(self._action, member, actions.flatten(0, 1)).float()
        for t, w in enumerate(factors.view(*actions.shape[:2], 1, -1)):  # [C, 1, R]
            v = self._layers(self._state, member, now).view(len(now), size, -1)  # [C, D, R]
            now = now + (v * w).sum(-1) + self._shift
            if self._bounds is not None:
                now = now.clamp_(*self._bounds)
            out[t] = now

    def _layers(self, layers: Sequence[tuple[Tensor, Tensor]], member: int, x: Tensor) -> Tensor:
        for weight, bias in layers[:-1]:
            x = self._activate(torch.addmm(bias[member], x.to(weight.dtype), weight[member]))
        weight, bias = layers[-1]
        return torch.addmm(bias[member], x.to(weight.dtype), weight[member])


def _converted(layers: Sequence[tuple[Tensor, Tensor]], kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """All layers but the first, which sees observations or actions as they are."""
    (weight, bias), *others = layers
    return [
        (weight.float().contiguous(), bias.float().contiguous()),
        *((w.to(kind).contiguous(), b.to(kind).contiguous()) for w, b in others),
    ]
