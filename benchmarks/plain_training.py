"""A plain training loop of a factored ensemble: autograd, losses over several steps, averages, further inputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm import tqdm

from persim_gym.simulator.model.encoders import AgentEncoder, EnsembleMLP
from persim_gym.simulator.model.ensemble import SMALLEST_STD, FactoredEnsemble
from persim_gym.simulator.model.walls import stopped
from persim_gym.simulator.training.batches import Batchable, Parts
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.schedule import learning_rate
from persim_gym.task import PlanningDynamics
from persim_gym.transitions import Transitions

AVERAGES = {  # share of training that an average leaves out, and how it weighs the steps behind
    "averaged over the last tenth of steps": (0.9, get_swa_multi_avg_fn()),
    "averaged over the last quarter of steps": (0.75, get_swa_multi_avg_fn()),
    "exponential moving average, 0.999": (0.0, get_ema_multi_avg_fn(0.999)),
}

Features = Callable[[Tensor], Tensor]
"""Maps observations in raw units, [..., D], to features, [..., F]."""


class Featured(nn.Module):
    """A state encoder that sees features of the raw observation beside the scaled one."""

    def __init__(self, model: FactoredEnsemble, recipe: TrainingRecipe, features: Features, obs: Tensor, seed: int):
        """Draws the weights; features of the logged observations, [K, D], give the scales where the recipe scales."""
        super().__init__()
        s, logged = model.config, features(obs.double())
        sizes = (s.obs_dim + logged.shape[-1], *s.state_layers, s.out_dim * s.rank)
        self.mlp = EnsembleMLP(s.members, sizes, s.activation, torch.Generator().manual_seed(seed))
        self.features, self.unit, self.origin = features, model.obs_std.clone(), model.obs_mean.clone()
        self.mean = logged.mean(0).float() * recipe.standardize
        self.std = logged.std(0).clamp_min(SMALLEST_STD).float() if recipe.standardize else torch.ones(1)

    def forward(self, scaled: Tensor) -> Tensor:
        """Maps scaled observations, [M, B, D], to v, [M, B, D * R]."""
        known = (self.features(scaled * self.unit + self.origin) - self.mean) / self.std
        v: Tensor = self.mlp(torch.cat([scaled, known], dim=-1))
        return v


@dataclass(frozen=True)
class Bound(PlanningDynamics):
    """A model bound to one agent, whatever its state encoder; dynamics for `prediction_error`."""

    model: FactoredEnsemble
    agent: int

    @property
    def members(self) -> int:
        """Ensemble size M."""
        return self.model.config.members

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float32]:
        """Next observations, [M, E, D], of observations [M, E, D] and actions [E] or [E, A]."""
        agent = torch.full((len(action),), self.agent)
        guess = self.model.predict(agent, torch.tensor(obs, dtype=torch.float32), torch.tensor(action))
        return np.asarray(guess.numpy())


def windows(trajectory: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
    """First rows of all windows of `horizon` transitions that lie within one trajectory."""
    last = len(trajectory) - horizon + 1
    return np.flatnonzero(trajectory[:last] == trajectory[horizon - 1 :])


def free_windows(starts: NDArray[np.int64], data: Transitions, walls: Tensor, horizon: int) -> NDArray[np.int64]:
    """First rows of those windows in which no wall stops anything: no learned change explains what it does."""
    touched = stopped(walls, torch.from_numpy(data.next_obs)).any(dim=1).numpy()
    found: NDArray[np.int64] = starts[~touched[starts[:, None] + np.arange(horizon)].any(axis=1)]
    return found


def window_loss(
    model: FactoredEnsemble,
    data: Batchable,
    first: Tensor,
    horizon: int,
    recipe: TrainingRecipe,
    noise: torch.Generator,
) -> Tensor:
    """Squared error of open-loop predictions, in units of the scaled change, mean over windows and steps, and the pull.

    Over one step it is the loss of `fit`. Later steps start from the step before's prediction, clipped as the model
    clips; what that is off by counts as error of the change. Noise comes anew to what each step sees.

    Args:
        model: The ensemble.
        data: Agents, scaled observations, actions and scaled changes, in the order of trajectories.
        first: First rows of windows, [M, B].
        horizon: Steps.
        recipe: The training recipe.
        noise: Source of noise.
    """
    agents, seen, actions, changes = data
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    offset = encoder.offset(agents[first])  # [M, B, R]
    low, high = model.scale_obs(model.obs_low), model.scale_obs(model.obs_high)
    scaled, error = seen[first], torch.zeros(())
    for step in range(horizon):
        rows = first + step
        off = (scaled - seen[rows]) * (model.obs_std / model.delta_std) if step else 0.0
        given = scaled + recipe.noise * torch.randn(scaled.shape, generator=noise) if recipe.noise else scaled
        change = model.scaled_delta(offset + encoder.bias, given, actions[rows])  # [M, B, D]
        error = error + (change + off - changes[rows]).square().sum()
        if step + 1 < horizon:
            scaled = scaled + (change * model.delta_std + model.delta_mean) / model.obs_std
            scaled = scaled.clamp(low, high)
    return (error / horizon + recipe.pull * offset.square().sum()) / first.shape[1]


def train(
    model: FactoredEnsemble,
    transitions: Transitions,
    recipe: TrainingRecipe,
    horizon: int = 1,
    averages: Iterable[str] = (),
    seed: int = 0,
) -> dict[str, FactoredEnsemble]:
    """Trains in place by as many updates as `fit` makes; returns the named averages over its updates."""
    parts = Parts(transitions, seed)
    data, starts = parts.read(model, 0, 0), windows(transitions.trajectory, horizon)
    if horizon > 1:  # one step is as `fit` takes it, which repeats others in place of those that a wall stopped
        starts = free_windows(starts, transitions, model.walls, horizon)
    recipe = replace(recipe, epochs=round(recipe.epochs * len(transitions) / len(starts)))  # fewer windows than rows
    steps = len(starts) // recipe.batch
    noise = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    averaged = {name: AveragedModel(model, multi_avg_fn=AVERAGES[name][1]) for name in averages}
    bar = tqdm(total=recipe.epochs * steps, unit="step", leave=False, mininterval=1.0)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(starts[parts.order(recipe.members, epoch, 0, len(starts))])
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch, step, steps)
            first = order[:, step * recipe.batch : (step + 1) * recipe.batch]
            loss = window_loss(model, data, first, horizon, recipe, noise)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            bar.update()
            for name, average in averaged.items():
                if bar.n > AVERAGES[name][0] * recipe.epochs * steps:
                    average.update_parameters(model)
        bar.set_postfix(loss=f"{loss.item():.4g}")
    bar.close()
    return {name: cast(FactoredEnsemble, average.module) for name, average in averaged.items()}
