"""Lists of agents on the command line."""

import pytest

from persim_gym.cli.output import numbers


@pytest.mark.parametrize(
    ("text", "agents"),
    [("3", [3]), ("0,1,17", [0, 1, 17]), ("0-4,17", [0, 1, 2, 3, 4, 17]), (" 2 - 2, 0", [2, 0])],
)
def test_lists_of_agents_hold_numbers_and_ranges(text, agents):
    assert numbers(text) == agents


def test_a_list_of_too_many_agents_is_refused_before_it_is_built():
    with pytest.raises(ValueError, match="'0-999999999999' names 1,000,000,000,000 agents; name up to 10,000,000"):
        numbers("3,0-999999999999")


@pytest.mark.parametrize("text", ["", "all", "4-0", "-1", "1,,2", "1-", "0-2-4", "1.5"])
def test_what_is_not_a_list_of_agents_is_refused(text):
    with pytest.raises(ValueError, match="not a list of agents"):
        numbers(text)
