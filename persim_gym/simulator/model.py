"""The factored ensemble: agent, state and action encoders of all members at once."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.simulator.deep import DeepRollout
from persim_gym.simulator.encoders import (
    ACTIVATIONS,
    ACTIVATIONS_INPLACE,
    AgentEncoder,
    DiscreteActionEncoder,
    EnsembleMLP,
)
from persim_gym.simulator.kernels import predict
from persim_gym.simulator.lanes import interleave, rollout

VARIANTS = ("factored", "unfactorized", "unpersonalized")


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
        extra_dim: Quantities E predicted beside the next observation: 2 where reward and termination are learned.
        variant: "factored", or a variant of thesis section 5.3, see `persim_gym.simulator.variants`.
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
    extra_dim: int = 0
    variant: str = "factored"

    def __post_init__(self) -> None:
        """Checks that the sizes describe a model.

        Raises:
            ValueError: If they do not.
        """
        sizes = (self.n_agents, self.obs_dim, self.rank, self.members, *self.state_layers, *self.action_layers)
        either = (self.n_actions > 0) != (self.action_dim > 0)
        if min(sizes) < 1 or not either or not self.state_layers or self.extra_dim < 0:
            raise ValueError(f"impossible model sizes {self}: all positive, and either n_actions or action_dim is 0")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r} is not one of {', '.join(VARIANTS)}")

    @property
    def out_dim(self) -> int:
        """Size D + E of a prediction."""
        return self.obs_dim + self.extra_dim

    @property
    def small(self) -> bool:
        """Whether compiled kernels serve this model: factored, one hidden layer and discrete actions."""
        return len(self.state_layers) == 1 and self.n_actions > 0 and self.variant != "unfactorized"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


class FactoredEnsemble(nn.Module):
    """Personalized simulator of all agents: M members, each a product of three encoders.

    The standardised change of the observation is the sum over l of u_l(agent) v_l(obs, d) w_l(action), thesis
    section 4.2.1; each encoder is a module that can be exchanged. Where reward and termination are learned, they are
    two more outputs of the same product, predicted as they are and not as changes.

    Attributes:
        shape: Sizes.
        agent_encoder: Maps agents [B] or [M, B] to u, [M, B, R].
        state_encoder: Maps scaled observations [M, B, D] to v, [M, B, (D + E) * R].
        action_encoder: Maps actions to w, [M, B, R].
        head: None, or what takes the place of the product: maps u + v + w, [M, B, R], to [M, B, D + E].
        obs_low: Bounds that the physics clips observations to, [D + E]; infinite where it does not.
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
            s.members, (s.obs_dim, *s.state_layers, s.out_dim * s.rank), s.activation, generator
        )
        self.action_encoder: nn.Module = (
            DiscreteActionEncoder(s.members, s.n_actions, s.rank, generator)
            if s.n_actions
            else EnsembleMLP(s.members, (s.action_dim, *s.action_layers, s.rank), s.activation, generator)
        )
        self.head: nn.Module | None = None
        for name, size in (("obs", s.obs_dim), ("delta", s.out_dim), ("action", s.action_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("obs_low", torch.full((s.out_dim,), -torch.inf))
        self.register_buffer("obs_high", torch.full((s.out_dim,), torch.inf))
        self.register_buffer("logged_std", torch.ones(s.obs_dim))

    def scaled_delta(self, u: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Predicted change of the observation, and extra quantities, in scaled units, [M, B, D + E].

        Args:
            u: Latent factors of the rows' agents, [M, B, R].
            obs: Scaled observations, [M, B, D].
            action: Discrete [B] or [M, B], or scaled continuous [M, B, A].
        """
        w = self.action_encoder(action)  # [M, B, R]
        if self.head is not None:
            return self.head(u + self.state_encoder(obs) + w)
        v = self.state_encoder(obs).unflatten(-1, (self.shape.out_dim, self.shape.rank))  # [M, B, D + E, R]
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
            obs: Observations, [M, B, D], or [B, D] for all members the same; columns past D are ignored.
            action: Actions, int64 [B] or float32 [B, A].

        Returns:
            [M, B, D + E], in the units of the observations.

        Raises:
            ValueError: If an agent is unknown.
        """
        for extreme in (agent.min(), agent.max()) if agent.numel() else ():
            if not 0 <= extreme < self.shape.n_agents:
                raise unknown_agent(int(extreme), self.shape.n_agents)
        return self.predict_with(self.agent_encoder(agent), obs, action)

    def predict_with(self, u: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Next observation by each member under given latent factors, [M, B, R]; otherwise as `predict`."""
        members = self.shape.members
        obs = obs[..., : self.shape.obs_dim]
        obs = obs.expand(members, *obs.shape[-2:])
        action = self.scale_action(action)
        if not self.shape.n_actions:
            action = action.expand(members, *action.shape[-2:])
        delta = self.scaled_delta(u, self.scale_obs(obs), action)
        change = delta * self.delta_std + self.delta_mean
        return (with_extra(obs, self.shape.extra_dim) + change).clamp(self.obs_low, self.obs_high)

    def disagreement(self, following: Any) -> Any:
        """Spread of the members' predictions, in standard deviations of the logged observations.

        Args:
            following: Predicted next observations, [M, ..., D] or [M, ..., D + E], NumPy.

        Returns:
            Root mean square over dimensions of the standard deviation over members, [...].
        """
        variance = np.var(following[..., : self.shape.obs_dim] / self.logged_std.cpu().numpy(), axis=0)
        return np.sqrt(variance.mean(axis=-1))

    def check_agents(self, agents: Iterable[int]) -> None:
        """Checks that agents exist.

        Raises:
            ValueError: If one is unknown.
        """
        for agent in agents:
            whole = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
            if not whole or not 0 <= agent < self.shape.n_agents:
                raise unknown_agent(agent, self.shape.n_agents)

    def dynamics(self, agent: int) -> Any:
        """The ensemble bound to one agent, what planners use: an `AgentDynamics`, or the same of a variant.

        Raises:
            ValueError: If the agent is unknown.
        """
        self.check_agents([agent])
        if self.head is not None:
            return self.head.dynamics(self, agent)  # type: ignore[operator]
        with torch.no_grad():
            factor = self.agent_encoder(torch.tensor([agent], device=self.obs_mean.device))[:, 0]
        return AgentDynamics(self, factor)


class AgentDynamics:
    """A `Dynamics` of one agent: maps ([M, C, D] or [C, D], [C] or [C, A]) to next observations, [M, C, D + E].

    Where reward and termination are learned, E = 2 columns follow the next observation; columns past D of what goes in
    are ignored, so that a prediction can go in again as it is.

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
        self._activate = ACTIVATIONS_INPLACE[s.activation]
        self._compiled = self.arrays() if s.small and not factor.is_cuda else None

    @cached_property
    def _fused(self) -> Callable[..., NDArray[np.float32]] | None:
        """The compiled rollout of this model, if there is one: for small ones and for those of continuous actions."""
        s, model = self._shape, self._model
        if self._compiled is not None:
            first, first_bias, last, last_bias, low, high = self._compiled
            bounds = np.stack([low, high])
            records = interleave(first, first_bias, last[0])
            return partial(rollout, records=records, heads=last_bias[0], bounds=bounds, silu=s.activation == "silu")
        encoder = model.action_encoder
        if self.factor.is_cuda or not isinstance(encoder, EnsembleMLP):
            return None
        with torch.no_grad():
            state = [(w.transpose(1, 2), b[..., 0]) for w, b in zip(self._weights, self._biases, strict=True)]
            action: list[tuple[Tensor, Tensor]] = [(la.weight, la.bias[:, 0]) for la in encoder.layers]  # type: ignore
            weight = action[0][0] / model.action_std[:, None]
            action[0] = weight, action[0][1] - model.action_mean @ weight
            limits = model.obs_low, model.obs_high
            return DeepRollout(state, action, s.activation == "silu", model.delta_mean, limits)

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """Weights as the compiled kernel takes them."""
        s, model = self._shape, self._model
        (first, last), (first_bias, last_bias) = self._weights, self._biases
        parts = (
            first.transpose(1, 2),
            first_bias[..., 0],
            last.unflatten(1, (s.n_actions, s.out_dim))[None],
            last_bias[..., 0].unflatten(1, (s.n_actions, s.out_dim))[None],
            model.obs_low,
            model.obs_high,
        )
        return tuple(np.ascontiguousarray(part.detach().numpy()) for part in parts)

    def rollout(self, obs: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float32]:
        """Observations that follow h actions, as h calls one after the other, but faster.

        Small models agree with the calls up to float32 rounding. Deep ones round the inputs of their inner layers to
        bfloat16 where the processor multiplies it.

        Args:
            obs: [M, C, D], or [M, C, D + E]; columns past D are ignored.
            actions: int64 [C, h] or float32 [C, h, A].

        Returns:
            [M, C, h, D + E].

        Raises:
            ValueError: If the shapes do not match or an action is not one of the model's.
        """
        s = self._shape
        actions = np.asarray(actions)
        expected = actions.shape[:2] if s.n_actions else (*actions.shape[:2], s.action_dim)
        fits = np.shape(obs)[:2] == (self.members, len(actions)) and np.shape(obs)[2] in (s.obs_dim, s.out_dim)
        if not fits or actions.shape != expected:
            raise ValueError(f"observations {np.shape(obs)} and actions {actions.shape} do not fit {s}")
        if s.n_actions and not self._known(actions):
            raise ValueError(f"expected actions of 0–{s.n_actions - 1}, got {actions!r}")
        if self._fused is not None:
            return self._fused(np.asarray(obs)[..., : s.obs_dim], actions)
        steps: list[NDArray[np.float32]] = []
        for t in range(actions.shape[1]):
            obs = self(obs, actions[:, t])
            steps.append(obs)
        return np.stack(steps, axis=2)

    def _known(self, actions: NDArray[Any]) -> bool:
        """Whether the kernels, which read whatever memory they are sent to, can take these actions."""
        return actions.size > 0 and 0 <= int(actions.min()) <= int(actions.max()) < self._shape.n_actions

    def _fold(self, part: Tensor) -> Tensor:
        """Folds the agent, the actions and the units of the change into weights or biases of the last layer."""
        s, model = self._shape, self._model
        head = part.unflatten(-1, (s.out_dim, s.rank)) * model.delta_std[:, None]  # [M, H or 1, D + E, R]
        if not s.n_actions:
            return (head * self.factor[:, None, None]).flatten(2)
        w = model.action_encoder(torch.arange(s.n_actions, device=part.device))  # [M, actions, R]
        return torch.einsum("mhdr,mar->mhad", head, self.factor[:, None] * w).flatten(2)

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D + E].

        Args:
            obs: [M, C, D], or [C, D] for all members the same; columns past D are ignored.
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
                one = np.zeros(len(action), dtype=np.int64)
                return predict(each, action, one, self._compiled, self._shape.activation == "silu")
            device = self.factor.device
            moved = torch.tensor(obs, dtype=torch.float32, device=device)
            kind = torch.int64 if self._shape.n_actions else torch.float32
            result: NDArray[np.float32] = self(moved, torch.as_tensor(action, dtype=kind, device=device)).cpu().numpy()
            return result
        s = self._shape
        now = obs[..., : s.obs_dim]
        now = x = now.expand(self.members, *now.shape[-2:]).transpose(1, 2)  # [M, D, C]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = self._activate(torch.baddbmm(bias, weight, x))
        out = torch.baddbmm(self._biases[-1], self._weights[-1], x)
        if s.n_actions:
            each = out.unflatten(1, (s.n_actions, s.out_dim))  # [M, actions, D + E, C]
            change = each.gather(1, action.expand(self.members, 1, s.out_dim, -1))[:, 0]
        else:
            w = self._model.action_encoder(self._model.scale_action(action).expand(self.members, *action.shape))
            change = (out.unflatten(1, (s.out_dim, s.rank)) * w.transpose(1, 2)[:, None]).sum(2)
            change = change + self._model.delta_mean[:, None]
        following = with_extra(now, s.extra_dim, axis=1) + change
        if self._bounds is not None:
            following = following.clamp_(*self._bounds)
        return following.transpose(1, 2)


def with_extra(obs: Tensor, extra_dim: int, axis: int = -1) -> Tensor:
    """Observations with `extra_dim` zeros behind them: what a predicted change is added to."""
    if not extra_dim:
        return obs
    shape = list(obs.shape)
    shape[axis] = extra_dim
    return torch.cat([obs, obs.new_zeros(shape)], dim=axis)


def unknown_agent(agent: object, n_agents: int) -> ValueError:
    """The error for an agent that a simulator does not know."""
    shown = agent if isinstance(agent, int | np.integer) else repr(agent)
    return ValueError(f"agent {shown} is not in this simulator ({n_agents} agents: 0–{n_agents - 1})")
