"""Training epochs in tensor operations, for models of any size and any device.

Gradients are written by hand: a step is a handful of small matrix products, and autograd's bookkeeping costs more.
Activations are kept as [M, features, B]: thin products are several times faster that way round.
"""

from collections.abc import Callable

import llvmlite.binding
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from persim_gym.simulator.kernels.adam import BETA1, BETA2, EPSILON, is_sparse
from persim_gym.simulator.model.encoders import AgentEncoder, DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.sparse_adam import SparseAdam

WIDE_LAYER = 128  # inputs from which on a layer gains from bfloat16
_ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": torch.nn.functional.silu}
_ACTIVATE_BACKWARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda grad, pre: torch.ops.aten.threshold_backward(grad, pre, 0),
    "silu": lambda grad, pre: torch.ops.aten.silu_backward(grad, pre),
}


def multiplies_pairs() -> bool:
    """Whether this processor multiplies vectors of bfloat16."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16"))


class TorchEngine:
    """Epochs of Adam on all members; the model's parameters become views of one flat vector.

    Attributes:
        count: Number of updates made.
        stop: Set from another thread to leave an epoch early.
    """

    def __init__(
        self,
        model: FactoredEnsemble,
        agent: Tensor,
        obs: Tensor,
        action: Tensor,
        delta: Tensor,
        pull: float,
        batch: int = 0,
        sparse: bool | None = None,
        noise: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        half: bool | None = None,
        interaction: float = 0.0,
    ) -> None:
        """Lays the model's parameters and their gradients out in two flat vectors, and binds the data.

        Args:
            model: The ensemble; updated in place from now on.
            agent: Agents, int64 [K].
            obs: Scaled observations, [K, D].
            action: int64 [K], or scaled [K, A].
            delta: Scaled changes of the observation, and extra quantities, [K, D + E].
            pull: Weight of the squared distance of an agent's latent factor to the shared one.
            batch: Transitions a step and member, to choose `sparse` by.
            sparse: Whether updates of latent factors are row-wise, and those factors left out of the flat vectors; None
                for what is faster.
            noise: Standard deviation of Gaussian noise on the scaled observations.
            weight_decay: Decoupled weight decay of everything but the agents' own latent factors.
            seed: Of the noise.
            half: Whether products of wide layers are taken in bfloat16, with weights and sums of gradients kept in
                float32; None for where the processor multiplies it.
            interaction: Weight of the squared interaction of agents and actions.
        """
        assert isinstance(model.agent_encoder, AgentEncoder)
        assert isinstance(model.state_encoder, EnsembleMLP)
        self._model, self._pull, self._interaction = model, pull, interaction
        self.stop = False
        self._noise, self._seed = noise, seed
        self._data = (agent, obs, action, delta)
        factor = model.agent_encoder.factor.requires_grad_(False)
        if sparse is None:
            sparse = model.head is None and batch > 0 and is_sparse(model.config.n_agents, batch)
        self._rows = SparseAdam(factor.data.view(-1, model.config.rank)) if sparse else None
        parameters = [p for p in model.parameters() if not (sparse and p is factor)]
        self._flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self._grad = torch.zeros_like(self._flat)
        start = 0 if sparse else factor.numel()  # the agents' own factors come first
        assert sparse or parameters[0] is factor
        own = start  # the agents' own factors do not decay
        start = 0
        for p in parameters:
            p.requires_grad_(model.head is not None)
            p.data = self._flat[start : start + p.numel()].view(p.shape)
            p.grad = self._grad[start : start + p.numel()].view(p.shape)
            start += p.numel()
        self._moments = torch.zeros(2, start, device=self._flat.device)
        everything = (self._flat, self._grad, *self._moments)
        self._done = torch.zeros(2, device=self._flat.device)  # updates of each part, counted where the weights are
        agents = [*(values[:own] for values in everything), self._done[0]]
        rest = [*(values[own:] for values in everything), self._done[1]]
        # What decays alike is updated at once.
        if not own:
            self._updates = [([rest], weight_decay)]
        elif weight_decay:
            self._updates = [([agents], 0.0), ([rest], weight_decay)]
        else:
            self._updates = [([agents, rest], 0.0)]
        if half is None:
            half = self._flat.device.type == "cpu" and self._flat.dtype == torch.float32 and multiplies_pairs()
        self._rounded = self._flat.bfloat16() if half else self._flat[:0]
        self._half: dict[Tensor, Tensor] = {}
        start = 0
        for p in parameters:
            if half and p.ndim == 3 and p.shape[1] >= WIDE_LAYER and model.head is None and p is not factor:
                self._half[p] = self._rounded[start : start + p.numel()].view(p.shape)
            start += p.numel()
        self.count = 0
        members, n_agents, _ = factor.shape
        self._agent_rows = n_agents * torch.arange(members, device=self._flat.device)[:, None]

    def bind(self, agent: Tensor, obs: Tensor, action: Tensor, delta: Tensor) -> None:
        """Goes on with other data, arguments as the constructor's."""
        self._data = (agent, obs, action, delta)

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the model; shares memory."""
        return {"moments": self._moments} | ({} if self._rows is None else {"factor_moments": self._rows.moments})

    @property
    def sparse(self) -> bool:
        """Whether updates of latent factors are row-wise."""
        return self._rows is not None

    @torch.no_grad()
    def epoch(self, order: NDArray[np.int64], learning_rates: NDArray[np.float64], batch: int) -> float:
        """Takes one step a learning rate.

        Args:
            order: Rows of the data in the order of their use, [M, >= steps * batch].
            learning_rates: Adam's, [steps].
            batch: Transitions a step and member.

        Returns:
            Mean loss a member and step.
        """
        use = torch.from_numpy(order).to(self._flat.device)
        total = torch.zeros((), device=self._flat.device)
        self._round()  # the model may have been loaded since
        self._done.fill_(self.count)
        if self._rows is not None:
            self._rows.start(learning_rates, self.count)
        generator = torch.Generator(self._flat.device).manual_seed(self._seed * 1_000_003 + self.count)
        for i, rate in enumerate(learning_rates):
            if self.stop:
                break
            rows = use[:, i * batch : (i + 1) * batch]
            agent, obs, action, delta = (values[rows] for values in self._data)
            if self._noise:
                noise = torch.randn(obs.shape, generator=generator, device=obs.device)
                obs = obs.add_(noise, alpha=self._noise)
            total += self.gradient(agent, obs, action, delta)
            self._update(float(rate))
        if self._rows is not None:
            self._rows.finish()
        return float(total) / (len(learning_rates) * self._model.config.members)

    def _update(self, learning_rate: float) -> None:
        """One step of Adam, in one pass over each part, which counts it in `_done`."""
        for parts, decay in self._updates:
            flat, grad, mean, square, done = (list(values) for values in zip(*parts, strict=True))
            adamw(
                flat,
                grad,
                mean,
                square,
                [],
                done,
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=learning_rate,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )
        self.count += 1
        self._round()

    def _round(self) -> None:
        """Brings the weights in bfloat16 up to date."""
        if self._half:
            self._rounded.copy_(self._flat)

    @torch.no_grad()
    def gradient(self, agent: Tensor, obs: Tensor, action: Tensor, delta: Tensor) -> Tensor:
        """Fills every parameter's `grad` with that of one batch.

        Args:
            agent: Agents, int64 [M, B].
            obs: Scaled observations, [M, B, D].
            action: int64 [M, B], or scaled [M, B, A].
            delta: Scaled changes of the observation, and extra quantities, [M, B, D + E].

        Returns:
            Mean squared error over the batch, summed over dimensions and members, [].
        """
        model, shape = self._model, self._model.config
        if model.head is not None:
            return self._autograd(agent, obs, action, delta)
        encoder, state_encoder = model.agent_encoder, model.state_encoder
        assert isinstance(encoder, AgentEncoder) and isinstance(state_encoder, EnsembleMLP)
        batch = agent.shape[1]
        rows = (agent + self._agent_rows).reshape(-1)
        known = (
            encoder.factor.view(-1, shape.rank).index_select(0, rows) if self._rows is None else self._rows.fetch(rows)
        )
        offset = known.view(shape.members, batch, shape.rank)
        u = (offset + encoder.bias).transpose(1, 2)  # [M, R, B]
        w, action_inputs = self._action_factors(action)  # [M, R, B]
        state_inputs = _forward(state_encoder, obs.transpose(1, 2), shape.activation, self._half)
        v = state_inputs[-1].to(self._flat.dtype).unflatten(1, (shape.out_dim, shape.rank))  # [M, D + E, R, B]
        uw = (u * w).unsqueeze(1)  # [M, 1, R, B]
        residual = (v * uw).sum(2).sub_(delta.transpose(1, 2))  # [M, D + E, B]
        error = residual.square().sum() / batch

        residual = residual.mul_(2 / batch).unsqueeze(2)  # gradient of the error, [M, D + E, 1, B]
        grad_v = residual * uw  # [M, D + E, R, B]
        grad_uw = (residual * v).sum(1)  # [M, R, B]
        grad_w = grad_uw * u
        grad_u = (grad_uw * w).transpose(1, 2)  # [M, B, R]
        torch.sum(grad_u, 1, out=_column(encoder.bias))
        if self._pull:
            grad_u = grad_u.add(offset, alpha=2 * self._pull / batch)
        if self._interaction:
            own, change = offset.transpose(1, 2), w.roll(-1, 2) - w  # the action of the batch's next transition
            crossed = (own * change).unsqueeze(1)  # [M, 1, R, B]
            size = (v * crossed).sum(2, keepdim=True).mul_(2 * self._interaction / batch)  # [M, D + E, 1, B]
            grad_v = grad_v.addcmul_(size, crossed)
            grad_crossed = (size * v).sum(1)  # [M, R, B]
            grad_u = grad_u + (grad_crossed * change).transpose(1, 2)
            grad_change = grad_crossed * own
            grad_w = grad_w + grad_change.roll(1, 2) - grad_change
        _backward(state_encoder, state_inputs, grad_v.flatten(1, 2), shape.activation, self._half)
        if self._rows is not None:
            self._rows.update(rows, grad_u.reshape(-1, shape.rank))
        else:
            _grad(encoder.factor).zero_().view(-1, shape.rank).index_add_(0, rows, grad_u.reshape(-1, shape.rank))
        self._action_backward(action, action_inputs, grad_w)
        return error

    @torch.enable_grad()
    def _autograd(self, agent: Tensor, obs: Tensor, action: Tensor, delta: Tensor) -> Tensor:
        """As `gradient`, for variants whose gradients are not written by hand; they have no pull and no interaction."""
        self._grad.zero_()
        model = self._model
        error = (model.scaled_delta(model.agent_encoder(agent), obs, action) - delta).square().sum() / agent.shape[1]
        error.backward()
        return error.detach()

    def _action_factors(self, action: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Latent factors of actions, [M, R, B], and what the backward pass needs."""
        encoder = self._model.action_encoder
        if isinstance(encoder, DiscreteActionEncoder):
            return encoder(action).transpose(1, 2), []
        assert isinstance(encoder, EnsembleMLP)
        inputs = _forward(encoder, action.transpose(1, 2), self._model.config.activation, self._half)
        return inputs[-1].to(self._flat.dtype), inputs

    def _action_backward(self, action: Tensor, inputs: list[Tensor], grad: Tensor) -> None:
        encoder = self._model.action_encoder
        if not isinstance(encoder, DiscreteActionEncoder):
            assert isinstance(encoder, EnsembleMLP)
            _backward(encoder, inputs, grad, self._model.config.activation, self._half)
            return
        members, n_actions, rank = encoder.factor.shape
        rows = (action + n_actions * torch.arange(members, device=action.device)[:, None]).reshape(-1)
        _grad(encoder.factor).zero_().view(-1, rank).index_add_(0, rows, grad.transpose(1, 2).reshape(-1, rank))
        torch.sum(grad, 2, out=_column(encoder.bias))


