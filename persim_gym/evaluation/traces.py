"""Logged trajectories that were held out, the predictions of them, and bands around these; kept beside a simulator."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.bands import prediction_bands
from persim_gym.simulator.simulator import Simulator
from persim_gym.storage import reading, replacing

TRACES = "held_out.csv"
"""Name of the file in a simulator's folder."""
COVERAGE = 0.9
_FIELDS = ("which", "agent", "column", "step", "logged", "predicted", "low", "high")
_NORMAL = 1.645  # Standard deviations of a normal distribution's band of 90 %.


@dataclass(frozen=True)
class Trace:
    """One trajectory, all values [T, L], NaN where nothing was logged.

    Attributes:
        which: Which agent it is: "median" or "worst".
        agent: Its name.
        columns: Names of the columns, with units.
        logged: What was observed.
        predicted: What was predicted without correction.
        low: Lower end of the band.
        high: Upper end of the band.
    """

    which: str
    agent: str
    columns: tuple[str, ...]
    logged: NDArray[np.float64]
    predicted: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bands_along(
    simulator: Simulator, agent: int, obs: NDArray[np.float32], actions: NDArray[Any], following: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Predictions along actions, and the band of 90 % around them.

    Of a simulator that holds noise it is `prediction_bands`, else what the members' spread makes of it.

    Args:
        simulator: The simulator.
        agent: Number of the agent.
        obs: First observation, [D].
        actions: [T] or [T, A].
        following: Next observations as they were logged, [T, D], of which those from outside are known.

    Returns:
        Predictions and lower and upper ends of learned columns, [T, L] each.
    """
    if simulator.noise is not None:
        known = np.full(following.shape, np.nan)
        known[:, simulator.spec.layout.outside] = following[:, simulator.spec.layout.outside]
        lower, median, upper, _ = prediction_bands(simulator, agent, obs, actions, coverage=COVERAGE, known=known)
        return median, lower, upper
    dynamics, members = simulator.rows([agent]), simulator.model.config.members
    learned, held, now = (
        simulator.spec.layout.learned,
        simulator.spec.layout.outside,
        np.repeat(obs[None, None], members, axis=0),
    )
    each = []
    for t in range(len(actions)):
        now = dynamics(now, np.ascontiguousarray(actions[t : t + 1]))
        now[..., held] = following[t, held]
        each.append(now[:, 0, :learned].astype(np.float64))
    predictions = np.stack(each)  # [T, M, L]
    middle, spread = predictions.mean(axis=1), _NORMAL * predictions.std(axis=1)
    return middle, middle - spread, middle + spread


def write_traces(traces: Sequence[Trace], path: Path) -> None:
    """Writes them as a table, a row for each agent, column and step."""
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(_FIELDS)
        for trace in traces:
            parts = (trace.logged, trace.predicted, trace.low, trace.high)
            for d, column in enumerate(trace.columns):
                for t in range(len(trace.logged)):
                    numbers = (f"{part[t, d]:.6g}" for part in parts)
                    table.writerow([trace.which, trace.agent, column, t + 1, *numbers])


def read_traces(path: Path) -> list[Trace]:
    """Reads what `write_traces` wrote.

    Raises:
        ValueError: If there is no such file, or it is another one.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.parent} holds no {path.name}, the trajectories that were held out: train with this version and "
            "without --no-holdout"
        )
    groups: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    with reading(str(path), "train again"), path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            columns = groups.setdefault((row["which"], row["agent"]), {})
            columns.setdefault(row["column"], []).append([float(row[name]) for name in _FIELDS[4:]])
        return [
            Trace(which, agent, tuple(columns), *np.array(list(columns.values())).transpose(2, 1, 0))
            for (which, agent), columns in groups.items()
        ]
