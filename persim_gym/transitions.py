"""Logged transitions of many agents as flat arrays."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Transitions:
    """K logged transitions of N agents, in the order of the episodes they come from.

    Attributes:
        agent: Agent of each transition, int64 [K], in 0..n_agents-1.
        obs: Observation before the action, float32 [K, D].
        action: Action, int64 [K] (discrete) or float32 [K, A] (continuous).
        reward: Logged reward, float32 [K].
        next_obs: Observation after the action, float32 [K, D].
        terminated: Whether the episode ended there for a reason of the task (not the time limit), bool [K].
        trajectory: Index of the episode that the transition belongs to, int64 [K].
        n_agents: Size N of the population; agents without a transition are allowed.
        source: Where the data came from (a dataset id), for messages and cards.

    Raises:
        ValueError: If lengths differ, the data are empty, an agent is out of range or a value is not finite.
    """

    agent: NDArray[np.int64]
    obs: NDArray[np.float32]
    action: NDArray[np.int64] | NDArray[np.float32]
    reward: NDArray[np.float32]
    next_obs: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    trajectory: NDArray[np.int64]
    n_agents: int
    source: str = "in memory"

    def __post_init__(self) -> None:
        """Checks lengths, agents and finiteness once, so that nothing behind has to."""
        k = len(self.agent)
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("n_agents", "source")}
        wrong = {name: len(a) for name, a in arrays.items() if len(a) != k}
        if wrong or k == 0:
            raise ValueError(f"{self.source}: arrays must share one length of at least 1, agent has {k}, but {wrong}")
        if self.agent.min() < 0 or self.agent.max() >= self.n_agents:
            raise ValueError(
                f"{self.source}: agents span {self.agent.min()}–{self.agent.max()}, outside 0–{self.n_agents - 1}; "
                "number them from 0 and pass n_agents"
            )
        for name in ("obs", "action", "next_obs", "reward"):
            bad = ~np.isfinite(arrays[name]).reshape(k, -1).all(axis=1)
            if bad.any():
                i = int(np.flatnonzero(bad)[0])
                raise ValueError(
                    f"{self.source}: {name} of transition {i} (episode {self.trajectory[i]}, agent {self.agent[i]}) is "
                    f"not finite, as are {int(bad.sum()) - 1} others; drop or repair these episodes first"
                )

    def __len__(self) -> int:
        """Number of transitions K."""
        return len(self.agent)

    def select(self, keep: NDArray[np.bool_]) -> "Transitions":
        """Returns the transitions where the mask `keep`, bool [K], is true."""
        picked = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name not in ("n_agents", "source")}
        return Transitions(**picked, n_agents=self.n_agents, source=self.source)

    def content_hash(self) -> str:
        """SHA-256 over all arrays: equal data, equal hash."""
        digest = hashlib.sha256()
        for f in fields(self):
            if f.name not in ("n_agents", "source"):
                digest.update(np.ascontiguousarray(getattr(self, f.name)).tobytes())
        return digest.hexdigest()
