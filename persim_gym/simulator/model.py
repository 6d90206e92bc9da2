"""The factored ensemble: agent, state and action encoders of all members at once."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.simulator.kernels import predict

ACTIVATIONS = {"relu": nn.functional.relu, "silu": nn.functional.silu}
INPLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "silu": partial(nn.functional.silu, inplace=True),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a factored ensemble.

    Attributes:
        n_agents: Agents N.
        obs_dim: Observation size D.
        n_actions: Number of discrete actions; 0 when actions are continuous.
        action_dim: Action size A; 0 when actions are discrete.
        rank: Rank R.
        members: Ensemble members M.
        state_layers: Hidden widths of the state encoder.
        action_layers: Hidden widths of the action encoder; () for discrete actions.
        activation: "relu" or "silu".
    """

    n_agents: int
    obs_dim: int
    n_actions: int
    action_dim: int
    rank: int
    members: int = 5
    state_layers: tuple[int, ...] = (256,)
    action_layers: tuple[int, ...] = ()
    activation: str = "relu"

    def __post_init__(self) -> None:
        """Checks that the sizes describe a model.

        Raises:
            ValueError: If they do not.
        """
        sizes = (self.n_agents, self.obs_dim, self.rank, self.members, *self.state_layers, *self.action_layers)
        if min(sizes) < 1 or (self.n_actions > 0) == (self.action_dim > 0) or not self.state_layers:
            raise ValueError(f"impossible model sizes {self}: all positive, and either n_actions or action_dim is 0")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @property
    def small(self) -> bool:
        """Whether compiled kernels serve this model: one hidden layer and discrete actions."""
        return len(self.state_layers) == 1 and self.n_actions > 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


