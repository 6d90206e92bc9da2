"""Thesis Figures 1-2 and B-1: the true state opaque, and over it, translucent, what each method predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import Domain
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.prediction import Trajectories, predict_along, record_trajectories
from persim_gym.evaluation.published import PREDICTION_EPISODES, PREDICTION_WARMUP
from persim_gym.history import History
from persim_gym.reproduce.figures.style import COLORS, MEDIUM, SMALL, WIDTH, write_figure
from persim_gym.reproduce.protocol import METHODS
from persim_gym.task import Dynamics
from persim_gym.workflows.film import Draw, Picture, drawing, empty_scene, overlaid

HORIZONS = (10, 30, 50, 70, 90)
"""Steps ahead that are drawn."""
MARGIN = 14
"""Around what moves, in pixels of the environment's own picture."""
LEAST_ASPECT = 1.4
"""Width by height of a picture: a whole figure fits a screen."""
MAX_DRAWN = 50.0
"""A component is drawn as if it were no larger: these are far out of view, and renderers count in 16 bits."""


@dataclass(frozen=True)
class Ghosts:
    """One episode of an agent, and what each method predicts of it from its first observation on.

    Attributes:
        episode: Its number among those of the protocol.
        length: Steps that it goes on for.
        true: True observations, [T + 1, D].
        predicted: By method, mean over members of predicted observations, [T + 1, D].
    """

    episode: int
    length: int
    true: NDArray[np.float64]
    predicted: Mapping[str, NDArray[np.float64]]

    def rmse(self, method: str, horizon: int) -> float:
        """Root mean squared error over dimensions and the first `horizon` steps, in raw units, as in the tables."""
        apart = self.predicted[method][1 : horizon + 1] - self.true[1 : horizon + 1]
        return float(np.sqrt(np.square(apart).mean()))


def ghosts_figure(
    domain: Domain,
    dynamics: Mapping[int, Mapping[str, Dynamics]],
    path: Path,
    *,
    policy: Policy | None = None,
    horizons: Sequence[int] = HORIZONS,
    episodes: int = PREDICTION_EPISODES,
    seed: int = 0,
) -> Path:
    """Draws true and predicted states over each other: a block an agent, a row a method, a column a horizon.

    The episode is the first of the longest, up to the last horizon, of those that prediction errors are measured on:
    it is chosen before anything is predicted. All pictures of an agent are cut to what moves in any of them.

    Args:
        domain: One whose observations are bounded enough to be drawn.
        dynamics: By agent and key of `METHODS`, the model bound to the agent.
        path: PNG to write.
        policy: Acts in the true environment; None for the domain's test policy.
        horizons: Steps ahead, rising.
        episodes: Number of the episodes that one is chosen from.
        seed: Seeds their initial states.

    Returns:
        The CSV file: true and predicted observations at each horizon, and the error up to it.

    Source: thesis Figures 1-2 and B-1.
    """
    acting = load_behavior_policy(domain.name, TEST) if policy is None else policy
    recorded = {
        agent: record_ghosts(domain, agent, models, acting, steps=max(horizons), episodes=episodes, seed=seed)
        for agent, models in dynamics.items()
    }
    drawn = {agent: draw_ghosts(domain, agent, ghosts, horizons) for agent, ghosts in recorded.items()}
    heights = [_height(len(recorded[agent].predicted), len(horizons), drawn[agent].window) for agent in dynamics]
    layout = ConstrainedLayoutEngine(h_pad=0.03, hspace=0.0)
    figure = Figure(figsize=(WIDTH, sum(heights)), layout=layout)
    blocks = figure.subfigures(len(dynamics), 1, squeeze=False, height_ratios=heights)[:, 0]
    for block, (agent, ghosts) in zip(blocks, recorded.items(), strict=True):
        _fill(block, ghosts, drawn[agent], horizons)
        label = f"{domain.title}, agent {agent}: {covariate_label(domain, agent)}"
        block.suptitle(label, fontsize=MEDIUM + 1, weight="bold")
    numbers = [row for agent, ghosts in recorded.items() for row in _numbers(domain, agent, ghosts, horizons)]
    return write_figure(figure, numbers, path)


def record_ghosts(
    domain: Domain,
    agent: int,
    models: Mapping[str, Dynamics],
    policy: Policy,
    *,
    steps: int,
    episodes: int = PREDICTION_EPISODES,
    seed: int = 0,
) -> Ghosts:
    """Chooses an episode as `ghosts_figure` says, and predicts it under the same actions.

    Args:
        domain: The domain.
        agent: Agent of the population.
        models: By key of `METHODS`, the model bound to the agent.
        policy: Acts in the true environment.
        steps: Predicted steps T, after the warm-up of the protocol.
        episodes: Number of the episodes that one is chosen from.
        seed: Seeds their initial states.
    """
    state = domain.initial_state(np.random.default_rng(seed), episodes)
    recorded = record_trajectories(policy, domain, agent, state, PREDICTION_WARMUP, steps)
    lengths = recorded.happened.sum(axis=1)
    episode = int(lengths.argmax())
    one = slice(episode, episode + 1)
    chosen = Trajectories(
        [obs[one] for obs in recorded.obs],
        [action[one] for action in recorded.action],
        recorded.happened[one],
        History(recorded.before.change[one], recorded.before.action[one], recorded.before.known[one]),
    )
    true = np.concatenate(chosen.obs).astype(np.float64)
    predicted = {method: predict_along(dynamics, chosen)[0] for method, dynamics in models.items()}
    return Ghosts(episode, int(lengths[episode]), true, predicted)


