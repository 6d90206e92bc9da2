"""What a seller can do who knows the market: the optimum, and the airlines' rule of thumb.

Both are tables of the lowest open class by days to go and seats left, made of a seller's covariates.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.revenue.domain import DOMAIN, GROUP_SEATS
from persim_gym.envs.revenue.market import CLASSES, PERIODS, SEATS, Market, at_most


@dataclass(frozen=True, eq=False)
class BookingTable:
    """A policy that looks the lowest open class up; has Stable-Baselines3's `predict`.

    Attributes:
        lowest: By periods to go and seats left, int64 [PERIODS + 1, SEATS + 1].
    """

    lowest: NDArray[np.int64]

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Lowest open class of observations [D] or [B, D], [] or [B], and no state."""
        obs = np.asarray(observation)
        seats = np.clip(np.rint(obs[..., 0]), 0, SEATS).astype(np.int64)
        periods = np.clip(np.rint(obs[..., 1]), 0, PERIODS).astype(np.int64)
        return self.lowest[periods, seats], None


@dataclass(frozen=True, eq=False)
class Optimum(BookingTable):
    """The policy of highest expected revenue.

    Attributes:
        lowest: See `BookingTable`.
        value: Expected revenue of what is left to sell, in full fares, [PERIODS + 1, SEATS + 1].
    """

    value: NDArray[np.float64]

    @property
    def revenue(self) -> float:
        """Expected revenue of an episode, over all that groups may have taken, in full fares."""
        return _at_start(self.value[PERIODS])


def optimal_policy(**covariates: float) -> Optimum:
    """The optimum by dynamic programming over periods to go and seats left.

    Args:
        **covariates: As of the environment; those left out take their default.

    Raises:
        ValueError: If a covariate is out of range; TypeError if it is unknown.

    Source: Talluri and van Ryzin (2004), "Revenue management under a general discrete choice model of consumer
    behavior", Management Science 50(1), equation (1), with nested classes of which customers take the cheapest.
    """
    market = _market(covariates)
    value = np.zeros((PERIODS + 1, SEATS + 1))
    lowest = np.zeros((PERIODS + 1, SEATS + 1), dtype=np.int64)
    for periods in range(1, PERIODS + 1):
        worth = _worth_of_classes(market, periods, value[periods - 1])
        lowest[periods], value[periods] = worth.argmax(axis=0), worth.max(axis=0)
    return Optimum(lowest, value)


def expected_revenue(policy: BookingTable, **covariates: float) -> float:
    """Expected revenue of an episode under a table's policy, exactly, in full fares.

    Args:
        policy: The policy.
        **covariates: As of the environment.
    """
    market, value = _market(covariates), np.zeros(SEATS + 1)
    for periods in range(1, PERIODS + 1):
        worth = _worth_of_classes(market, periods, value)
        value = np.take_along_axis(worth, policy.lowest[periods][None], axis=0)[0]
    return _at_start(value)


def random_revenue(**covariates: float) -> float:
    """Expected revenue of uniformly random actions, exactly, in full fares."""
    market, value = _market(covariates), np.zeros(SEATS + 1)
    for periods in range(1, PERIODS + 1):
        value = _worth_of_classes(market, periods, value).mean(axis=0)
    return _at_start(value)


def emsr_b_policy(marginal: bool = False, **covariates: float) -> BookingTable:
    """The rule of thumb EMSR-b with a true forecast, computed anew for every period and number of seats left.

    It protects so many seats for the classes above a class that the expected fare of the last one is the fare of that
    class, as if each customer wanted one class alone: that whose fare is the highest he would pay. Here customers take
    the cheapest open class, which the plain rule overlooks.

    Args:
        marginal: Whether fares are replaced by marginal revenues: what opening a class brings, less what it takes from
            the classes above. The rule then knows that customers take the cheapest class.
        **covariates: As of the environment; the forecast is made of them.

    Source: Belobaba (1992), "Optimal vs. heuristic methods for nested seat allocation", AGIFORS; Talluri and van Ryzin
    (2004), "The Theory and Practice of Revenue Management", section 2.2.4.2, with Poisson variances. Marginal revenues:
    Fiig, Isler, Hopperstad and Belobaba (2010), see `persim_gym.envs.revenue.market`.
    """
    market = _market(covariates)
    fares = market.fare(np.arange(1, CLASSES + 1))
    by_class = np.stack([market.demand(np.arange(1, PERIODS + 1), k) for k in range(1, CLASSES + 1)], axis=1)
    to_come = np.cumsum(by_class, axis=0)  # [PERIODS, CLASSES], customers who would pay a class's fare
    lowest = np.zeros((PERIODS + 1, SEATS + 1), dtype=np.int64)
    for periods in range(1, PERIODS + 1):
        willing = to_come[periods - 1]
        own = np.diff(willing, prepend=0.0)
        worth = np.diff(fares * willing, prepend=0.0) / own if marginal else fares
        protected = _protection_levels(worth, own)
        lowest[periods, 1:] = (np.arange(1, SEATS + 1)[:, None] > protected).sum(axis=1)
    return BookingTable(lowest)


def _protection_levels(worth: NDArray[np.float64], demand: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seats that are kept for the classes above each class, [CLASSES], rising; infinite for one that is never opened.

    Args:
        worth: Of a customer of each class, [CLASSES].
        demand: Expected customers of each class, with Poisson variance, [CLASSES].
    """
    levels = [0.0]
    for k in range(1, CLASSES):
        above = demand[:k].sum()
        odds = 1.0 - worth[k] / ((worth[:k] * demand[:k]).sum() / above)
        if odds >= 1.0:
            levels.append(np.inf)
        elif odds <= 0.0:
            levels.append(levels[-1])
        else:
            levels.append(max(levels[-1], above + np.sqrt(above) * NormalDist().inv_cdf(odds)))
    return np.maximum.accumulate(np.array(levels))


def _at_start(value: NDArray[np.float64]) -> float:
    """Mean over the seats that episodes begin with, of what those are worth, [SEATS + 1]."""
    return float(value[SEATS - GROUP_SEATS :].mean())


def _market(covariates: dict[str, float]) -> Market:
    return Market(**DOMAIN.resolve_covariates(None, covariates))


def _worth_of_classes(market: Market, periods: int, after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected revenue to come, by lowest open class and seats left, [CLASSES + 1, SEATS + 1].

    Args:
        market: Of one seller.
        periods: To go, this one included.
        after: Expected revenue after this period, by seats left, [SEATS + 1].
    """
    seats = np.arange(SEATS + 1)
    sold = seats[:, None] - seats[None, :]  # [seats left, seats left after]
    lowest = np.arange(CLASSES + 1)
    no_more = at_most(market.demand(np.float64(periods), lowest))  # [CLASSES + 1, SEATS]
    exactly = np.diff(no_more, axis=1, prepend=0.0)
    rows = []
    for k in lowest:
        chance = np.where(sold >= 0, np.append(exactly[k], 0.0)[np.maximum(sold, 0)], 0.0)
        chance[1:, 0] = 1.0 - no_more[k]  # At least as many want a seat as there are.
        chance[0, 0] = 1.0
        rows.append((chance * (market.fare(k) * sold + after)).sum(axis=1))
    return np.array(rows)
