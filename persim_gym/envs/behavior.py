"""How the logging and test policies of a domain are trained and where their training stops, or the rule they follow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Band: TypeAlias = tuple[float, float | None]
"""Mean returns (low, high) at which training stops; None: however high."""


@dataclass(frozen=True)
class BehaviorConfig:
    """How the policies of a domain are trained.

    Attributes:
        algorithm: DQN, TD3 or SAC.
        hyperparameters: Keywords of the algorithm; JSON-plain.
        logger: Where the loggers stop, thesis section 5.1.2.
        test: Where the test policy stops, thesis appendix B.1.
        max_steps: Give up after this many environment steps; DQN's exploration schedule is relative to it.
        evaluate_every: Environment steps between evaluations.
        episodes: Episodes of an evaluation.
        action_noise: Standard deviation of the exploration noise of TD3.
    """

    algorithm: str
    hyperparameters: Mapping[str, Any]
    logger: Band
    test: Band
    max_steps: int
    evaluate_every: int
    episodes: int = 20
    action_noise: float | None = None


@dataclass(frozen=True)
class Rule:
    """A logging policy that needs no training: what people or companies do today, with their errors.

    It may know of its agent what the agent itself would know, so it is given the covariates; and it may remember.

    Attributes:
        summary: One line for dataset cards.
        start: Maps (covariates by name, floats or [B] each; number of rows B; generator) to the memory of rows that
            begin an episode, [B, K]: the habits and errors of each row, and what it has not carried out yet.
        act: Maps (obs [B, D], memory [B, K], generator) to actions and the next memory.
    """

    summary: str
    start: Callable[[Mapping[str, Any], int, np.random.Generator], NDArray[np.float64]]
    act: Callable[[NDArray[Any], NDArray[np.float64], np.random.Generator], tuple[NDArray[Any], NDArray[np.float64]]]


def in_band(value: float, band: Band) -> bool:
    """Whether a mean return is where training stops."""
    return value >= band[0] and (band[1] is None or value <= band[1])


# Beyond these the thesis is silent. What domains add keeps the value function stable enough to stop near a threshold.
DQN = {"learning_rate": 1e-3, "batch_size": 128, "gamma": 0.99, "policy_kwargs": {"net_arch": [256, 256]}}
SHORT_EPISODES_DQN = DQN | {
    "train_freq": 4,
    "gradient_steps": 2,
    "target_update_interval": 250,
    "learning_starts": 1_000,
    "buffer_size": 50_000,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.05,
}
"""Of domains that a hundred thousand steps are enough for."""
TD3 = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "tau": 0.005,
    "target_policy_noise": 0.2,
    "target_noise_clip": 0.5,
    "policy_delay": 2,
    "policy_kwargs": {"net_arch": [256, 256]},
}
SAC = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "buffer_size": 500_000,
    "policy_kwargs": {"net_arch": [256, 256]},
}
