"""How the logging and test policies of each domain are trained, and where their training stops."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

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


_DQN = {"learning_rate": 1e-3, "batch_size": 128, "gamma": 0.99, "policy_kwargs": {"net_arch": [256, 256]}}
_TD3 = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "tau": 0.005,
    "target_policy_noise": 0.2,
    "target_noise_clip": 0.5,
    "policy_delay": 2,
    "policy_kwargs": {"net_arch": [256, 256]},
}

_SAC = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "buffer_size": 500_000,
    "policy_kwargs": {"net_arch": [256, 256]},
}

BEHAVIOR_CONFIGS: dict[str, BehaviorConfig] = {
    # Beyond `_DQN` the thesis is silent; these keep the value function stable enough to stop near a threshold.
    "mountaincar": BehaviorConfig(
        "DQN",
        _DQN
        | {
            "train_freq": 16,
            "gradient_steps": 8,
            "target_update_interval": 600,
            "learning_starts": 1_000,
            "buffer_size": 50_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
        },
        logger=(-200.0, None),
        test=(-150.0, None),
        max_steps=300_000,
        evaluate_every=2_000,
    ),
    "cartpole": BehaviorConfig(
        "DQN",
        _DQN
        | {
            "train_freq": 4,
            "gradient_steps": 2,
            "target_update_interval": 250,
            "learning_starts": 1_000,
            "buffer_size": 50_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.05,
        },
        logger=(110.0, 135.0),
        test=(150.0, 165.0),
        max_steps=100_000,
        evaluate_every=250,
    ),
    "halfcheetah": BehaviorConfig(
        "TD3",
        _TD3 | {"learning_starts": 10_000, "buffer_size": 1_000_000, "train_freq": 2, "gradient_steps": 1},
        logger=(3_000.0, None),
        test=(4_000.0, None),
        max_steps=1_000_000,
        evaluate_every=5_000,
        episodes=10,
        action_noise=0.1,
    ),
    # Beyond the thesis: levels of our choice, well above random and well below solved.
    "pendulum": BehaviorConfig(
        "SAC",
        _SAC | {"learning_rate": 1e-3, "learning_starts": 500},
        logger=(-400.0, None),
        test=(-200.0, None),
        max_steps=50_000,
        evaluate_every=500,
    ),
    "walker2d": BehaviorConfig(
        "SAC",
        _SAC | {"learning_starts": 5_000},
        logger=(300.0, None),
        test=(1_000.0, None),
        max_steps=500_000,
        evaluate_every=2_500,
        episodes=10,
    ),
}


def in_band(value: float, band: Band) -> bool:
    """Whether a mean return is where training stops."""
    return value >= band[0] and (band[1] is None or value <= band[1])
