"""What a guard believes of an agent, and when it no longer does."""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.surprise import SurpriseBand, transition_errors
from persim_gym.simulator.dynamics.online import OnlineDynamics
from persim_gym.simulator.simulator import Simulator

AS_BELIEVED, UNKNOWN, SURPRISED, NOT_FINITE = "", "nothing is known of the agent", "not as believed", "not finite"
"""Why the fallback acts; the first where it does not."""
RESTORED, RELEARNED = "as believed before", "learned anew"
"""Why it no longer does."""


class GuardedStep(NamedTuple):
    """One transition of the true environment.

    Attributes:
        obs: Whole observation before the action, [D].
        action: int64 [] or float32 [A].
        next_obs: Whole observation after it, [D].
        reward: The reward.
        terminated: Whether the task ended.
    """

    obs: NDArray[np.float32]
    action: NDArray[Any]
    next_obs: NDArray[np.float32]
    reward: float
    terminated: bool

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        return bool(np.isfinite([*self.obs, *np.ravel(self.action), *self.next_obs, self.reward]).all())


@dataclass
class View:
    """One view of the agent, and how surprised it is.

    Attributes:
        dynamics: The simulator of the agent as the view has it.
        calm_dynamics: A copy from when the surprise was last zero.
        surprise: How surprising the last steps were.
        calm: Steps in a row whose surprise was below the limit.
        loud: Steps in a row whose surprise was at it.
    """

    dynamics: OnlineDynamics
    calm_dynamics: OnlineDynamics
    surprise: float = 0.0
    calm: int = 0
    loud: int = 0


class AgentViews:
    """The belief about an agent and, while it is doubted, a new one beside it; the rules are in `TrustGuard`.

    Attributes:
        why: Why the belief is doubted; empty where it is not.
        doubt: The surprise that passed the limit, the last time.
        ended: Why it was doubted no longer, the last time.
    """

    def __init__(self, simulator: Simulator, agent: int | str | None, band: SurpriseBand, quiet: int) -> None:
        """Starts from what is known of an agent, or of none; arguments as `TrustGuard`."""
        self._simulator, self._band, self._quiet = simulator, band, quiet
        # The belief, and behind it a new one; of an agent that nothing is known of, the new one alone.
        self._views = [self._view(agent)]
        self._since: list[GuardedStep] = []  # Steps since the surprise was last zero.
        self.why, self.doubt, self.ended = UNKNOWN if agent is None else AS_BELIEVED, 0.0, ""

    def _view(self, agent: int | str | None) -> View:
        """A view that starts from what is known of an agent, or of none: then it has to earn trust from the limit."""
        dynamics = self._simulator.online(agent)
        return View(dynamics, copy(dynamics), 0.0 if agent is not None else self._band.limit)

    @property
    def dynamics(self) -> OnlineDynamics:
        """The newest view's."""
        return self._views[-1].dynamics

    @property
    def surprise(self) -> float:
        """The least of any view."""
        return min(view.surprise for view in self._views)

    def see(self, step: GuardedStep) -> None:
        """Compares a transition with every view, and learns."""
        for view in self._views:
            view.surprise = self._band.after(view.surprise, self._error(view, step))
        if self.why:
            self._doubted(step)
        else:
            self._believed(step)

    def _error(self, view: View, step: GuardedStep) -> float:
        if not step.finite:
            return np.inf
        columns = [torch.from_numpy(np.asarray(column)[None]) for column in step[:3]]
        one = torch.zeros(1, dtype=torch.int64)
        return float(transition_errors(self._simulator.model, view.dynamics.posterior, one, *columns)[0])

    def _believed(self, step: GuardedStep) -> None:
        """Learns, and doubts where the surprise passes the limit."""
        belief = self._views[0]
        _learn(belief.dynamics, [step])
        if not belief.surprise:
            belief.calm_dynamics = copy(belief.dynamics)
            self._since.clear()
            return
        self._since.append(step)
        if belief.surprise > self._band.limit:
            self.why, self.doubt = SURPRISED if step.finite else NOT_FINITE, belief.surprise
            new = self._view(None)
            _learn(new.dynamics, self._since)
            self._views = [replace(belief, dynamics=belief.calm_dynamics), new]
            self._since.clear()

    def _doubted(self, step: GuardedStep) -> None:
        """Waits for a view that stays quiet; the new one learns meanwhile, and starts again where it goes wrong."""
        for view in self._views:
            loud = view.surprise >= self._band.limit
            view.surprise = min(view.surprise, self._band.limit)
            view.calm, view.loud = (0, view.loud + 1) if loud else (view.calm + 1, 0)
        if self._views[-1].loud >= self._quiet:
            self._views[-1] = self._view(None)
        _learn(self._views[-1].dynamics, [step])
        for view in self._views:
            if view.calm >= self._quiet:
                self.ended = RELEARNED if view is self._views[-1] else RESTORED
                self.why, self._views = AS_BELIEVED, [View(view.dynamics, copy(view.dynamics))]
                return


def _learn(dynamics: OnlineDynamics, steps: list[GuardedStep]) -> None:
    for step in steps:
        if step.finite:
            dynamics.update(*step)
