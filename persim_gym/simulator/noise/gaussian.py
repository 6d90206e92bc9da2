"""Gaussian noise of transitions, whose spread depends on observation and action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

MAX_CHOICES = 50  # Of discrete actions the spread depends on, where there are at most so many.
MAX_WIDTH = 200  # Of wider inputs, observation and action together, the spread does not depend.
FEATURE_LIMIT = 4.0  # Standard deviations at which an input is cut off.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # Penalties of the log variance to choose from, each in units of the data.
RIDGE_ROWS = 2000  # The penalty is chosen on at most so many rows, the rest of the work takes all.
STEPS = 25  # Of Fisher scoring, which converges in fewer.
MAX_SURPRISE = 10.0  # A squared residual counts as at most so many times its variance while the shape is fitted.
SMALLEST_SPREAD = 1e-7  # In standard deviations of the residual's own dimension in the logged observations.
ROUNDING_VARIANCE = 1.0 / 6.0
"""Mean variance that stochastic rounding to whole numbers adds: that of p (1 - p) for a uniform share p."""


@dataclass(frozen=True)
class GaussianNoise:
    """Normal residuals of one step: log variances linear in features of the input, correlations the same everywhere.

    Features are 1, the standardised observation and action (discrete ones one-hot), and their squares.

    Attributes:
        mean: Of the inputs, [F].
        std: Of the inputs, [F].
        weight: Log variances, [1 + 2 F, D].
        low: Smallest log variance, [D]: that of the data it was fitted to.
        high: Largest one, [D].
        root: Lower triangle whose product with its transpose is the correlation of residuals, [D, D].
        choices: Number of discrete actions; 0 for continuous ones.
        rounded: Components that are rounded to whole numbers after noise was added. Rounding is noise too: theirs is
            so much smaller.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    weight: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    root: NDArray[np.float64]
    choices: int = 0
    rounded: tuple[int, ...] = ()

    @property
    def numbers(self) -> int:
        """Uniform numbers that one draw takes."""
        return len(self.root)

    def spread(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
        """Standard deviation of what follows, [B, D].

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A].
        """
        features = _features(_inputs(obs, action, self.choices, len(self.mean)), self.mean, self.std)
        spread: NDArray[np.float64] = np.exp(0.5 * np.clip(features @ self.weight, self.low, self.high))
        return spread

    def draw(self, obs: NDArray[Any], action: NDArray[Any], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Residuals, [B, D].

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A].
            uniform: Random numbers between 0 and 1, [B, D]; the same ones make the same draw.
        """
        spread = self.spread(obs, action)
        if self.rounded:
            some = list(self.rounded)
            spread[:, some] = np.sqrt(np.maximum(np.square(spread[:, some]) - ROUNDING_VARIANCE, 0.0))
        drawn: NDArray[np.float64] = spread * (ndtri(uniform) @ self.root.T)
        return drawn

    def rounding(self, components: Sequence[int]) -> "GaussianNoise":
        """The noise of predictions of which some components are rounded to whole numbers afterwards."""
        return replace(self, rounded=tuple(components))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for a file."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rounded"}
        return {**arrays, "choices": np.array([self.choices])}

    @classmethod
    def from_arrays(
        cls, stored: Mapping[str, NDArray[Any]], obs_dim: int, inputs: int, choices: int
    ) -> "GaussianNoise":
        """Reads what `to_arrays` made.

        Args:
            stored: Arrays by name.
            obs_dim: Size L of what is predicted.
            inputs: Size of observation and action together.
            choices: Number of discrete actions.

        Raises:
            KeyError: If a part is missing.
            ValueError: If one is of another size, or of another model.
        """
        width = len(stored["mean"])
        shapes = {
            "mean": (width,),
            "std": (width,),
            "weight": (1 + 2 * width, obs_dim),
            **dict.fromkeys(("low", "high"), (obs_dim,)),
            "root": (obs_dim, obs_dim),
            "choices": (1,),
        }
        for name, shape in shapes.items():
            if stored[name].shape != shape:
                raise ValueError(f"noise.{name} is {list(stored[name].shape)}, not {list(shape)}")
        if (stored["std"] <= 0).any() or (stored["low"] > stored["high"]).any():
            raise ValueError("noise.std is not positive, or noise.low above noise.high")
        known = int(stored["choices"][0])
        if known not in (0, choices) or width not in (0, inputs):
            raise ValueError(f"the noise is of {width} inputs and {known} actions, which its model has not")
        mean, std, weight, low, high, root = (stored[n].astype(np.float64) for n in shapes if n != "choices")
        return cls(mean, std, weight, low, high, root, known)


def fit_gaussian(
    obs: NDArray[Any], action: NDArray[Any], residuals: NDArray[Any], unit: NDArray[Any], choices: int
) -> GaussianNoise:
    """Fits the noise to residuals, best of transitions that the model was not trained on.

    The log variances maximise a Gaussian likelihood under a ridge penalty. Half of the rows choose the penalty by the
    likelihood of the other half, and no dependence at all is one of the choices; the mean variance is then exactly that
    of the residuals.

    Args:
        obs: [K, D].
        action: int64 [K] or float32 [K, A].
        residuals: Logged next observation minus prediction, [K, D]; NaN where it was not logged.
        unit: Standard deviations of the logged observations, [D].
        choices: Number of discrete actions; 0 for continuous ones.

    Raises:
        ValueError: If there are no residuals.

    Source: a generalised linear model of squared residuals, as Smyth (1989), "Generalized linear models with varying
    dispersion".
    """
    if not len(residuals):
        raise ValueError("there are no residuals to fit noise to; give transitions that were not trained on")
    known = np.isfinite(residuals)
    count = np.maximum(known.sum(axis=0), 1)
    raw = np.square(np.where(known, residuals, 0.0), dtype=np.float64)
    size = np.maximum(raw.sum(axis=0) / count, np.square(SMALLEST_SPREAD * np.asarray(unit, dtype=np.float64)))
    width = obs.shape[1] + (action.shape[1] if action.ndim == 2 else choices * (choices <= MAX_CHOICES))
    inputs = _inputs(obs, action, choices, width if width <= MAX_WIDTH else 0)
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-6), std, 1.0)
    features = _features(inputs, mean, std)
    squares = np.where(known, raw / size, np.nan)
    weight = _chosen(features, squares)
    log = features @ weight
    scale = np.nansum(squares / np.exp(log), axis=0) / count
    weight[0] += np.log(np.maximum(scale, 1e-12)) + np.log(size)
    low, high = np.quantile(features @ weight, (0.001, 0.999), axis=0)
    floor = 2.0 * np.log(SMALLEST_SPREAD * np.asarray(unit, dtype=np.float64))
    low, high = np.maximum(low, floor), np.maximum(high, floor)
    spread = np.exp(0.5 * np.clip(features @ weight, low, high))
    root = _root(residuals / spread)
    return GaussianNoise(mean, std, weight, low, high, root, choices)


def _inputs(obs: NDArray[Any], action: NDArray[Any], choices: int, width: int) -> NDArray[np.float64]:
    """What the spread depends on, [B, width]: observation, action where there is room for it; nothing for 0."""
    if not width:
        return np.zeros((len(obs), 0))
    parts = [np.asarray(obs, dtype=np.float64)]
    if action.ndim == 2:
        parts.append(action.astype(np.float64))
    elif width > obs.shape[1]:
        parts.append((action[:, None] == np.arange(choices)).astype(np.float64))
    return np.concatenate(parts, axis=1)


def _features(inputs: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, scaled inputs and their squares, [B, 1 + 2 F]."""
    scaled = np.clip((inputs - mean) / std, -FEATURE_LIMIT, FEATURE_LIMIT)
    return np.concatenate([np.ones((len(inputs), 1)), scaled, np.square(scaled) - 1.0], axis=1)


def _chosen(features: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log variances, [1 + 2 F, D], under the penalty that foretells one half of the rows best from the other."""
    constant = np.zeros((features.shape[1], squares.shape[1]))
    half = len(features) // 2
    if half <= features.shape[1] or features.shape[1] == 1:
        return constant
    some = np.unique(np.linspace(0, len(features) - 1, min(len(features), 2 * RIDGE_ROWS)).astype(np.int64))
    first, second = some[: len(some) // 2], some[len(some) // 2 :]
    best, weight = np.full(squares.shape[1], np.inf), constant.copy()
    penalties = np.full(squares.shape[1], np.nan)
    for ridge in (None, *RIDGES):
        loss = np.zeros(squares.shape[1])
        for one, other in ((first, second), (second, first)):
            fitted = constant if ridge is None else _scored(features[one], squares[one], ridge)
            loss += _deviance(features[one] @ fitted, squares[one], features[other] @ fitted, squares[other])
        better = loss < best
        best, penalties = np.where(better, loss, best), np.where(better, ridge or np.nan, penalties)
    for ridge in np.unique(penalties[np.isfinite(penalties)]):
        columns = penalties == ridge
        weight[:, columns] = _scored(features, squares[:, columns], float(ridge))
    return weight


def _scored(features: NDArray[np.float64], squares: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Log variances, [1 + 2 F, D], by Fisher scoring under a penalty on all but the constant."""
    penalty = ridge * len(features) * np.append(0.0, np.ones(features.shape[1] - 1))
    inverse = np.linalg.inv(features.T @ features + np.diag(penalty + 1e-9 * len(features)))
    weight = np.zeros((features.shape[1], squares.shape[1]))
    for _ in range(STEPS):
        surprise = np.minimum(squares / np.exp(np.clip(features @ weight, -20.0, 20.0)), MAX_SURPRISE) - 1.0
        gradient = features.T @ np.where(np.isnan(surprise), 0.0, surprise) - penalty[:, None] * weight
        weight += 0.5 * inverse @ gradient
    return weight


def _deviance(
    own: NDArray[np.float64],
    own_squares: NDArray[np.float64],
    log: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean Gaussian loss of squared residuals under log variances, up to a constant, [D].

    Both are first brought to the mean variance of the rows that the log variances were fitted to.
    """
    scale = np.log(np.maximum(np.nanmean(own_squares / np.exp(own), axis=0), 1e-12))
    loss: NDArray[np.float64] = np.nanmean(log + scale + squares / np.exp(log + scale), axis=0)
    return np.where(np.isnan(loss), np.inf, loss)


def _root(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower triangle of the correlation of scaled residuals [K, D], shrunk towards none where rows are few."""
    size = scaled.shape[1]
    whole = np.clip(scaled[np.isfinite(scaled).all(axis=1)], -MAX_SURPRISE, MAX_SURPRISE)
    if len(whole) < 2:
        return np.eye(size)
    product = whole.T @ whole / len(whole)
    width = np.sqrt(np.maximum(np.diag(product), 1e-12))
    share = min(1.0, max(size / len(whole), 1e-6))
    correlation = (1 - share) * product / np.outer(width, width)
    np.fill_diagonal(correlation, 1.0)
    lower: NDArray[np.float64] = np.linalg.cholesky(correlation)
    return lower
