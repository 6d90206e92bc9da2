"""Trust horizons by split conformal prediction, from nothing but the errors and spreads of rollouts, [B, T] each."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

RolloutErrors: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Errors and spreads of rollouts of one kind, [B, T] each."""

MIN_SPREAD = 0.001  # Spreads and errors below this share of the bound do not matter.
_SPLITS = 200  # Coverage is measured on so many random halves of the rollouts.


def first_failures(errors: NDArray[np.float64], bound: float) -> NDArray[np.int64]:
    """Steps that errors [B, T] stay within a bound before they first pass it, [B]; T where they never do."""
    failed = errors > bound
    steps: NDArray[np.int64] = np.where(failed.any(axis=1), failed.argmax(axis=1), errors.shape[1])
    return steps


def trust_horizons(spreads: NDArray[np.float64], scale: float, bound: float) -> NDArray[np.int64]:
    """Number of trusted steps of rollouts with spreads [B, T], [B]."""
    return first_failures(scale * np.maximum(spreads, MIN_SPREAD * bound), bound)


def conformal_scale(
    errors: NDArray[np.float64], spreads: NDArray[np.float64], bound: float, level: float = 0.9
) -> float:
    """How much larger than the spread errors can be, so that trust horizons keep their promise on a new rollout.

    The score of a rollout is its largest ratio of error to the largest spread so far, up to the first step at which the
    error passes the bound. (A horizon ends where `scale * spread` first passes the bound; that it falls again does not
    matter.) Scores of n exchangeable rollouts are exchangeable with that of the next, whose score is thus at most the
    returned scale with the stated probability; if so, `scale * spread` passes the bound no later than its error does.

    Args:
        errors: [B, T]; NaN where nothing was logged, behind the end or before it.
        spreads: [B, T].
        bound: Error that should not be passed; spreads below `MIN_SPREAD` of it count as that.
        level: Probability of the promise.

    Returns:
        The scale; infinite if there are too few rollouts for the level.

    Source: split conformal prediction, Vovk et al. 2005; a rollout is one example, its score a maximum over steps.
    """
    scores = _conformity_scores(errors, spreads, bound)
    rank = int(np.ceil((len(scores) + 1) * level))
    return float(np.sort(scores)[rank - 1]) * (1 + 1e-9) if rank <= len(scores) else float("inf")


def largest_scale(cases: Sequence[RolloutErrors], bound: float, level: float = 0.9) -> float:
    """The scale that keeps the promise on a new rollout of each case; arguments as `conformal_scale`."""
    return max(conformal_scale(*case, bound, level) for case in cases)


def _conformity_scores(errors: NDArray[np.float64], spreads: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    counts = np.arange(errors.shape[1]) <= first_failures(errors, bound)[:, None]
    largest = np.maximum.accumulate(np.maximum(spreads, MIN_SPREAD * bound), axis=1)
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isinf(largest), 0.0, errors / largest)
    scores: NDArray[np.float64] = np.where(counts & ~np.isnan(ratio), ratio, 0.0).max(axis=1)
    return scores


def conformal_horizon(errors: NDArray[np.float64], bound: float, level: float = 0.9) -> int:
    """The longest horizon that keeps the promise without a look at spreads; arguments as `conformal_scale`.

    Of each number of steps, rollouts count that were logged for so long: those that ended before say nothing of it.
    """
    known, steps = ~np.isnan(errors), np.arange(1, errors.shape[1] + 1)
    failures, lengths = first_failures(errors, bound), (known * steps).max(axis=1)
    for horizon in steps.tolist():
        lasting = lengths >= horizon
        allowed = int(lasting.sum()) - int(np.ceil((lasting.sum() + 1) * level))
        if (failures[lasting] < horizon).sum() > allowed:
            return int(horizon - 1)
    return int(errors.shape[1])


def measured_coverage(
    cases: Sequence[RolloutErrors], bound: float, level: float, seed: int = 0
) -> list[tuple[float, float]]:
    """Shares of random halves of the rollouts whose scale, the largest of all cases, was set by the other half.

    Args:
        cases: Of the same agents, in the same order.
        bound: See `conformal_scale`.
        level: See there.
        seed: Of the halves.

    Returns:
        Of each case, the share whose error stays below scale times largest spread so far up to its first failure, which
        the scale is made for; and the share whose error stays within the bound for the trust horizon, which follows,
        and is larger.
    """
    rng, n = np.random.default_rng(seed), len(cases[0][0])
    scores = [_conformity_scores(*case, bound) for case in cases]
    failures = [first_failures(errors, bound) for errors, _ in cases]
    below, kept = np.empty((2, _SPLITS, len(cases)))
    for split in range(_SPLITS):
        order = rng.permutation(n)
        one, other = order[: n // 2], order[n // 2 :]
        scale = largest_scale([(errors[one], spreads[one]) for errors, spreads in cases], bound, level)
        for k, (_, spreads) in enumerate(cases):
            below[split, k] = (scores[k][other] <= scale).mean()
            kept[split, k] = (trust_horizons(spreads[other], scale, bound) <= failures[k][other]).mean()
    return [(float(b), float(k)) for b, k in zip(below.mean(axis=0), kept.mean(axis=0), strict=True)]
