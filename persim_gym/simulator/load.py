"""Simulators from their files, checked against what their card says before anything is made of it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.observation_layout import LoggedSeries
from persim_gym.simulator.inference.posterior import FactorPosterior, from_tensors
from persim_gym.simulator.inference.sufficient_statistics import PackedStatistics
from persim_gym.simulator.measured import measured_parts, taken
from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import no_walls
from persim_gym.simulator.model.weights import with_weights
from persim_gym.simulator.model_card import SimulatorCard
from persim_gym.simulator.simulator import (
    BELIEFS_PREFIX,
    SERIES_END,
    SERIES_VALUES,
    START_AGENTS,
    START_OBS,
    Simulator,
)
from persim_gym.spec import LEARNED_TASK
from persim_gym.storage import (
    CARD,
    WEIGHTS,
    checked_array,
    from_plain,
    read_folder,
    read_measured,
    reading,
    shown,
)

_MAY_BE_INFINITE = ("obs_low", "obs_high", "walls")


def read_simulator(folder: Path) -> Simulator:
    """Reads what `Simulator.save` wrote.

    Raises:
        ValueError: If it is damaged or of another format.
    """
    stored, tensors = read_folder(folder)
    if "kind" in stored:
        raise ValueError(
            f"{folder} holds {shown(stored['kind'])}, no simulator; it serves evaluate, plan and PersimEnv-v0 alone"
        )
    with reading(folder):
        card = SimulatorCard.from_json(stored)
        config = from_plain(ModelConfig, card.shape)
        start_agents, start_obs = _checked_starts(tensors, config.n_agents, config.obs_dim)
        series = _checked_series(tensors, len(start_agents), len(config.held))
        for name, values in tensors.items():
            bounded = values[~np.isinf(values)] if name in _MAY_BE_INFINITE else values
            checked_array(name, bounded, bounded.shape, "iuf", WEIGHTS)
        measured = read_measured(folder, card.sha256)
        noise, scale, static = measured_parts(measured, card.static, config)
        parts = {key: torch.from_numpy(value) for key, value in tensors.items()}
        believed = taken(parts, BELIEFS_PREFIX)
        model = _model_of(config, parts)
        beliefs = _checked_beliefs(from_tensors(believed, bool(card.domain)), config) if believed else None
        simulator = Simulator(
            card,
            model,
            folder,
            start_agents,
            start_obs,
            beliefs,
            series=series,
            noise=noise,
            band_scale=scale,
            static=static,
        )
        _check_spec(simulator)
    return simulator


def _model_of(config: ModelConfig, parts: dict[str, torch.Tensor]) -> FactoredEnsemble:
    """The model of a card with the weights of a file, which have to fit before any of its own are made.

    Raises:
        ValueError: If they do not.
    """
    if len(config.state_layers) + len(config.action_layers) > len(parts):
        raise ValueError("the weights do not fit the shape on the card, which has more layers")
    parts.setdefault("walls", no_walls(config.learned_dim))  # Simulators without walls do not hold this.
    return with_weights(lambda: build_model(config), parts)


def _checked_beliefs(beliefs: FactorPosterior, config: ModelConfig) -> FactorPosterior:
    """Beliefs that are of a model's agents, members and factors.

    Raises:
        ValueError: If their arrays are of other sizes, or negative where none can be.
    """
    prior, statistics = beliefs.prior, beliefs.statistics
    m, n, r = config.members, config.n_agents, config.rank
    packed = isinstance(statistics, PackedStatistics)
    squares, vectors = (
        (statistics.root, statistics.target)
        if isinstance(statistics, PackedStatistics)
        else (statistics.information, statistics.vector)
    )
    # Agents that training learned factors of, and dimensions, fewer in files of earlier versions.
    some = prior.centres.shape[1] if prior.centres.ndim > 1 else 0
    dims = config.learned_dim if prior.noise.numel() == m * config.learned_dim else config.out_dim
    wanted: list[tuple[str, torch.Tensor, tuple[int, ...]]] = [
        ("prior.centres", prior.centres, (m, max(some, 1), r)),
        ("prior.noise", prior.noise, (m, dims)),
        ("the squares of the evidence", squares, (m, n, r * (r + 1) // 2) if packed else (m, n, r, r)),
        ("the vectors of the evidence", vectors, (m, n, r)),
        ("evidence.seen", statistics.seen, (n,)),
    ]
    for name, values, shape in wanted:
        if tuple(values.shape) != shape:
            raise ValueError(f"{name} in {WEIGHTS} is {list(values.shape)}, not {list(shape)}")
    if (prior.noise < 0).any() or (statistics.seen < 0).any():
        raise ValueError(f"prior.noise or evidence.seen in {WEIGHTS} is negative")
    return beliefs


def _checked_starts(
    tensors: dict[str, NDArray[Any]], n_agents: int, obs_dim: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Takes the logged first observations out of what was read; none where none were kept."""
    agents = checked_array(START_AGENTS, tensors.pop(START_AGENTS, np.empty(0, np.int64)), (None,), "i", WEIGHTS)
    none = np.empty((0, obs_dim), np.float32)
    obs = checked_array(START_OBS, tensors.pop(START_OBS, none), (len(agents), obs_dim), "f", WEIGHTS)
    if len(agents) and (agents[0] < 0 or agents[-1] >= n_agents or (np.diff(agents) < 0).any()):
        raise ValueError(f"{START_AGENTS} in {WEIGHTS} are not sorted agents of 0–{n_agents - 1}")
    return agents, obs


def _checked_series(tensors: dict[str, NDArray[Any]], episodes: int, columns: int) -> LoggedSeries | None:
    """Takes the logged exogenous columns out of what was read."""
    if SERIES_VALUES not in tensors:
        return None
    values = checked_array(SERIES_VALUES, tensors.pop(SERIES_VALUES), (None, columns), "f", WEIGHTS)
    end = checked_array(SERIES_END, tensors.pop(SERIES_END, np.empty(0, np.int64)), (episodes,), "i", WEIGHTS)
    if len(end) and (end[-1] != len(values) or (np.diff(end, prepend=0) < 1).any()):
        raise ValueError(f"{SERIES_END} in {WEIGHTS} does not cut {len(values)} rows into series")
    return LoggedSeries(values, end)


def _check_spec(simulator: Simulator) -> None:
    """Refuses a card whose spaces, its own or its domain's, are not those of its model."""
    spec, config = simulator.spec, simulator.model.config
    spec.labels.check_agents(config.n_agents)
    for space in (spec.observation_space, spec.action_space):
        if isinstance(space, spaces.Box) and not (space.low <= space.high).all():  # Nothing is at most NaN.
            raise ValueError(f"bounds of {space} on {CARD} are impossible")
    wanted = (*spec.observation_space.shape, spec.n_actions, spec.action_dim, 2 * (spec.task == LEARNED_TASK))
    if spec.layout.context != config.context:
        raise ValueError(f"the layout of observations on {CARD} does not fit its model")
    if wanted != (config.obs_dim, config.n_actions, config.action_dim, config.extra_dim):
        raise ValueError(f"spaces and task on {CARD} do not fit its model")
