"""Logged transitions on disk, for data larger than memory: written once, episode by episode, read in blocks."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.running_moments import RunningMoments
from persim_gym.storage import checked_array, from_plain, read_array, read_json, reading, replacing, restored
from persim_gym.transitions import LoggedData, Transitions

HEADER_FILE, ROWS_FILE, EPISODES_FILE, FIRST_FILE = "header.json", "rows.f32", "episodes.npy", "first.npy"
GAPS_FILE = "gaps.npy"  # There where values may be missing.
STORE_BLOCK_ROWS = 1024  # Rows that are read together; blocks of them are shuffled across the file.
HASHED_BYTES = 2**22  # Bytes that are read together, to be hashed.
STORE_FORMAT = 1
_MAX_INTEGER = 2**24  # Float32 counts exactly up to here.


@dataclass(frozen=True)
class Columns:
    """Columns of a row: agent, action, observation, next observation, reward, terminated; all float32.

    Attributes:
        obs_dim: Observation size D.
        action_dim: Action size A; 0 for discrete actions, which take one column.
    """

    obs_dim: int
    action_dim: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return 3 + max(self.action_dim, 1) + 2 * self.obs_dim

    def split(self, rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Rows [K, width] as the arrays of `Transitions`, but for `trajectory`."""
        a, d = max(self.action_dim, 1), self.obs_dim
        action = rows[:, 1 : 1 + a] if self.action_dim else rows[:, 1].astype(np.int64)
        return {
            "agent": rows[:, 0].astype(np.int64),
            "action": action,
            "obs": rows[:, 1 + a : 1 + a + d],
            "next_obs": rows[:, 1 + a + d : 1 + a + 2 * d],
            "reward": rows[:, -2],
            "terminated": rows[:, -1] > 0.5,
        }


@dataclass(frozen=True)
class _Header:
    """What is known of a table of rows.

    That is: the version of its files, where the data came from, sizes D, A (0 for discrete actions) and N, SHA-256 of N
    and the rows, mean and standard deviation of columns by the names of `named_columns`, what the data were read from,
    and whether values may be missing.
    """

    format: int
    source: str
    obs_dim: int
    action_dim: int
    n_agents: int
    sha256: str
    moments: dict[str, tuple[list[float], list[float]]]
    stamp: str = ""
    missing: bool = False

    def __post_init__(self) -> None:
        """Checks the format, and that sizes fit each other."""
        if self.format != STORE_FORMAT:
            raise ValueError(f"format {self.format}")
        widths = {"obs": self.obs_dim, "target": self.obs_dim + 2, "action": max(self.action_dim, 1)}
        found = {name: {len(values) for values in pair} for name, pair in self.moments.items()}
        if min(self.obs_dim, self.n_agents) < 1 or self.action_dim < 0:
            raise ValueError(f"sizes on {HEADER_FILE} are not positive")
        if found != {name: {width} for name, width in widths.items()}:
            raise ValueError(f"moments on {HEADER_FILE} are not of its sizes")


