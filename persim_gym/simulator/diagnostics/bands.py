"""Bands that the true trajectory lies in with a stated probability, step by step.

Rollouts differ by ensemble member, by a draw of the belief about the agent's factor, and by the noise of every step.
Their quantiles are the band; how much wider or narrower it has to be at each number of steps is measured on logged
trajectories that the model was not trained on (split conformal prediction, its score the distance from the median in
units of the band's half).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.diagnostics.open_loop import Windows
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.simulator.noise.gaussian import GaussianNoise

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Coverages that bands are calibrated for; others lie between them."""
BAND_STEPS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of steps that they are calibrated at; others lie between them, and past the last one it is that one's."""
ROLLOUTS = 200
"""Rollouts that a band is taken from, about: as many when its width is measured as when it is asked for."""
_LEAST_HALF = 1e-3  # Smallest half of a band, in logged standard deviations.
_ROWS = 20_000  # Rollouts that are held at once.


class Bands(NamedTuple):
    """What follows an observation, by step.

    Attributes:
        lower: [H, L], of the L learned components, which are the first ones; all of them in most simulators.
        median: [H, L].
        upper: [H, L].
        calibrated: Whether the width was measured on held-out trajectories; else it is that of the rollouts.
    """

    lower: NDArray[np.float64]
    median: NDArray[np.float64]
    upper: NDArray[np.float64]
    calibrated: bool


@dataclass(frozen=True)
class BandScale:
    """How much wider than rollouts say bands have to be.

    Attributes:
        steps: Numbers of steps that were looked at, ascending, [S].
        scale: By coverage (the levels), number of steps and learned component, [levels, S, L].
    """

    steps: NDArray[np.int64]
    scale: NDArray[np.float64]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for a file."""
        return {"steps": self.steps, "scale": self.scale}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[Any]], obs_dim: int) -> "BandScale":
        """Reads what `to_arrays` made.

        Raises:
            KeyError: If a part is missing.
            ValueError: If one is of another size, or steps do not ascend from 1 on.
        """
        steps, scale = stored["steps"].astype(np.int64), stored["scale"].astype(np.float64)
        if steps.ndim != 1 or not len(steps) or scale.shape != (len(LEVELS), len(steps), obs_dim):
            raise ValueError(f"bands.scale is {list(scale.shape)}, for {list(steps.shape)} steps of {obs_dim} numbers")
        if steps[0] < 1 or (np.diff(steps) < 1).any() or (scale < 0).any():
            raise ValueError("bands.steps do not ascend from 1 on, or bands.scale is negative")
        return cls(steps, scale)

    def at(self, horizon: int, coverage: float) -> NDArray[np.float64]:
        """Factors of the halves of a band after 1 to H steps, [H, L].

        Raises:
            ValueError: If it was not calibrated for such a coverage.
        """
        if not LEVELS[0] <= coverage <= LEVELS[-1]:
            raise ValueError(f"coverage={coverage}; bands are calibrated for {LEVELS[0]} to {LEVELS[-1]}")
        above = int(np.searchsorted(LEVELS, coverage))
        below = max(above - 1, 0)
        share = 0.0 if above == below else (coverage - LEVELS[below]) / (LEVELS[above] - LEVELS[below])
        scale = (1 - share) * self.scale[below] + share * self.scale[above]
        when, steps = np.log(np.arange(1, horizon + 1)), np.log(self.steps)
        return np.stack([np.interp(when, steps, column) for column in scale.T], axis=1)


class BandSource(Protocol):
    """What bands are predicted by: a simulator that holds noise."""

    @property
    def model(self) -> FactoredEnsemble:
        """The ensemble."""

    @property
    def band_scale(self) -> BandScale | None:
        """How much wider than rollouts say bands have to be; None if that was not measured."""

    def known_beliefs(self) -> FactorPosterior:
        """What is believed of its agents' factors."""

    def known_noise(self) -> GaussianNoise:
        """The noise of transitions."""

    def agent_number(self, agent: int | str) -> int:
        """The number of an agent that is given by name or number."""

    def integer_columns(self) -> tuple[int, ...]:
        """Components that are counts."""


