"""The ensemble bound to one agent: what planners roll out."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.dynamics.folding import folded_networks, scaled_layers
from persim_gym.simulator.kernels.deep_rollout import DeepWeights, rollout_deep
from persim_gym.simulator.kernels.small_forward import SmallWeights, predict_small
from persim_gym.simulator.kernels.small_rollout import rollout_small
from persim_gym.simulator.model.encoders import ACTIVATIONS_INPLACE, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble, with_extra
from persim_gym.simulator.model.precision import without_autocast
from persim_gym.simulator.model.walls import stop, wall_arrays, walls_of
from persim_gym.task import Ends, PlanningDynamics

GPU_TILE = 2**16  # Rows that a GPU is given at once: launching a kernel costs it more than falling out of a cache.


class AgentDynamics(PlanningDynamics):
    """Dynamics of one agent: maps ([M, C, D] or [C, D], [C] or [C, A]) to next observations, [M, C, D + E].

    Where reward and termination are learned, E = 2 columns follow the next observation; columns past D of what goes in
    are ignored, so that a prediction can go in again as it is.

    Scaling is folded into the first layer of the state encoder; u(agent) and, for discrete actions, every w(action)
    into its last one, whose outputs then are the changes under each action. NumPy arrays in, NumPy arrays out; torch
    tensors likewise. Bind again when the model has changed: what is folded, and what rollouts compile, are copies.

    Attributes:
        factor: The agent's latent factor by member, [M, R].
        concurrent: As `PlanningDynamics`; not on a GPU, which is one device.
        stops: As `PlanningDynamics`; not on a GPU, which would wait for the answers.
    """

    fused = True

    def __init__(self, model: FactoredEnsemble, factor: Tensor, quantize: bool = False) -> None:
        """Folds an agent's latent factor into the model's weights.

        Args:
            model: The ensemble.
            factor: The agent's latent factor by member, [M, R].
            quantize: Whether rollouts of a deep model of continuous actions round the weights and inputs of its inner
                layers to bytes, where the processor multiplies those; else all is float32.
        """
        s = model.config
        self._quantize = quantize
        self.members = s.members
        self.factor = factor.detach()
        on_cpu = factor.device.type == "cpu"
        self.concurrent = self.stops = on_cpu
        self.tile = None if on_cpu else GPU_TILE
        self._model = model
        self._config, self.exogenous = s, s.held
        with torch.no_grad():
            unit = model.delta_std.repeat_interleave(s.rank)
            layers = scaled_layers(model.state_encoder, model.obs_mean, model.obs_std, unit)
            weights, biases = (list(parts) for parts in zip(*layers, strict=True))
            weights[-1], biases[-1] = self._fold(weights[-1]), self._fold(biases[-1])
            if s.n_actions:
                biases[-1] = biases[-1] + model.delta_mean.repeat(s.n_actions)
            # Rows are kept last, [M, features, C]: thin products such as [D * actions, H] x [H, C] are several times
            # faster than [C, H] x [H, D * actions].
            self._weights = [w.detach().transpose(1, 2).contiguous() for w in weights]
            self._biases = [b.detach().transpose(1, 2).contiguous() for b in biases]
            clips = bool(torch.isfinite(torch.cat([model.obs_low, model.obs_high])).any())
            self._bounds = (model.obs_low[:, None], model.obs_high[:, None]) if clips else None
            self._walls = walls_of(model.walls)
        self._activate = ACTIVATIONS_INPLACE[s.activation]
        self._compiled = self.kernel_weights() if s.small and on_cpu else None

    @cached_property
    def _fused(self) -> Callable[..., NDArray[np.float32]] | None:
        """The compiled rollout of this model, if there is one: for small ones and for those of continuous actions."""
        s, model = self._config, self._model
        if self._compiled is not None:
            return partial(rollout_small, weights=self._compiled)
        encoder = model.action_encoder
        if self.factor.device.type != "cpu" or not isinstance(encoder, EnsembleMLP) or s.context:
            return None
        networks = folded_networks(model, self._quantize)
        parts = self.factor, model.delta_mean, model.obs_low, model.obs_high
        factor, mean, low, high = (part.detach().numpy() for part in parts)
        walls, silu = wall_arrays(model.walls), s.activation == "silu"
        return partial(rollout_deep, weights=DeepWeights(*networks, factor, mean, low, high, walls, silu))

    def kernel_weights(self) -> SmallWeights:
        """A small model's weights as the compiled kernels take them, G = 1."""
        s, model = self._config, self._model
        (first, last), (first_bias, last_bias) = self._weights, self._biases

        def array(part: Tensor) -> NDArray[np.float32]:
            return np.ascontiguousarray(part.detach().numpy())

        return SmallWeights(
            array(first.transpose(1, 2)),
            array(first_bias[..., 0]),
            array(last.unflatten(1, (s.n_actions, s.out_dim))[None]),
            array(last_bias[..., 0].unflatten(1, (s.n_actions, s.out_dim))[None]),
            array(model.obs_low),
            array(model.obs_high),
            wall_arrays(model.walls),
            s.activation == "silu",
        )

    def rollout(
        self,
        obs: NDArray[Any],
        actions: NDArray[Any],
        ends: Ends | None = None,
        live: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Observations that follow h actions, as h calls one after the other, but faster.

        They agree with the calls up to float32 rounding, unless `quantize` was asked for.

        Args:
            obs: [M, C, D], or [M, C, D + E]; columns past D are ignored.
            actions: int64 [C, h] or float32 [C, h, A].
            ends: As `PlanningDynamics.rollout`; a candidate that has ended costs no more time.
            live: As `PlanningDynamics.rollout`, [M, C].

        Returns:
            As `PlanningDynamics.rollout`, [M, C, h, D + E].

        Raises:
            ValueError: If the shapes do not match, an action is not one of the model's, or `ends` compares components
                that predictions have not.
        """
        s = self._config
        actions = np.asarray(actions)
        expected = actions.shape[:2] if s.n_actions else (*actions.shape[:2], s.action_dim)
        rows = self.members, len(actions)
        live = np.ones(rows, dtype=np.bool_) if live is None else np.asarray(live, dtype=np.bool_)
        fits = np.shape(obs)[:2] == live.shape == rows and np.shape(obs)[2] in (s.obs_dim, s.prediction_dim)
        if not fits or actions.shape != expected:
            raise ValueError(f"observations {np.shape(obs)} and actions {actions.shape} do not fit {s}")
        if s.n_actions and not _are_known(actions, s.n_actions):
            raise ValueError(f"expected actions of 0–{s.n_actions - 1}, got {actions!r}")
        if ends is not None and max(component for component, _, _ in ends.each) >= s.prediction_dim:
            raise ValueError(f"{ends} compares more components than the {s.prediction_dim} of predictions")
        rollout = self._step_by_step if self._fused is None else self._fused
        return rollout(np.asarray(obs)[..., : s.obs_dim], actions, live, ends)

    @torch.no_grad()
    def _step_by_step(
        self, obs: NDArray[Any], actions: NDArray[Any], live: NDArray[np.bool_], ends: Ends | None
    ) -> NDArray[np.float32]:
        """As the compiled rollouts, but members move a candidate until the last of them has ended it."""
        now, moves = self._moved(obs, actions)
        now = with_extra(now, self._config.extra_dim)
        runs = None if ends is None and live.all() else torch.tensor(live, device=now.device)
        steps: list[Tensor] = []
        for t in range(actions.shape[1]):
            if runs is None:
                now = self._following(now, moves[:, t])
            else:
                some = runs.any(dim=0).nonzero()[:, 0]  # Indices, because a GPU counts a mask anew at each use.
                following = self._following(now[:, some], moves[some, t])
                now = now.clone()
                now[:, some] = torch.where(runs[:, some, None], following, now[:, some])
                if ends is not None:
                    runs &= ~ends(now)
            steps.append(now)
        return torch.stack(steps, dim=2).cpu().numpy()

    @without_autocast
    def _fold(self, part: Tensor) -> Tensor:
        """Folds the agent and the actions into weights or biases of the last layer."""
        s, model = self._config, self._model
        head = part.unflatten(-1, (s.out_dim, s.rank))  # [M, H or 1, D + E, R]
        if not s.n_actions:
            return (head * self.factor[:, None, None]).flatten(2)
        w = model.action_encoder(torch.arange(s.n_actions, device=part.device))  # [M, actions, R]
        return torch.einsum("mhdr,mar->mhad", head, self.factor[:, None] * w).flatten(2)

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D + E]; [M, D + E] of a single one.

        Args:
            obs: [M, C, D], or [C, D] or [D] for all members the same; columns past D are ignored.
            action: int64 [C] or float32 [C, A], or of a single observation [] or [A]; the same for all members.

        Raises:
            ValueError: If the sizes do not fit or an action is not one of the model's.
        """
        if np.ndim(obs) == 1:
            alone = action if isinstance(action, Tensor) else np.asarray(action)
            return self(obs[None] if isinstance(obs, Tensor) else np.asarray(obs)[None], alone[None])[:, 0]
        if isinstance(obs, Tensor):
            return self._following(obs, action)
        s = self._config
        if np.shape(obs)[-1] not in (s.obs_dim, s.prediction_dim):
            raise ValueError(f"expected observations of {s.obs_dim} components, got {np.shape(obs)}")
        if s.n_actions:
            action = checked_discrete(action, np.shape(obs)[-2], s.n_actions)
        if self._compiled is not None:
            each = np.broadcast_to(np.asarray(obs, dtype=np.float32), (self.members, *np.shape(obs)[-2:]))
            one = np.zeros(len(action), dtype=np.int64)
            return predict_small(each, action, one, self._compiled)
        return self._following(*self._moved(obs, action)).cpu().numpy()

    def _moved(self, obs: Any, action: Any) -> tuple[Tensor, Tensor]:
        """NumPy observations and actions as tensors where the model is."""
        kind = torch.int64 if self._config.n_actions else torch.float32
        device = self.factor.device
        return torch.tensor(obs, dtype=torch.float32, device=device), torch.as_tensor(action, dtype=kind, device=device)

    @without_autocast
    def _following(self, obs: Tensor, action: Tensor) -> Tensor:
        s = self._config
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
        following = with_extra(now[:, : s.learned_dim], s.extra_dim, axis=1) + change
        if self._bounds is not None:
            following = following.clamp_(*self._bounds)
        following = following.transpose(1, 2)
        stop(self._walls, following)
        return self._model.with_context(following, now.transpose(1, 2), action) if s.context else following


def checked_discrete(action: Any, count: int, n_actions: int) -> NDArray[Any]:
    """Discrete actions as an array, [count]; on a GPU one out of range would end all of the process's work there.

    Raises:
        ValueError: If they are not so many, or one is not 0..n_actions-1.
    """
    actions = np.asarray(action)
    if actions.shape != (count,) or actions.dtype.kind not in "iu" or not _are_known(actions, n_actions):
        raise ValueError(f"expected {count} actions of 0–{n_actions - 1}, got {actions!r}")
    return actions


def _are_known(actions: NDArray[Any], n_actions: int) -> bool:
    """Whether the kernels, which read whatever memory they are sent to, can take these actions."""
    return actions.size > 0 and 0 <= int(actions.min()) <= int(actions.max()) < n_actions
