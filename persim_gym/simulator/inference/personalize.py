"""Agents get the factors that their transitions speak for: new agents, and learned ones once more."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.model.encoders import AgentEncoder
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import past, walls_of
from persim_gym.transitions import Transitions


@torch.no_grad()
def with_factors(model: FactoredEnsemble, factors: Tensor) -> FactoredEnsemble:
    """A model of the same encoders whose agents have the given factors, [M, N, R]; N may differ."""
    changed = FactoredEnsemble(replace(model.config, n_agents=factors.shape[1]))
    kept = {name: value for name, value in model.state_dict().items() if name != "agent_encoder.factor"}
    changed.load_state_dict(kept, strict=False)
    encoder = changed.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    encoder.factor.copy_(factors - encoder.bias.double())
    return changed.eval().requires_grad_(False)


@torch.no_grad()
def polished(model: FactoredEnsemble, beliefs: FactorPosterior, every: bool = True) -> FactoredEnsemble:
    """The model with posterior means for factors; agents without transitions get the population average.

    Args:
        model: A trained ensemble.
        beliefs: Of its agents.
        every: Whether agents with transitions change too; if not, the model is changed in place.
    """
    if every:
        return with_factors(model, beliefs.mean)
    encoder, unseen = model.agent_encoder, beliefs.statistics.seen == 0
    assert isinstance(encoder, AgentEncoder)
    encoder.factor[:, unseen] = (beliefs.prior.mean[:, None] - encoder.bias.double()).float()
    return model


def personalized(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    transitions: Transitions | None,
    evidence: SufficientStatistics | None = None,
) -> tuple[FactoredEnsemble, FactorPosterior]:
    """Appends agents that training never saw.

    Args:
        model: The ensemble of N agents.
        beliefs: Of these agents.
        transitions: Of the new agents alone, in the order of their numbers; None for agents of whom none are known.
        evidence: What else is known of them, as their static covariates say; None for nothing.

    Returns:
        The ensemble and the posterior of all agents.

    Raises:
        ValueError: If observations or actions are not the model's, or it is on another device than the CPU.
    """
    statistics = evidence
    if transitions is not None:
        check_fit(model, transitions)
        names, agent = np.unique(transitions.agent, return_inverse=True)
        fresh = replace(transitions, agent=agent.astype(np.int64), n_agents=len(names))
        seen = gather_statistics(model, beliefs.prior.noise, fresh, beliefs.prior.clips)
        statistics = seen if evidence is None else seen + evidence
    assert statistics is not None  # Somebody is new.
    new = FactorPosterior(beliefs.prior, statistics)
    old = model.agent_encoder(torch.arange(model.config.n_agents)).detach().double()
    joined = FactorPosterior(beliefs.prior, beliefs.statistics.joined(statistics))
    return with_factors(model, torch.cat([old, new.mean], dim=1)), joined


def check_fit(model: FactoredEnsemble, transitions: Transitions) -> None:
    """Checks that transitions have the observations and actions of a model.

    Raises:
        ValueError: If they do not.
    """
    s = model.config
    if transitions.obs.shape[1] != s.obs_dim:
        raise ValueError(
            f"{transitions.source} has {transitions.obs.shape[1]} observations, the simulator {s.obs_dim}; "
            "give data of the domain that it was trained on"
        )
    if s.n_actions:
        fits = transitions.action.ndim == 1 and 0 <= transitions.action.min() <= transitions.action.max() < s.n_actions
    else:
        fits = transitions.action.ndim == 2 and transitions.action.shape[1] == s.action_dim
    if not fits:
        wanted = f"0–{s.n_actions - 1}" if s.n_actions else f"vectors of {s.action_dim}"
        raise ValueError(f"{transitions.source}: actions are not those of the simulator, {wanted}")


def check_new(model: FactoredEnsemble, transitions: Transitions, name: str) -> None:
    """Checks that transitions of new agents are of a model's kind, and stay where all of its agents do.

    Args:
        model: The model.
        transitions: Of the new agents.
        name: Of the simulator, for the message.

    Raises:
        ValueError: If they do not.
    """
    check_fit(model, transitions)
    for wall in walls_of(model.walls):
        if past(wall, transitions.next_obs).any():
            raise ValueError(
                f"{transitions.source}: component {wall.component} of the observations goes past {wall.bound:.7g}, "
                f"where all agents of {name} are stopped; train again with these agents, or with --set walls=false"
            )
