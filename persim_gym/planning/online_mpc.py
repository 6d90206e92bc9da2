"""Planning for an agent that is being learned: every step that it takes sharpens the model that plans the next one."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import model_actions
from persim_gym.planning.mpc import MPC
from persim_gym.task import Dynamics


class LearningDynamics(Protocol):
    """A `Dynamics` of one agent that learns from transitions, such as `Simulator.online` gives."""

    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D]."""

    def update(self, obs: Any, action: Any, next_obs: Any) -> None:
        """Learns from one transition."""

    def sample(self, rng: np.random.Generator) -> Dynamics:
        """Dynamics of one draw of what is believed."""


class OnlineMPC:
    """An `MPC` of one agent and one row that updates its dynamics with each transition it sees.

    Call `predict` once a step: what the last action led to is learned from first. What was learned stays over
    episodes.

    Attributes:
        policy: The planner's policy.
        dynamics: Its dynamics.
    """

    def __init__(self, policy: MPC, dynamics: LearningDynamics, sample: int | None = None) -> None:
        """Binds a policy to dynamics that learn.

        Args:
            policy: Plans; its dynamics are replaced.
            dynamics: What it plans in.
            sample: None to plan in the posterior mean; a seed to plan each decision in a draw of the posterior.
        """
        self.policy, self.dynamics = policy, dynamics
        self.policy.dynamics = dynamics
        self._rng = None if sample is None else np.random.default_rng(sample)
        self._last: tuple[NDArray[Any], Any] | None = None

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Learns from the step that led to the observation, then plans the next action.

        Args:
            observation: [D] or [1, D].
            state: As `MPC.predict`.
            episode_start: Whether the observation starts an episode, bool [] or [1]; nothing led to it then.
            deterministic: Ignored.

        Raises:
            ValueError: If there is more than one row.
        """
        obs = np.array(observation).reshape(-1, np.shape(observation)[-1])
        if len(obs) != 1:
            raise ValueError(f"an online policy steers one agent, got {len(obs)} rows; make one policy a row")
        if self._last is not None and not (episode_start is not None and np.all(episode_start)):
            self.dynamics.update(self._last[0], model_actions(self.policy.action_space, self._last[1]), obs[0])
        if self._rng is not None:
            self.policy.dynamics = self.dynamics.sample(self._rng)
        action, state = self.policy.predict(observation, state, episode_start, deterministic)
        self._last = obs[0], action[0] if np.ndim(observation) > 1 else action
        return action, state
