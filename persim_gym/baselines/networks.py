"""What the networks of the baselines share: their arithmetic, and the updates of their weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from persim_gym.simulator.kernels.adam import BETA1, BETA2, EPSILON
from persim_gym.simulator.model.encoders import EnsembleLinear, EnsembleMLP
from persim_gym.simulator.training.torch_engine import WIDE_LAYER, multiplies_bfloat16


def hidden_type(bfloat16: bool) -> torch.dtype:
    """Type that wide hidden layers multiply in: bfloat16 where it is wanted and the processor can, else float32."""
    return torch.bfloat16 if bfloat16 and multiplies_bfloat16() else torch.float32


def outputs(networks: EnsembleMLP, x: Tensor, hidden: torch.dtype = torch.float32, count: int | None = None) -> Tensor:
    """Outputs of ReLU networks side by side, as `EnsembleMLP`, whose wide hidden layers multiply in another type.

    First and last layers, weights, and gradients with respect to weights stay float32.

    Args:
        networks: The networks.
        x: Inputs, [B, inputs], the same for all networks.
        hidden: Type that wide hidden layers multiply in.
        count: How many of the networks, M, from the first on; None for all.

    Returns:
        Float32, [M, B, outputs].
    """
    *inner, last = networks.layers
    assert isinstance(last, EnsembleLinear)
    x = x.expand(len(last.weight[:count]), *x.shape)
    for layer in inner:
        assert isinstance(layer, EnsembleLinear)
        kind = hidden if layer.weight.shape[1] >= WIDE_LAYER else x.dtype
        x = torch.baddbmm(layer.bias[:count].to(kind), x.to(kind), layer.weight[:count].to(kind)).relu_()
    # Thin products are several times faster this way round.
    return torch.baddbmm(last.bias[:count].mT, last.weight[:count].mT, x.float().mT).mT


class Adam(nn.Module):
    """Adam in one call for all weights; its state is in buffers, so that a checkpoint of modules holds it.

    `torch.optim.Adam` takes longer to walk over its parameters than small networks take to be updated.
    """

    moments: Tensor
    counts: Tensor

    def __init__(self, weights: Sequence[Tensor], learning_rate: float) -> None:
        """Updates `weights`, leaves of a graph or parts of them, in place."""
        super().__init__()
        self._leaves = list(weights)
        self._weights = [weight.detach() for weight in weights]
        self._learning_rate = learning_rate
        sizes = [weight.numel() for weight in weights]
        self.register_buffer("moments", torch.zeros(2, sum(sizes), dtype=torch.float32))
        self.register_buffer("counts", torch.zeros(len(sizes), dtype=torch.float32))
        self._means, self._squares = (
            [part.view_as(weight) for part, weight in zip(kind.split(sizes), self._weights, strict=True)]
            for kind in self.moments
        )
        self._counts = list(self.counts.unbind())

    def minimize(self, loss: Tensor) -> None:
        """One step down the gradient of a loss with respect to the weights, all of which it depends on."""
        self.step([gradient.contiguous() for gradient in torch.autograd.grad(loss, self._leaves)])

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """One step down given gradients, contiguous and in the order of the weights."""
        adam(
            self._weights, gradients, self._means, self._squares, [], self._counts, fused=True, amsgrad=False,
            beta1=BETA1, beta2=BETA2, lr=self._learning_rate, weight_decay=0.0, eps=EPSILON, maximize=False,
        )  # fmt: skip


@torch.no_grad()
def follow(targets: Sequence[Tensor], weights: Sequence[Tensor], rate: float) -> None:
    """Moves target weights towards the trained ones: target + rate (weight - target)."""
    torch._foreach_lerp_(list(targets), list(weights), rate)
