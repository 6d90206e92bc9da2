"""Policies trained with Stable-Baselines3 inside a simulator, or in the true environment."""

from persim_gym.extras import brought_by

with brought_by("sb3", "trained policies need Stable-Baselines3"):
    from persim_gym.policies.config import ALGORITHMS, PolicyTraining, truth_of, with_defaults
    from persim_gym.policies.train import TrainedPolicy, load_policy, read_policy, run_training, train_policy

__all__ = [
    "ALGORITHMS",
    "TrainedPolicy",
    "PolicyTraining",
    "with_defaults",
    "load_policy",
    "read_policy",
    "run_training",
    "train_policy",
    "truth_of",
]
