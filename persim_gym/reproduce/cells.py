"""Runs one cell: measures one method on one dataset, for one agent, in one trial."""

import os
import platform
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from persim_gym.baselines.policy import BaselinePolicy
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import available_cores
from persim_gym.planning import MPC
from persim_gym.planning.by_name import planner_of
from persim_gym.reproduce.models import TrainedModel, first_agents, model_key, trained_model
from persim_gym.reproduce.protocol import LOGS, PLANNERS, PREDICTION, Cell, Scale
from persim_gym.reproduce.results import ALL_AGENTS, Result
from persim_gym.simulator.model_card import library_versions


def run_cell(cell: Cell, scale: Scale, folder: Path) -> list[Result]:
    """Measures a cell; the same seed gives the same figures on one machine.

    Args:
        cell: What is measured.
        scale: How much is run.
        folder: Folder of the trained models; one that is not there is trained.

    Returns:
        One result a metric.
    """
    needed = model_key(cell, scale)
    model = trained_model(needed, folder) if needed else None
    began, values = perf_counter(), tuple[float, ...]()
    if cell.metrics == LOGS:
        values = _logged(cell)
    elif cell.metrics == PREDICTION:
        values = _prediction(cell, scale, model)
    else:
        values = _return(cell, scale, model)
    seconds = round(perf_counter() - began, 2)
    return [
        Result(
            **key,
            value=float(f"{value:.6g}"),
            seconds=seconds,
            versions=" ".join(f"{name} {number}" for name, number in library_versions().items()),
            hardware=f"{_processor()}, {available_cores()} cores",
        )
        for key, value in zip(result_keys(cell, scale), values, strict=True)
    ]


def result_keys(cell: Cell, scale: Scale) -> list[dict[str, Any]]:
    """What identifies the results of a cell, one a metric."""
    return [
        {
            "domain": cell.domain,
            "dataset": cell.dataset,
            "n_agents": cell.n_agents,
            "agent": cell.agent,
            "method": cell.method,
            "seed": cell.seed,
            "metric": metric,
            "episodes": episodes_of(cell, scale),
            "settings": settings_of(cell, scale),
        }
        for metric in cell.metrics
    ]


def episodes_of(cell: Cell, scale: Scale) -> int:
    """Number of episodes that a figure is of."""
    if cell.metrics == LOGS:
        return cell.n_agents if cell.agent == ALL_AGENTS else 1
    return (
        scale.prediction_episodes if cell.metrics == PREDICTION else scale.effort_of(cell.domain, cell.method).episodes
    )


def settings_of(cell: Cell, scale: Scale) -> str:
    """How a cell is trained and planned, as far as its metrics depend on it."""
    effort = scale.effort_of(cell.domain, cell.method)
    if cell.metrics == PREDICTION:
        return replace(effort, steps=0, planner=()).settings()
    return effort.settings(PLANNERS.get(cell.method, ""))


def _logged(cell: Cell) -> tuple[float, float]:
    """Mean return and length of logged trajectories (thesis Table A.1)."""
    data = first_agents(cell.domain, cell.dataset, cell.n_agents)
    keep = np.ones(len(data), dtype=np.bool_) if cell.agent == ALL_AGENTS else data.agent == int(cell.agent)
    count = len(np.unique(data.trajectory[keep]))
    return float(data.reward[keep].sum(dtype=np.float64)) / count, float(keep.sum()) / count


def _prediction(cell: Cell, scale: Scale, model: TrainedModel | None) -> tuple[float, float]:
    """Mean RMSE and median R² (thesis section 5.2.1)."""
    assert model is not None and not isinstance(model, BaselinePolicy)
    error = prediction_error(
        model.dynamics(int(cell.agent)),
        DOMAINS[cell.domain],
        int(cell.agent),
        load_behavior_policy(cell.domain, TEST),
        episodes=scale.prediction_episodes,
        seed=cell.seed,
    )
    return error.mean_rmse, error.median_r2


def _return(cell: Cell, scale: Scale, model: TrainedModel | None) -> tuple[float]:
    """Mean return in the true environment (thesis section 5.2.2)."""
    effort = scale.effort_of(cell.domain, cell.method)
    returns = episode_returns(
        _policy(cell, scale, model),
        DOMAINS[cell.domain],
        int(cell.agent),
        episodes=effort.episodes,
        seed=int(np.random.SeedSequence([cell.seed, int(cell.agent)]).generate_state(1)[0]),
        steps=effort.steps or None,
    )
    return (float(returns.mean()),)


def _policy(cell: Cell, scale: Scale, model: TrainedModel | None) -> Policy:
    """What acts in the true environment: a trained policy, or a planner in a model or in the truth."""
    if isinstance(model, BaselinePolicy):
        return model
    domain, agent = DOMAINS[cell.domain], int(cell.agent)
    sizes: dict[str, Any] = dict(scale.effort_of(cell.domain, cell.method).planner)
    return MPC(
        domain.dynamics(agent) if model is None else model.dynamics(agent),
        domain.task,
        domain.action_space,
        planner=planner_of(domain.action_space, cell.domain, PLANNERS.get(cell.method, ""), **sizes),
        bonus=domain.peak_bonus,
        seed=cell.seed,
    )


def _processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine() or os.name
