"""The factored ensemble: agent, state and action encoders of all members at once."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.encoders import AgentEncoder, DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.model.walls import Wall, no_walls, stop, walls_of

SMALLEST_STD = 1e-8
"""Unit of quantities that never vary in the data."""


class FactoredEnsemble(nn.Module):
    """Personalized simulator of all agents: M members, each a product of three encoders.

    The standardised change of the observation is the sum over l of u_l(agent) v_l(obs, d) w_l(action), thesis
    section 4.2.1; each encoder is a module that can be exchanged. Where reward and termination are learned, they are
    two more outputs of the same product, predicted as they are and not as changes.

    Attributes:
        config: Sizes.
        agent_encoder: Maps agents [B] or [M, B] to u, [M, B, R].
        state_encoder: Maps scaled observations [M, B, D] to v, [M, B, (D + E) * R].
        action_encoder: Maps actions to w, [M, B, R].
        head: None, or what takes the place of the product: maps u + v + w, [M, B, R], to [M, B, D + E].
        obs_low: Bounds that the physics clips observations to, [L + E]; infinite where it does not.
        obs_high: Likewise.
        walls: What stops predictions at once, [2, L, L], see `persim_gym.simulator.model.walls.no_walls`.
        logged_std: Standard deviation of the logged observations that are learned, [L]; the unit of disagreement.

    L is D, unless the last columns of observations are context, which is not learned (`ModelConfig.context`).
    """

    obs_mean: Tensor
    obs_std: Tensor
    delta_mean: Tensor
    delta_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    obs_low: Tensor
    obs_high: Tensor
    walls: Tensor
    logged_std: Tensor

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        """Draws weights with PyTorch's default initialisation, all from `seed`."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        s = self.config = config
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
            self.register_buffer(f"{name}_mean", torch.zeros(size, dtype=torch.float32))
            self.register_buffer(f"{name}_std", torch.ones(size, dtype=torch.float32))
        self.register_buffer("obs_low", torch.full((s.out_dim,), -torch.inf, dtype=torch.float32))
        self.register_buffer("obs_high", torch.full((s.out_dim,), torch.inf, dtype=torch.float32))
        self.register_buffer("walls", no_walls(s.learned_dim))
        self.register_buffer("logged_std", torch.ones(s.learned_dim, dtype=torch.float32))
        self._sources = torch.tensor([source for source, _ in s.context])
        self._keep = torch.tensor([keep for _, keep in s.context], dtype=torch.float32)

    def scaled_delta(self, u: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Predicted change of the observation, and extra quantities, in scaled units, [M, B, L + E].

        Args:
            u: Latent factors of the rows' agents, [M, B, R].
            obs: Scaled observations, [M, B, D].
            action: Discrete [B] or [M, B], or scaled continuous [M, B, A].
        """
        w = self.action_encoder(action)  # [M, B, R]
        if self.head is not None:
            return self.head(u + self.state_encoder(obs) + w)
        v = self.state_encoder(obs).unflatten(-1, (self.config.out_dim, self.config.rank))  # [M, B, D + E, R]
        return ((u * w).unsqueeze(-2) * v).sum(-1)  # thesis eq. of section 4.2.1; einsum("mbr,mbdr,mbr->mbd")

    def scale_obs(self, obs: Tensor) -> Tensor:
        """Observations in scaled units, same shape."""
        return (obs - self.obs_mean) / self.obs_std

    def scale_action(self, action: Tensor) -> Tensor:
        """Continuous actions in scaled units; discrete ones unchanged."""
        return action if self.config.n_actions else (action - self.action_mean) / self.action_std

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
        for extreme in torch.stack(torch.aminmax(agent)).tolist() if agent.numel() else ():
            if not 0 <= extreme < self.config.n_agents:
                raise unknown_agent(extreme, self.config.n_agents)
        return self.predict_with(self.agent_encoder(agent), obs, action)

    def predict_with(self, u: Tensor, obs: Tensor, action: Tensor, walls: Sequence[Wall] | None = None) -> Tensor:
        """Next observation by each member under given latent factors; otherwise as `predict`.

        Args:
            u: Factors, [M, B, R], or [M, 1, R] for all rows the same.
            obs: See `predict`.
            action: See there.
            walls: The model's; None to read them from its table, for which a GPU is waited.
        """
        members = self.config.members
        obs = obs[..., : self.config.obs_dim]
        obs = obs.expand(members, *obs.shape[-2:])
        given = action
        action = self.scale_action(action)
        if not self.config.n_actions:
            action = action.expand(members, *action.shape[-2:])
        delta = self.scaled_delta(u, self.scale_obs(obs), action)
        change = delta * self.delta_std + self.delta_mean
        learned = with_extra(obs[..., : self.config.learned_dim], self.config.extra_dim)
        following = (learned + change).clamp(self.obs_low, self.obs_high)
        stop(walls_of(self.walls) if walls is None else walls, following)
        return self.with_context(following, obs, given) if self.config.context else following

    def with_context(self, following: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Puts the context of the next observation, which follows exactly, between what is learned.

        Args:
            following: Next values of the learned columns, and of what is learned beside them, [M, B, L + E].
            obs: Observations before the step, [M, B, D].
            action: Actions as they are, int64 [B] or float32 [B, A].
        """
        s, sources, keep = self.config, self._sources.to(obs.device), self._keep.to(obs.device)
        if s.n_actions:
            action = torch.nn.functional.one_hot(action, s.n_actions)
        row = torch.cat([obs, action.to(obs.dtype).expand(*obs.shape[:-1], action.shape[-1])], dim=-1)
        flows = row[..., sources]
        context = torch.where(keep > 0, keep * obs[..., s.learned_dim :] + (1 - keep) * flows, flows)
        return torch.cat([following[..., : s.learned_dim], context, following[..., s.learned_dim :]], dim=-1)

    def disagreement(self, following: Any) -> Any:
        """Spread of the members' predictions, in standard deviations of the logged observations.

        Args:
            following: Predicted next observations, [M, ..., D] or [M, ..., D + E], NumPy.

        Returns:
            Root mean square over dimensions of the standard deviation over members, [...].
        """
        variance = np.var(following[..., : self.config.learned_dim] / self.logged_std.cpu().numpy(), axis=0)
        return np.sqrt(variance.mean(axis=-1))

    def check_agents(self, agents: Iterable[int]) -> None:
        """Checks that agents exist.

        Raises:
            ValueError: If one is unknown.
        """
        for agent in agents:
            whole = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
            if not whole or not 0 <= agent < self.config.n_agents:
                raise unknown_agent(agent, self.config.n_agents)

    def check_on_cpu(self) -> None:
        """Checks that the model is on the CPU, for what is computed nowhere else.

        Raises:
            ValueError: If it is not.
        """
        device = self.obs_mean.device
        if device.type != "cpu":
            raise ValueError(
                f"the model is on {device}, where it is trained, predicts and is planned in; environments, beliefs and "
                "what is learned of new agents need it on the CPU: model.cpu(), or move a copy, deepcopy(model)"
            )


def unknown_agent(agent: object, n_agents: int) -> ValueError:
    """The error for an agent that a simulator does not know."""
    shown = agent if isinstance(agent, int | np.integer) else repr(agent)
    return ValueError(f"agent {shown} is not in this simulator ({n_agents} agents: 0–{n_agents - 1})")


def with_extra(obs: Tensor, extra_dim: int, axis: int = -1) -> Tensor:
    """Observations with `extra_dim` zeros behind them: what a predicted change is added to."""
    if not extra_dim:
        return obs
    shape = list(obs.shape)
    shape[axis] = extra_dim
    return torch.cat([obs, obs.new_zeros(shape)], dim=axis)
