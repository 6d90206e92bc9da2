"""Windows of logged trajectories: some past steps, which give the context, and some that are predicted under it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.simulator.model.ensemble import SMALLEST_STD
from persim_gym.transitions import Transitions


@dataclass(frozen=True)
class LoggedSteps:
    """Logged steps in the scaled units of a model, in the order of their trajectories.

    Attributes:
        past: What the context encoder sees of a step, [K, D + actions].
        forward_inputs: What the forward model sees, [K, F + actions].
        forward_target: What it predicts, [K, D].
        backward_inputs: What the backward model sees, [K, F + actions].
        backward_target: What it predicts, [K, D].
        first: First row of the piece of consecutive steps that each row is in, int64 [K].
        end: Row behind its last one, int64 [K].
    """

    past: Tensor
    forward_inputs: Tensor
    forward_target: Tensor
    backward_inputs: Tensor
    backward_target: Tensor
    first: Tensor
    end: Tensor

    def past_of(self, rows: Tensor, steps: int) -> Tensor:
        """The steps before each row, oldest first, [..., steps * (D + actions)]; zeros before its trajectory begins."""
        before = rows[..., None] + torch.arange(-steps, 0)
        known = before >= self.first[rows][..., None]
        return (self.past[before.clamp(min=0)] * known[..., None]).flatten(-2)

    def future_of(self, rows: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
        """Rows some steps ahead of each, and which of them its trajectory has, bool; [..., S] of [...] and [..., S]."""
        ahead = rows[..., None] + ahead
        return ahead.clamp(max=len(self.first) - 1), ahead < self.end[rows][..., None]


def trajectory_bounds(trajectory: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row of each row's trajectory, and the row behind its last one, [K] both."""
    starts = np.flatnonzero(np.diff(trajectory, prepend=trajectory[0] - 1))
    lengths = np.diff(starts, append=len(trajectory))
    return np.repeat(starts, lengths), np.repeat(starts + lengths, lengths)


def set_scales(model: CadmModel, data: Transitions) -> None:
    """Gives a model the scales of the data."""
    obs, following = torch.from_numpy(data.obs), torch.from_numpy(data.next_obs)
    scales = {"obs": model.raw_inputs(obs), "target": model.raw_target(obs, following)}
    if data.action_dim:
        scales["action"] = torch.from_numpy(data.action)
    for name, values in scales.items():
        values = values.double()
        getattr(model, f"{name}_mean").copy_(values.mean(0))
        getattr(model, f"{name}_std").copy_(_scale_of(values))
    model.change_std.copy_(_scale_of((following - obs).double()))
    model.logged_std.copy_(obs.double().std(0, correction=0))


def _scale_of(values: Tensor) -> Tensor:
    """Standard deviations [D], but 1 for what is constant to about what float32 resolves."""
    std = values.std(0, correction=0)
    return torch.where(std > torch.clamp(1e-6 * values.mean(0).abs(), min=SMALLEST_STD), std, 1.0)


def logged_steps(model: CadmModel, data: Transitions) -> LoggedSteps:
    """Data in the scaled units of a model."""
    obs, following = torch.from_numpy(data.obs), torch.from_numpy(data.next_obs)
    action = torch.from_numpy(data.action)
    seen = model.scaled_action(action)
    first, end = trajectory_bounds(data.pieces)
    # A change back is the change's negative, and so is its mean; what is predicted itself keeps its own.
    back_mean = -model.target_mean
    absolute = list(model.shape.features.absolute)
    back_mean[absolute] = model.target_mean[absolute]
    return LoggedSteps(
        past=model.scaled_past(following - obs, action, torch.ones(len(data), dtype=torch.bool)),
        forward_inputs=torch.cat([model.scaled_inputs(obs), seen], dim=-1),
        forward_target=(model.raw_target(obs, following) - model.target_mean) / model.target_std,
        backward_inputs=torch.cat([model.scaled_inputs(following), seen], dim=-1),
        backward_target=(model.raw_target(following, obs) - back_mean) / model.target_std,
        first=torch.from_numpy(first),
        end=torch.from_numpy(end),
    )


def split_trajectories(trajectory: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are validated on, bool [K]: those of a share of the trajectories, at least one stays for training."""
    first, _ = trajectory_bounds(trajectory)
    different = np.unique(first)
    held = min(round(share * len(different)), len(different) - 1)
    chosen = np.random.default_rng([seed, 1]).choice(different, size=held, replace=False)
    return np.isin(first, chosen)