def _forward(mlp: EnsembleMLP, x: Tensor, activation: str, half: dict[Tensor, Tensor]) -> list[Tensor]:
    """Runs an MLP on [M, inputs, B]; returns input, pre-activation and activation of each layer, the output last.

    Layers in `half`, which maps weights to the same in bfloat16, take and return bfloat16.
    """
    kept = [x]
    last = len(mlp.layers) - 1
    for i, layer in enumerate(mlp.layers):
        weight: Tensor = layer.weight  # type: ignore[assignment]
        bias, x = layer.bias.transpose(1, 2), kept[-1]  # type: ignore[operator]
        if weight in half:
            weight, bias, x = half[weight], bias.bfloat16(), x.bfloat16()
            kept[-1] = x
        kept.append(torch.baddbmm(bias, weight.transpose(1, 2), x))
        if i < last:
            kept.append(_ACTIVATE[activation](kept[-1]))
    return kept


def _backward(mlp: EnsembleMLP, kept: list[Tensor], grad: Tensor, activation: str, half: dict[Tensor, Tensor]) -> None:
    """Fills the gradients of an MLP from that of its output, [M, outputs, B]."""
    for i in range(len(mlp.layers) - 1, -1, -1):
        layer = mlp.layers[i]
        weight: Tensor = layer.weight  # type: ignore[assignment]
        torch.sum(grad, 2, dtype=weight.dtype, out=_column(layer.bias))  # type: ignore[arg-type]
        if weight in half:
            grad = grad.bfloat16()
            _grad(weight).copy_(torch.bmm(kept[2 * i], grad.transpose(1, 2)))
        else:
            grad = grad.to(weight.dtype)
            torch.bmm(kept[2 * i], grad.transpose(1, 2), out=_grad(weight))
        if i:
            grad = torch.bmm(half.get(weight, weight), grad)
            grad = _ACTIVATE_BACKWARD[activation](grad, kept[2 * i - 1].to(grad.dtype))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _column(bias: Tensor) -> Tensor:
    """Gradient of a bias, [M, 1, features], as [M, features]."""
    return _grad(bias)[:, 0]
