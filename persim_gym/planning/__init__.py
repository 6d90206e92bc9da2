"""Planners over any dynamics, learned or true."""

from persim_gym.planning.base import Plan, Planner
from persim_gym.planning.categorical_cem import CategoricalCEM
from persim_gym.planning.cem import CEM
from persim_gym.planning.icem import ICEM
from persim_gym.planning.mpc import MPC
from persim_gym.planning.mppi import MPPI
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.planning.scoring import Objective, rollout_returns

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CategoricalCEM",
    "MPC",
    "Objective",
    "Plan",
    "Planner",
    "RandomShooting",
    "rollout_returns",
]
