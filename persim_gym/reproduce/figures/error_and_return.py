"""Whether methods that predict better also earn more: returns against prediction errors, over all methods and data."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import spearmanr

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.returns import episode_returns
from persim_gym.reproduce.figures.style import (
    COLORS,
    LARGE,
    MARKERS,
    MEDIUM,
    SMALL,
    WIDTH,
    prepare,
    write_figure,
    write_numbers,
)
from persim_gym.reproduce.figures.trials import by_place
from persim_gym.reproduce.protocol import METHODS
from persim_gym.reproduce.results import Result

CEILING = "true-mpc"
"""The method whose return counts as 1."""
FLOOR_EPISODES = 20
"""Of the random policy, whose mean return counts as 0."""
LEAST_POINTS = 3
"""Of a rank correlation."""

Ends = Mapping[tuple[str, int], float]
"""A return by domain and agent."""


@dataclass(frozen=True)
class Pairing:
    """Error and return of one method on the same data, for one agent, in one trial.

    Attributes:
        domain: Name of the domain.
        dataset: Name of the logging policy.
        n_agents: Agents in the data.
        agent: Number of the agent.
        method: A key of `METHODS`.
        seed: The trial.
        rmse: Prediction error, raw units.
        earned: Return as it is.
        normalized: The same where a random policy earns 0 and planning in the true environment 1.
    """

    domain: str
    dataset: str
    n_agents: int
    agent: int
    method: str
    seed: int
    rmse: float
    earned: float
    normalized: float


def error_and_return_figure(results: Sequence[Result], path: Path, *, floors: Ends | None = None) -> Path:
    """Draws returns against prediction errors: a point a cell and trial, a color a method, a marker a domain.

    Spearman's rank correlation is printed for each domain, since domains measure errors in units of their own.

    Args:
        results: Rows of any cells.
        path: PNG to write.
        floors: Mean return of the random policy; None to measure it now, which takes seconds.

    Returns:
        The CSV file of all points; beside it, with `-spearman` behind its name, is one of the correlations.

    Raises:
        ValueError: If no cell has an error, a return, and a return of planning in the truth.
    """
    points = pairings(results, floors)
    if not points:
        raise ValueError(
            "no cell has an rmse, a return, and one of true-mpc for its agent; run cells of Tables B.1 to B.6 first"
        )
    correlations = rank_correlations(points)
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    ax = figure.subplots()
    ax.axhspan(0, 1, color="0.5", alpha=0.07, linewidth=0)
    for point in points:
        marker, color = MARKERS[point.domain], COLORS[point.method]
        ax.plot(point.rmse, point.normalized, marker, color=color, markersize=5, alpha=0.7, markeredgewidth=0)
    prepare(ax)
    ax.set_xscale("log")
    if min(point.normalized for point in points) < -1:  # Far below the random policy: a log scale from there on.
        ax.set_yscale("symlog", linthresh=1)
        ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("prediction error over 50 steps (RMSE, raw units)", fontsize=MEDIUM)
    ax.set_ylabel("return: 0 as the random policy, 1 as planning in the truth", fontsize=MEDIUM)
    figure.legend(handles=_legend(points, correlations), loc="outside lower center", ncols=3, fontsize=SMALL,
                  frameon=False)  # fmt: skip
    figure.suptitle("Return against prediction error, a point a method, dataset, agent and trial", fontsize=LARGE)
    beside = write_figure(figure, [vars(point) for point in points], path)
    rows = [{"domain": domain, "spearman": rho, "points": count} for domain, (rho, count) in correlations.items()]
    write_numbers(rows, path.with_name(f"{path.stem}-spearman.csv"))
    return beside


def pairings(results: Sequence[Result], floors: Ends | None = None) -> list[Pairing]:
    """Errors beside normalized returns, of all cells and trials that have both.

    Args:
        results: Rows of any cells.
        floors: As `error_and_return_figure`.

    Returns:
        Points in the order of the results; none of an agent without a return of planning in the truth, or where that
        earns no more than the random policy.
    """
    errors, returns = by_place(results, "rmse"), by_place(results, "return")
    trials: dict[tuple[str, int], list[float]] = defaultdict(list)
    for place, value in returns.items():
        if place.method == CEILING:
            trials[place.domain, int(place.agent)].append(value)
    both = [place for place in errors if place in returns and (place.domain, int(place.agent)) in trials]
    if floors is None:
        floors = {end: random_return(*end) for end in dict.fromkeys((p.domain, int(p.agent)) for p in both)}
    points = []
    for place in both:
        domain, dataset, n_agents, _, method, seed = place
        agent, error, earned = int(place.agent), errors[place], returns[place]
        low, high = floors[domain, agent], float(np.mean(trials[domain, agent]))
        if high > low:
            normalized = (earned - low) / (high - low)
            points.append(Pairing(domain, dataset, n_agents, agent, method, seed, error, earned, normalized))
    return points


def random_return(domain: str, agent: int) -> float:
    """Mean return of the random policy in the true environment, over 20 episodes of fixed seeds."""
    policy = RandomPolicy(DOMAINS[domain].action_space)
    return float(episode_returns(policy, DOMAINS[domain], agent, episodes=FLOOR_EPISODES).mean())


def rank_correlations(points: Sequence[Pairing]) -> dict[str, tuple[float, int]]:
    """Spearman's correlation of error and normalized return, and the number of points, by domain.

    Not a number where there are fewer than three points, or one of the two is the same in all.
    """
    found = {}
    for domain in (name for name in MARKERS if any(point.domain == name for point in points)):
        errors, returns = np.array([(p.rmse, p.normalized) for p in points if p.domain == domain]).T
        varies = len(errors) >= LEAST_POINTS and np.ptp(errors) > 0 and np.ptp(returns) > 0
        found[domain] = float(spearmanr(errors, returns).statistic) if varies else np.nan, len(errors)
    return found


def _legend(points: Sequence[Pairing], correlations: Mapping[str, tuple[float, int]]) -> list[Line2D]:
    """Markers of the domains with their correlations, and colors of the methods."""
    style: dict[str, Any] = {"linestyle": "", "markersize": 6, "markeredgewidth": 0}
    domains = []
    for domain, (rho, count) in correlations.items():
        known = f"Spearman {rho:.2f}, {count} points".replace("-", "−") if np.isfinite(rho) else f"{count} points"
        label = f"{DOMAINS[domain].title}: {known}"
        domains.append(Line2D([], [], marker=MARKERS[domain], color="0.35", label=label, **style))
    used = {point.method for point in points}
    return domains + [
        Line2D([], [], marker="o", color=COLORS[method], label=METHODS[method], **style)
        for method in METHODS
        if method in used
    ]