def prediction_bands(
    simulator: BandSource,
    agent: int | str,
    obs: NDArray[Any],
    actions: NDArray[Any],
    horizon: int | None = None,
    coverage: float = 0.9,
    *,
    known: NDArray[Any] | None = None,
    seed: int = 0,
) -> Bands:
    """Predicts where an agent will be after each of the next steps, and how surely.

    Each component at each step lies in its band with probability `coverage`; a whole trajectory stays in the bands of
    all components and steps less often.

    Args:
        simulator: A simulator with noise.
        agent: Agent, by number or name.
        obs: Observation that it starts from, [D].
        actions: What it then does, [T] or [T, A].
        horizon: Steps H, at most T; None for T.
        coverage: Probability of the band, 0.5 to 0.95.
        known: What is known of the following observations beforehand, as the values of exogenous columns, [H, D]; NaN
            for what is predicted. Rollouts take known values as they are; exogenous columns that are not known hold
            their first values.
        seed: Of the rollouts.

    Returns:
        The bands, [H, L] each, in the units of the observations.

    Raises:
        ValueError: If the simulator holds no beliefs or noise, the agent is unknown, there are too few actions, or
            coverage or horizon are impossible.
    """
    horizon = len(actions) if horizon is None else horizon
    if not 1 <= horizon <= len(actions):
        raise ValueError(f"horizon={horizon} with {len(actions)} actions; give an action for each step")
    number, model = simulator.agent_number(agent), simulator.model
    model.check_agents([number])
    following = np.full((1, horizon, model.config.obs_dim), np.nan, dtype=np.float32)
    start = np.asarray(obs, dtype=np.float32)[None]
    windows = Windows(np.array([number]), start, np.asarray(actions)[None, :horizon], following)
    disturbance = Disturbance.of_model(model, simulator.known_noise(), simulator.integer_columns())
    assert disturbance is not None  # There is noise.
    paths = rolled_out(
        model, simulator.known_beliefs(), disturbance, windows, ROLLOUTS, seed, None if known is None else known[None]
    )
    scale = simulator.band_scale
    wider = np.ones((horizon, model.config.learned_dim)) if scale is None else scale.at(horizon, coverage)
    lower, median, upper = (part[0] for part in _quantiles(paths, coverage, model))
    return Bands(median - wider * (median - lower), median, median + wider * (upper - median), scale is not None)


