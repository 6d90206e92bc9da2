"""Where candidates act: what is found, and what is refused in one line."""

import numpy as np
import pytest

from persim_gym.comparison.setting import Sampling, Setting


def test_agents_are_numbered_once_and_have_to_be_there(car):
    place = Setting.of(car)
    assert place.numbers([3, 1, 3]) == [3, 1]
    with pytest.raises(ValueError, match="agent 5 is not in this simulator .5 agents: 0–4."):
        place.numbers([0, 5])


def test_own_transitions_are_the_agents(car):
    assert set(np.unique(Setting.of(car).own(2).agent)) == {2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 1},
        {"episodes": 0},
        {"steps": -1},
        {"seed": -1},
        {"discount": 1.5},
        {"discount": np.nan},
        {"noise": "loud"},
        {"objective": "sum"},
    ],
)
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(ValueError):
        Sampling(**wrong).check()
