"""Training data as the trainer takes them: whole from memory, or in parts from disk."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import stopped
from persim_gym.transitions import LoggedData

Batchable: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Agents [K], scaled observations [K, D], actions [K] or scaled [K, A], and scaled targets [K, D + E], NaN where they
are not known."""


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations over the data, double.

    Attributes:
        obs: Of the observations, [D] each.
        target: Of change, reward and termination, [D + 2] each.
        action: Of continuous actions, [A] each.
    """

    obs: tuple[Tensor, Tensor]
    target: tuple[Tensor, Tensor]
    action: tuple[Tensor, Tensor] | None


def moments(data: LoggedData, learned: int | None = None) -> Moments:
    """What the scales of a model are made from.

    Args:
        data: The data.
        learned: Columns of the observation whose change is learned, the first ones; None for all.
    """
    learned = data.obs_dim if learned is None else learned
    stored = data.stored_moments()
    if stored is not None:
        known = {name: (torch.from_numpy(m), torch.from_numpy(s)) for name, (m, s) in stored.items()}
        columns = [*range(learned), data.obs_dim, data.obs_dim + 1]
        mean, std = (part[columns] for part in known["target"])
        return Moments(known["obs"], (mean, std), known["action"] if data.action_dim else None)
    rows = data.read(range(len(data.block_lengths)))
    rows.pop("agent")
    obs, target, action = _tensors(**rows, learned=learned, extra=True)
    return Moments(_moments(obs), _moments(target), _moments(action) if action.ndim > 1 else None)


def _without_stopped(raw: dict[str, NDArray[Any]], touched: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Transitions with repeats of the next free one in place of those that a wall stopped, `touched` [K]."""
    free = np.flatnonzero(~touched)
    if len(free) in (0, len(touched)):
        return raw
    rows = np.arange(len(touched))
    rows[touched] = free[np.searchsorted(free, rows[touched]) % len(free)]
    return {name: values[rows] for name, values in raw.items()}


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the known values of each column; 0 where there are none."""
    values = values.double()
    if bool(values.isnan().any()):
        known = ~values.isnan()
        mean = values.nan_to_num(nan=0.0).sum(0) / known.sum(0).clamp_min(1)
        squares = torch.where(known, values - mean, 0.0).square().sum(0)
        return mean, (squares / (known.sum(0) - 1).clamp_min(1)).sqrt()
    return values.mean(0), values.std(0) if len(values) > 1 else torch.zeros_like(values[0])


def _tensors(
    obs: NDArray[np.float32],
    next_obs: NDArray[np.float32],
    reward: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    action: NDArray[np.float32] | NDArray[np.int64],
    learned: int,
    extra: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, targets and actions in raw units."""
    now = torch.from_numpy(obs)
    target = torch.from_numpy(next_obs[:, :learned]) - now[:, :learned]
    if extra:
        target = torch.column_stack([target, torch.from_numpy(reward), torch.from_numpy(terminated).float()])
    return now, target, torch.from_numpy(action)


class Parts:
    """The parts that an epoch is made of: one for data in memory, as many as needed for data on disk.

    On disk, blocks of consecutive rows are shuffled over the whole file, a part is what fits in memory of them, and its
    rows are shuffled among themselves by each member.

    Attributes:
        number: Parts an epoch.
    """

    def __init__(self, data: LoggedData, seed: int) -> None:
        """Lays an epoch out.

        Args:
            data: The data.
            seed: Source of the order of blocks.
        """
        self._data, self._seed = data, seed
        self.number = min(max(1, round(len(data) / data.part_rows)), len(data.block_lengths))

    def lengths(self, epoch: int) -> list[int]:
        """Transitions of each part of an epoch."""
        return [int(self._data.block_lengths[blocks].sum()) for blocks in self._blocks(epoch)]

    def read(self, model: FactoredEnsemble, epoch: int, part: int) -> Batchable:
        """One part in the model's scaled units, on its device.

        Raises:
            ValueError: If an agent or a discrete action is none of the model's: compiled code would read elsewhere.
        """
        device, extra, learned = model.obs_mean.device, model.config.extra_dim > 0, model.config.learned_dim
        raw = self._data.read(self._blocks(epoch)[part])
        self._check(raw, model.config.n_actions)
        following = torch.from_numpy(raw["next_obs"][:, :learned])
        raw = _without_stopped(raw, stopped(model.walls, following).any(dim=1).numpy())
        agent = torch.from_numpy(raw.pop("agent")).to(device)
        if model.config.variant == "unpersonalized":
            agent = torch.zeros_like(agent)
        obs, target, action = (x.to(device) for x in _tensors(**raw, learned=learned, extra=extra))
        target = (target - model.delta_mean) / model.delta_std
        return agent, model.scale_obs(obs), model.scale_action(action), target

    def order(self, members: int, epoch: int, part: int, length: int) -> NDArray[np.int64]:
        """Each member's own order of a part, [M, length], anew in each epoch and the same in each run."""
        rng = np.random.default_rng([self._seed, epoch, part] if self.number > 1 else [self._seed, epoch])
        return np.stack([rng.permutation(length) for _ in range(members)])

    def _blocks(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self._seed, epoch, 0, 0])
        return np.array_split(rng.permutation(len(self._data.block_lengths)), self.number)

    def _check(self, raw: dict[str, NDArray[Any]], n_actions: int) -> None:
        """Checks what would be wrong memory in compiled code."""
        agent, action, source = raw["agent"], raw["action"], self._data.source
        if not 0 <= agent.min() <= agent.max() < self._data.n_agents:
            raise ValueError(f"{source}: agents {agent.min()}–{agent.max()} are not 0–{self._data.n_agents - 1}")
        if action.ndim == 1 and not 0 <= action.min() <= action.max() < n_actions:
            raise ValueError(
                f"{source}: actions {action.min()}–{action.max()} are not 0–{n_actions - 1}; give the right n_actions "
                f"({action.max() + 1} or more), or continuous actions as [K, A]"
            )
