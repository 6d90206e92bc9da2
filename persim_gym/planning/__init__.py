"""Planners over any dynamics, learned or true."""

from persim_gym.planning.policy import MPCPolicy
from persim_gym.planning.rollout import rollout_returns
from persim_gym.planning.shooting import RandomShooting

__all__ = ["MPCPolicy", "RandomShooting", "rollout_returns"]
