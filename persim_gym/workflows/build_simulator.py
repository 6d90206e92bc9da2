"""A simulator and its card of what a training gave."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from persim_gym.observation_layout import LoggedSeries
from persim_gym.simulator.diagnostics.metrics import ERROR_EPISODES
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.static_prior import StaticPrior, fit_static_prior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model_card import SimulatorCard, library_versions
from persim_gym.simulator.simulator import Simulator
from persim_gym.workflows.training_setup import TrainingSetup


def simulator_of(
    setup: TrainingSetup,
    model: FactoredEnsemble,
    beliefs: FactorPosterior | None,
    error: dict[str, Any],
    seconds: float = 0.0,
) -> Simulator:
    """The simulator of a training, which is not on disk yet.

    Args:
        setup: What was trained.
        model: The ensemble.
        beliefs: What is believed of its agents.
        error: Its errors, for the card.
        seconds: Wall-clock time of the training.
    """
    data, spec = setup.data, setup.spec
    sample = data.sample(ERROR_EPISODES)
    if spec.own_layout is not None:
        spec = replace(spec, own_layout=spec.own_layout.with_usual(sample))
    series = LoggedSeries.from_transitions(sample, spec.layout.outside) if spec.layout.exogenous else None
    card = SimulatorCard(
        name=setup.name,
        domain=setup.domain,
        dataset=data.source,
        dataset_hash=data.content_hash(),
        transitions=len(data),
        recipe_name=setup.recipe_name,
        recipe=setup.recipe.to_json(),
        seed=setup.seed,
        training_seconds=round(seconds, 1),
        shape=model.config.to_json(),
        libraries=library_versions(),
        interface=spec.to_json() if setup.own_spec else {},
        error=error,
        license=setup.license,
    )
    simulator = Simulator.of(card, model, (sample if series else data).starts(), beliefs, series)
    if setup.static and beliefs is not None:
        simulator = replace(simulator, static=_static_prior(beliefs, model, setup.static))
    return simulator


def _static_prior(
    beliefs: FactorPosterior, model: FactoredEnsemble, static: Mapping[str, Sequence[Any]]
) -> StaticPrior:
    """What static covariates say of the factors of agents whose transitions were seen."""
    seen, values = of_seen(beliefs, static)
    with torch.no_grad():
        factors = model.agent_encoder(seen).double()
    return fit_static_prior(factors, values)


def of_seen(beliefs: FactorPosterior, static: Mapping[str, Sequence[Any]]) -> tuple[torch.Tensor, dict[str, list[Any]]]:
    """Agents whose transitions were seen, and their static covariates.

    Args:
        beliefs: What is believed of all agents.
        static: Static covariates by column, a value for each agent.
    """
    seen = torch.nonzero(beliefs.statistics.seen)[:, 0]
    return seen, {name: [values[n] for n in seen.tolist()] for name, values in static.items()}
