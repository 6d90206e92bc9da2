"""What all offline baselines share: settings, batches of logged transitions, and the loop of updates."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from tqdm import tqdm

from persim_gym.actions import ActionSpace
from persim_gym.logged_arrays import checked_complete
from persim_gym.simulator.model.precision import without_autocast
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.transitions import LoggedData

CHUNK_UPDATES = 100
"""Updates whose batches are drawn at once; a training is checked, and kept, between chunks."""
BASELINE_CHECKPOINT_SECONDS = 20.0
LARGEST_ACTION = 1e6
"""Actions with larger bounds count as unbounded."""
SMALLEST_OBS_STD = 1e-6


class BaselineDiverged(ValueError):
    """The loss of a training, or a weight, is not finite."""


@dataclass(frozen=True)
class OfflineSettings:
    """What the settings of every baseline hold.

    Attributes:
        iterations: Number of updates.
        batch: Transitions B of an update.
        learning_rate: Adam's.
        standardize: Whether observations are scaled by the data's mean and standard deviation.
        bfloat16: Whether wide hidden layers multiply in bfloat16 where the processor can; sums stay float32.
    """

    iterations: int = 100_000
    batch: int = 256
    learning_rate: float = 3e-4
    standardize: bool = False
    bfloat16: bool = True

    def __post_init__(self) -> None:
        """Checks what all baselines have.

        Raises:
            ValueError: If a value is impossible.
        """
        if min(self.iterations, self.batch) < 1 or not self.learning_rate > 0:
            raise ValueError(f"iterations, batch and learning_rate must be positive: {self}")
        for name, value in asdict(self).items():
            if isinstance(value, tuple) and not all(type(width) is int and width > 0 for width in value):
                raise ValueError(f"{name} must be positive whole numbers: {self}")
            if isinstance(value, float) and not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative: {self}")


class Batch(NamedTuple):
    """Logged transitions as algorithms see them.

    Attributes:
        obs: Observations, float32 [B, D].
        action: int64 [B, 1] (discrete), or float32 [B, A] with the bounds of the space at -1 and 1.
        reward: [B, 1].
        next_obs: [B, D].
        live: 0 where the episode ended for a reason of the task, else 1, [B, 1].
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    live: Tensor


