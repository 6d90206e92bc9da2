"""Calibration: how far the error of predictions passes their spread, on agents that training has not seen."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.measure_noise import MeasuredNoise, measured_noise
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.diagnostics.trust import Trust, summarize_trust
from persim_gym.simulator.inference.personalize import personalized
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import train_model
from persim_gym.transitions import Transitions


class Measured(NamedTuple):
    """What calibration has measured.

    Attributes:
        trust: How far errors pass spreads.
        noise: Noise of transitions, and the width of bands.
    """

    trust: Trust
    noise: MeasuredNoise


def measure(
    recipe: TrainingRecipe,
    transitions: Transitions,
    problem: Problem,
    *,
    bound: float = 0.1,
    level: float = 0.9,
    agents: int = 100,
    steps: int = 50,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Measured:
    """Measures errors on agents that training has not seen, and calibrates the spread, noise and bands with them.

    The simulator itself has seen every trajectory, so that its errors there say little. A sibling of the same recipe is
    trained without `agents` of them; these are rolled out once along the second half of their trajectory, personalized
    from the first half and, again, as agents that nothing is known of. The scale is the larger of what the two need.
    The promise thus holds for the sibling; the simulator has more data, and is taken to be no worse. Noise and bands
    are measured on the second halves, too.

    Args:
        recipe: The simulator's recipe.
        transitions: Its data.
        problem: What it has learned.
        bound: See `Trust`.
        level: See `Trust`.
        agents: Number of calibration agents, at most a fifth of those with data and of two transitions or more.
        steps: Longest rollout T.
        seed: Of the choice of agents and windows, and of the sibling's training.
        checkpoint: Of the sibling's training, as `train_model`.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are too few agents, or bound, level, agents or steps are impossible.
    """
    if not (0 < bound < math.inf and 0 < level < 1 and agents >= 1 and steps >= 1):
        raise ValueError(
            f"cannot calibrate for bound={bound}, level={level}, agents={agents}, steps={steps}: the bound is above 0, "
            "the level between 0 and 1 (0.9 for nine in ten), and the others are at least 1"
        )
    rng = np.random.default_rng(seed)
    chosen = _calibration_agents(transitions, agents, level, rng)
    seen = transitions.select(~np.isin(transitions.agent, chosen))
    sibling, beliefs = train_model(seen, recipe, problem, seed=seed, checkpoint=checkpoint, progress=progress)
    assert beliefs is not None, "only factored simulators are calibrated"
    early, starts = _first_halves(transitions, chosen, steps, rng)
    bigger, everyone = personalized(sibling, beliefs, transitions.select(early))
    windows = cut_windows(transitions, starts, steps)
    logged = NearestResiduals(sibling, seen)
    known = replace(windows, agent=sibling.config.n_agents + np.arange(len(chosen)))
    measured = open_loop(bigger, everyone, known, seed, logged)
    strangers = open_loop(sibling, beliefs, replace(windows, agent=chosen), seed, logged)
    trust = replace(summarize_trust(measured, strangers, bound=bound, level=level, seed=seed), residuals=True)
    late = transitions.select(np.isin(transitions.agent, chosen) & ~early)
    number = sibling.config.n_agents + np.searchsorted(chosen, late.agent)
    late = replace(late, agent=number, n_agents=bigger.config.n_agents)
    return Measured(trust, measured_noise(bigger, everyone, late, problem.integers, steps=steps, seed=seed))


def _calibration_agents(
    transitions: Transitions, agents: int, level: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The agents that are set aside, sorted."""
    usable = np.flatnonzero(np.bincount(transitions.agent) >= 2)
    chosen: NDArray[np.int64] = np.sort(rng.permutation(usable)[: min(agents, len(usable) // 5)])
    needed = math.ceil(2 / (1 - level) - 1e-9)
    if len(chosen) < needed:
        raise ValueError(
            f"{len(chosen)} agents are too few to calibrate on for level {level}; it takes {needed}, "
            "and five times as many in the data: lower the level, or log more agents"
        )
    return chosen


def _first_halves(
    transitions: Transitions, agents: NDArray[np.int64], steps: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mask [K] of the first half of each agent's transitions, and one row of its second half that has room, [B].

    Where steps are missing, that is one of those that most of `steps` follow without a gap.
    """
    early = np.zeros(len(transitions), dtype=np.bool_)
    pieces, gaps = transitions.pieces, len(transitions.gaps())
    ends = np.searchsorted(pieces, pieces, side="right")
    starts = []
    for agent in agents:
        rows = np.flatnonzero(transitions.agent == agent)
        half = len(rows) // 2
        early[rows[:half]] = True
        if not gaps:
            room = max(len(rows) - half - steps, 1)
            starts.append(rows[half + int(rng.integers(room))])
        else:
            lasting = np.minimum(ends[rows[half:]] - rows[half:], steps)
            starts.append(rng.choice(rows[half:][lasting == lasting.max()]))
    return early, np.array(starts)
