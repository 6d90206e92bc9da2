"""Names of agents, observations and actions: one resolver of names and numbers, and what cards keep."""

import numpy as np
import pytest
from gymnasium import spaces

from persim_gym.labels import NO_LABELS, Labels
from persim_gym.spec import EnvironmentSpec

MACHINES = Labels(agents=("M-001", "M-007", "M-012"))
ONE_BASED = Labels(agents=("3", "1", "2"))  # Numbered as an import numbers 1, 2, 3: 1 and 2 are their own numbers.
SPARSE = Labels(agents=("101", "204"))


@pytest.mark.parametrize(
    ("labels", "agent", "number"),
    [
        (NO_LABELS, 17, 17),
        (NO_LABELS, "17", 17),
        (MACHINES, "M-007", 1),
        (MACHINES, 1, 1),
        (MACHINES, "1", 1),
        (ONE_BASED, "3", 0),
        (ONE_BASED, 3, 0),
        (ONE_BASED, 1, 1),
        (ONE_BASED, "1", 1),
        (SPARSE, 204, 1),
        (SPARSE, 1, 1),
        (SPARSE, np.int64(1), 1),
    ],
)
def test_a_name_or_a_number_is_one_agent(labels, agent, number):
    count = len(labels.agents) or 20
    assert labels.agent_number(agent, count) == number
    assert labels.agent_number(number, count) == number  # What was resolved may be resolved again.


@pytest.mark.parametrize(
    ("labels", "agent", "said"),
    [
        (NO_LABELS, "M-007", "they have no names, but numbers: 0–19"),
        (MACHINES, "M-07", "agent M-07 is none of these 3 agents; did you mean M-007"),
        (MACHINES, "3", "agent 3 is none of these 3 agents; known: M-001, M-007, M-012"),
        (SPARSE, "1", "known: 101, 204"),
    ],
)
def test_what_is_no_agent_says_who_is(labels, agent, said):
    with pytest.raises(ValueError, match=said):
        labels.agent_number(agent, len(labels.agents) or 20)


def test_a_number_that_means_two_agents_has_to_be_a_name():
    """Agent "61" was added as number 3, where an agent "3" had been imported."""
    more = ONE_BASED.with_agents(3, ["61"])
    with pytest.raises(
        ValueError, match="agent 3 may be the one of that name or number 3, '61'; give its name as a text"
    ):
        more.agent_number(3, 4)
    assert (more.agent_number("3", 4), more.agent_number("61", 4), more.agent_number(61, 4)) == (0, 3, 3)


def test_two_agents_of_one_name_are_refused():
    with pytest.raises(ValueError, match="there is an agent M-007 already; rename the new one"):
        MACHINES.with_agents(3, ["M-013", "M-007"])
    assert NO_LABELS.with_agents(2, ["M-1"]).agents == ("0", "1", "M-1")


def spec_with(labels: Labels) -> EnvironmentSpec:
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return EnvironmentSpec(box, spaces.Discrete(2), 10, labels=labels)


def test_a_card_keeps_names_and_one_without_stays_as_it_was():
    assert "labels" not in spec_with(NO_LABELS).to_json()
    labels = Labels(("a", "b"), ("temp", "flow"), ("valve",), ("open", "shut"), "profit", "failed", {"temp": "°C"})
    stored = spec_with(labels).to_json()
    assert EnvironmentSpec.from_json(stored).labels == labels
    assert spec_with(labels).predicted_names == ["temp (°C)", "flow", "profit", "failed"]
    assert spec_with(NO_LABELS).predicted_names == ["observation 0", "observation 1", "reward", "terminated"]


@pytest.mark.parametrize(
    "labels",
    [{"observations": ["temp"]}, {"choices": ["a", "b", "c"]}, {"agents": [3]}, {"agents": ["a\nb"]}, {"x": 1}],
)
def test_damaged_names_are_refused(labels):
    stored = spec_with(NO_LABELS).to_json() | {"labels": labels}
    with pytest.raises(ValueError):
        EnvironmentSpec.from_json(stored)
