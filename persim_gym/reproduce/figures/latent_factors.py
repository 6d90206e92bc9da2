"""Thesis Figures 1-1 and B-2: the agents' latent factors know the covariates that training never saw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persim_gym.envs import Domain
from persim_gym.envs.hetero import domain_of
from persim_gym.extras import required
from persim_gym.reproduce.figures.style import LARGE, MEDIUM, SMALL, WIDTH, prepare, write_figure

FOLDS = 10
"""Of the cross-validation of probes."""
PERPLEXITY = 30.0
"""Of t-SNE: the number of neighbors that an agent has, roughly."""
COLOR_MAP = "viridis"

Floats = NDArray[np.float64]


def latent_factors_figure(factors: Mapping[str, NDArray[Any]], path: Path, *, member: int = 0) -> Path:
    """Draws latent factors, a row a covariate: t-SNE, principal components, and a linear probe on held-out agents.

    The factors are one member's, as they are. Members know their agents up to a linear map of their own, so that a mean
    over them says nothing, and a probe of all of them side by side would have five times the inputs: that flatters it.
    Probes of the other members are in the CSV file.

    Args:
        factors: By name of the domain, latent factors of its agents by all members, [M, N, R], such as
            `simulator.model.agent_encoder.factor`; row n is agent n of the population.
        path: PNG to write.
        member: The one that is drawn.

    Returns:
        The CSV file: `r2` of the linear probe of each covariate and member, and `r2_of_reciprocal`, that of one over
        the covariate, which is what physics often depend on.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
        ValueError: If a domain has no such member, or more agents than the population.
    """
    rows = [(domain_of(name), i) for name in factors for i in range(len(domain_of(name).covariates))]
    for name, values in factors.items():
        _check(name, values, member)
    figure = Figure(figsize=(WIDTH, 2.4 * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    planes = {name: (tsne(values[member]), *principal_components(values[member])) for name, values in factors.items()}
    for ax, title in zip(axes[0], ("t-SNE", "principal components", "linear probe, held-out agents"), strict=True):
        ax.set_title(title, fontsize=MEDIUM)
    numbers: list[dict[str, object]] = []
    for (domain, index), panels in zip(rows, axes, strict=True):
        values = np.asarray(factors[domain.name], dtype=np.float64)
        numbers += _draw_row(figure, panels, domain, index, values, planes[domain.name], member)
    figure.suptitle("Latent factors of the agents, colored by covariates that training never saw", fontsize=LARGE)
    return write_figure(figure, numbers, path)


def linear_probe(factors: NDArray[Any], covariate: NDArray[Any], seed: int = 0) -> tuple[float, Floats]:
    """How well an affine function of the factors predicts a covariate of agents that it was not fitted to.

    Least squares in 10-fold cross-validation: the agents are shuffled and cut into ten parts, and each part is
    predicted from the other nine. No part is used to choose anything: there is no penalty to be chosen.

    Args:
        factors: [N, R].
        covariate: [N].
        seed: Of the shuffle.

    Returns:
        Coefficient of determination of all held-out predictions together, and the predictions, [N].

    Raises:
        ValueError: If there are fewer than 20 agents, or too few to determine the function.
    """
    count, rank = factors.shape
    if count < max(2 * FOLDS, 2 * (rank + 1)):
        raise ValueError(f"a probe of rank {rank} needs at least {max(2 * FOLDS, 2 * (rank + 1))} agents, got {count}")
    inputs, target = np.column_stack([np.ones(count), factors]), np.asarray(covariate, dtype=np.float64)
    predicted = np.empty(count)
    for held_out in np.array_split(np.random.default_rng(seed).permutation(count), FOLDS):
        rest = np.setdiff1d(np.arange(count), held_out)
        predicted[held_out] = inputs[held_out] @ np.linalg.lstsq(inputs[rest], target[rest], rcond=None)[0]
    return float(1 - np.square(predicted - target).sum() / np.square(target - target.mean()).sum()), predicted


def principal_components(factors: NDArray[Any]) -> tuple[Floats, Floats]:
    """The plane of largest variance.

    Args:
        factors: [N, R], R at least 2.

    Returns:
        Coordinates in it, [N, 2], each turned so that the agent furthest out lies on the positive side; and the share
        of the variance along each of the two, [2].
    """
    centered = np.asarray(factors, dtype=np.float64) - np.mean(factors, axis=0, dtype=np.float64)
    _, spread, directions = np.linalg.svd(centered, full_matrices=False)
    plane = centered @ directions[:2].T
    plane *= np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])
    return plane, np.square(spread[:2]) / np.square(spread).sum()


def tsne(factors: NDArray[Any], seed: int = 0) -> Floats:
    """Two coordinates by t-SNE, [N, 2], of factors [N, R]; neighbors stay neighbors, and distances mean little.

    Raises:
        MissingExtraError: If scikit-learn is not installed.

    Source: van der Maaten and Hinton (2008), as thesis Figures 1-1 and B-2.
    """
    manifold = required("sklearn.manifold", "figures", "t-SNE needs scikit-learn")
    method = manifold.TSNE(perplexity=min(PERPLEXITY, (len(factors) - 1) / 3), init="pca", random_state=seed)
    return np.asarray(method.fit_transform(np.asarray(factors, dtype=np.float64)), dtype=np.float64)


def _check(name: str, factors: NDArray[Any], member: int) -> None:
    members, agents, _ = factors.shape
    if not 0 <= member < members:
        raise ValueError(f"member {member} is none of the {members} of {name}; give one of 0–{members - 1}")
    if agents > len(domain_of(name).population):
        raise ValueError(f"{name} has {agents} agents here, more than its population; leave out those that were added")


def _draw_row(
    figure: Figure,
    panels: NDArray[Any],
    domain: Domain,
    index: int,
    factors: Floats,
    planes: tuple[Floats, Floats, Floats],
    member: int,
) -> list[dict[str, object]]:
    """Draws one covariate, and returns the numbers of its probes, a row a member."""
    covariate, values = domain.covariates[index], domain.population[: factors.shape[1], index]
    probes = [linear_probe(each, values) for each in factors]
    reciprocals = [linear_probe(each, 1 / values)[0] for each in factors]
    label = f"{covariate.name} ({covariate.unit})" if covariate.unit else covariate.name
    r2, predicted = probes[member]
    embedded, plane, shares = planes
    for ax, points in zip(panels[:2], (embedded, plane), strict=True):
        shown = ax.scatter(*points.T, c=values, cmap=COLOR_MAP, s=9, linewidths=0)
        prepare(ax)
        ax.margins(y=0.18)  # Room for the note.
        _note(ax, f"linear probe: R² {r2:.3f}")
    panels[1].set_aspect("equal", "datalim")
    panels[0].set(xticks=[], yticks=[])
    panels[0].set_ylabel(f"{domain.title}: {covariate.name}", fontsize=MEDIUM, weight="bold")
    panels[1].set_xlabel(f"first ({shares[0]:.0%} of variance)", fontsize=SMALL)
    panels[1].set_ylabel(f"second ({shares[1]:.0%})", fontsize=SMALL)
    figure.colorbar(shown, ax=panels[1], aspect=30).ax.tick_params(labelsize=SMALL)
    _draw_probe(panels[2], values, predicted, label)
    among = [r for r, _ in probes]
    text = (
        f"R² {r2:.3f}\nall members {min(among):.3f}–{max(among):.3f}\nof 1/{covariate.name} {reciprocals[member]:.3f}"
    )
    _note(panels[2], text)
    head = {"domain": domain.name, "agents": len(values), "rank": factors.shape[2], "covariate": covariate.name}
    return [
        {**head, "member": m, "drawn": m == member, "r2": probe[0], "r2_of_reciprocal": reciprocal, "folds": FOLDS}
        for m, (probe, reciprocal) in enumerate(zip(probes, reciprocals, strict=True))
    ]


def _draw_probe(ax: Axes, values: Floats, predicted: Floats, label: str) -> None:
    """Draws held-out predictions of a covariate against its values, in the colors of the values."""
    ax.axline((float(values[0]), float(values[0])), slope=1, color="0.6", linewidth=0.9, zorder=1)
    ax.scatter(values, predicted, c=values, cmap=COLOR_MAP, s=9, linewidths=0, zorder=2)
    prepare(ax)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.33 * (high - low))  # Room for the note.
    ax.set_xlabel(label, fontsize=SMALL)
    ax.set_ylabel("predicted", fontsize=SMALL)


def _note(ax: Axes, text: str) -> None:
    """Writes into a panel's upper left corner."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=SMALL, bbox=box)
