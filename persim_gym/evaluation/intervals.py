"""Confidence intervals of means and of interquartile means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
STRATIFIED_RESAMPLES = 2_000


def mean_interval(values: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its percentile-bootstrap confidence interval.

    Args:
        values: Independent values, such as returns of episodes, [E].
        level: Confidence level.
        seed: Of the resampling.

    Returns:
        Mean, lower end, upper end; all three the same for one value.

    Raises:
        ValueError: If there are no values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"the mean of values [E] needs at least one, got shape {sample.shape}")
    drawn = np.random.default_rng(seed).integers(len(sample), size=(RESAMPLES, len(sample)))
    low, high = np.quantile(sample[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(sample.mean()), float(low), float(high)


def interquartile_interval(
    strata: Sequence[ArrayLike], level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of the middle half of all values, and its stratified percentile-bootstrap confidence interval.

    Each resample draws, from every stratum, as many values as it has: the strata are the tasks, such as the agents,
    that one did not draw, the values of a stratum the repetitions that one did. A quarter of the values, rounded down,
    is left out at either end.

    Args:
        strata: Values of each stratum, of any numbers.
        level: Confidence level.
        seed: Of the resampling.

    Returns:
        Interquartile mean, lower end, upper end; all three the same where every stratum has one value.

    Raises:
        ValueError: If there is no stratum, or one is empty.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", sections 4.1
    and 4.3.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in strata]
    if not samples or any(sample.ndim != 1 or not len(sample) for sample in samples):
        shapes = ", ".join(str(sample.shape) for sample in samples) or "none"
        raise ValueError(f"an interquartile mean needs strata with at least one value each, got shapes {shapes}")
    rng = np.random.default_rng(seed)
    drawn = [sample[rng.integers(len(sample), size=(STRATIFIED_RESAMPLES, len(sample)))] for sample in samples]
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(_interquartile_mean(np.concatenate(drawn, axis=1)), ends)
    return float(_interquartile_mean(np.concatenate(samples)[None])[0]), float(low), float(high)


def _interquartile_mean(values: NDArray[np.float64]) -> NDArray[Any]:
    """Of each row, [rows, values] -> [rows]."""
    cut = values.shape[1] // 4
    means: NDArray[Any] = np.sort(values, axis=1)[:, cut : values.shape[1] - cut].mean(axis=1)
    return means
