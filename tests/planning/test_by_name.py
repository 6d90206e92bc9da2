"""Planners by name."""

import pytest

from persim_gym.envs import DOMAINS
from persim_gym.planning import CEM, MPPI, RandomShooting
from persim_gym.planning.by_name import planner_label, planner_of


def planner_for(domain, name="", **sizes):
    return planner_of(DOMAINS[domain].action_space, domain, name, **sizes)


@pytest.mark.parametrize(
    ("domain", "name", "sizes", "planner", "label"),
    [
        ("cartpole", "", {}, RandomShooting(), "shooting"),
        ("halfcheetah", "", {"candidates": None}, CEM(), "cem"),
        (
            "halfcheetah",
            "mppi",
            {"candidates": 30, "temperature": 0.5},
            MPPI(30, temperature=0.5),
            "mppi candidates=30 temperature=0.5",
        ),
    ],
)
def test_planners_are_named_and_written(domain, name, sizes, planner, label):
    assert planner_for(domain, name, **sizes) == planner
    assert planner_label(planner) == label


def test_planners_that_do_not_exist_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="planner 'best' is none that plans the actions of cartpole; take one of shoo"):
        planner_for("cartpole", "best")
    with pytest.raises(ValueError, match="planner 'cem' does not plan the actions of cartpole; take one of shooting"):
        planner_for("cartpole", "cem")
    with pytest.raises(ValueError, match="'shooting' does not plan the actions of halfcheetah; take one of cem, icem"):
        planner_for("halfcheetah", "shooting")
    with pytest.raises(ValueError, match="RandomShooting needs at least one of horizon, got 0"):
        planner_for("cartpole", horizon=0)
    with pytest.raises(ValueError, match="planner shooting has no elites; its sizes: candidates, horizon"):
        planner_for("cartpole", "shooting", elites=3)
