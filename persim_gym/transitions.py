"""Logged transitions of many agents: what data offer wherever they lie, and data in memory as flat arrays."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRANSITION_COLUMNS = ("agent", "obs", "action", "next_obs", "reward", "terminated")
"""What is read of a transition; arrays as `Transitions` describes them."""


class LoggedData(ABC):
    """Logged transitions in memory (`Transitions`) or on disk (`persim_gym.transition_store.TransitionStore`).

    Data are read in blocks of consecutive rows. In memory all rows are one block.

    Attributes:
        n_agents: Size N of the population; agents without a transition are allowed.
        source: Where the data came from (a dataset id), for messages and cards.
        in_memory: Whether the data are in memory.
        part_rows: Transitions on disk that a training holds in memory at once, about.
    """

    n_agents: int
    source: str
    in_memory: bool
    part_rows: int = 4_000_000

    @abstractmethod
    def __len__(self) -> int:
        """Number of transitions K."""

    @property
    @abstractmethod
    def obs_dim(self) -> int:
        """Observation size D."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Action size A; 0 for discrete actions."""

    @property
    @abstractmethod
    def block_lengths(self) -> NDArray[np.int64]:
        """Rows of each block."""

    @abstractmethod
    def read(self, blocks: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The transitions of some blocks by column, in the order in which they were logged."""

    @abstractmethod
    def sample(self, episodes: int, seed: int = 0) -> "Transitions":
        """Whole episodes in memory: all of them where they are there already, else at most `episodes` drawn ones."""

    @abstractmethod
    def starts(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Agents [E] and first observations [E, D] of the episodes."""

    @abstractmethod
    def content_hash(self) -> str:
        """SHA-256 of the content: equal data kept in the same way, equal hash. Computed once."""

    def stored_moments(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
        """Mean and standard deviation of `obs`, `action` and `target`, by name; None where they were not kept."""
        return None


@dataclass(frozen=True)
class Transitions(LoggedData):
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
        ValueError: If lengths or shapes differ, the data are empty, an agent is out of range, an action is of neither
            kind or a value is not finite.
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
    in_memory = True

    def __post_init__(self) -> None:
        """Brings arrays to their types, and checks lengths, agents and finiteness once: nothing behind has to."""
        self._convert()
        k = len(self.agent)
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("n_agents", "source")}
        wrong = {name: len(a) for name, a in arrays.items() if len(a) != k}
        if wrong or k == 0:
            raise ValueError(f"{self.source}: arrays must share one length of at least 1, agent has {k}, but {wrong}")
        if self.obs.ndim != 2 or self.next_obs.shape != self.obs.shape or self.action.ndim > 2:
            raise ValueError(
                f"{self.source}: obs {self.obs.shape} and next_obs {self.next_obs.shape} must be [K, D] both, action "
                f"{self.action.shape} [K] or [K, A]; flatten them first"
            )
        for name in ("agent", "reward", "terminated", "trajectory"):
            if arrays[name].ndim != 1:
                raise ValueError(f"{self.source}: {name} {arrays[name].shape} must be [K]; flatten it first")
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

    def _convert(self) -> None:
        """Arrays of other types become those that are documented, where that loses nothing but float32 rounding."""
        whole = {name: np.asarray(getattr(self, name)) for name in ("agent", "trajectory")}
        action = np.asarray(self.action)
        if action.ndim < 2:
            whole["action"] = action
        for name, values in whole.items():
            if values.dtype.kind not in "iu" and len(values):
                raise ValueError(
                    f"{self.source}: {name} must be whole numbers [K], not {values.dtype}"
                    + ("; continuous actions are [K, A], with A = 1 for one" if name == "action" else "")
                )
            object.__setattr__(self, name, values.astype(np.int64, copy=False))
        continuous = ("action",) if action.ndim == 2 else ()
        with np.errstate(over="ignore"):  # What overflows becomes infinite, and is refused as that.
            for name in ("obs", "reward", "next_obs", *continuous):
                object.__setattr__(self, name, np.asarray(getattr(self, name)).astype(np.float32, copy=False))
        object.__setattr__(self, "terminated", np.asarray(self.terminated).astype(np.bool_, copy=False))

    def __len__(self) -> int:
        """Number of transitions K."""
        return len(self.agent)

    @classmethod
    def from_episodes(
        cls, episodes: Iterable[Any], agents: Iterable[int], source: str, n_agents: int = 0, first: int = 0
    ) -> "Transitions":
        """Flattens episodes.

        Args:
            episodes: Minari episodes or episode buffers: observations [T+1, D], actions, rewards, terminations [T].
            agents: Agent of each episode.
            source: Dataset id, for messages.
            n_agents: Size of the population; 0 for the largest agent plus one.
            first: Number of the first of these episodes.

        Raises:
            ValueError: If there are no episodes, or the arrays of one do not fit together, are not those of the other
                episodes or are not finite.
        """
        pairs = list(zip(episodes, agents, strict=True))
        if not pairs:
            raise ValueError(f"{source}: no episodes")
        for number, (episode, agent) in enumerate(pairs, first):
            _check_episode(f"{source}: episode {number} (agent {agent})", episode, pairs[0][0])
        steps = [len(e.rewards) for e, _ in pairs]
        action_type = np.int64 if _is_whole(pairs[0][0].actions) else np.float32
        return cls(
            agent=np.repeat(np.array([a for _, a in pairs], dtype=np.int64), steps),
            obs=np.concatenate([np.asarray(e.observations, dtype=np.float32)[:-1] for e, _ in pairs]),
            action=np.concatenate([np.asarray(e.actions, dtype=action_type) for e, _ in pairs]),
            reward=np.concatenate([np.asarray(e.rewards, dtype=np.float32) for e, _ in pairs]),
            next_obs=np.concatenate([np.asarray(e.observations, dtype=np.float32)[1:] for e, _ in pairs]),
            terminated=np.concatenate([np.asarray(e.terminations, dtype=np.bool_) for e, _ in pairs]),
            trajectory=np.repeat(first + np.arange(len(pairs)), steps),
            n_agents=n_agents or max(a for _, a in pairs) + 1,
            source=source,
        )

    def select(self, keep: NDArray[np.bool_]) -> "Transitions":
        """Returns the transitions where the mask `keep`, bool [K], is true."""
        picked = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name not in ("n_agents", "source")}
        return Transitions(**picked, n_agents=self.n_agents, source=self.source)

    @property
    def obs_dim(self) -> int:
        """Observation size D."""
        return int(self.obs.shape[1])

    @property
    def action_dim(self) -> int:
        """Action size A; 0 for discrete actions."""
        return 0 if self.action.ndim == 1 else int(self.action.shape[1])

    @property
    def block_lengths(self) -> NDArray[np.int64]:
        """All rows are one block."""
        return np.array([len(self)])

    def read(self, blocks: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """All transitions by column."""
        return {name: getattr(self, name) for name in TRANSITION_COLUMNS}

    def sample(self, episodes: int, seed: int = 0) -> "Transitions":
        """The data as they are."""
        return self

    def starts(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Agents [E] and first observations [E, D] of the episodes."""
        first = np.flatnonzero(np.diff(self.trajectory, prepend=self.trajectory[0] - 1))
        return self.agent[first], self.obs[first]

    def content_hash(self) -> str:
        """SHA-256 over all arrays: equal data, equal hash. Computed once; arrays are not to be changed afterwards."""
        return self._content_hash

    @cached_property
    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        for f in fields(self):
            if f.name not in ("n_agents", "source"):
                digest.update(np.ascontiguousarray(getattr(self, f.name)).tobytes())
        return digest.hexdigest()


def _is_whole(values: Any) -> bool:
    """Whether values are stored as whole numbers."""
    return np.asarray(values).dtype.kind in "iu"


def _check_episode(name: str, episode: Any, like: Any) -> None:
    """Refuses an episode whose arrays do not fit together, or are not of the kind of another episode's.

    Lengths that are wrong in two episodes could make up for each other, and mix the transitions of two agents.

    Raises:
        ValueError: If it is one.
    """
    steps = len(episode.rewards)
    lengths = {"observations": steps + 1, "actions": steps, "terminations": steps}
    wrong = {part: found for part, wanted in lengths.items() if (found := len(getattr(episode, part))) != wanted}
    if wrong:
        raise ValueError(
            f"{name} has {steps} rewards, to which belong {steps + 1} observations and {steps} actions and "
            f"terminations, but {' and '.join(f'{found} {part}' for part, found in wrong.items())}; drop or repair it"
        )
    for part in (*lengths, "rewards"):
        values, others = (np.asarray(getattr(e, part)) for e in (episode, like))
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{name} has {part} of {values.dtype}, which are no numbers; drop or repair it")
        if values.shape[1:] != others.shape[1:] or (part == "actions" and _is_whole(values) != _is_whole(others)):
            raise ValueError(
                f"{name} has {part} of {values.dtype} {list(values.shape[1:])} a step, those before "
                f"{others.dtype} {list(others.shape[1:])}; drop or repair it"
            )
