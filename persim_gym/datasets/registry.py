"""Which datasets exist, and how each is made."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from persim_gym.datasets.behavior.policies import missing_loggers
from persim_gym.envs import DOMAINS, Domain
from persim_gym.suggest import suggestion

NAMESPACE = "persim"
DATASET_SEED = 2021

THESIS_DOMAINS = tuple(name for name, domain in DOMAINS.items() if domain.in_thesis)

EPSILONS = {"pure": 0.0, "random": 1.0, "pure-eps-20": 0.2, "pure-eps-40": 0.4}  # thesis section 5.1.2
"""Probability of a uniformly random action, by the name of the logging policy."""


@dataclass(frozen=True)
class DatasetSpec:
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

    @property
    def seed(self) -> list[int]:
        """Entropy of the dataset's own random stream: the same for every build."""
        return [DATASET_SEED, zlib.crc32(self.dataset_id.encode())]

    def rng(self) -> np.random.Generator:
        """The random stream of `seed`, from its start."""
        return np.random.default_rng(self.seed)

    @property
    def missing_loggers(self) -> list[str]:
        """Names of the logging policies that have to be trained before it can be built."""
        return missing_loggers(self.domain.name) if self.epsilon < 1.0 else []


def _policies(domain: Domain) -> tuple[str, ...]:
    """Names of the logging policies that a domain's listed datasets have."""
    if domain.in_thesis:
        return tuple(EPSILONS)
    return ("random",) if missing_loggers(domain.name, bundled_only=True) else ("pure", "random")


DATASETS: dict[str, DatasetSpec] = {
    recipe.dataset_id: recipe
    for recipe in (DatasetSpec(domain, policy) for domain in DOMAINS.values() for policy in _policies(domain))
}
"""The listed datasets by Minari id: all four of the thesis's domains; of the others random, and pure if their loggers
are bundled."""


def find_dataset(name: str) -> DatasetSpec | None:
    """The dataset of any domain and logging policy, listed or not; None if the name is not one of ours.

    Args:
        name: `persim/<domain>/<policy>-v0`, as Minari has it, or `<domain>/<policy>-v0`, which means the same.
    """
    every = (DatasetSpec(domain, policy) for domain in DOMAINS.values() for policy in EPSILONS)
    return next((dataset for dataset in every if name in (dataset.dataset_id, dataset.name)), None)


def similar_datasets(name: str, more: Iterable[str] = ()) -> str:
    """The end of a message that there is no dataset of a name.

    Args:
        name: The name.
        more: Names of others' datasets.
    """
    return suggestion(name.removeprefix(f"{NAMESPACE}/"), [*(dataset.name for dataset in DATASETS.values()), *more])


def dataset_spec(name: str) -> DatasetSpec:
    """As `find_dataset`.

    Raises:
        ValueError: If there is none; lists those that exist.
    """
    dataset = find_dataset(name)
    if dataset is None:
        raise ValueError(f"no recipe for dataset {name!r} (`persim datasets list` shows all); {similar_datasets(name)}")
    return dataset
