"""Figures of results; none starts a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persim_gym.envs import Domain
from persim_gym.evaluation.prediction import PredictionError
from persim_gym.evaluation.traces import COVERAGE, Trace
from persim_gym.storage import SIGNATURE, replacing

DPI = 130


def covariate_label(domain: Domain, agent: int) -> str:
    """The agent's covariates, e.g. `gravity 0.0025`."""
    units = {c.name: f" {c.unit}" if c.unit else "" for c in domain.covariates}
    return ", ".join(f"{name} {value:.4g}{units[name]}" for name, value in domain.agent_covariates(agent).items())


def trajectories_figure(domain: Domain, errors: dict[int, PredictionError], path: Path) -> None:
    """Draws true and predicted observations of each agent's median episode, a column an agent, a row a dimension.

    Args:
        domain: The domain.
        errors: Prediction error of each agent.
        path: PNG to write.
    """
    dims = min(len(domain.observation_names), 6)
    figure = Figure(figsize=(2.7 * len(errors) + 0.6, 1.7 * dims + 0.9), layout="constrained")
    axes = np.atleast_2d(figure.subplots(dims, len(errors), sharex=True, squeeze=False))
    for column, (agent, error) in enumerate(errors.items()):
        episode = int(np.argsort(error.rmse)[len(error.rmse) // 2])
        steps = np.arange(error.true.shape[1])
        for row in range(dims):
            ax = axes[row, column]
            ax.plot(steps, error.true[episode, :, row], color="0.1", linewidth=2.2, label="true environment")
            ax.plot(
                steps, error.predicted[episode, :, row], color="#e8590c", linewidth=1.6, linestyle="--", label="PerSim"
            )
            ax.grid(alpha=0.25)
            ax.tick_params(labelsize=8)
            if column == 0:
                ax.set_ylabel(domain.observation_names[row], fontsize=9)
        axes[0, column].set_title(
            f"agent {agent}: {covariate_label(domain, agent)}\nRMSE {error.mean_rmse:.2g}", fontsize=9
        )
        axes[-1, column].set_xlabel("open-loop step", fontsize=9)
    axes[0, 0].legend(fontsize=8, loc="best")
    figure.suptitle(f"{domain.title}: predicted without correction, median of {len(error.rmse)} episodes", fontsize=11)
    save_figure(figure, path)


def bands_figure(traces: Sequence[Trace], name: str, path: Path) -> None:
    """Draws trajectories that were held out and what was predicted of them, a column an agent, a row a component.

    Args:
        traces: The trajectories.
        name: Of the simulator.
        path: PNG to write.
    """
    dims = min(len(traces[0].columns), 6)
    figure = Figure(figsize=(4.4 * len(traces) + 0.4, 1.8 * dims + 0.9), layout="constrained")
    axes = figure.subplots(dims, len(traces), squeeze=False)
    for column, trace in enumerate(traces):
        steps = np.arange(1, len(trace.logged) + 1)
        for row in range(dims):
            ax, values = axes[row, column], (trace.low[:, row], trace.high[:, row])
            ax.fill_between(steps, *values, color="#e8590c", alpha=0.2, linewidth=0, label=f"band of {COVERAGE:.0%}")
            ax.plot(steps, trace.predicted[:, row], color="#e8590c", linewidth=1.6, linestyle="--", label="predicted")
            ax.plot(steps, trace.logged[:, row], color="0.1", linewidth=2.0, marker=".", markersize=3, label="logged")
            ax.grid(alpha=0.25)
            ax.tick_params(labelsize=8)
            if column == 0:
                ax.set_ylabel(trace.columns[row], fontsize=9)
        axes[0, column].set_title(f"{trace.which} agent by its error: {trace.agent}", fontsize=9)
        axes[-1, column].set_xlabel("step without correction", fontsize=9)
    axes[0, 0].legend(fontsize=8, loc="best")
    figure.suptitle(f"{name}: predicted by a simulator that had not seen this part of the logs", fontsize=11)
    save_figure(figure, path)


def latent_figure(domain: Domain, factors: NDArray[Any], path: Path) -> None:
    """Draws the agents' latent factors in their two main directions, a panel a covariate, as thesis Figure B-2.

    The thesis uses t-SNE; principal components need no random start and keep distances.

    Args:
        domain: The domain.
        factors: Latent factors of one member, [N, R].
        path: PNG to write.
    """
    centred = factors - factors.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ directions[:2].T
    share = spread**2 / (spread**2).sum()
    covariates = domain.population[: len(factors)]
    length, width = np.ptp(plane, axis=0)
    figure = Figure(figsize=(4.6 * len(domain.covariates), 3.9), layout="constrained")
    axes = figure.subplots(1, len(domain.covariates), squeeze=False)[0]
    for i, (ax, covariate) in enumerate(zip(axes, domain.covariates, strict=True)):
        points = ax.scatter(plane[:, 0], plane[:, 1], c=covariates[:, i], cmap="viridis", s=14)
        unit = f" ({covariate.unit})" if covariate.unit else ""
        figure.colorbar(points, ax=ax, label=f"{covariate.name}{unit}, never seen in training")
        ax.set_xlabel(f"main direction ({share[0]:.0%} of variance)")
        if i == 0:
            ax.set_ylabel(f"second direction ({share[1]:.0%})")
        if width < length / 4:  # Rounding is not drawn as wide as what agents differ by.
            ax.set_ylim(-length / 4, length / 4)
        ax.grid(alpha=0.25)
    figure.suptitle(f"{domain.title}: latent factors of {len(factors)} agents", fontsize=11)
    save_figure(figure, path)


def returns_figure(
    domain: Domain, returns: NDArray[np.float64], title: str, published: float | None, path: Path
) -> None:
    """Draws a histogram of the returns of a dataset's episodes, and the test agents in a strip below it.

    Args:
        domain: The domain.
        returns: Return of each agent's episode, [N].
        title: Of the figure.
        published: Average in the thesis's Table A.1, or None.
        path: PNG to write.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax, strip = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts, _, _ = ax.hist(returns, bins=40, color="#4c78a8", edgecolor="white", linewidth=0.4)
    crowded = np.max(counts) > len(returns) / 2  # One bar would dwarf the others.
    if crowded:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
    ax.axvline(float(returns.mean()), color="0.1", linewidth=1.6, label=f"mean {returns.mean():.1f}")
    if published is not None:
        label = f"thesis, Table A.1: {published:.1f}"
        ax.axvline(published, color="#e8590c", linewidth=1.6, linestyle="--", label=label)
    agents = np.arange(len(domain.test_agents))
    strip.plot(returns[agents], agents, "o", color="#2b8a3e", markersize=5)
    strip.set_yticks(agents)
    strip.tick_params(axis="y", labelsize=8)
    strip.set_ylim(agents[-1] + 0.6, -0.6)
    strip.set_ylabel("agent", fontsize=9)
    strip.set_xlabel("return of the episode")
    ax.set_ylabel("agents (log scale)" if crowded else "agents")
    for panel in (ax, strip):
        panel.grid(alpha=0.25)
    ax.legend(fontsize=8)
    ax.set_title(title, fontsize=11)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure: a PNG, or what the file's ending says."""
    with replacing(path) as new:
        kind = path.suffix[1:] or "png"
        figure.savefig(new, dpi=DPI, format=kind, metadata={"Software": SIGNATURE} if kind == "png" else None)


def rank_figure(errors: dict[int, tuple[float, ...]], chosen: int, enough: float, name: str, path: Path) -> Path:
    """Draws the held-out error of each rank, the chosen one marked.

    Args:
        errors: Error and its standard error by rank.
        chosen: The rank that is used.
        enough: The error below which the smallest rank is chosen.
        name: Name of the simulator.
        path: PNG to write; returned.
    """
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    ax = figure.subplots()
    ranks = [str(rank) for rank in errors]
    ax.errorbar(ranks, [e[0] for e in errors.values()], [e[1] for e in errors.values()], fmt="o-", color="0.1")
    ax.axhline(enough, color="0.6", linestyle="--", linewidth=1, label="low enough")
    ax.plot([str(chosen)], [errors[chosen][0]], "o", color="#e8590c", markersize=11, label=f"rank {chosen} is used")
    ax.set(xlabel="rank", ylabel="held-out RMSE / std of change", title=name, yscale="log")
    ax.legend(frameon=False)
    save_figure(figure, path)
    return path
