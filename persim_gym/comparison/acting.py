"""Actions of candidates, checked: a policy of other spaces is one clear line."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.spaces import checked_actions
from persim_gym.evaluation.acting import Policy
from persim_gym.spec import EnvironmentSpec


@runtime_checkable
class Acts(Protocol):
    """Anything that has Stable-Baselines3's `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions of observations, [B, D], and the state for the next call."""


class Acting:
    """A policy with its state, whose actions come as models see them.

    Where observations hold their past, a policy of the present alone is shown that.
    """

    def __init__(self, policy: Policy, name: str, spec: EnvironmentSpec) -> None:
        """Takes a policy.

        Args:
            policy: Chooses actions.
            name: What it is called, for messages.
            spec: Spaces that it has to fit.
        """
        self._policy, self._name, self._spec = policy, name, spec
        self._memory: Any = None
        self._columns = spec.layout.width

    def begin(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Actions of first observations, [B, D]; what was before is forgotten.

        Raises:
            ValueError: If the policy is of other spaces.
        """
        self._memory, layout = None, self._spec.layout
        try:
            return self._act(obs, True)
        except ValueError:
            if not layout.past or self._columns == layout.present:
                raise
        self._columns = layout.present
        return self._act(obs, True)

    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Actions of the observations that followed, [B, D]; errors as `begin`."""
        return self._act(obs, False)

    def _act(self, obs: NDArray[np.float32], first: bool) -> NDArray[Any]:
        seen = np.ascontiguousarray(obs[:, : self._columns])
        started = np.full(len(obs), first)
        try:
            action, self._memory = self._policy.predict(
                seen, state=self._memory, episode_start=started, deterministic=True
            )
            return np.ascontiguousarray(checked_actions(self._spec.action_space, action, (len(obs),)))
        except Exception as error:  # A user's own policy may raise anything.
            reason = " ".join((str(error) if isinstance(error, ValueError) else repr(error)).split())
            raise ValueError(
                f"candidate {self._name} does not act in this simulator, whose observations are {len(seen[0])} numbers "
                f"and actions {self._spec.action_space}: {reason}"
            ) from error


def check_spaces(observation: spaces.Space[Any], action: spaces.Space[Any], spec: EnvironmentSpec) -> None:
    """Refuses a policy of other spaces than a simulator's, or of its present observations.

    Raises:
        ValueError: If they differ.
    """
    wanted, widths = spec.action_space, {(spec.layout.width,), (spec.layout.present,)}
    same = type(action) is type(wanted) and action.shape == wanted.shape
    if isinstance(action, spaces.Discrete) and isinstance(wanted, spaces.Discrete):
        same = bool(action.n == wanted.n)
    if observation.shape not in widths or not same:
        raise ValueError(
            f"it takes observations {observation} and gives actions {action}, but this simulator has "
            f"{spec.observation_space} and {wanted}; give a policy of the same spaces"
        )
