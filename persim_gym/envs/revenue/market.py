"""The market: who comes when, what they pay, and what is sold in a period.

Customers come as a Poisson process. One who comes at share x of the booking horizon would pay for a seat an amount that
is exponentially distributed, with mean 1 / (sensitivity (1 - 0.9 x)) full fares: who books late pays more. Customers
take the cheapest class that is open, whatever they would have paid, or nothing.

Source: demand as in Gallego and van Ryzin (1994), "Optimal dynamic pricing of inventories with stochastic demand over
finite horizons", Management Science 40(8), with the fares of classes as its prices; that all buy the cheapest open
class is the case of fully dependent demand of Fiig, Isler, Hopperstad and Belobaba (2010), "Optimization of mixed fare
structures", Journal of Revenue and Pricing Management 9.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.domain import stack_state
from persim_gym.task import Array

SEATS = 180  # A single-aisle aircraft, or a large hotel's rooms for one night.
PERIODS = 60  # Days of the booking horizon.
CLASSES = 4  # Fare classes, the dearest first.
LATE_EASE = 0.9  # Share of the price sensitivity that is gone at departure.
AVERAGE = 0.0  # The scenario in which every period sells what is expected.

_SEAT = np.arange(SEATS, dtype=np.float64)
_LOG_FACTORIAL = np.cumsum(np.log(np.maximum(_SEAT, 1.0)))

Number: TypeAlias = float | NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """What customers of one seller do; its rows those of many sellers.

    Attributes:
        customers: Expected customers of the whole booking horizon, who buy or not; a float, or an array [B].
        lateness: Trend of arrivals, in (-1, 1): the rate rises from `1 - lateness` to `1 + lateness` times its mean.
        sensitivity: Price sensitivity of the first customers, per full fare.
        fare_ratio: Fare of a class, as a share of the fare of the class above.
    """

    customers: Number
    lateness: Number
    sensitivity: Number
    fare_ratio: Number

    def fare(self, lowest: Array) -> Array:
        """Fare of the lowest open class, in full fares, [...]; that of class 1 is the full fare.

        Args:
            lowest: Lowest open class, 0 where all are closed, [...].
        """
        return np.power(self.fare_ratio, np.maximum(lowest, 1) - 1.0)

    def demand(self, periods: Array, lowest: Array) -> Array:
        """Expected customers of a period who would buy, were there seats enough, [...].

        Args:
            periods: Periods to go, from `PERIODS` down, [...]; none come where there are 0.
            lowest: Lowest open class, [...].
        """
        elapsed = np.minimum(1.0 - (np.maximum(periods, 0.5) - 0.5) / PERIODS, 1.0)
        coming = self.customers / PERIODS * (1.0 + self.lateness * (2.0 * elapsed - 1.0))
        willing = np.exp(-self.sensitivity * (1.0 - LATE_EASE * elapsed) * self.fare(lowest))
        return np.where((periods > 0.0) & (lowest > 0), coming * willing, 0.0)

    def __call__(self, state: Array, action: Array) -> NDArray[np.float64]:
        """The next state of (seats left, periods to go, revenue, scenario), [..., 4], under lowest open classes [...].

        A scenario is a whole number that says which customers come: the same in all episodes of that number. In
        scenario 0 every period sells what is expected, fractions of seats included.
        """
        seats, periods, revenue, scenario = (state[..., i] for i in range(4))
        no_more = np.minimum(at_most(self.demand(periods, action)), 1.0)  # [..., SEATS]
        drawn = uniform(scenario, periods)[..., None] >= no_more
        taken = np.where(np.asarray(scenario)[..., None] == AVERAGE, 1.0 - no_more, drawn)
        sold = (taken * np.clip(np.asarray(seats)[..., None] - _SEAT, 0.0, 1.0)).sum(axis=-1)
        return stack_state(
            seats - sold, np.maximum(periods - 1.0, 0.0), revenue + self.fare(action) * sold, scenario + 0.0
        )


def at_most(mean: Array) -> NDArray[np.float64]:
    """Probabilities that a Poisson number of this mean is at most 0, 1, ..., `SEATS` - 1, [..., SEATS]."""
    log_mean = np.log(np.maximum(mean, 1e-300))[..., None]
    masses = np.exp(_SEAT * log_mean - _LOG_FACTORIAL - np.asarray(mean)[..., None])
    return np.cumsum(masses, axis=-1)


def uniform(scenario: Array, periods: Array) -> NDArray[np.float64]:
    """The random number in [0, 1) of a scenario and period, [...]: always the same one.

    Source: the mixing function of SplitMix64, Steele, Lea and Flood (2014), "Fast splittable pseudorandom number
    generators", OOPSLA.
    """
    # The arithmetic is modulo 2^64. What is not a number, as predictions may be, gets any random number.
    with np.errstate(over="ignore", invalid="ignore"):
        period = np.rint(np.maximum(periods, 0.0)).astype(np.uint64)
        bits = _mixed(_mixed(np.abs(scenario).astype(np.uint64)) + period)
        return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(bits: Any) -> Any:
    bits = (bits + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
