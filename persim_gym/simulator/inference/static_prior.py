"""What static covariates say of an agent before it did anything: a regression from them to learned factors.

Covariates that are known of an agent, as its age or site, enter its posterior as evidence does, as an information
matrix and a vector, and add up with what transitions say. Under one Gaussian prior N(m, S) this is the regression's own
prediction with its residual covariance; under the mixture, components near that prediction weigh more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.inference.posterior import shrunk_covariance
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics

MAX_VALUES = 50  # Texts of a column that are told apart; others count as none of them.
FEWEST_AGENTS = 10  # Of fewer agents with data, covariates are taken to say nothing.
FOLDS = 10
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # Penalties to choose from, each in units of an agent.
SURE = 2.0  # Standard errors by which covariates have to lower the error on agents left out, or they say nothing.
LEAST_VARIANCE = 1e-4  # Of what covariates leave open, as a share of the population's.


@dataclass(frozen=True)
class StaticColumn:
    """A covariate as the regression takes it.

    Attributes:
        name: Of the column.
        mean: Of a column of numbers.
        std: Likewise.
        values: Texts of a column of texts, each a feature; empty for one of numbers.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    values: tuple[str, ...] = ()

    def known(self, given: Sequence[Any]) -> NDArray[np.bool_]:
        """Which of n values are ones that the regression knows, [n]."""
        if self.values:
            return np.array([value is not None and str(value) in self.values for value in given])
        return np.array([value is not None and bool(np.isfinite(float(value))) for value in given])

    def features(self, given: Sequence[Any]) -> NDArray[np.float64]:
        """Features of n agents, [n, F]: standardised and its square, or one-hot; zeros where a value is missing."""
        if self.values:
            texts = ["" if value is None else str(value) for value in given]
            return np.array([[text == value for value in self.values] for text in texts], dtype=np.float64)
        try:
            numbers = np.array([np.nan if value is None else float(value) for value in given])
        except (TypeError, ValueError):
            raise ValueError(f"{self.name} is a number in the data, and not so in {list(given)[:5]}") from None
        scaled = np.clip((numbers - self.mean) / self.std, -4.0, 4.0)
        both = np.stack([scaled, np.square(scaled) - 1.0], axis=1)
        features: NDArray[np.float64] = np.where(np.isfinite(both), both, 0.0)
        return features


def static_columns(static: Mapping[str, Sequence[Any]]) -> tuple[StaticColumn, ...]:
    """Columns as they are in the agents that a model was trained on; constant ones are left out.

    Args:
        static: Values by column, one an agent, None where there is none.
    """
    columns = []
    for name, given in static.items():
        known = [value for value in given if value is not None]
        texts = sorted({str(value) for value in known})
        if len(texts) < 2:
            continue
        if any(isinstance(value, str | bool) for value in known):
            often = sorted(texts, key=lambda text: (-sum(str(v) == text for v in known), text))
            columns.append(StaticColumn(name, values=tuple(sorted(often[:MAX_VALUES]))))
        else:
            numbers = np.array(known, dtype=np.float64)
            columns.append(StaticColumn(name, float(numbers.mean()), float(numbers.std())))
    return tuple(columns)


@dataclass(frozen=True)
class StaticPrior:
    """The regression, as evidence that it makes of covariates.

    Attributes:
        columns: What it takes.
        information: What covariates add to the information matrix of an agent's factor, float64 [M, R, R].
        weight: Maps features, the first of which is 1, to what they add to its vector, float64 [M, 1 + F, R].
        explained: Share of the variance of learned factors that it explains in agents left out, mean over members.
    """

    columns: tuple[StaticColumn, ...]
    information: Tensor
    weight: Tensor
    explained: float

    def evidence(self, static: Mapping[str, Any], agents: int) -> SufficientStatistics:
        """What covariates say of n agents, none of whose transitions are seen.

        Where some are not known, the others count by their share of all: a mean stands for those that are not.

        Args:
            static: By column, a value for each agent, or one for all; None, and columns that are left out, are unknown.
            agents: Number n.

        Raises:
            ValueError: If a column is none of the data's, or it has another number of values.
        """
        names = [column.name for column in self.columns]
        if unknown := [name for name in static if name not in names]:
            raise ValueError(f"{unknown[0]} is none of the static columns of the data: {', '.join(names) or 'none'}")
        each = {name: _each(name, value, agents) for name, value in static.items()}
        features = torch.from_numpy(design(self.columns, each, agents))
        members, rank = len(self.information), self.information.shape[-1]
        known = [column.known(each.get(column.name, [None] * agents)) for column in self.columns]
        share = torch.from_numpy(np.sum([np.zeros(agents), *known], axis=0) / max(len(known), 1))
        information = share[:, None, None] * self.information[:, None].expand(members, agents, rank, rank)
        vector = share[:, None] * (features @ self.weight)
        return SufficientStatistics(information, vector, torch.zeros(agents, dtype=torch.int64))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for a file."""
        return {"information": self.information.numpy(), "weight": self.weight.numpy()}

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {"columns": [asdict(column) for column in self.columns], "explained": self.explained}


def design(columns: Sequence[StaticColumn], static: Mapping[str, Sequence[Any]], agents: int) -> NDArray[np.float64]:
    """Features of n agents, [n, 1 + F]: 1, then those of each column."""
    none = [None] * agents
    return np.concatenate([np.ones((agents, 1)), *(c.features(static.get(c.name, none)) for c in columns)], axis=1)


def _each(name: str, value: Any, agents: int) -> Sequence[Any]:
    """A value for each of n agents."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return [value] * agents
    if len(value) != agents:
        raise ValueError(f"{name} has {len(value)} values for {agents} new agents; give one for each")
    return list(value)


