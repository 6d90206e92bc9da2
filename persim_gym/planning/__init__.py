"""Planners over any dynamics, learned or true."""

from persim_gym.planning.cem import CEM
from persim_gym.planning.icem import ICEM
from persim_gym.planning.mppi import MPPI
from persim_gym.planning.plan import Plan, Planner
from persim_gym.planning.policy import MPCPolicy
from persim_gym.planning.rollout import Objective, rollout_returns
from persim_gym.planning.shooting import CategoricalCEM, RandomShooting

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CategoricalCEM",
    "MPCPolicy",
    "Objective",
    "Plan",
    "Planner",
    "RandomShooting",
    "rollout_returns",
]
