"""Confidence intervals of means."""

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


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
