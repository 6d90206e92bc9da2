"""`persim baseline`: trains a baseline, one policy for all agents or one an agent, and tests it in the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.baselines.cadm.config import CadmSettings
from persim_gym.baselines.cadm.simulator import CadmSimulator
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.baselines.policy import BaselinePolicy
from persim_gym.baselines.registry import baseline_folder, find_baseline, train_baseline
from persim_gym.datasets.load import load
from persim_gym.datasets.registry import find_dataset
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import run_unlogged
from persim_gym.storage import changed_fields

RETURNS_SEED = 1_000_003
"""Added to a training's seed where its policy is tested."""


def train_and_test(
    name: str,
    dataset: str,
    agents: Sequence[int],
    *,
    out: Path | None = None,
    episodes: int = 20,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[int, NDArray[np.float64]]:
    """Trains a baseline on a dataset of a domain, and lets it act in the true environment of some agents.

    Args:
        name: A key of `persim_gym.baselines.registry.BASELINES`; one that is for all agents is trained once.
        dataset: Name of the dataset.
        agents: Agents of the population, or of data of no domain.
        out: Folder; None for the default. Policies of one agent each are in `agent-N` there.
        episodes: Episodes an agent.
        workers: Where a policy an agent is trained: see `persim_gym.jobs.JobPlace`.
        backend: Likewise.
        address: Likewise.
        progress: Whether to show progress bars.
        **options: As `train_baseline` takes them: `iterations`, `settings`, `seed`, `force`.

    Returns:
        Returns of each agent, [episodes]; of none where the dataset is of no domain here, so that there is no truth.

    Raises:
        JobsFailed: If trainings of some agents failed again and again; the others are there.
        ValueError: If there is no such method, dataset or agent, or as `train_baseline`.
    """
    method, agents = find_baseline(name), list(dict.fromkeys(agents))
    ours = find_dataset(dataset)
    if ours is not None:
        for agent in agents:
            ours.domain.agent_covariates(agent)
    folder = out or baseline_folder(name, dataset)
    if method.pooled:
        policy = train_baseline(name, dataset, out=folder, progress=progress, **options)
        bar = tqdm(agents, desc="test", unit="agent", leave=False, disable=not (progress and ours))
        return {agent: _true_returns(policy, agent, episodes) for agent in bar} if ours else {}
    tested: dict[int, NDArray[np.float64]] = {}

    def keep(job: Mapping[str, Any], returns: NDArray[np.float64]) -> None:
        tested[job["agent"]] = returns

    run_unlogged(
        _train_one,
        [{"agent": agent} for agent in agents],
        keep,
        description=name,
        constants={"name": name, "dataset": dataset, "episodes": episodes, "options": options},
        progress=progress,
        folder=folder,
        reads=lambda job: [f"agent-{job['agent']}"],
        workers=workers,
        backend=backend,
        address=address,
    )
    return {agent: tested[agent] for agent in agents} if ours else {}


def train_context_model(
    name: str,
    dataset: str,
    *,
    settings: Sequence[str] = (),
    iterations: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    progress: bool = True,
) -> CadmSimulator:
    """Trains a context-aware dynamics model on a dataset of a domain.

    Args:
        name: A key of `persim_gym.baselines.cadm.config.KINDS`.
        dataset: Name of the dataset.
        settings: Changed settings, each "field=value".
        iterations: Steps of the training; None for the settings'.
        seed: Source of all randomness.
        out: Folder; None for its name among the user's simulators.
        force: Whether to train anew, and to replace another model that is in the folder.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there is no such dataset or setting, or as `train_cadm`.
    """
    chosen = changed_fields(CadmSettings(), settings)
    if iterations is not None:
        chosen = replace(chosen, steps=iterations)
    data = load(dataset, progress=progress)
    options: dict[str, Any] = {"settings": chosen, "seed": seed, "out": out, "force": force, "progress": progress}
    return train_cadm(data, probabilistic=name != "cadm", **options)


def _train_one(
    agent: int, name: str, dataset: str, folder: Path, episodes: int, options: dict[str, Any]
) -> NDArray[np.float64]:
    """Trains and tests the policy of one agent, in a worker process."""
    own = folder / f"agent-{agent}"
    policy = train_baseline(name, dataset, agent=agent, out=own, progress=False, **options)
    return _true_returns(policy, agent, episodes) if policy.card.domain else np.empty(0)


def _true_returns(policy: BaselinePolicy, agent: int, episodes: int) -> NDArray[np.float64]:
    """Returns of an agent in the true environment of the policy's domain."""
    domain = DOMAINS[policy.card.domain]
    return episode_returns(policy, domain, agent, episodes=episodes, seed=policy.card.seed + RETURNS_SEED)
