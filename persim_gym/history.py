"""The last steps of episodes: what dynamics that know an agent by its behavior are told."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class History(NamedTuple):
    """The last L steps of B episodes, oldest first; a younger episode begins with steps that are not known.

    Attributes:
        change: Change of the observation in each step, float32 [B, L, D]; 0 where it is not known.
        action: Action of each step, int64 [B, L] or float32 [B, L, A]; 0 where it is not known.
        known: Whether a step was taken in this episode, bool [B, L].
    """

    change: NDArray[np.float32]
    action: NDArray[Any]
    known: NDArray[np.bool_]

    @classmethod
    def none(cls, rows: int, steps: int, obs_dim: int, action_dim: int = 0) -> "History":
        """Episodes that begin.

        Args:
            rows: Episodes B.
            steps: Steps L that are kept.
            obs_dim: Observation size D.
            action_dim: Action size A; 0 for discrete actions.
        """
        sizes = (action_dim,) if action_dim else ()
        action = np.zeros((rows, steps, *sizes), dtype=np.float32 if action_dim else np.int64)
        return cls(np.zeros((rows, steps, obs_dim), dtype=np.float32), action, np.zeros((rows, steps), dtype=np.bool_))

    def after(self, obs: NDArray[Any], action: NDArray[Any], next_obs: NDArray[Any]) -> "History":
        """One step later: the oldest step is forgotten.

        Args:
            obs: Observations before the step, [B, D].
            action: [B] or [B, A].
            next_obs: Observations after it, [B, D].
        """
        change = (np.asarray(next_obs) - obs).astype(np.float32)
        return History(
            np.concatenate([self.change[:, 1:], change[:, None]], axis=1),
            np.concatenate([self.action[:, 1:], np.asarray(action, dtype=self.action.dtype)[:, None]], axis=1),
            np.concatenate([self.known[:, 1:], np.ones((len(change), 1), dtype=np.bool_)], axis=1),
        )

    def forget(self, rows: NDArray[Any]) -> None:
        """Begins an episode anew in some rows, in place."""
        for values in self:
            values[rows] = 0

    def last(self, steps: int) -> "History":
        """The last `steps` steps; where there are fewer, unknown ones in front."""
        missing = steps - self.known.shape[1]
        return History(*(_latest(values, missing) for values in (self.change, self.action, self.known)))


def _latest(values: NDArray[Any], missing: int) -> Any:
    """Values [B, L, ...] with `missing` zeros in front; without those in front where it is negative."""
    if missing <= 0:
        return values[:, -missing:]
    return np.pad(values, [(0, 0), (missing, 0)] + [(0, 0)] * (values.ndim - 2))
