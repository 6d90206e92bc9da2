"""The true environments: populations of agents that differ in hidden covariates.

A new domain is one file beside this one and one line in `DOMAINS`.
"""

from persim_gym.envs import (
    ant,
    cartpole,
    half_cheetah,
    hopper,
    mountain_car,
    pendulum,
    revenue,
    slim_humanoid,
    walker2d,
)
from persim_gym.envs.domain import Covariate, Domain
from persim_gym.envs.patients import domain as patients

DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        mountain_car.DOMAIN,
        cartpole.DOMAIN,
        half_cheetah.DOMAIN,
        pendulum.DOMAIN,
        hopper.DOMAIN,
        walker2d.DOMAIN,
        ant.DOMAIN,
        slim_humanoid.DOMAIN,
        revenue.DOMAIN,
        patients.DOMAIN,
    )
}
"""Every domain by name."""

__all__ = ["DOMAINS", "Covariate", "Domain"]
