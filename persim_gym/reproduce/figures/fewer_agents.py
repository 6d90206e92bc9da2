"""Prediction error and return against the number of agents in the data: thesis Tables B.1 to B.12 as lines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from persim_gym.datasets.registry import THESIS_DOMAINS
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.reproduce.figures.style import COLORS, LARGE, MEDIUM, SMALL, WIDTH, prepare, write_figure
from persim_gym.reproduce.figures.trials import Place, by_place
from persim_gym.reproduce.protocol import METHODS, POPULATION, SMALLER, TABLES
from persim_gym.reproduce.published import fault_of, thesis_cell
from persim_gym.reproduce.results import Result

DATASET = "random"
SIZES = (*sorted(SMALLER), POPULATION)
TITLES = {"rmse": "prediction error (RMSE)", "return": "return"}
CEILING = "true-mpc"
"""Method that needs no data: drawn as one line across."""
_LINE: dict[str, Any] = {"linewidth": 1.9, "marker": "o", "markersize": 4}
_LINES: dict[str, dict[str, Any]] = {CEILING: {"linewidth": 1.2, "linestyle": ":"}}
_THESIS_LINE: dict[str, Any] = {"linewidth": 0.9, "linestyle": "--", "marker": ".", "markersize": 3}


@dataclass(frozen=True)
class Point:
    """A method at one number of agents in the data.

    Attributes:
        domain: Name of the domain.
        metric: "rmse" or "return".
        method: A key of `METHODS`.
        n_agents: Agents in the data.
        source: "ours" or "thesis".
        mean: Mean over trials of the mean over agents.
        low: Least trial.
        high: Most.
        trials: Number of trials; of the thesis 0, for its cells are means already.
        agents: Numbers of the agents.
    """

    domain: str
    metric: str
    method: str
    n_agents: int
    source: str
    mean: float
    low: float
    high: float
    trials: int
    agents: str


def fewer_agents_figure(results: Sequence[Result], path: Path, *, domains: Sequence[str] = THESIS_DOMAINS) -> Path:
    """Draws errors and returns on the random data of 25 to 500 agents: a panel a metric and domain, a line a method.

    A line is the mean over trials, its band reaches from the least trial to the most; a trial is the mean over the
    agents of the panel, and counts if it has them all. Thin dashed lines are the thesis's, over the same agents and
    without the cells that are known to be wrong, where they break off.

    Args:
        results: Rows of any cells.
        path: PNG to write.
        domains: Names of the domains.

    Returns:
        The CSV file: all points that are drawn.
    """
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    axes = figure.subplots(len(TITLES), len(domains), squeeze=False, sharex=True)
    drawn: list[Point] = []
    for row, (metric, title) in zip(axes, TITLES.items(), strict=True):
        values = by_place((r for r in results if r.dataset == DATASET or r.method == CEILING), metric)
        for ax, domain in zip(row, domains, strict=True):
            points = panel_points({p: v for p, v in values.items() if p.domain == domain}, domain, metric)
            _draw_panel(ax, points, metric)
            drawn += points
        row[0].set_ylabel(title, fontsize=MEDIUM)
    for ax, domain in zip(axes[0], domains, strict=True):
        ax.set_title(DOMAINS[domain].title, fontsize=MEDIUM, weight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("agents in the data", fontsize=SMALL)
    methods = [method for method in METHODS if any(point.method == method for point in drawn)]
    lines = [Line2D([], [], color=COLORS[m], label=METHODS[m], **_LINES.get(m, _LINE)) for m in methods]
    lines.append(Line2D([], [], color="0.4", label="thesis", **_THESIS_LINE))
    figure.legend(handles=lines, loc="outside lower center", ncols=5, fontsize=SMALL, frameon=False)
    figure.suptitle("Fewer agents in the data: one trajectory each, logged by a random policy", fontsize=LARGE)
    return write_figure(figure, [vars(point) for point in drawn], path)


def panel_points(values: Mapping[Place, float], domain: str, metric: str) -> list[Point]:
    """Points of one panel, ours and the thesis's, over the same agents: all that any method here was run for.

    Args:
        values: Ours of this domain and metric, by cell and trial; where there are none, the thesis's are over all five.
        domain: Name of the domain.
        metric: "rmse" or "return".
    """
    agents = sorted({place.agent for place in values}, key=int) or [str(agent) for agent in TEST_AGENTS]
    trials: dict[tuple[str, int], dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for place, value in values.items():
        trials[place.method, place.n_agents][place.seed][place.agent] = value
    points = []
    for (method, n_agents), by_seed in sorted(trials.items(), key=lambda item: _order(*item[0])):
        means = [float(np.mean(list(found.values()))) for found in by_seed.values() if len(found) == len(agents)]
        if means:
            spread = float(np.mean(means)), min(means), max(means), len(means)
            points.append(Point(domain, metric, method, n_agents, "ours", *spread, " ".join(agents)))
    return [*points, *thesis_points(domain, metric, agents)]


def thesis_points(domain: str, metric: str, agents: Iterable[str]) -> list[Point]:
    """The thesis's points of one panel: means over agents of cells that all are there and none known to be wrong."""
    agents = list(agents)
    points = []
    for table in TABLES.values():
        if table.source or table.domain != domain or metric not in table.metrics:
            continue
        for method, n_agents in ((m, n) for m in table.methods if m != CEILING for n in table.sizes):
            cells = [thesis_cell(table, domain, DATASET, n_agents, method, agent, metric) for agent in agents]
            faults = [fault_of(table, method, n_agents, agent) for agent in agents]
            known = [cell.value for cell in cells if cell is not None]
            if len(known) == len(agents) and not any(fault and fault.spoils_mean for fault in faults):
                mean = float(np.mean(known))
                points.append(Point(domain, metric, method, n_agents, "thesis", *3 * (mean,), 0, " ".join(agents)))
    return sorted(points, key=lambda point: _order(point.method, point.n_agents))


