"""Algorithms of Stable-Baselines3, new or from their files, of which parameters alone are read.

Its own loading runs pickles from the other half of such a file. Here an algorithm is made from what was trained, as the
result's file or the checkpoint's card says, and takes its tensors from the file.
"""

import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv

from persim_gym.policies.config import ALGORITHMS, PolicyTraining, training_env
from persim_gym.policies.preprocessing import of_algorithm

# Sizes of what holds transitions, in a policy that learns no more.
_NOTHING_HELD: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 2, "batch_size": 2},
    **dict.fromkeys(("dqn", "sac", "td3"), {"buffer_size": 1}),
}


def new_algorithm(
    training: PolicyTraining, env: VecEnv, tensorboard: str | None = None, **changes: Any
) -> BaseAlgorithm:
    """An untrained algorithm.

    Args:
        training: What is trained.
        env: Environment that it is trained in.
        tensorboard: Folder of TensorBoard's logs; None for none.
        **changes: Keywords of the algorithm that take the place of the training's.

    Raises:
        ValueError: If the algorithm does not take them.
    """
    # Stable-Baselines3 changes dictionaries that it is given.
    keywords = deepcopy({**of_algorithm(training.hyperparameters), **changes})
    algorithm = ALGORITHMS[training.algo]
    try:
        new = algorithm("MlpPolicy", env, seed=training.seed, tensorboard_log=tensorboard, device="cpu", **keywords)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"{training.algo} does not take these settings: {error}") from error
    if tensorboard is None:  # A logger of its own would leave a folder in the temporary one.
        new.set_logger(Logger(folder=None, output_formats=[]))
    return new


def trained_algorithm(training: PolicyTraining, path: Path) -> BaseAlgorithm:
    """A trained policy, for acting. Needs the simulator that it was trained in, for its spaces.

    Args:
        training: What was trained.
        path: File that Stable-Baselines3 saved it to.

    Raises:
        ValueError: As `read_parameters`; call this inside `persim_gym.storage.reading`.
    """
    check_sizes(training, path)
    model = new_algorithm(training, training_env(training, 1), **_NOTHING_HELD[training.algo])
    read_parameters(model, path)
    return model


def read_parameters(model: BaseAlgorithm, path: Path) -> None:
    """Gives an algorithm the parameters of a file, those of its optimisers too; no code in it is run.

    Raises:
        ValueError: If the file holds other parameters, or as `check_plain_zip`.
    """
    check_plain_zip(path)
    _, parameters, others = load_from_zip_file(path, device="cpu", load_data=False)
    names, other_names = model._get_torch_save_params()
    if set(parameters or {}) != set(names) or set(others or {}) != set(other_names):
        raise ValueError(f"{path.name} holds other parameters than {type(model).__name__}'s: {', '.join(names)}")
    model.set_parameters(parameters or {}, device="cpu")
    for name, value in (others or {}).items():
        vars(model)[name].data.copy_(value.data)


def check_sizes(training: PolicyTraining, path: Path) -> None:
    """Refuses layers that are larger than the file that holds their weights, before they are made.

    Raises:
        ValueError: If they are.
    """
    weights = path.stat().st_size // 4
    for widths in _layers(training.hyperparameters.get("policy_kwargs", {}).get("net_arch", [])):
        if sum(np.multiply(widths[:-1], widths[1:])) > weights or max(widths, default=0) > weights:
            raise ValueError(f"{path.name} is too small for layers of {', '.join(map(str, widths))} units")


def _layers(arch: Any) -> Iterator[list[int]]:
    """Widths of the networks that Stable-Baselines3's `net_arch` describes."""
    for widths in arch.values() if isinstance(arch, dict) else [arch]:
        if not isinstance(widths, list) or not all(type(width) is int and width > 0 for width in widths):
            raise ValueError(f"net_arch {arch!r} is no list of widths, nor one of each network")
        yield widths


def check_plain_zip(path: Path) -> None:
    """Refuses an archive that is damaged, or would be larger in memory than on disk, which none of ours is.

    Raises:
        ValueError: If it is one.
    """
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError(f"{path.name} is compressed, as it is never written")
        if broken := archive.testzip():
            raise ValueError(f"{broken} in {path.name} is damaged")
