"""How far a simulator can be trusted: its errors on logged data that it has not seen, and what its spread says of them.

Errors and spreads are root mean squares over dimensions in standard deviations of the logged observations, of open-loop
rollouts in which every member goes its own way; spreads count what is not known of the agent's factor too, and what
members got wrong alike on logged transitions close by. The *trust horizon* of a rollout is the number of steps before
`scale * spread` passes a stated bound. `scale` is calibrated by split conformal prediction: on a new trajectory that is
exchangeable with the calibration ones (an agent of the population, the logging policy), the true error stays within the
bound for the whole trust horizon with at least the stated probability, whatever the model.

Another policy is no part of that promise. Residuals around a point are taken from data of all agents, so that the
spread grows where a policy goes to what was hard to fit; where nothing was logged at all, nobody knows
(docs/trust.md).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.conformal import (
    RolloutErrors,
    conformal_horizon,
    largest_scale,
    measured_coverage,
    trust_horizons,
)
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.storage import from_plain, reading
from persim_gym.transitions import Transitions

PROFILE_STEPS = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class Trust:
    """Measured limits of a simulator.

    Attributes:
        bound: Error that predictions should not pass, in standard deviations of the logged observations.
        level: Probability that they do not within the trust horizon.
        scale: What the ensemble's spread is multiplied with before it is compared with the bound; infinite (stored as
            -1) if no horizon can be promised.
        horizon: The same promise without a look at the spread: one number of steps for every rollout that lasts them.
        steps: Longest rollout that was looked at.
        agents: Number of agents it was calibrated on.
        band_coverage: Share of calibration agents whose error stayed below scale times largest spread so far up to its
            first failure, in halves that did not set the scale; close to the level.
        coverage: Likewise, share whose error stayed within the bound for the trust horizon; at least the level.
        profile: Median and 90 % quantile of the error by step; None where it is not finite.
        spread_profile: Median of the spread by step, likewise.
        residuals: Whether the spread counts residuals of logged transitions close by; false on a card from before it
            did.
        stranger_coverage: As `coverage`, where nothing was known of the agents, whom the scale has to cover too; None
            on a card from before it had to.
    """

    bound: float
    level: float
    scale: float
    horizon: int
    steps: int
    agents: int
    band_coverage: float
    coverage: float
    profile: dict[str, list[float | None]]
    spread_profile: dict[str, float | None]
    residuals: bool = False
    stranger_coverage: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {**asdict(self), "scale": self.scale if np.isfinite(self.scale) else -1.0}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Trust":
        """Reads what `to_json` made.

        Raises:
            ValueError: If keys are not those of this version, or there are none: the simulator is not calibrated.
        """
        if set(stored) | {"residuals", "stranger_coverage"} != {f.name for f in fields(cls)}:
            raise ValueError("the simulator is not calibrated; run `persim calibrate` on it")
        with reading("trust on the simulator's card", "run `persim calibrate` on it again"):
            trust = from_plain(cls, stored)
        return replace(trust, scale=trust.scale if trust.scale >= 0 else np.inf)

    def logged(self, model: FactoredEnsemble, transitions: Transitions) -> NearestResiduals | None:
        """The residuals that the calibrated spread of a model counts, of what it was trained on."""
        return NearestResiduals(model, transitions) if self.residuals else None


def summarize_trust(
    known: RolloutErrors, strangers: RolloutErrors | None = None, *, bound: float, level: float, seed: int = 0
) -> Trust:
    """Limits measured on one rollout an agent: of agents that something is known of, and of the same as strangers."""
    errors, spreads = known
    cases = [known] if strangers is None else [known, strangers]
    (below, kept), *others = measured_coverage(cases, bound, level, seed)
    at = [t for t in PROFILE_STEPS if t <= errors.shape[1] and np.isfinite(errors[:, t - 1]).any()]
    with np.errstate(invalid="ignore"):  # A quantile between two infinite errors is not a number.
        quantiles = {str(t): np.nanquantile(errors[:, t - 1], (0.5, 0.9)) for t in at}
    return Trust(
        bound=bound,
        level=level,
        scale=float(f"{largest_scale(cases, bound, level):.6g}"),
        horizon=conformal_horizon(errors, bound, level),
        steps=errors.shape[1],
        agents=len(errors),
        band_coverage=round(below, 4),
        coverage=round(kept, 4),
        profile={step: [_finite(q) for q in pair] for step, pair in quantiles.items()},
        spread_profile={str(t): _finite(np.median(spreads[:, t - 1])) for t in at},
        stranger_coverage=round(others[0][1], 4) if others else None,
    )


def _finite(value: float) -> float | None:
    """Four digits; None where it is not finite, which JSON cannot say."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def agent_horizons(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    trust: Trust,
    transitions: Transitions,
    agent: int,
    rollouts: int = 100,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Trust horizons of one agent where the population's data start, under logged actions.

    Args:
        model: The ensemble.
        beliefs: Of its agents' factors.
        trust: Its measured limits.
        transitions: Its data; any agents': starts and actions of rollouts are taken from them, not what followed.
        agent: The agent.
        rollouts: Number of rollouts B.
        seed: Chooses where they start.

    Returns:
        Trust horizons and lengths of the logged action sequences, each [B]; a horizon is no longer than its sequence.

    Raises:
        ValueError: If the agent is unknown.
    """
    starts = np.random.default_rng(seed).integers(len(transitions), size=rollouts)
    windows = cut_windows(transitions, starts, trust.steps)
    lengths = windows.logged.sum(axis=1)
    logged = trust.logged(model, transitions)
    _, spreads = open_loop(model, beliefs, replace(windows, agent=np.full(rollouts, agent)), seed, logged)
    return np.minimum(trust_horizons(spreads, trust.scale, trust.bound), lengths), lengths
