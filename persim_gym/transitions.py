"""Logged transitions of many agents: what data offer wherever they lie, and data in memory as flat arrays."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.logged_arrays import check_episode, is_whole, known_inputs

TRANSITION_COLUMNS = ("agent", "obs", "action", "next_obs", "reward", "terminated")
"""What is read of a transition; arrays as `Transitions` describes them."""
_ARRAYS = ("agent", "obs", "action", "reward", "next_obs", "terminated", "trajectory")


class LoggedData(ABC):
    """Logged transitions in memory (`Transitions`) or on disk (`persim_gym.transition_store.TransitionStore`).

    Data are read in blocks of consecutive rows. In memory all rows are one block.

    Attributes:
        n_agents: Size N of the population; agents without a transition are allowed.
        source: Where the data came from (a dataset id), for messages and cards.
        in_memory: Whether the data are in memory.
        missing: Whether next observations and rewards may be NaN, where they are not known.
        part_rows: Transitions on disk that a training holds in memory at once, about.
    """

    n_agents: int
    source: str
    in_memory: bool
    missing: bool
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
        missing: Whether `next_obs` and `reward` may be NaN, where they are not known; `obs` and `action` never are.
        step: Number of the step in its episode, int64 [K]; None where rows of an episode follow one another, which is
            counted out where `missing`.

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
    missing: bool = False
    step: NDArray[np.int64] | None = None
    in_memory = True

    def __post_init__(self) -> None:
        """Brings arrays to their types, and checks lengths, agents and finiteness once: nothing behind has to."""
        self._convert()
        k = len(self.agent)
        arrays = self._arrays()
        wrong = {name: len(a) for name, a in arrays.items() if len(a) != k}
        if wrong or k == 0:
            raise ValueError(f"{self.source}: arrays must share one length of at least 1, agent has {k}, but {wrong}")
        if self.obs.ndim != 2 or self.next_obs.shape != self.obs.shape or self.action.ndim > 2:
            raise ValueError(
                f"{self.source}: obs {self.obs.shape} and next_obs {self.next_obs.shape} must be [K, D] both, action "
                f"{self.action.shape} [K] or [K, A]; flatten them first"
            )
        for name in ("agent", "reward", "terminated", "trajectory", "step"):
            if name in arrays and arrays[name].ndim != 1:
                raise ValueError(f"{self.source}: {name} {arrays[name].shape} must be [K]; flatten it first")
        if self.agent.min() < 0 or self.agent.max() >= self.n_agents:
            raise ValueError(
                f"{self.source}: agents span {self.agent.min()}–{self.agent.max()}, outside 0–{self.n_agents - 1}; "
                "number them from 0 and pass n_agents"
            )
        for name in ("obs", "action", "next_obs", "reward"):
            may_lack = self.missing and name in ("next_obs", "reward")
            bad = (np.isinf(arrays[name]) if may_lack else ~np.isfinite(arrays[name])).reshape(k, -1).any(axis=1)
            if bad.any():
                i = int(np.flatnonzero(bad)[0])
                raise ValueError(
                    f"{self.source}: {name} of transition {i} (episode {self.trajectory[i]}, agent {self.agent[i]}) is "
                    f"not finite, as are {int(bad.sum()) - 1} others; drop or repair these episodes first"
                )
        if self.missing and self.step is None:  # What is selected later has gaps.
            object.__setattr__(self, "step", _counted(self.trajectory))

    def _convert(self) -> None:
        """Arrays of other types become those that are documented, where that loses nothing but float32 rounding."""
        steps = () if self.step is None else ("step",)
        whole = {name: np.asarray(getattr(self, name)) for name in ("agent", "trajectory", *steps)}
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

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in (*_ARRAYS, *(() if self.step is None else ("step",)))}

    def __len__(self) -> int:
        """Number of transitions K."""
        return len(self.agent)

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Any],
        agents: Iterable[int],
        source: str,
        n_agents: int = 0,
        first: int = 0,
        missing: bool = False,
    ) -> "Transitions":
        """Flattens episodes.

        Args:
            episodes: Minari episodes or episode buffers: observations [T+1, D], actions, rewards, terminations [T].
            agents: Agent of each episode.
            source: Dataset id, for messages.
            n_agents: Size of the population; 0 for the largest agent plus one.
            first: Number of the first of these episodes.
            missing: Whether values may be missing: NaN, or for discrete actions `UNKNOWN_ACTION`. Transitions without
                all of their observation and action are left out then.

        Raises:
            ValueError: If there are no episodes, the arrays of one do not fit together, are not those of the other
                episodes or are not finite, or no transition is left.
        """
        pairs = list(zip(episodes, agents, strict=True))
        if not pairs:
            raise ValueError(f"{source}: no episodes")
        for number, (episode, agent) in enumerate(pairs, first):
            check_episode(f"{source}: episode {number} (agent {agent})", episode, pairs[0][0], missing)
        action_type = np.int64 if is_whole(pairs[0][0].actions) else np.float32
        kept: list[Any] = [slice(None)] * len(pairs)
        steps, step = [len(e.rewards) for e, _ in pairs], None
        if missing:
            kept = [np.flatnonzero(known_inputs(e)) for e, _ in pairs]
            if not any(map(len, kept)):
                raise ValueError(f"{source}: all {sum(steps):,} transitions lack a value of observation or action")
            steps, step = [len(k) for k in kept], np.concatenate(kept)
        return cls(
            agent=np.repeat(np.array([a for _, a in pairs], dtype=np.int64), steps),
            obs=_joined([np.asarray(e.observations, dtype=np.float32)[:-1] for e, _ in pairs], kept),
            action=_joined([np.asarray(e.actions, dtype=action_type) for e, _ in pairs], kept),
            reward=_joined([np.asarray(e.rewards, dtype=np.float32) for e, _ in pairs], kept),
            next_obs=_joined([np.asarray(e.observations, dtype=np.float32)[1:] for e, _ in pairs], kept),
            terminated=_joined([np.asarray(e.terminations, dtype=np.bool_) for e, _ in pairs], kept),
            trajectory=np.repeat(first + np.arange(len(pairs)), steps),
            n_agents=n_agents or max(a for _, a in pairs) + 1,
            source=source,
            missing=missing,
            step=step,
        )

    def select(self, keep: NDArray[np.bool_]) -> "Transitions":
        """Returns the transitions where the mask `keep`, bool [K], is true."""
        picked: dict[str, Any] = {name: values[keep] for name, values in self._arrays().items()}
        return replace(self, **picked)

    def gaps(self) -> NDArray[np.int64]:
        """Rows that do not follow the one before in their episode, and how many steps are left out there, [G, 2]."""
        if self.step is None:
            return np.empty((0, 2), dtype=np.int64)
        skipped = np.where(np.diff(self.trajectory) == 0, np.diff(self.step) - 1, 0)
        rows = np.flatnonzero(skipped)
        return np.column_stack([rows + 1, skipped[rows]])

    @cached_property
    def pieces(self) -> NDArray[np.int64]:
        """Number of the piece of consecutive steps that each transition is in, int64 [K]: episodes, cut at gaps."""
        begins = np.diff(self.trajectory, prepend=self.trajectory[0]) != 0
        begins[self.gaps()[:, 0]] = True
        return np.cumsum(begins)

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
        for name, values in self._arrays().items():
            if name == "step" and not len(self.gaps()):
                continue  # Steps that follow one another say nothing new.
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def _joined(parts: Sequence[NDArray[Any]], kept: Sequence[Any]) -> NDArray[Any]:
    """Rows of arrays that are kept, one after the other."""
    return np.concatenate([part[some] for part, some in zip(parts, kept, strict=True)])


def _counted(trajectory: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each row in its run of equal trajectories, [K]."""
    first = np.flatnonzero(np.diff(trajectory, prepend=trajectory[:1] - 1))
    return np.arange(len(trajectory)) - np.repeat(first, np.diff(first, append=len(trajectory)))
