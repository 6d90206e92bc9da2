"""From returns under draws of what is not known to means, intervals and probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9
"""Of intervals."""
NORMAL_90 = 1.6449
"""Half of a normal distribution's 90 % interval, in standard deviations."""


class Estimate(NamedTuple):
    """What is known of a mean return.

    Attributes:
        mean: Over all episodes.
        low: Lower end of the 90 % interval.
        high: Upper end.
        draws: The mean under each draw, as far apart as the interval says, [K].
    """

    mean: float
    low: float
    high: float
    draws: NDArray[np.float64]


@dataclass(frozen=True)
class Widening:
    """How wide intervals have to be.

    Attributes:
        factor: How much wider than draws lie apart, at least 1.
        least: Half of an interval is at least this return, times the factor: draws that agree may be wrong together.
        agents: Agents whose replayed logs say so; 0 where none did.
    """

    factor: float = 1.0
    least: float = 0.0
    agents: int = 0


NO_WIDENING = Widening()


def estimate(returns: NDArray[np.float64], widening: Widening = NO_WIDENING) -> Estimate:
    """The mean return, and how far it is known.

    Means of few episodes differ between draws by chance too: that share of their variance is taken out again, and the
    sampling error of the mean of all episodes is put in.

    Args:
        returns: Of each draw's episodes, [K, E].
        widening: How wide intervals have to be.

    Source: the method of moments for variance components in a balanced one-way layout.
    """
    draws, count = returns.shape
    means, centre = returns.mean(axis=1), float(returns.mean())
    within = float(returns.var(axis=1, ddof=1).mean()) if count > 1 else 0.0
    spread = float(means.var(ddof=1))
    share = np.sqrt(max(spread - within / count, 0.0) / spread) if spread > 0 else 0.0
    apart = centre + widening.factor * share * (means - centre)
    sampling = NORMAL_90 * np.sqrt(within / (draws * count))
    low, high = np.quantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    least = widening.factor * widening.least
    below, above = (np.hypot(max(side, least), sampling) for side in (centre - low, high - centre))
    return Estimate(centre, float(centre - below), float(centre + above), apart)


def best_probabilities(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Share of draws under which each candidate earns most; those that earn the same share it."""
    drawn = np.stack([each.draws for each in estimates.values()])  # [C, K]
    first = drawn >= drawn.max(axis=0) - 1e-9
    shares = (first / first.sum(axis=0)).mean(axis=1)
    return dict(zip(estimates, shares.tolist(), strict=True))


def beats(one: Estimate, other: Estimate) -> float:
    """Share of draws under which one candidate earns more than another; a tie counts half."""
    return float((one.draws > other.draws).mean() + 0.5 * (one.draws == other.draws).mean())


def widening_of(predicted: NDArray[np.float64], logged: NDArray[np.float64]) -> Widening:
    """How wide intervals have to be to hold the logged returns of 90 % of further agents.

    Args:
        predicted: Return of each agent's log under each draw, [N, K].
        logged: The return that was logged, [N].

    Returns:
        With fewer than 9 agents, what the farthest of them needs.

    Source: split conformal prediction, Vovk et al. 2005; an agent is one example.
    """
    centre = predicted.mean(axis=1)
    low, high = np.quantile(predicted, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    miss = logged - centre
    # A hundredth of what agents differ by does not matter.
    least = max(0.01 * float(logged.std()), 1e-6 * float(np.abs(logged).max(initial=1.0)))
    half = np.maximum(np.where(miss < 0, centre - low, high - centre), least)
    scores = np.sort(np.abs(miss) / half)
    rank = min(int(np.ceil((len(scores) + 1) * LEVEL)), len(scores))
    return Widening(max(1.0, float(scores[rank - 1])), least, len(scores))
