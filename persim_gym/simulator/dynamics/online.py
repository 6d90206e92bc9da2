"""The simulator of one agent, updated with every transition."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import transition_statistics
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.task import Ends, PlanningDynamics


class OnlineDynamics(PlanningDynamics):
    """Dynamics of one agent that learn: call `update` after each step, and predictions use the posterior mean.

    An update adds a matrix of rank D to the evidence and solves for R unknowns; what it costs does not grow with the
    number of transitions. The result is that of `Simulator.personalize` on all of them at once, in any order; where
    reward and end are learned, if `update` is told them too.
    """

    fused = stops = True

    def __init__(self, model: FactoredEnsemble, beliefs: FactorPosterior, agent: int | None = None) -> None:
        """Starts from an agent's beliefs, or from the prior.

        Args:
            model: The ensemble, on the CPU.
            beliefs: Of its agents.
            agent: The agent; None for one that nothing is known of.

        Raises:
            ValueError: If the agent is unknown, or the model on another device.
        """
        model.check_on_cpu()
        if agent is not None:
            model.check_agents([agent])
        s = model.config
        self.members, self.exogenous = s.members, s.held
        self._model = model
        start = SufficientStatistics.none(s.members, 1, s.rank) if agent is None else beliefs.statistics.of([agent])
        self._start = self._posterior = FactorPosterior(beliefs.prior, start)
        self._bound: AgentDynamics | None = None

    @property
    def posterior(self) -> FactorPosterior:
        """Beliefs about the agent, which is agent 0 in there."""
        return self._posterior

    @property
    def factor(self) -> Tensor:
        """The factor that predictions use, [M, R]."""
        return self._now().factor

    @torch.no_grad()
    def update(self, obs: Any, action: Any, next_obs: Any, reward: Any = None, terminated: Any = None) -> None:
        """Learns from one transition, or from K.

        Args:
            obs: Observation before the action, [D] or [K, D].
            action: Discrete [] or [K], or continuous [A] or [K, A].
            next_obs: Observation after the action, as `obs`; NaN where a value is not known.
            reward: Reward, [] or [K], which counts where the simulator has learned rewards; None if it is not known.
            terminated: Whether the episode ended there, likewise.

        Raises:
            ValueError: If another value is not finite, or sizes or actions are not the simulator's.
        """
        before, act, after = self._checked(obs, action, next_obs)
        if not (bool(torch.isfinite(before).all()) and bool(torch.isfinite(act).all())) or bool(after.isinf().any()):
            raise ValueError("cannot learn from a transition that is not finite; leave it out")
        learned = _columns(len(before), reward, terminated)[:, : self._model.config.extra_dim]
        prior = self._posterior.prior
        information, vector = transition_statistics(self._model, prior.noise, prior.clips, before, act, after, learned)
        seen = torch.tensor([len(before)])
        more = SufficientStatistics(information.sum(1, keepdim=True), vector.sum(1, keepdim=True), seen)
        self._posterior = FactorPosterior(prior, self._posterior.statistics.of([0]) + more)
        self._bound = None

    def _checked(self, obs: Any, action: Any, next_obs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Observations [K, D], actions [K] or [K, A], next observations [K, D]."""
        s = self._model.config
        before, after = (np.atleast_2d(np.array(x, dtype=np.float32)) for x in (obs, next_obs))
        given = np.asarray(action)
        act = given.reshape(-1) if s.n_actions else given.reshape(-1, s.action_dim)
        known = not s.n_actions or (act.dtype.kind in "iu" and act.size and 0 <= act.min() <= act.max() < s.n_actions)
        if before.shape != (len(act), s.obs_dim) or after.shape != before.shape or not known:
            wanted = f"whole numbers 0–{s.n_actions - 1}" if s.n_actions else f"vectors of {s.action_dim}"
            raise ValueError(
                f"cannot learn from observations {np.shape(obs)} and {np.shape(next_obs)} with actions {given!r}: the "
                f"simulator has {s.obs_dim} observations, and its actions are {wanted}, one a transition"
            )
        return (
            torch.from_numpy(before),
            torch.from_numpy(act.astype(np.int64 if s.n_actions else np.float32)),
            torch.from_numpy(after),
        )

    def forget(self) -> None:
        """Goes back to what was believed at the start."""
        self._posterior, self._bound = self._start, None

    def sample(self, rng: np.random.Generator) -> AgentDynamics:
        """Dynamics of one draw of the posterior; it does not learn."""
        return AgentDynamics(self._model, self._posterior.sample(0, rng).float())

    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D], or [M, D] of a single one; as `AgentDynamics`."""
        return self._now()(obs, action)

    def rollout(self, obs: Any, actions: Any, ends: Ends | None = None, live: Any = None) -> Any:
        """Observations along whole sequences of actions; as `AgentDynamics.rollout`."""
        return self._now().rollout(obs, actions, ends, live)

    def _now(self) -> AgentDynamics:
        if self._bound is None:
            self._bound = AgentDynamics(self._model, self._posterior.mean[:, 0].float())
        return self._bound


def _columns(count: int, *given: Any) -> Tensor:
    """Rewards and ends of `count` transitions as columns, NaN where None is given."""
    columns = torch.full((count, len(given)), torch.nan, dtype=torch.float32)
    for column, values in zip(columns.T, given, strict=True):
        if values is not None:
            told = np.array(values, dtype=np.float32).reshape(-1)
            if len(told) != count or not np.isfinite(told).all():
                raise ValueError(f"cannot learn from {values!r} of {count} transitions; give a finite number for each")
            column.copy_(torch.from_numpy(told))
    return columns