class OfflineLearner(Protocol):
    """An algorithm in training; its `state_dict` holds all that training goes on from."""

    def update(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One update; returns its loss, []."""

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, targets and the state of optimizers."""

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> Any:
        """Takes over what `state_dict` gave."""


def action_bounds(space: ActionSpace) -> tuple[Tensor, Tensor]:
    """Middle and half width of a space of actions, float32 [A] each.

    Raises:
        ValueError: If it is unbounded.
    """
    if not isinstance(space, spaces.Box):
        raise ValueError(f"baselines take one choice (Discrete) or a Box of actions, not {space}")
    low, high = (torch.from_numpy(np.array(side, dtype=np.float32)) for side in (space.low, space.high))
    if torch.maximum(low.abs(), high.abs()).max() > LARGEST_ACTION or not (low < high).all():
        raise ValueError(f"actions need finite bounds, low below high, not {space}; give a spec whose bounds they keep")
    return (low + high) / 2, (high - low) / 2


class Replay:
    """Logged transitions as one table of float32 rows, which batches are drawn from with replacement.

    Attributes:
        obs_mean: What is subtracted from observations, float32 [D].
        obs_std: What they are then divided by, float32 [D].
    """

    def __init__(
        self,
        data: LoggedData,
        action_space: ActionSpace,
        *,
        agent: int | None = None,
        standardize: bool = False,
    ) -> None:
        """Reads the data, all of them into memory.

        Args:
            data: The data.
            action_space: Space of their actions.
            agent: Whose transitions to take; None for all.
            standardize: Whether observations are scaled by their mean and standard deviation.

        Raises:
            ValueError: If the agent has no transitions, all lack a value, or actions are outside of their space.
        """
        columns = data.read(np.arange(len(data.block_lengths)))
        if agent is not None:
            own = columns["agent"] == agent
            if not own.any():
                raise ValueError(f"agent {agent} has no transitions in {data.source} ({data.n_agents} agents)")
            columns = {name: values[own] for name, values in columns.items()}
        if data.missing:
            whole = checked_complete(columns, data.source if agent is None else f"{data.source}, agent {agent}")
            columns = {name: values[whole] for name, values in columns.items()}
        self._discrete = isinstance(action_space, spaces.Discrete)
        obs, next_obs = (torch.from_numpy(np.array(columns[name])) for name in ("obs", "next_obs"))
        self.obs_mean, self.obs_std = torch.zeros_like(obs[0]), torch.ones_like(obs[0])
        if standardize:
            self.obs_mean, self.obs_std = obs.mean(0), obs.std(0, correction=0).clamp_min(SMALLEST_OBS_STD)
        parts = [
            (obs - self.obs_mean) / self.obs_std,
            _scaled_actions(columns["action"], action_space, data.source),
            torch.from_numpy(np.array(columns["reward"]))[:, None],
            (next_obs - self.obs_mean) / self.obs_std,
            1.0 - torch.from_numpy(np.array(columns["terminated"])).float()[:, None],
        ]
        self._sizes = [part.shape[1] for part in parts]
        self._table = torch.cat(parts, 1)

    def __len__(self) -> int:
        """Number of transitions K."""
        return len(self._table)

    def batches(self, number: int, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Draws `number` batches of `size` transitions each, uniformly and all at once."""
        rows = self._table[torch.randint(len(self._table), (number, size), generator=generator)]
        columns = list(torch.split(rows, self._sizes, -1))
        if self._discrete:
            columns[1] = columns[1].long()
        return map(Batch, *columns)


def _scaled_actions(action: Any, space: ActionSpace, source: str) -> Tensor:
    """Actions as a table holds them: float32 [K, 1] (discrete), or [K, A] with the bounds of the space at -1 and 1."""
    actions = torch.from_numpy(np.array(action)).float()
    if isinstance(space, spaces.Discrete):
        if actions.ndim != 1 or actions.min() < 0 or actions.max() >= space.n:
            raise ValueError(
                f"{source}: actions {list(actions.shape)} are not 0 to {space.n - 1}; give their own space"
            )
        return actions[:, None]
    middle, half = action_bounds(space)
    if actions.shape[1:] != middle.shape:
        raise ValueError(f"{source}: actions {list(actions.shape)} are not of {space}; give their own space")
    return (actions - middle) / half


@without_autocast
def run_updates(
    learner: OfflineLearner,
    replay: Replay,
    settings: OfflineSettings,
    *,
    name: str,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
    progress: bool = True,
) -> float:
    """Makes all updates of a training; the weights depend on the arguments alone, interrupted or not.

    Args:
        learner: What is trained, in place.
        replay: Its transitions.
        settings: Number and size of the updates.
        name: Of the method, for the bar and for errors.
        seed: Of batches and noise; each chunk of updates draws from a stream of its own.
        checkpoint: File that the state is kept in every `BASELINE_CHECKPOINT_SECONDS`, and that is gone on from.
        identity: What a checkpoint must agree in.
        progress: Whether to show a progress bar.

    Returns:
        Seconds that they took, those before an interruption too.

    Raises:
        BaselineDiverged: If a loss or a weight is not finite.
        ValueError: If the checkpoint is of another training, or cannot be read.
    """
    keeper = _Keeper(checkpoint, identity, learner)
    done, generator = keeper.resume(), torch.Generator()
    bar = tqdm(total=settings.iterations, initial=done, desc=name, unit="update", disable=not progress)
    with keeper, bar:
        while done < settings.iterations:
            generator.manual_seed(int(np.random.SeedSequence([seed, done]).generate_state(1, np.uint64)[0] >> 1))
            count, total = min(CHUNK_UPDATES, settings.iterations - done), torch.zeros((), dtype=torch.float32)
            for batch in replay.batches(count, settings.batch, generator):
                total += learner.update(batch, generator)
            done += count
            loss, state = float(total) / count, learner.state_dict()
            if not (math.isfinite(loss) and all(bool(values.isfinite().all()) for values in state.values())):
                raise _diverged(name, settings, done, loss)
            bar.update(count)
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            keeper.note(done)
    return keeper.seconds


def _diverged(name: str, settings: OfflineSettings, done: int, loss: float) -> BaselineDiverged:
    return BaselineDiverged(
        f"{name} diverged by update {done:,} of {settings.iterations:,} (loss {loss}); lower learning_rate "
        f"({settings.learning_rate:g}), or set standardize=true if the data span many magnitudes"
    )


class _Keeper:
    """Keeps a training in a file: every `BASELINE_CHECKPOINT_SECONDS`, and when it ends or is cut off.

    What is kept is the state after a whole chunk: one that was cut off leaves half of its updates.
    """

    def __init__(self, path: Path | None, identity: str, learner: OfflineLearner) -> None:
        self._path, self._identity, self._learner = path, identity, learner
        self._noted: tuple[dict[str, Tensor], dict[str, str]] | None = None
        self._started = self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of the training so far, those before an interruption too."""
        return time.monotonic() - self._started

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._write()

    def note(self, done: int) -> None:
        """Takes a copy of the state after so many updates, and writes it where that is due."""
        if self._path is None:
            return
        state = {name: values.clone() for name, values in self._learner.state_dict().items()}
        self._noted = state, {"identity": self._identity, "done": str(done), "seconds": str(self.seconds)}
        if time.monotonic() - self._written >= BASELINE_CHECKPOINT_SECONDS:
            self._write()

    def _write(self) -> None:
        """Writes what was noted and is not in the file yet."""
        if self._path is not None and self._noted is not None:
            write_checkpoint(self._path, *self._noted)
            self._noted, self._written = None, time.monotonic()

    def resume(self) -> int:
        """Loads the file where there is one; returns the number of updates made.

        Raises:
            ValueError: If it is of another training, or cannot be read.
        """
        if self._path is None:
            return 0
        try:
            tensors, metadata = read_checkpoint(self._path)
        except FileNotFoundError:
            return 0
        if metadata.get("identity") != self._identity:
            raise ValueError(f"checkpoint {self._path} is of other data, settings or seed; delete it to start anew")
        self._learner.load_state_dict(tensors)
        self._started -= float(metadata["seconds"])
        return int(metadata["done"])
