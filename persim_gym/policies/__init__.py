"""Policies trained with Stable-Baselines3 inside a simulator, or in the true environment."""

from persim_gym.policies.train import TrainedPolicy, load_policy, read_policy, train_policy
from persim_gym.policies.training import ALGORITHMS, Training, complete, truth_of

__all__ = [
    "ALGORITHMS",
    "TrainedPolicy",
    "Training",
    "complete",
    "load_policy",
    "read_policy",
    "train_policy",
    "truth_of",
]
