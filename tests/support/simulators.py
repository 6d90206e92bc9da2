"""Simulators on disk that no workflow trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model_card import SimulatorCard, library_versions
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.spec import LEARNED_TASK, EnvironmentSpec, flat_box
from persim_gym.transitions import Transitions


def save_model(
    model: FactoredEnsemble,
    *,
    name: str,
    domain: str,
    data: Transitions | None = None,
    recipe: TrainingRecipe | None = None,
    starts: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
    beliefs: FactorPosterior | None = None,
    spec: EnvironmentSpec | None = None,
    folder: Path | None = None,
) -> Path:
    """Writes a model as a simulator, by default by name under the user's own, and returns the folder.

    Starts are the data's own unless they are given.
    """
    card = SimulatorCard(
        name=name,
        domain=domain,
        dataset="" if data is None else data.source,
        dataset_hash="" if data is None else data.content_hash(),
        transitions=1 if data is None else len(data),
        recipe_name="" if recipe is None else "tiny",
        recipe={} if recipe is None else recipe.to_json(),
        seed=0,
        training_seconds=1.0,
        shape=model.config.to_json(),
        libraries=library_versions(),
        interface={} if spec is None else spec.to_json(),
    )
    if starts is None and data is not None:
        starts = data.starts()
    return Simulator.of(card, model, starts, beliefs).save(folder)


def believed(simulator: Simulator, data: Transitions) -> FactorPosterior:
    """What a simulator believes of agents that it has never seen, numbered from 0, in full precision."""
    names, agent = np.unique(data.agent, return_inverse=True)
    data = replace(data, agent=agent, n_agents=len(names))
    prior = simulator.known_beliefs().prior
    return FactorPosterior(prior, gather_statistics(simulator.model, prior.noise, data, prior.clips))


def own_simulator(folder, domain, n_agents=4, starts=False):
    """A simulator with learned reward and termination; the reward is the first observation."""
    shape = ModelConfig(n_agents, 4, 2, 0, 3, 1, (8,), extra_dim=2)
    spec = EnvironmentSpec(flat_box([-5.0] * 4, [5.0] * 4), spaces.Discrete(2), 20, LEARNED_TASK)
    model, first = FactoredEnsemble(shape, seed=1), (np.arange(n_agents), np.zeros((n_agents, 4), dtype=np.float32))
    given = first if starts else None
    return save_model(model, name="my/poles-v0", domain=domain, spec=spec, folder=folder, starts=given)
