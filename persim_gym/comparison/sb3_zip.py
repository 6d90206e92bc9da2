"""Policies that Stable-Baselines3 saved, which are pickles in part."""

import json
import zipfile
from pathlib import Path

from persim_gym.comparison.acting import check_spaces
from persim_gym.evaluation.acting import Policy
from persim_gym.extras import brought_by
from persim_gym.spec import EnvironmentSpec

with brought_by("sb3", "zips of Stable-Baselines3 need it"):
    from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
    from stable_baselines3.common.base_class import BaseAlgorithm

_SIGNS: dict[str, type[BaseAlgorithm]] = {
    "clip_range": PPO,
    "exploration_fraction": DQN,
    "target_entropy": SAC,
    "target_policy_noise": TD3,
    "n_steps": A2C,
}
"""A setting that says which algorithm a file is of; the first that it holds counts. DDPG's are those of TD3."""


def load_zip(path: Path, spec: EnvironmentSpec, trust: bool) -> Policy:
    """The policy of a file that an algorithm of Stable-Baselines3 saved.

    Args:
        path: The file.
        spec: Spaces that it has to fit.
        trust: Whether the pickles in it may run.

    Raises:
        ValueError: If it is not trusted, no such file, or of other spaces.
    """
    if not trust:
        raise ValueError(
            f"{path} holds pickles, which run whatever code they contain when they are read; give --trust (trust=True) "
            "if you made it yourself or trust who did"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            settings = json.loads(archive.read("data"))
        algorithm = next(kind for sign, kind in _SIGNS.items() if sign in settings)
        loaded = algorithm.load(path, device="cpu")
    except StopIteration:
        known = ", ".join(kind.__name__ for kind in _SIGNS.values())
        raise ValueError(f"{path} is of no algorithm that is known here ({known})") from None
    except Exception as error:  # A pickle may raise anything.
        reason = " ".join(f"{error}".split())
        raise ValueError(f"{path} cannot be read as a file of Stable-Baselines3 ({reason}); save it again") from error
    assert loaded.observation_space is not None and loaded.action_space is not None
    check_spaces(loaded.observation_space, loaded.action_space, spec)
    policy: Policy = loaded
    return policy