def _order(method: str, n_agents: int) -> tuple[int, int]:
    return list(METHODS).index(method), n_agents


def _draw_panel(ax: Axes, points: Sequence[Point], metric: str) -> None:
    """Draws the lines of all methods; the method that needs no data as one across, if it fits to the others."""
    for method in METHODS:
        ours = [point for point in points if point.method == method and point.source == "ours"]
        thesis = {point.n_agents: point.mean for point in points if point.method == method and point.source == "thesis"}
        color = COLORS[method]
        if method == CEILING or not (ours or thesis):
            continue
        broken = [thesis.get(size, np.nan) for size in SIZES]
        ax.plot(SIZES, broken, color=color, zorder=2, **_THESIS_LINE)
        if ours:
            sizes = [point.n_agents for point in ours]
            ax.plot(sizes, [point.mean for point in ours], color=color, zorder=4, **_LINE)
            lows, highs = [point.low for point in ours], [point.high for point in ours]
            ax.fill_between(sizes, lows, highs, color=color, alpha=0.2, linewidth=0, zorder=3)
    prepare(ax)
    ax.set_xscale("log")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    if metric == "rmse":
        _log_axis(ax, [point.mean for point in points])
    for point in points:
        if point.method == CEILING:
            _draw_ceiling(ax, point)
    if not any(point.source == "ours" for point in points):
        ax.text(0.98, 0.02, "no results of ours", transform=ax.transAxes, ha="right", fontsize=SMALL, style="italic")


def _log_axis(ax: Axes, values: Sequence[float]) -> None:
    """Makes the vertical axis logarithmic, with enough plain labels."""
    ax.set_yscale("log")
    decades = np.log10(max(values) / min(values)) if values else 0.0
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _draw_ceiling(ax: Axes, point: Point) -> None:
    """Draws a line across; one far above all others is named instead, for it would flatten them."""
    low, high = ax.get_ylim()
    if point.mean <= high + (high - low):
        ax.axhline(point.mean, color=COLORS[CEILING], **_LINES[CEILING])
        return
    text = f"{METHODS[CEILING]}: {point.mean:,.0f}, off this scale"
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=SMALL)
