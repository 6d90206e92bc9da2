"""Open-loop error by horizon on what was held out, beside simpler predictions of the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.evaluation.hold_out import horizons, lengths
from persim_gym.simulator.diagnostics.open_loop import Windows
from persim_gym.storage import from_plain, reading

BY_HORIZON = "by_horizon"
"""Key of a card's errors: a `HorizonReport`."""
SIMULATOR = "simulator"
NO_CHANGE = "nothing changes"
LINEAR = "linear, of each agent"
UNPERSONALIZED = "unpersonalized"

StepRows = Callable[[NDArray[np.float32], NDArray[Any]], NDArray[np.float32]]
"""Maps [M, B, D] and actions of B rows to next observations, [M, B, D] or more columns."""


@dataclass(frozen=True)
class HorizonErrors:
    """Errors of some rollouts.

    Attributes:
        agents: Number of agents.
        steps: Horizons.
        rollouts: How many reach each horizon.
        rmse: By kind of prediction: root mean squared error at each horizon of each observed column, in its units; None
            where it is not finite.
        overall: Likewise over all columns: root mean square, each in its standard deviations.
    """

    agents: int
    steps: tuple[int, ...]
    rollouts: tuple[int, ...]
    rmse: Mapping[str, tuple[tuple[float | None, ...], ...]]
    overall: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class HorizonReport:
    """What a simulator's card says of its errors on data that were held out.

    Attributes:
        columns: Names of learned observations, with units.
        unit: Standard deviation of each in the data.
        later: Errors at the end of trajectories, of agents that were trained on; None if there are none.
        strangers: Errors of agents of which only the first fifth was known; None if there are none.
        said: What was not possible.
        median: Agent in the middle by its error, by name; empty if there is none.
        worst: Agent of the largest error, likewise.
    """

    columns: tuple[str, ...]
    unit: tuple[float, ...]
    later: HorizonErrors | None
    strangers: HorizonErrors | None
    said: tuple[str, ...] = ()
    median: str = ""
    worst: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "HorizonReport":
        """Reads what `to_json` made.

        Raises:
            ValueError: If it is of another version.
        """
        with reading("the errors by horizon on the simulator's card", "train again"):
            return from_plain(cls, stored)

    @property
    def parts(self) -> dict[str, HorizonErrors]:
        """The errors by what they were measured on."""
        parts = {"the last fifth of every trajectory": self.later}
        parts |= {"agents of whom the first fifth was known": self.strangers}
        return {name: errors for name, errors in parts.items() if errors is not None}

    @property
    def summary(self) -> list[str]:
        """One line for the first and the last horizon of each part, over all columns."""
        lines = []
        for what, errors in self.parts.items():
            for i in sorted({0, len(errors.steps) - 1}):
                ours, *others = (
                    f"{kind} {'not finite' if (error := means[i]) is None else format(error, '.3g')}"
                    for kind, means in errors.overall.items()
                )
                steps = "1 step" if errors.steps[i] == 1 else f"{errors.steps[i]} steps"
                lines.append(f"{what}, {steps}: {ours}; {', '.join(others)}")
        return lines

    @property
    def verdicts(self) -> list[str]:
        """Which simpler predictions are as good, and where."""
        lines = []
        for what, errors in self.parts.items():
            ours = errors.overall[SIMULATOR]
            for kind, means in errors.overall.items():
                better = [
                    str(step)
                    for step, own, other in zip(errors.steps, ours, means, strict=True)
                    if kind != SIMULATOR and other is not None and (own is None or other <= own)
                ]
                if better:
                    listed = ", ".join(better)
                    lines.append(f'{what}: "{kind}" predicts as well as the simulator or better after {listed} steps')
        return lines

    def __str__(self) -> str:
        """Errors over all columns, in standard deviations, and what is said of them."""
        return "\n".join((*self.summary, *self.said, *self.verdicts))


def roll_out(step: StepRows, windows: Windows, members: int = 1, held: Sequence[int] = ()) -> NDArray[np.float64]:
    """Mean over members of what each predicts along the windows' actions by itself, [B, T, D].

    Args:
        step: Dynamics bound to the windows' agents.
        windows: Starts and actions.
        members: Ensemble size M.
        held: Columns that come from outside, and are taken as they were logged.
    """
    size = windows.following.shape[2]
    now = np.repeat(windows.obs[None], members, axis=0)
    predicted = []
    for t in range(windows.actions.shape[1]):
        now = step(now, np.ascontiguousarray(windows.actions[:, t]))
        if len(held):
            now[..., held] = windows.following[:, t, held]
        with np.errstate(invalid="ignore", over="ignore"):
            predicted.append(now[..., :size].mean(axis=0, dtype=np.float64))
    return np.stack(predicted, axis=1)


def no_change(obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
    """Predicts that an observation stays what it is."""
    return obs.copy()


def squared_errors(windows: Windows, predicted: NDArray[np.float64], learned: int) -> NDArray[np.float64]:
    """Squared errors of the learned columns, [B, T, L]; NaN where nothing was logged, infinite where not finite."""
    logged = windows.following[..., :learned]
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.square(predicted[..., :learned] - logged)
    return np.where(np.isnan(logged), np.nan, np.where(np.isfinite(error), error, np.inf))


def horizon_errors(
    windows: Windows, errors: Mapping[str, NDArray[np.float64]], unit: NDArray[np.float64]
) -> HorizonErrors:
    """Sums squared errors up, at the horizons that enough windows reach.

    Args:
        windows: What was predicted.
        errors: Of each kind of prediction, of learned columns, [B, T, L].
        unit: Standard deviation of each of them, [L].
    """
    steps, reached = horizons(windows), lengths(windows)
    means = {kind: [_mean(e[reached >= step, step - 1]) for step in steps] for kind, e in errors.items()}
    return HorizonErrors(
        agents=len(np.unique(windows.agent)),
        steps=tuple(steps),
        rollouts=tuple(int((reached >= step).sum()) for step in steps),
        rmse={kind: tuple(tuple(map(plain, np.sqrt(row))) for row in rows) for kind, rows in means.items()},
        overall={
            kind: tuple(plain(np.sqrt(np.nanmean(row / unit**2))) for row in rows) for kind, rows in means.items()
        },
    )


def _mean(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of squared errors [B, D] that are known, [D]; NaN where none is."""
    known = ~np.isnan(squared)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = np.where(known, squared, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def by_error(windows: Windows, squared: NDArray[np.float64], unit: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Agents of the windows, from the smallest mean error to the largest."""
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(squared / np.square(unit), nan=0.0, posinf=np.inf).sum(axis=(1, 2))
    counted = (~np.isnan(squared)).sum(axis=(1, 2))
    agents, place = np.unique(windows.agent, return_inverse=True)
    mean = np.bincount(place, scaled) / np.maximum(np.bincount(place, counted), 1)
    return [int(agent) for agent in agents[np.argsort(mean, kind="stable")]]


def plain(value: Any) -> float | None:
    """Five digits; None where it is not finite, which JSON cannot say."""
    return float(f"{float(value):.5g}") if np.isfinite(value) else None
