"""The trained models that cells measure: one a domain, dataset, method, number of agents and trial."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

from persim_gym.baselines.cadm.config import CadmSettings
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.baselines.policy import BaselinePolicy
from persim_gym.baselines.registry import train_baseline
from persim_gym.datasets import load
from persim_gym.datasets.registry import NAMESPACE
from persim_gym.models import LearnedModel
from persim_gym.reproduce.protocol import BESIDE, MODEL_BASED, MODEL_FREE, Cell, Scale
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import recipe_for

VARIANTS = {"persim": "factored", "unfactorized": "unfactorized", "unpersonalized": "unpersonalized"}
ALL = "all"
"""Stands for the agent of a model that is for all agents."""

TrainedModel: TypeAlias = LearnedModel | BaselinePolicy


@dataclass(frozen=True, order=True)
class ModelKey:
    """What a training is of.

    Attributes:
        domain: Name of the domain.
        dataset: Logging policy.
        method: A key of `persim_gym.reproduce.protocol.METHODS`.
        n_agents: Agents in the data, from agent 0 on.
        agent: Agent whose transitions alone are trained on, or `ALL`.
        seed: Source of all randomness.
        training: Training steps; 0 for the method's own default.
    """

    domain: str
    dataset: str
    method: str
    n_agents: int
    agent: str
    seed: int
    training: int

    @property
    def folder(self) -> str:
        """Name of its folder."""
        parts = [self.domain, self.dataset, self.method, f"n{self.n_agents}", f"agent-{self.agent}", f"seed{self.seed}"]
        return "_".join([*parts, *([f"steps{self.training}"] if self.training else [])])


def model_key(cell: Cell, scale: Scale) -> ModelKey | None:
    """The training that a cell needs, or None."""
    method = BESIDE.get(cell.method, cell.method)
    if method not in (*MODEL_BASED, *MODEL_FREE):
        return None
    agent = cell.agent if method == "bcq-a" else ALL
    training = scale.effort_of(cell.domain, method).training
    return ModelKey(cell.domain, cell.dataset, method, cell.n_agents, agent, cell.seed, training)


def models_of(cells: Iterable[Cell], scale: Scale) -> list[ModelKey]:
    """The trainings that cells need, each once."""
    keys = (model_key(cell, scale) for cell in cells)
    return list(dict.fromkeys(key for key in keys if key is not None))


@cache
def first_agents(domain: str, dataset: str, n_agents: int) -> Transitions:
    """The logged data of agents 0 to `n_agents` - 1, which hold the test agents."""
    data = load(f"{NAMESPACE}/{domain}/{dataset}-v0", progress=False)
    return data if n_agents == data.n_agents else replace(data.select(data.agent < n_agents), n_agents=n_agents)


def trained_model(key: ModelKey, folder: Path) -> TrainedModel:
    """Trains a model in its folder under `folder`, or loads it; an interrupted training goes on.

    Raises:
        ValueError: As the method's training; if the folder holds another one.
    """
    data, out = first_agents(key.domain, key.dataset, key.n_agents), folder / key.folder
    if key.method in VARIANTS:
        name = f"{key.domain}/{key.dataset}-v0"
        recipe, variant = recipe_for(name, "default"), VARIANTS[key.method]
        return train(
            data, name=name, domain=key.domain, recipe=recipe, variant=variant, seed=key.seed, out=out, progress=False
        )
    if key.method in MODEL_FREE:
        return train_baseline(
            key.method,
            data,
            agent=None if key.agent == ALL else int(key.agent),
            iterations=key.training or None,
            seed=key.seed,
            out=out,
            progress=False,
        )
    settings = CadmSettings(steps=key.training) if key.training else CadmSettings()
    probabilistic = key.method == "pe-ts-cadm"
    return train_cadm(data, probabilistic=probabilistic, settings=settings, seed=key.seed, out=out, progress=False)