def rolled_out(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    disturbance: Disturbance,
    windows: Windows,
    rollouts: int,
    seed: int = 0,
    known: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Noisy rollouts of the members along the actions of windows.

    Args:
        model: The ensemble.
        beliefs: Of its agents' factors.
        disturbance: What makes outcomes of predictions.
        windows: Starts and actions of B windows.
        rollouts: Of each window, about.
        seed: Of factors and noise.
        known: See `prediction_bands`, [B, T, D].

    Returns:
        Learned components, [P, B, T, L], for P a multiple of the members.
    """
    model.check_on_cpu()
    rng, members, draws = np.random.default_rng(seed), model.config.members, -(-rollouts // model.config.members)
    factors = {int(agent): beliefs.draws(int(agent), rng, draws).float() for agent in np.unique(windows.agent)}
    parts = []
    size = max(_ROWS // (draws * members), 1)
    for start in range(0, len(windows.agent), size):
        some = slice(start, start + size)
        part = Windows(windows.agent[some], windows.obs[some], windows.actions[some], windows.following[some])
        given = None if known is None else known[some]
        parts.append(_rolled_part(model, disturbance, part, [factors[int(a)] for a in part.agent], rng, given))
    return np.concatenate(parts, axis=1)


@torch.no_grad()
def _rolled_part(
    model: FactoredEnsemble,
    disturbance: Disturbance,
    windows: Windows,
    drawn: list[Tensor],
    rng: np.random.Generator,
    known: NDArray[Any] | None,
) -> NDArray[np.float32]:
    """Rollouts of B windows under factors that were drawn for each, [M, draws, R], to [M * draws, B, T, L]."""
    s, count, draws = model.config, len(windows.agent), drawn[0].shape[1]
    factors = torch.cat(drawn, dim=1)  # [M, B * draws, R]
    start = np.repeat(windows.obs, draws, axis=0)
    now = np.broadcast_to(start, (s.members, *start.shape)).astype(np.float32)
    steps = []
    for t in range(windows.actions.shape[1]):
        action = np.repeat(windows.actions[:, t], draws, axis=0)
        expected = model.predict_with(factors, torch.from_numpy(now), torch.from_numpy(action)).numpy()
        flat = now.reshape(-1, now.shape[-1]), np.concatenate([action] * s.members)
        random = disturbance.random(rng, s.members * len(action))
        outcome = disturbance(*flat, expected.reshape(-1, s.prediction_dim), random)[:, : s.obs_dim]
        now = outcome.reshape(s.members, -1, s.obs_dim)
        if known is not None:
            given = np.repeat(known[:, t], draws, axis=0)
            now = np.where(np.isnan(given), now, given).astype(np.float32)
        steps.append(now[..., : s.learned_dim])
    paths = np.stack(steps, axis=2).reshape(s.members, count, draws, len(steps), s.learned_dim)
    moved: NDArray[np.float32] = np.moveaxis(paths, 2, 1).reshape(-1, count, len(steps), s.learned_dim)
    return moved


def _quantiles(paths: NDArray[np.float32], coverage: float, model: FactoredEnsemble) -> list[NDArray[np.float64]]:
    """Lower end, median and upper end of rollouts [P, ...], neither half narrower than `_LEAST_HALF`."""
    with np.errstate(invalid="ignore"):
        shares = (1 - coverage) / 2, 0.5, (1 + coverage) / 2
        lower, median, upper = np.quantile(paths.astype(np.float64), shares, axis=0)
    least = _LEAST_HALF * model.logged_std.double().numpy()
    return [np.minimum(lower, median - least), median, np.maximum(upper, median + least)]


def calibrate_bands(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    noise: GaussianNoise,
    windows: Windows,
    integers: Sequence[int] = (),
    *,
    known: NDArray[Any] | None = None,
    seed: int = 0,
) -> BandScale:
    """Measures how much wider than rollouts say bands have to be.

    Args:
        model: The ensemble.
        beliefs: Of its agents' factors.
        noise: Of its transitions.
        windows: Pieces of trajectories that it was not trained on, of its agents.
        integers: Components that are whole numbers.
        known: See `rolled_out`.
        seed: See there.

    Raises:
        ValueError: If there are no windows.
    """
    if not len(windows.agent):
        raise ValueError("there are no held-out trajectories to calibrate bands on")
    disturbance = Disturbance.of_model(model, noise.rounding(integers), tuple(integers))
    assert disturbance is not None  # There is noise.
    paths = rolled_out(model, beliefs, disturbance, windows, ROLLOUTS, seed, known)
    lengths = windows.logged.sum(axis=1)
    steps = [step for step in BAND_STEPS if step <= paths.shape[2] and (lengths >= step).any()]
    learned = model.config.learned_dim
    scale = np.ones((len(LEVELS), len(steps), learned))
    for i, level in enumerate(LEVELS):
        for j, step in enumerate(steps):
            lower, median, upper = _quantiles(paths[:, :, step - 1], level, model)
            found = windows.following[:, step - 1, :learned].astype(np.float64)
            with np.errstate(invalid="ignore"):
                scores = np.abs(found - median) / np.where(found < median, median - lower, upper - median)
            scale[i, j] = [_rank(column, level) for column in scores.T]
    return BandScale(np.array(steps), scale)


def _rank(scores: NDArray[np.float64], level: float) -> float:
    """The score that the next one stays below with a probability; the largest where there are too few."""
    scores = np.sort(scores[~np.isnan(scores)])
    if not len(scores):
        return 1.0
    rank = int(np.ceil((len(scores) + 1) * level))
    return float(scores[min(rank, len(scores)) - 1])
