"""A seller of 180 seats who opens and closes fare classes; and the policies that revenue managers know.

The optimum and the rule of thumb are in `persim_gym.envs.revenue.rules`.
"""

from persim_gym.envs.revenue.domain import DOMAIN

__all__ = ["DOMAIN"]