class TransitionStore(LoggedData):
    """Transitions in a folder: a table of float32 rows, and what is known about it.

    Attributes:
        folder: The folder.
        columns: What a row holds.
        n_agents: Size N of the population.
        source: Where the data came from (a dataset id).
        episodes: First row of each episode and, at the end, the number of rows, int64 [E + 1].
        first_obs: First observation of each episode, float32 [E, D].
        first_agent: Agent of each episode, int64 [E].
    """

    in_memory = False

    def __init__(self, folder: Path) -> None:
        """Opens a folder written by `write`.

        Raises:
            ValueError: If a file is missing, damaged, or of another format.
        """
        self.folder = restored(folder)
        with reading(folder, "delete it, and it is written again"):
            header = from_plain(_Header, read_json(folder / HEADER_FILE))
            self.columns = Columns(header.obs_dim, header.action_dim)
            self.n_agents, self.source = header.n_agents, header.source
            self._hash, self._moments, self.missing = header.sha256, header.moments, header.missing
            self.episodes: NDArray[np.int64] = checked_array(
                "episodes", read_array(folder / EPISODES_FILE), (None,), "i", EPISODES_FILE
            )
            sizes = (len(self.episodes) - 1, 1 + self.columns.obs_dim)
            first = checked_array("first", read_array(folder / FIRST_FILE), sizes, "f", FIRST_FILE)
            self.first_agent, self.first_obs = first[:, 0].astype(np.int64), first[:, 1:]
            known = (self.first_agent >= 0) & (self.first_agent < self.n_agents)
            if self.episodes[0] or (np.diff(self.episodes) < 1).any() or not known.all():
                raise ValueError(f"{EPISODES_FILE} or {FIRST_FILE} is damaged")
            self._check_rows()
            self._gaps: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
            if self.missing:
                self._gaps = checked_array("gaps", read_array(folder / GAPS_FILE), (None, 2), "i", GAPS_FILE)

    def __len__(self) -> int:
        """Number of transitions K."""
        return int(self.episodes[-1])

    @property
    def obs_dim(self) -> int:
        """Observation size D."""
        return self.columns.obs_dim

    @property
    def action_dim(self) -> int:
        """Action size A; 0 for discrete actions."""
        return self.columns.action_dim

    @property
    def block_lengths(self) -> NDArray[np.int64]:
        """Blocks of `STORE_BLOCK_ROWS` rows, the last one shorter."""
        return np.diff(np.append(np.arange(0, len(self), STORE_BLOCK_ROWS), len(self)))

    def starts(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Agents [E] and first observations [E, D] of the episodes."""
        return self.first_agent, self.first_obs

    def content_hash(self) -> str:
        """SHA-256 of the rows and the size of the population, taken when they were written."""
        return self._hash

    def stored_moments(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Mean and standard deviation of `obs`, `action` and `target` over all rows, by name."""
        return {name: (np.array(mean), np.array(std)) for name, (mean, std) in self._moments.items()}

    def read(self, blocks: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The transitions of some blocks, in the order of the file."""
        starts = np.sort(np.asarray(blocks, dtype=np.int64)) * STORE_BLOCK_ROWS
        return self.columns.split(self._read_rows([(s, min(s + STORE_BLOCK_ROWS, len(self))) for s in starts.tolist()]))

    def sample(self, episodes: int, seed: int = 0) -> Transitions:
        """At most `episodes` whole episodes, drawn at random, in memory."""
        number = len(self.episodes) - 1
        chosen = np.sort(np.random.default_rng(seed).permutation(number)[:episodes])
        spans = [(int(self.episodes[e]), int(self.episodes[e + 1])) for e in chosen]
        columns: dict[str, Any] = self.columns.split(self._read_rows(spans))
        trajectory = np.repeat(np.arange(len(spans)), [end - start for start, end in spans])
        step = np.concatenate([self._steps(start, end) for start, end in spans]) if self.missing else None
        known: dict[str, Any] = {"n_agents": self.n_agents, "source": self.source, "missing": self.missing}
        return Transitions(**columns, trajectory=trajectory, step=step, **known)

    def _steps(self, start: int, end: int) -> NDArray[np.int64]:
        """Number of the step in its episode of each row of an episode, but for what is missing in front of it."""
        low, high = np.searchsorted(self._gaps[:, 0], (start, end))
        skipped = np.zeros(end - start, dtype=np.int64)
        skipped[self._gaps[low:high, 0] - start] = self._gaps[low:high, 1]
        return np.arange(end - start) + np.cumsum(skipped)

    def _check_rows(self) -> None:
        """Refuses rows that are not those that were written: their agents and actions are indices into memory."""
        digest, expected = hashlib.sha256(str(self.n_agents).encode()), 4 * len(self) * self.columns.width
        with (self.folder / ROWS_FILE).open("rb", buffering=0) as file:
            while some := file.read(HASHED_BYTES):
                digest.update(some)
            if file.tell() != expected or digest.hexdigest() != self._hash:
                raise ValueError(f"{ROWS_FILE} is damaged: its SHA-256 is not the one in {HEADER_FILE}")

    def _read_rows(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """Rows of spans of the file, read and not mapped: mapped pages would count as this process's memory."""
        rows = np.empty((sum(end - start for start, end in spans), self.columns.width), dtype=np.float32)
        filled = 0
        with (self.folder / ROWS_FILE).open("rb", buffering=0) as file:
            for start, end in spans:
                file.seek(4 * start * self.columns.width)
                file.readinto(rows[filled : filled + end - start].data.cast("B"))
                filled += end - start
        return rows


def write_transitions(
    folder: Path, episodes: Iterable[Transitions], *, n_agents: int, source: str, stamp: str = ""
) -> TransitionStore:
    """Writes transitions to disk, one piece after the other; at most one is held in memory.

    Args:
        folder: Where to; replaced whole or not at all.
        episodes: Pieces of the data, each of whole episodes.
        n_agents: Size N of the population.
        source: Dataset id, for messages and cards.
        stamp: What the data were read from; `matches` compares it.

    Raises:
        ValueError: If there are no pieces, they differ in their sizes, or an agent or action is too large for float32.
    """
    with replacing(folder, HEADER_FILE) as new:
        header = _write_rows(new, episodes, n_agents, source)
        (new / HEADER_FILE).write_text(json.dumps(asdict(replace(header, stamp=stamp))), encoding="utf-8")
    return TransitionStore(folder)


def matches(folder: Path, stamp: str) -> bool:
    """Whether a folder holds transitions written from what `stamp` describes."""
    try:
        with reading(folder):
            header = read_json(restored(folder) / HEADER_FILE)
    except ValueError:
        return False
    return bool(header.get("stamp") == stamp and header.get("format") == STORE_FORMAT)


def hash_on_disk(transitions: Transitions) -> str:
    """The `content_hash` of transitions in memory if they were written to disk."""
    digest = hashlib.sha256(str(transitions.n_agents).encode())
    for start in range(0, len(transitions), STORE_BLOCK_ROWS):
        digest.update(_rows(transitions, slice(start, start + STORE_BLOCK_ROWS)).tobytes())
    return digest.hexdigest()


def _write_rows(folder: Path, episodes: Iterable[Transitions], n_agents: int, source: str) -> _Header:
    digest = hashlib.sha256(str(n_agents).encode())
    columns: Columns | None = None
    starts, first, gaps, sums, total, missing = [0], [], [], RunningMoments(), 0, False
    with (folder / ROWS_FILE).open("wb") as file:
        for piece in episodes:
            mine = Columns(piece.obs.shape[1], 0 if piece.action.ndim == 1 else piece.action.shape[1])
            columns = columns or mine
            if mine != columns:
                raise ValueError(f"{source}: episode {len(starts) - 1} has other sizes, {mine}, than those before")
            if max(n_agents, int(np.abs(piece.action).max()) if piece.action.ndim == 1 else 0) > _MAX_INTEGER:
                raise ValueError(f"{source}: agents and actions up to {_MAX_INTEGER:,} can be kept, there are more")
            rows = _rows(piece)
            file.write(rows.tobytes())
            digest.update(rows.tobytes())
            sums.add(named_columns(piece))
            missing |= piece.missing
            gaps.append(piece.gaps() + [total, 0])
            for start, end in _spans(piece.trajectory):
                first.append(np.concatenate([piece.agent[start : start + 1], piece.obs[start]]))
                starts.append(total + end)
            total += len(piece)
    if columns is None:
        raise ValueError(f"{source}: no episodes")
    np.save(folder / EPISODES_FILE, np.array(starts))
    np.save(folder / FIRST_FILE, np.array(first, dtype=np.float32))
    if missing:
        np.save(folder / GAPS_FILE, np.concatenate(gaps))
    return _Header(
        format=STORE_FORMAT,
        source=source,
        obs_dim=columns.obs_dim,
        action_dim=columns.action_dim,
        n_agents=n_agents,
        sha256=digest.hexdigest(),
        moments=sums.moments(),
        missing=missing,
    )


def _rows(piece: Transitions, some: slice = slice(None)) -> NDArray[np.float32]:
    names = ("agent", "action", "obs", "next_obs", "reward", "terminated")
    return np.column_stack([getattr(piece, name)[some] for name in names]).astype(np.float32)


def _spans(trajectory: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First row and end of each run of equal trajectories."""
    edges = [0, *(np.flatnonzero(np.diff(trajectory)) + 1).tolist(), len(trajectory)]
    return zip(edges[:-1], edges[1:], strict=True)


def named_columns(piece: Transitions) -> dict[str, NDArray[Any]]:
    """Trained on: `obs` [K, D]; `target` (change, reward, terminated) [K, D + 2]; `action` [K, A]."""
    target = np.column_stack([piece.next_obs - piece.obs, piece.reward, piece.terminated.astype(np.float32)])
    return {"obs": piece.obs, "target": target, "action": piece.action.reshape(len(piece), -1)}
