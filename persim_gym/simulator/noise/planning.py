"""Dynamics whose rollouts are outcomes, not expectations: what planners compare candidates in under noise."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.history import History
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.task import PlanningDynamics


class NoisyDynamics(PlanningDynamics):
    """Dynamics of one agent under a disturbance; each member rolls out several times, with noise of its own.

    All candidates meet the same noise (common random numbers): what is drawn depends on the seed, on what the agent did
    last, on the rollout and on the step alone. For this the number of the step follows a predicted observation, as one
    more column; observations without it are at step 0. Where nothing is drawn there is no such column.

    Attributes:
        members: Rollouts: those of the first member, of the second, and so on.
        memory: One step under noise, so that two decisions do not meet the same.
    """

    concurrent = False

    def __init__(
        self, dynamics: PlanningDynamics, disturbance: Disturbance, columns: int, draws: int = 1, seed: int = 0
    ) -> None:
        """Wraps dynamics.

        Args:
            dynamics: Expectations by member.
            disturbance: What makes outcomes of them.
            columns: Numbers D + E of a prediction.
            draws: Rollouts of each member.
            seed: Of the noise.

        Raises:
            ValueError: If there are no draws.
        """
        if draws < 1:
            raise ValueError(f"{draws} noisy rollouts of each member; at least one is needed")
        self._dynamics, self._disturbance, self._columns, self._seed = dynamics, disturbance, columns, seed
        self._draws = 1 if disturbance.noise is None else draws
        self.members, self.exogenous = dynamics.members * self._draws, dynamics.exogenous
        self.memory = max(dynamics.memory, int(disturbance.noise is not None))
        self.tile, self.exogenous = dynamics.tile, dynamics.exogenous
        self._random: list[NDArray[np.float64]] = []

    def given(self, history: History) -> "NoisyDynamics":
        """The same under what the agent has done last, with other noise."""
        own = self._dynamics.given(history)
        mark = zlib.crc32(b"".join(np.ascontiguousarray(values).tobytes() for values in history.last(1)))
        return NoisyDynamics(own, self._disturbance, self._columns, self._draws, self._seed ^ mark)

    def __call__(self, obs: Any, action: Any) -> NDArray[Any]:
        """Outcomes, [members, B, D + E], under noise with the number of the next step as one more column.

        Args:
            obs: [members, B, ...], or [B, D] for all rollouts the same.
            action: int64 [B] or float32 [B, A].
        """
        obs, action = np.asarray(obs), np.asarray(action)
        now = np.broadcast_to(obs, (self.members, *obs.shape[-2:]))
        rows, drawn = now.shape[1], self._disturbance.noise is not None
        step = now[..., -1].max() if drawn and now.shape[-1] > self._columns else 0
        seen = now[..., : self._columns] if now.shape[-1] > self._columns else now
        expected = self._expected(seen, action)
        random = np.repeat(self._numbers(int(step)), rows, axis=0)
        flat = seen.reshape(-1, seen.shape[-1]), np.concatenate([action] * self.members)
        outcome = self._disturbance(*flat, expected.reshape(-1, expected.shape[-1]), random)
        outcome = outcome.reshape(self.members, rows, -1)
        if not drawn:
            return outcome
        return np.concatenate([outcome, np.full((self.members, rows, 1), step + 1, dtype=outcome.dtype)], axis=-1)

    def _expected(self, now: NDArray[Any], action: NDArray[Any]) -> NDArray[Any]:
        """Expected next observations by rollout, [members, B, D + E]."""
        own = now.reshape(self._dynamics.members, -1, now.shape[-1])  # [M, draws * B, ...]
        expected = np.asarray(self._dynamics(own, np.concatenate([action] * self._draws)))
        return expected.reshape(self.members, now.shape[1], -1)

    def _numbers(self, step: int) -> NDArray[np.float64]:
        """Random numbers of a step, [members, S]."""
        while len(self._random) <= step:
            rng = np.random.default_rng([self._seed, len(self._random)])
            self._random.append(self._disturbance.random(rng, self.members))
        return self._random[step]