class Overlay(NamedTuple):
    """Truth and prediction in one picture.

    Attributes:
        picture: [height, width, 3].
        seen: Whether any of the prediction is in view.
    """

    picture: Picture
    seen: bool


class Drawn(NamedTuple):
    """Pictures of one agent.

    Attributes:
        overlays: By method and horizon; none where the episode is over.
        window: Rows and columns that hold all that moves in any of them.
    """

    overlays: dict[tuple[str, int], Overlay]
    window: tuple[slice, slice]


def draw_ghosts(domain: Domain, agent: int, ghosts: Ghosts, horizons: Sequence[int]) -> Drawn:
    """Draws truth and predictions by the environment's own renderer.

    Raises:
        ValueError: If nothing bounds what observations show, so that there is no scene that stays; or the episode is
            over before the first horizon.
    """
    reached = [horizon for horizon in horizons if horizon <= ghosts.length]
    if not reached:
        raise ValueError(f"agent {agent} goes on for {ghosts.length} steps at most; give horizons that it reaches")
    with drawing(domain, agent) as draw:
        empty = empty_scene(domain, draw)
        if empty is None:
            raise ValueError(f"{domain.name} cannot be drawn over itself: none of its observations is bounded")
        overlays = {
            (method, horizon): _overlay(draw, ghosts.true[horizon], predicted[horizon], empty)
            for method, predicted in ghosts.predicted.items()
            for horizon in reached
        }
    moves = np.any([overlay.picture != empty for overlay in overlays.values()], axis=(0, -1))  # [height, width]
    rows = _around(np.flatnonzero(moves.any(axis=1)), 0, len(moves))
    wide = int(LEAST_ASPECT * (rows.stop - rows.start))
    return Drawn(overlays, (rows, _around(np.flatnonzero(moves.any(axis=0)), wide, moves.shape[1])))


def _overlay(draw: Draw, true: NDArray[np.float64], predicted: NDArray[np.float64], empty: Picture) -> Overlay:
    """One picture; a prediction that is not finite is not in view."""
    finite = bool(np.isfinite(predicted).all())
    ghost = draw(predicted.clip(-MAX_DRAWN, MAX_DRAWN)) if finite else empty
    return Overlay(overlaid(draw(true), ghost, empty), bool((ghost != empty).any()))


def _around(places: NDArray[np.intp], least: int, size: int) -> slice:
    """From the first to the last of some rows or columns, with a margin, and so many at least, as far as there are."""
    first, last = int(places[0]) - MARGIN, int(places[-1]) + MARGIN + 1
    more = max(least - (last - first), 0)
    return slice(max(first - more // 2, 0), min(last + more - more // 2, size))


def _height(methods: int, columns: int, window: tuple[slice, slice]) -> float:
    """Inches of an agent's block."""
    high, wide = (float(part.stop - part.start) for part in window)
    return 0.6 + methods * (0.2 + WIDTH / (columns + 0.35) * high / wide)


def _fill(block: Any, ghosts: Ghosts, drawn: Drawn, horizons: Sequence[int]) -> None:
    """Lays out one agent's pictures."""
    axes = block.subplots(len(ghosts.predicted), len(horizons), squeeze=False)
    for ax, horizon in zip(axes[0], horizons, strict=True):
        ax.set_title(f"{horizon} steps", fontsize=MEDIUM)
    for method, row in zip(ghosts.predicted, axes, strict=True):
        row[0].set_ylabel(METHODS[method], fontsize=MEDIUM, color=COLORS[method], weight="bold")
        for ax, horizon in zip(row, horizons, strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("0.7")
            if (method, horizon) not in drawn.overlays:
                ax.text(0.5, 0.5, "the episode is over", transform=ax.transAxes, ha="center", fontsize=SMALL)
                continue
            overlay = drawn.overlays[method, horizon]
            ax.imshow(overlay.picture[drawn.window])
            ax.set_xlabel(f"RMSE {ghosts.rmse(method, horizon):.2g}", fontsize=SMALL, labelpad=2)
            if not overlay.seen:
                note: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": SMALL, "style": "italic"}
                ax.text(0.5, 0.94, "prediction out of view", transform=ax.transAxes, **note)


def _numbers(domain: Domain, agent: int, ghosts: Ghosts, horizons: Sequence[int]) -> list[dict[str, object]]:
    """A row a method and horizon that is drawn."""
    return [
        {"domain": domain.name, "agent": agent, "episode": ghosts.episode, "method": method, "horizon": horizon}
        | {"rmse": ghosts.rmse(method, horizon)}
        | {f"true {name}": float(x) for name, x in zip(domain.observation_names, ghosts.true[horizon], strict=True)}
        | {f"predicted {name}": float(x) for name, x in zip(domain.observation_names, predicted[horizon], strict=True)}
        for method, predicted in ghosts.predicted.items()
        for horizon in horizons
        if horizon <= ghosts.length
    ]
