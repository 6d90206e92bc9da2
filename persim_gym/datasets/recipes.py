"""Which datasets exist, and how each is made."""

import zlib
from dataclasses import dataclass

import numpy as np

from persim_gym.envs import DOMAINS, Domain

NAMESPACE = "persim"
DATASET_SEED = 2021

EPSILONS = {"pure": 0.0, "random": 1.0, "pure-eps-20": 0.2, "pure-eps-40": 0.4}  # thesis section 5.1.2
"""Probability of a uniformly random action, by the name of the logging policy."""


@dataclass(frozen=True)
class Recipe:
    """How one dataset is made: a domain and a logging policy.

    Attributes:
        domain: The domain.
        policy: Name of the logging policy, a key of `EPSILONS`.
    """

    domain: Domain
    policy: str

    @property
    def dataset_id(self) -> str:
        """Minari id, `persim/<domain>/<policy>-v0`."""
        return f"{NAMESPACE}/{self.name}"

    @property
    def name(self) -> str:
        """Name that a simulator trained on it gets by default, `<domain>/<policy>-v0`."""
        return f"{self.domain.name}/{self.policy}-v0"

    @property
    def epsilon(self) -> float:
        """Probability of a uniformly random action."""
        return EPSILONS[self.policy]

    def rng(self) -> np.random.Generator:
        """The dataset's own random stream: the same for every build."""
        return np.random.default_rng([DATASET_SEED, zlib.crc32(self.dataset_id.encode())])


RECIPES: dict[str, Recipe] = {
    recipe.dataset_id: recipe
    for recipe in (Recipe(domain, policy) for domain in DOMAINS.values() for policy in EPSILONS)
}
"""Every dataset that can be built, by Minari id."""


def recipe_of(dataset_id: str) -> Recipe:
    """Looks a recipe up.

    Raises:
        ValueError: If there is none; lists those that exist.
    """
    if dataset_id not in RECIPES:
        raise ValueError(f"no recipe for dataset {dataset_id!r}; known: {', '.join(RECIPES)}")
    return RECIPES[dataset_id]
