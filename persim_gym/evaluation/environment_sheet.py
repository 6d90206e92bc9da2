"""A sheet of pictures: what each environment looks like."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persim_gym.envs import Domain
from persim_gym.storage import SIGNATURE, check_own_file, replacing

COLUMNS, TILE = 5, 3.2  # Pictures in a row, and inches that each has.
STEPS = 40
"""Random actions before the picture: what has not moved tells little."""


def environment_sheet(domains: Iterable[Domain], path: Path, agent: int = 0, force: bool = False) -> dict[str, str]:
    """Draws one picture of each environment, after some random actions.

    Args:
        domains: The domains.
        path: The file, .png.
        agent: Agent of the population.
        force: Whether a file that is none of ours is replaced.

    Returns:
        Environments that could not be drawn, and why, in one line each; their places say so, too.

    Raises:
        ValueError: If the file is no .png, or as `check_own_file`.
    """
    if path.suffix != ".png":
        raise ValueError(f"{path} is no .png")
    check_own_file(path, force)
    domains, failed = list(domains), dict[str, str]()
    rows = -(-len(domains) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * TILE, rows * (TILE + 0.5)), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, domain in zip(axes, domains, strict=False):
        ax.set_title(f"{domain.env_id}\n{len(domain.observation_names)} observations", fontsize=10)
        try:
            ax.imshow(picture_of(domain, agent))
            ax.set_anchor("N")  # Titles of a row are level.
        except (ImportError, RuntimeError) as error:  # An extra or OpenGL is missing.
            failed[domain.env_id] = " ".join(str(error).split())
            ax.text(0.5, 0.5, "cannot be drawn here", ha="center", va="center", transform=ax.transAxes)
    for ax in axes:
        ax.set_axis_off()
    with replacing(path) as new:
        figure.savefig(new, format="png", dpi=100, metadata={"Software": SIGNATURE})
    return failed


def picture_of(domain: Domain, agent: int) -> NDArray[np.uint8]:
    """A picture of the true environment, [height, width, 3], after `STEPS` random actions or at the end of its episode.

    Raises:
        MissingExtraError: If what draws it is not installed.
        RuntimeError: If there is no OpenGL.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen.
    env = gym.make(domain.env_id, agent=agent, render_mode="rgb_array")
    try:
        env.reset(seed=0)
        env.action_space.seed(0)
        picture: Any = env.render()
        for _ in range(STEPS):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            picture = env.render()  # Each: some show what came before.
            if terminated or truncated:
                break
        return np.asarray(picture, dtype=np.uint8)
    finally:
        env.close()
