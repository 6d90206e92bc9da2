"""Binds an ensemble to one of its agents."""

import torch

from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.dynamics.unfactorized import PerceptronDynamics
from persim_gym.simulator.model.ensemble import FactoredEnsemble


def bind_agent(model: FactoredEnsemble, agent: int, quantize: bool = False) -> AgentDynamics | PerceptronDynamics:
    """The ensemble bound to one agent: what planners roll out.

    Args:
        model: The ensemble.
        agent: The agent.
        quantize: See `AgentDynamics`.

    Raises:
        ValueError: If the agent is unknown.
    """
    model.check_agents([agent])
    if model.head is not None:
        return PerceptronDynamics(model, agent)
    with torch.no_grad():
        factor = model.agent_encoder(torch.tensor([agent], device=model.obs_mean.device))[:, 0]
    return AgentDynamics(model, factor, quantize)
