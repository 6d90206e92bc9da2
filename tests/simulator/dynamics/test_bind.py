"""Binding to an agent that does not exist."""

from dataclasses import replace

import pytest
import torch
from support.models import DISCRETE

from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.model.ensemble import FactoredEnsemble


@pytest.mark.parametrize("agent", [500, 612, -1])
def test_an_unknown_agent_is_an_error_that_says_which_agents_there_are(agent):
    model = FactoredEnsemble(replace(DISCRETE, n_agents=500))
    message = rf"^agent {agent} is not in this simulator \(500 agents: 0–499\)$"
    with pytest.raises(ValueError, match=message):
        bind_agent(model, agent)
    with pytest.raises(ValueError, match=message):
        model.predict(torch.tensor([3, agent]), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("agent", ["1", 1.5, True, None])
def test_an_agent_that_is_not_a_whole_number_is_unknown(agent):
    with pytest.raises(ValueError, match="is not in this simulator"):
        bind_agent(FactoredEnsemble(DISCRETE), agent)
