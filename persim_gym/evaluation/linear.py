"""A linear model of each agent's own, the yardstick of a learned simulator: the change by observation and action."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.observation_layout import ObservationLayout, action_components
from persim_gym.transitions import Transitions

RIDGES = np.logspace(-4, 4, 9)
"""Ridges to choose from, where inputs have standard deviations of 1."""


@dataclass(frozen=True)
class LinearModels:
    """Ridge regressions, one an agent, on the inputs that a simulator has.

    Attributes:
        weights: Of inputs and constant, by number of the agent, [F + 1, L] each.
        layout: What the columns of observations are.
        n_actions: Number of discrete actions; 0 for continuous ones.
        low: Lowest logged observation of each learned column, [L].
        high: Highest one, [L]. No prediction goes further.
    """

    weights: dict[int, NDArray[np.float64]]
    layout: ObservationLayout
    n_actions: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def fit(
        cls, data: Transitions, n_actions: int, logged: Transitions, layout: ObservationLayout | None = None
    ) -> "LinearModels":
        """Fits each agent's own transitions; the ridge of each by leaving one out.

        Args:
            data: What is fitted on.
            n_actions: Number of discrete actions; 0 for continuous ones.
            logged: Data of the population, whose range predictions stay in.
            layout: What the columns of observations are; None where all are learned.
        """
        layout = layout or ObservationLayout(data.obs_dim)
        inputs, learned = _inputs(data.obs, data.action, n_actions), slice(layout.learned)
        change = data.next_obs[:, learned].astype(np.float64) - data.obs[:, learned]
        within = logged.next_obs[:, learned]
        order = np.argsort(data.agent, kind="stable")
        agents, first = np.unique(data.agent[order], return_index=True)
        weights = {
            int(agent): _ridge(inputs[rows], change[rows])
            for agent, rows in zip(agents, np.split(order, first[1:]), strict=True)
        }
        return cls(weights, layout, n_actions, np.nanmin(within, axis=0), np.nanmax(within, axis=0))

    def bound(self, agents: NDArray[np.int64]) -> "BoundLinear":
        """The models of the agents of B rows; no change where an agent has none."""
        none = np.zeros_like(next(iter(self.weights.values())))
        return BoundLinear(self, np.stack([self.weights.get(int(agent), none) for agent in agents]))


@dataclass(frozen=True)
class BoundLinear:
    """Linear models of the agents of B rows.

    Attributes:
        models: All of them.
        weights: Those of the rows, [B, F + 1, L].
    """

    models: LinearModels
    weights: NDArray[np.float64]

    def __call__(self, obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
        """Next observations, [1, B, D], of [1, B, D] and [B] or [B, A]."""
        models, layout = self.models, self.models.layout
        inputs = _inputs(obs[0], action, models.n_actions)
        change = np.einsum("bf,bfd->bd", np.column_stack([inputs, np.ones(len(inputs))]), self.weights)
        learned = np.clip(obs[0][:, : layout.learned] + change, models.low, models.high)
        present = np.concatenate([learned, obs[0][:, layout.outside]], axis=1)
        if not layout.past:
            return present.astype(np.float32)[None]
        return layout.after(obs[0], action_components(action, models.n_actions), present)[None]


def _inputs(obs: NDArray[np.float32], action: NDArray[Any], n_actions: int) -> NDArray[np.float64]:
    """Observations and actions side by side, [B, F]; discrete actions as ones among zeros."""
    return np.column_stack([obs, action_components(action, n_actions)]).astype(np.float64)


def _ridge(inputs: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of inputs [n, F] and constant for changes [n, D], [F + 1, D]; a change may be NaN."""
    if np.isnan(change).any():
        known = ~np.isnan(change)
        columns = [_ridge(inputs[k], change[k, d : d + 1]) for d, k in enumerate(known.T)]
        return np.concatenate(columns, axis=1)
    if not len(inputs):
        return np.zeros((inputs.shape[1] + 1, change.shape[1]))
    middle, mean = inputs.mean(axis=0), change.mean(axis=0)
    scale = inputs.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(1.0, np.abs(middle)), scale, np.inf)  # Constants count nothing.
    u, s, vt = np.linalg.svd((inputs - middle) / scale, full_matrices=False)
    target = u.T @ (change - mean)
    errors = np.stack([_left_out(u, s, change - mean, target, ridge) for ridge in RIDGES])  # [ridges, D]
    chosen = RIDGES[errors.argmin(axis=0)]  # [D]
    weights = vt.T @ (s[:, None] / (s[:, None] ** 2 + chosen) * target) / scale[:, None]
    return np.vstack([weights, mean - middle @ weights])


def _left_out(
    u: NDArray[np.float64],
    s: NDArray[np.float64],
    change: NDArray[np.float64],
    target: NDArray[np.float64],
    ridge: float,
) -> NDArray[np.float64]:
    """Mean squared error of each column where every row is predicted by the others, [D]."""
    shrink = s**2 / (s**2 + ridge)
    leverage = np.clip((u**2 * shrink).sum(axis=1) + 1 / len(u), 0, 1 - 1e-6)
    residual = change - u @ (shrink[:, None] * target)
    error: NDArray[np.float64] = np.square(residual / (1 - leverage)[:, None]).mean(axis=0)
    return error