class EnsembleLinear(nn.Module):
    """M independent linear layers: [M, B, inputs] to [M, B, outputs]."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        """Draws weights as torch.nn.Linear does, uniformly within 1/sqrt(inputs)."""
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(_uniform((members, inputs, outputs), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, outputs), bound, generator))

    def forward(self, x: Tensor) -> Tensor:
        """Applies each member's layer to its own rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """M independent multilayer perceptrons: [M, B, inputs] to [M, B, outputs]."""

    def __init__(self, members: int, sizes: tuple[int, ...], activation: str, generator: torch.Generator) -> None:
        """Stacks linear layers of the given sizes, inputs first and outputs last."""
        super().__init__()
        self.layers = nn.ModuleList(
            EnsembleLinear(members, i, o, generator) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.activation = ACTIVATIONS[activation]

    def hidden(self, x: Tensor) -> Tensor:
        """Activations in front of the last layer."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Applies all layers; the last one is linear."""
        return self.layers[-1](self.hidden(x))


class AgentEncoder(nn.Module):
    """A latent factor an agent, as a one-hot linear layer: its row plus a bias shared by all, [M, B, R].

    Source: thesis appendix A.1.
    """

    def __init__(self, members: int, n_agents: int, rank: int, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear(n_agents, rank) does."""
        super().__init__()
        bound = 1.0 / math.sqrt(n_agents)
        self.factor = nn.Parameter(_uniform((members, n_agents, rank), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, rank), bound, generator))

    def forward(self, agent: Tensor) -> Tensor:
        """Latent factors of agents: [B] or [M, B] to [M, B, R]."""
        return self.offset(agent) + self.bias

    def offset(self, agent: Tensor) -> Tensor:
        """What sets agents apart from the shared bias: [B] or [M, B] to [M, B, R]."""
        members, n_agents, rank = self.factor.shape
        if agent.ndim == 1:
            return self.factor[:, agent]
        rows = agent + n_agents * torch.arange(members, device=agent.device)[:, None]
        return self.factor.reshape(-1, rank)[rows]


class DiscreteActionEncoder(nn.Module):
    """A latent factor an action, as a one-hot linear layer, [M, B, R]; thesis appendix A.1."""

    def __init__(self, members: int, n_actions: int, rank: int, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear(n_actions, rank) does."""
        super().__init__()
        bound = 1.0 / math.sqrt(n_actions)
        self.factor = nn.Parameter(_uniform((members, n_actions, rank), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, rank), bound, generator))

    def forward(self, action: Tensor) -> Tensor:
        """Latent factors of actions: [B] or [M, B] to [M, B, R]."""
        members, n_actions, rank = self.factor.shape
        table = self.factor + self.bias
        if action.ndim == 1:
            return table[:, action]
        rows = action + n_actions * torch.arange(members, device=action.device)[:, None]
        return table.reshape(-1, rank)[rows]


class FactoredEnsemble(nn.Module):
    """Personalized simulator of all agents: M members, each a product of three encoders.

    The standardised change of the observation is the sum over l of u_l(agent) v_l(obs, d) w_l(action), thesis
    section 4.2.1; each encoder is a module that can be exchanged.

    Attributes:
        shape: Sizes.
        agent_encoder: Maps agents [B] or [M, B] to u, [M, B, R].
        state_encoder: Maps scaled observations [M, B, D] to v, [M, B, D * R].
        action_encoder: Maps actions to w, [M, B, R].
        obs_low: Bounds that the physics clips observations to, [D]; infinite where it does not.
        obs_high: Likewise.
        logged_std: Standard deviation of the logged observations, [D]; the unit of disagreement.
    """

    obs_mean: Tensor
    obs_std: Tensor
    delta_mean: Tensor
    delta_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    obs_low: Tensor
    obs_high: Tensor
    logged_std: Tensor

    def __init__(self, shape: ModelShape, seed: int = 0) -> None:
        """Draws weights with PyTorch's default initialisation, all from `seed`."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        s = self.shape = shape
        self.agent_encoder: nn.Module = AgentEncoder(s.members, s.n_agents, s.rank, generator)
        self.state_encoder: nn.Module = EnsembleMLP(
            s.members, (s.obs_dim, *s.state_layers, s.obs_dim * s.rank), s.activation, generator
        )
        self.action_encoder: nn.Module = (
            DiscreteActionEncoder(s.members, s.n_actions, s.rank, generator)
            if s.n_actions
            else EnsembleMLP(s.members, (s.action_dim, *s.action_layers, s.rank), s.activation, generator)
        )
        for name, size in (("obs", s.obs_dim), ("delta", s.obs_dim), ("action", s.action_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("obs_low", torch.full((s.obs_dim,), -torch.inf))
        self.register_buffer("obs_high", torch.full((s.obs_dim,), torch.inf))
        self.register_buffer("logged_std", torch.ones(s.obs_dim))

    def scaled_delta(self, u: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Predicted change of the observation in scaled units, [M, B, D].

        Args:
            u: Latent factors of the rows' agents, [M, B, R].
            obs: Scaled observations, [M, B, D].
            action: Discrete [B] or [M, B], or scaled continuous [M, B, A].
        """
        v = self.state_encoder(obs).unflatten(-1, (self.shape.obs_dim, self.shape.rank))  # [M, B, D, R]
        w = self.action_encoder(action)  # [M, B, R]
        return ((u * w).unsqueeze(-2) * v).sum(-1)  # thesis eq. of section 4.2.1; einsum("mbr,mbdr,mbr->mbd")

    def scale_obs(self, obs: Tensor) -> Tensor:
        """Observations in scaled units, same shape."""
        return (obs - self.obs_mean) / self.obs_std

    def scale_action(self, action: Tensor) -> Tensor:
        """Continuous actions in scaled units; discrete ones unchanged."""
        return action if self.shape.n_actions else (action - self.action_mean) / self.action_std

    def predict(self, agent: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Next observation by each member.

        Args:
            agent: Agents, int64 [B].
            obs: Observations, [M, B, D], or [B, D] for all members the same.
            action: Actions, int64 [B] or float32 [B, A].

        Returns:
            [M, B, D], in the units of the observations.

        Raises:
            ValueError: If an agent is unknown.
        """
        for extreme in (agent.min(), agent.max()) if agent.numel() else ():
            if not 0 <= extreme < self.shape.n_agents:
                raise unknown_agent(int(extreme), self.shape.n_agents)
        members = self.shape.members
        obs = obs.expand(members, *obs.shape[-2:])
        action = self.scale_action(action)
        if not self.shape.n_actions:
            action = action.expand(members, *action.shape[-2:])
        delta = self.scaled_delta(self.agent_encoder(agent), self.scale_obs(obs), action)
        return (obs + delta * self.delta_std + self.delta_mean).clamp(self.obs_low, self.obs_high)

    def dynamics(self, agent: int) -> "AgentDynamics":
        """The ensemble bound to one agent, its latent factor folded into the weights; what planners use.

        Raises:
            ValueError: If the agent is unknown.
        """
        whole = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
        if not whole or not 0 <= agent < self.shape.n_agents:
            raise unknown_agent(agent, self.shape.n_agents)
        with torch.no_grad():
            factor = self.agent_encoder(torch.tensor([agent], device=self.obs_mean.device))[:, 0]
        return AgentDynamics(self, factor)


class AgentDynamics:
    """A `Dynamics` of one agent: maps ([M, C, D] or [C, D], [C] or [C, A]) to next observations, [M, C, D].

    Scaling is folded into the first layer of the state encoder; u(agent) and, for discrete actions, every w(action)
    into its last one, whose outputs then are the changes under each action. NumPy arrays in, NumPy arrays out; torch
    tensors likewise.

    Attributes:
        members: Ensemble size M.
        factor: The agent's latent factor by member, [M, R].
    """

    def __init__(self, model: FactoredEnsemble, factor: Tensor) -> None:
        """Folds `factor`, [M, R], into the model's weights."""
        s = model.shape
        self.members = s.members
        self.factor = factor.detach()
        self._model = model
        self._shape = s
        encoder = model.state_encoder
        assert isinstance(encoder, EnsembleMLP)
        with torch.no_grad():
            weights, biases = (
                list(parts) for parts in zip(*((la.weight, la.bias) for la in encoder.layers), strict=True)
            )
            weights[0] = weights[0] / model.obs_std[:, None]
            biases[0] = biases[0] - model.obs_mean[None, None] @ weights[0]
            weights[-1], biases[-1] = self._fold(weights[-1]), self._fold(biases[-1])
            if s.n_actions:
                biases[-1] = biases[-1] + model.delta_mean.repeat(s.n_actions)
            # Rows are kept last, [M, features, C]: thin products such as [D * actions, H] x [H, C] are several times
            # faster than [C, H] x [H, D * actions].
            self._weights = [w.detach().transpose(1, 2).contiguous() for w in weights]
            self._biases = [b.detach().transpose(1, 2).contiguous() for b in biases]
            clips = bool(torch.isfinite(torch.cat([model.obs_low, model.obs_high])).any())
            self._bounds = (model.obs_low[:, None], model.obs_high[:, None]) if clips else None
        self._activate = INPLACE[s.activation]
        self._compiled = self._arrays() if s.small and not factor.is_cuda else None

    def _arrays(self) -> tuple[NDArray[np.float32], ...]:
        """Weights as the compiled kernel takes them."""
        s, model = self._shape, self._model
        (first, last), (first_bias, last_bias) = self._weights, self._biases
        parts = (
            first.transpose(1, 2),
            first_bias[..., 0],
            last.unflatten(1, (s.n_actions, s.obs_dim)),
            last_bias[..., 0].unflatten(1, (s.n_actions, s.obs_dim)),
            model.obs_low,
            model.obs_high,
        )
        return tuple(np.ascontiguousarray(part.detach().numpy()) for part in parts)

    def disagreement(self, following: Any) -> Any:
        """Spread of the members' predictions, in standard deviations of the logged observations.

        Args:
            following: Predicted next observations, [M, ..., D], NumPy.

        Returns:
            Root mean square over dimensions of the standard deviation over members, [...].
        """
        variance = np.var(following / self._model.logged_std.cpu().numpy(), axis=0)
        return np.sqrt(variance.mean(axis=-1))

    def _fold(self, part: Tensor) -> Tensor:
        """Folds the agent, the actions and the units of the change into weights or biases of the last layer."""
        s, model = self._shape, self._model
        head = part.unflatten(-1, (s.obs_dim, s.rank)) * model.delta_std[:, None]  # [M, H or 1, D, R]
        if not s.n_actions:
            return (head * self.factor[:, None, None]).flatten(2)
        w = model.action_encoder(torch.arange(s.n_actions, device=part.device))  # [M, actions, R]
        return torch.einsum("mhdr,mar->mhad", head, self.factor[:, None] * w).flatten(2)

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D].

        Args:
            obs: [M, C, D], or [C, D] for all members the same.
            action: int64 [C] or float32 [C, A]; the same for all members.
        """
        if not isinstance(obs, Tensor):
            if self._compiled is not None:
                each = np.broadcast_to(np.asarray(obs, dtype=np.float32), (self.members, *np.shape(obs)[-2:]))
                action = np.asarray(action)
                if action.shape != each.shape[1:2] or not 0 <= action.min() <= action.max() < self._shape.n_actions:
                    raise ValueError(  # the kernel reads whatever memory it is sent to
                        f"expected {each.shape[1]} actions of 0–{self._shape.n_actions - 1}, got {action!r}"
                    )
                return predict(each, action, self._compiled, self._shape.activation == "silu")
            device = self.factor.device
            moved = torch.tensor(obs, dtype=torch.float32, device=device)
            kind = torch.int64 if self._shape.n_actions else torch.float32
            result: NDArray[np.float32] = self(moved, torch.as_tensor(action, dtype=kind, device=device)).cpu().numpy()
            return result
        s = self._shape
        now = obs.expand(self.members, *obs.shape[-2:]).transpose(1, 2)  # [M, D, C]
        x = now
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = self._activate(torch.baddbmm(bias, weight, x))
        out = torch.baddbmm(self._biases[-1], self._weights[-1], x)
        if s.n_actions:
            each = out.unflatten(1, (s.n_actions, s.obs_dim))  # [M, actions, D, C]
            change = each.gather(1, action.expand(self.members, 1, s.obs_dim, -1))[:, 0]
        else:
            w = self._model.action_encoder(self._model.scale_action(action).expand(self.members, *action.shape))
            change = (out.unflatten(1, (s.obs_dim, s.rank)) * w.transpose(1, 2)[:, None]).sum(2)
            change = change + self._model.delta_mean[:, None]
        following = now + change
        if self._bounds is not None:
            following = following.clamp_(*self._bounds)
        return following.transpose(1, 2)


def unknown_agent(agent: object, n_agents: int) -> ValueError:
    """The error for an agent that a simulator does not know."""
    shown = agent if isinstance(agent, int | np.integer) else repr(agent)
    return ValueError(f"agent {shown} is not in this simulator ({n_agents} agents: 0–{n_agents - 1})")


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
