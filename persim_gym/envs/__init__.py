"""The true environments: populations of agents that differ in hidden covariates.

A new domain is one file beside this one and one line in `DOMAINS`.
"""

from persim_gym.envs import cartpole, half_cheetah, mountain_car
from persim_gym.envs.domain import Covariate, Domain

DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        mountain_car.DOMAIN,
        cartpole.DOMAIN,
        half_cheetah.DOMAIN,
    )
}
"""Every domain by name."""

__all__ = ["DOMAINS", "Covariate", "Domain"]
