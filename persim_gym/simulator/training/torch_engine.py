"""Training in tensor operations: models of any size, on any device.

Activations are kept as [members, features, batch]: thin products are several times faster that way round. Layers wide
enough multiply in bfloat16 where the processor can; weights, gradients and all sums stay float32.
"""

from dataclasses import replace

import llvmlite.binding
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from persim_gym.simulator.kernels.adam import BETA1, BETA2, EPSILON, is_sparse
from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.encoders import AgentEncoder, EnsembleLinear, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.precision import without_autocast
from persim_gym.simulator.training.batches import Batchable
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.sparse_adam import SparseAdam

WIDE_LAYER = 128
"""Inputs from which on a layer gains from bfloat16."""


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies vectors of bfloat16."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16"))


class TorchEngine:
    """An `Engine` whose parameters and gradients are views of two flat vectors, so that one call of Adam updates all.

    Attributes:
        members: See `Engine`.
        sparse: Whether updates of latent factors are row-wise, and those factors left out of the flat vectors.
    """

    def __init__(
        self,
        ensemble: FactoredEnsemble,
        members: slice,
        recipe: TrainingRecipe,
        seed: int = 0,
        *,
        sparse: bool | None = None,
        half: bool | None = None,
    ) -> None:
        """Lays the parameters of some members out.

        Args:
            ensemble: The ensemble; where all members are trained at once, it is updated in place from now on.
            members: Which of its members to train.
            recipe: Its `pull`, `interaction`, `noise`, `weight_decay` and `batch` count.
            seed: Of the noise.
            sparse: See the attribute; None for what is faster.
            half: Whether wide layers multiply in bfloat16; None for where the processor can.
        """
        config = ensemble.config
        count = len(range(*members.indices(config.members)))
        whole = count == config.members
        self.members = members
        self._ensemble = ensemble
        self._model = ensemble if whole else build_model(replace(config, members=count))
        self._recipe, self._seed, self._stopped, self._lacking = recipe, seed, False, False
        factor = self._agent_encoder.factor
        on_cpu = factor.device.type == "cpu"
        self._half = on_cpu and factor.dtype == torch.float32 and multiplies_bfloat16() if half is None else half
        self.sparse = (
            self._model.head is None and is_sparse(config.n_agents, recipe.batch) if sparse is None else sparse
        )
        factor.requires_grad_(not self.sparse)
        self._rows = SparseAdam(factor.data.view(-1, config.rank)) if self.sparse else None
        parameters = [p.requires_grad_() for p in self._model.parameters() if not (self.sparse and p is factor)]
        assert self.sparse or parameters[0] is factor, "the agents' own factors, which do not decay, come first"
        self._flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self._grad = torch.zeros_like(self._flat)
        self._moments = torch.zeros(2, len(self._flat), dtype=self._flat.dtype, device=self._flat.device)
        start = 0
        for p in parameters:
            p.data = self._flat[start : start + p.numel()].view(p.shape)
            p.grad = self._grad[start : start + p.numel()].view(p.shape)
            start += p.numel()
        own = 0 if self.sparse else factor.numel()
        # Adam counts its steps where the weights are: a GPU is not waited for. Each part has a count of its own.
        self._done = torch.zeros(2, dtype=torch.float32, device=self._flat.device)
        everything = (self._flat, self._grad, *self._moments)
        agents, rest = [v[:own] for v in everything], [v[own:] for v in everything]
        self._updates = [(agents, self._done[0], 0.0)] if own else []
        self._updates.append((rest, self._done[1], recipe.weight_decay))

    @property
    def _agent_encoder(self) -> AgentEncoder:
        encoder = self._model.agent_encoder
        assert isinstance(encoder, AgentEncoder)
        return encoder

    @staticmethod
    def pack(data: Batchable) -> Batchable:
        """The data as they are."""
        return data

    def bind(self, data: Batchable) -> None:
        """Goes on with other data: agents [K], scaled observations, actions and targets."""
        self._data = data
        self._lacking = bool(data[-1].isnan().any())

    def load(self) -> None:
        """Takes the ensemble's weights over."""
        if self._model is not self._ensemble:
            self._copy(from_ensemble=True)

    def store(self) -> None:
        """Writes the weights into the ensemble."""
        if self._model is not self._ensemble:
            self._copy(from_ensemble=False)

    @torch.no_grad()
    def _copy(self, from_ensemble: bool) -> None:
        for own, whole in zip(self._model.parameters(), self._ensemble.parameters(), strict=True):
            if from_ensemble:
                own.copy_(whole[self.members])
            else:
                whole[self.members].copy_(own)

    def stop(self) -> None:
        """Leaves `steps` early; there is no going on."""
        self._stopped = True

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the weights; shares memory."""
        return {"moments": self._moments} | ({} if self._rows is None else {"factor_moments": self._rows.moments})

    @without_autocast
    @torch.no_grad()
    def steps(self, order: NDArray[np.int64], rates: NDArray[np.float64], batch: int, done: int) -> float:
        """Takes one step a learning rate; arguments and result as `Engine.steps`."""
        use = torch.from_numpy(order).to(self._flat.device)
        total = torch.zeros((), dtype=self._flat.dtype, device=self._flat.device)
        self._done.fill_(done)
        if self._rows is not None:
            self._rows.start(rates, done)
        generator = torch.Generator(self._flat.device).manual_seed(self._seed * 1_000_003 + done)
        for i, rate in enumerate(rates.tolist()):
            if self._stopped:
                break
            rows = use[:, i * batch : (i + 1) * batch]
            agent, obs, action, target = (values[rows] for values in self._data)
            if self._recipe.noise:
                noise = torch.randn(obs.shape, generator=generator, dtype=obs.dtype, device=obs.device)
                obs = obs.add_(noise, alpha=self._recipe.noise)
            total += self.gradient(agent, obs, action, target)
            for (values, grad, mean, square), count, decay in self._updates:
                adamw(
                    [values], [grad], [mean], [square], [], [count], fused=True, amsgrad=False, beta1=BETA1,
                    beta2=BETA2, lr=rate, weight_decay=decay, eps=EPSILON, maximize=False,
                )  # fmt: skip
        if self._rows is not None:
            self._rows.finish()
        return float(total)

    @torch.enable_grad()
    def gradient(self, agent: Tensor, obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """Fills every parameter's `grad` with that of one batch.

        Args:
            agent: Agents, int64 [m, B].
            obs: Scaled observations, [m, B, D].
            action: int64 [m, B], or scaled [m, B, A].
            target: Scaled changes of the observation, and extra quantities, [m, B, D + E]; NaN where unknown.

        Returns:
            Squared error over the size of the batch, summed over dimensions and members, [].
        """
        self._grad.zero_()
        if self._rows is None:
            offset = self._agent_encoder.offset(agent)  # [m, B, R]
        else:
            members, n_agents, rank = self._agent_encoder.factor.shape
            rows = (agent + n_agents * torch.arange(members, device=agent.device)[:, None]).reshape(-1)
            offset = self._rows.fetch(rows).view(members, -1, rank).requires_grad_()
        error, penalty = self._loss(offset, obs, action, target)
        (error + penalty).backward()
        if self._rows is not None:
            assert offset.grad is not None
            self._rows.update(rows, offset.grad.reshape(-1, rank))
        return error.detach()

    def _loss(self, offset: Tensor, obs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor | float]:
        """Error of a batch, and penalties; `offset` sets agents apart from the factor that they share, [m, B, R]."""
        model, config, batch = self._model, self._model.config, offset.shape[1]
        u = offset + self._agent_encoder.bias
        if model.head is not None:  # The unfactorized variant has neither penalty.
            return self._known(model.scaled_delta(u, obs, action) - target, target).square().sum() / batch, 0.0
        w = self._layers(model.action_encoder, action) if config.action_dim else model.action_encoder(action).mT
        v = self._layers(model.state_encoder, obs).unflatten(1, (config.out_dim, config.rank))  # [m, D + E, R, B]
        predicted = (v * (u.mT * w).unsqueeze(1)).sum(2)  # [m, D + E, B]
        error = self._known(predicted - target.mT, target.mT).square().sum() / batch
        penalty: Tensor | float = 0.0
        if self._recipe.pull:
            penalty = self._recipe.pull / batch * offset.square().sum()
        if self._recipe.interaction:
            # What the action of the batch's next transition would change for this agent beyond the shared factor.
            crossed = (offset.mT * (w.roll(-1, 2) - w)).unsqueeze(1)
            penalty = penalty + self._recipe.interaction / batch * (v * crossed).sum(2).square().sum()
        return error, penalty

    def _known(self, residual: Tensor, target: Tensor) -> Tensor:
        """Residuals with 0, which has neither loss nor gradient, where a target is not known.

        Sums are over the size of the batch all the same: a value weighs what it would weigh if no other were missing,
        where a mean over those of a batch would make much of the few that a rarely logged dimension has there.
        """
        return torch.where(target.isnan(), 0.0, residual) if self._lacking else residual

    def _layers(self, encoder: torch.nn.Module, x: Tensor) -> Tensor:
        """All layers of an encoder: [m, B, inputs] to [m, outputs, B]."""
        assert isinstance(encoder, EnsembleMLP)
        x = x.mT
        for i, layer in enumerate(encoder.layers):
            assert isinstance(layer, EnsembleLinear)
            weight, bias = layer.weight, layer.bias
            kind = torch.bfloat16 if self._half and weight.shape[1] >= WIDE_LAYER else weight.dtype
            x = torch.baddbmm(bias.mT.to(kind), weight.mT.to(kind), x.to(kind))
            if i < len(encoder.layers) - 1:
                x = encoder.activation(x)
        return x.to(self._flat.dtype)