def count_new(static: Mapping[str, Any] | None, names: Sequence[str]) -> int:
    """Number of new agents without transitions: as many as there are names or values of a covariate.

    Raises:
        ValueError: If nothing is known of them at all.
    """
    if static is None:
        raise ValueError("nothing is known of the new agents; give transitions, static covariates or both")
    several = [len(v) for v in static.values() if isinstance(v, Sequence | np.ndarray) and not isinstance(v, str)]
    return max([len(names), *several, 1])


def fit_static_prior(factors: Tensor, static: Mapping[str, Sequence[Any]]) -> StaticPrior:
    """Fits the regression to learned factors.

    Each of a tenth of the agents is foretold from the others. How much of the regression is believed is set by that,
    direction by direction of the factors: a direction in which it foretells nothing stays as the population has it,
    and all do where it foretells too little to be sure.

    Args:
        factors: Of P agents with data, float64 [M, P, R].
        static: Values by column, one for each of these agents.
    """
    columns = static_columns(static)
    members, count, rank = factors.shape
    features = design(columns, static, count)
    nothing = StaticPrior(
        columns,
        torch.zeros(members, rank, rank, dtype=torch.float64),
        torch.zeros(members, features.shape[1], rank, dtype=torch.float64),
        0.0,
    )
    if not columns or count < FEWEST_AGENTS:
        return nothing
    mean, lower = factors.mean(1), torch.linalg.cholesky(shrunk_covariance(factors))
    white = torch.linalg.solve_triangular(lower, (factors - mean[:, None]).mT, upper=False).mT.numpy()  # [M, P, R]
    ridge, foretold = _best_ridge(features, white)
    better = np.mean([_lowered(y, z) for y, z in zip(white, foretold, strict=True)], axis=0)  # [P]
    if better.mean() <= SURE * better.std() / np.sqrt(count):
        return nothing
    weights = np.einsum("fp,mpr->mfr", _smoother(features, ridge), white)
    turns, slopes, left = zip(*(_believed(y, z) for y, z in zip(white, foretold, strict=True)), strict=True)
    information, weight = [], []
    for m in range(members):
        turn, slope, open_share = turns[m], slopes[m], left[m]
        inner = turn @ np.diag(1.0 / open_share - 1.0) @ turn.T
        vector = weights[m] @ turn @ np.diag(slope / open_share) @ turn.T  # [1 + F, R], whitened
        inverse = np.linalg.inv(lower[m].numpy())
        own = inverse.T @ inner @ inverse
        vector = vector @ inverse
        vector[0] += own @ mean[m].numpy()
        information.append(own)
        weight.append(vector)
    explained = float(better.mean() / np.square(white).sum(axis=2).mean())
    summed, mapped = (torch.from_numpy(np.stack(part)) for part in (information, weight))
    return StaticPrior(columns, summed, mapped, round(explained, 4))


def _smoother(features: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Maps targets [P] to weights, [1 + F, P], under a penalty on all but the constant."""
    penalty = ridge * len(features) * np.append(0.0, np.ones(features.shape[1] - 1))
    return np.asarray(np.linalg.solve(features.T @ features + np.diag(penalty + 1e-9), features.T), dtype=np.float64)


def _best_ridge(features: NDArray[np.float64], white: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The penalty that foretells agents left out best, and what it foretells of each, [M, P, R]."""
    fold = np.random.default_rng(0).permutation(len(features)) % FOLDS
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in RIDGES:
        foretold = np.empty_like(white)
        for number in range(FOLDS):
            out = fold == number
            weights = np.einsum("fp,mpr->mfr", _smoother(features[~out], ridge), white[:, ~out])
            foretold[:, out] = np.einsum("pf,mfr->mpr", features[out], weights)
        error = float(np.square(white - foretold).mean())
        if best is None or error < best[0]:
            best = error, ridge, foretold
    assert best is not None  # There are penalties.
    return best[1], best[2]


def _believed(
    white: NDArray[np.float64], foretold: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """How much is believed of what was foretold of one member's factors [P, R].

    Returns:
        Directions that errors are independent in, [R, R]; slopes from foretold to learned factors along them, each
        lowered by a standard error, [R]; shares of the population's variance that are left open, [R].
    """
    apart = white - foretold
    _, turn = np.linalg.eigh(apart.T @ apart)
    learned, said = white @ turn, foretold @ turn
    size = np.maximum(np.square(said).sum(axis=0), 1e-12)
    slope = (learned * said).sum(axis=0) / size
    error = np.sqrt(np.square(learned - slope * said).mean(axis=0) / size)
    slope = np.clip(slope - error, 0.0, 1.0)
    left = np.square(learned - slope * said).mean(axis=0) / np.maximum(np.square(learned).mean(axis=0), 1e-12)
    return turn, slope, np.where(slope > 0, np.clip(left, LEAST_VARIANCE, 1.0), 1.0)


def _lowered(white: NDArray[np.float64], foretold: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much the squared error of one member's factors sinks below the population's, agent by agent, [P].

    What is believed of one half of the agents' foretold factors is set by the other half.
    """
    half = np.random.default_rng(1).permutation(len(white)) % 2 == 0
    lowered = np.empty(len(white))
    for some in (half, ~half):
        turn, slope, _ = _believed(white[~some], foretold[~some])
        learned, said = white[some] @ turn, foretold[some] @ turn
        lowered[some] = (np.square(learned) - np.square(learned - slope * said)).sum(axis=1)
    return lowered
