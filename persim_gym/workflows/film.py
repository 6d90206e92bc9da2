"""Films of the true environment and its simulator under the same actions, side by side or overlaid."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from persim_gym.datasets.behavior.rules import policy_of_agent
from persim_gym.envs import Domain
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluation.acting import Policy, act
from persim_gym.extras import required
from persim_gym.persim_env.env import PersimEnv
from persim_gym.simulator.registry import load_simulator
from persim_gym.storage import SIGNATURE, check_own_file, replacing

BANNER = 28  # Height of the banner above the pictures, in pixels.
OPACITY = 0.45  # Opacity of the prediction in an overlay.
SCENE_VIEWS = 41  # The empty scene is the median of so many pictures.
MAX_BOUND = 1e3  # Observations with bounds inside of this are positions on the screen or speeds.
MIN_DIFFERENCE = 10  # A pixel is set apart from the empty scene by more grey levels than these.

Picture = NDArray[np.uint8]
Draw = Callable[[NDArray[Any]], Picture]
"""Maps an observation, [D], to a picture, [height, width, 3]."""


@dataclass(frozen=True)
class Pair:
    """One episode in truth and in the simulator, without correction.

    Attributes:
        true: True observations, [T + 1, D].
        predicted: Predicted observations from the same start under the same actions, [T + 1, D].
        distance: Root mean square difference over dimensions, in logged standard deviations, [T + 1].
    """

    true: NDArray[np.float32]
    predicted: NDArray[np.float32]
    distance: NDArray[np.float64]

    def parting(self, tolerance: float) -> int | None:
        """First step at which the distance exceeds `tolerance`; None if none does."""
        beyond = np.flatnonzero(self.distance > tolerance)
        return int(beyond[0]) if len(beyond) else None


def roll_out(env: PersimEnv, policy: Policy, steps: int, seed: int) -> Pair:
    """The policy acts in the true environment of the simulator's agent; the simulator repeats its actions."""
    domain = domain_of(env.simulator.card.domain)
    state = domain.initial_state(np.random.default_rng(seed), 1)
    true = [domain.observe(state)[0].astype(np.float32)]
    predicted = [env.reset(seed=seed, options={"obs": true[0]})[0]]
    limit = min(steps, domain.episode_steps)
    physics = domain.physics(**domain.agent_covariates(env.agent))
    for step in act(policy, domain, physics, state, limit, drop_finished=True):
        true.append(step.next_obs[0].astype(np.float32))
        predicted.append(env.step(step.action[0])[0])
    apart = (np.array(predicted) - np.array(true)) / env.simulator.model.logged_std.numpy()
    return Pair(np.array(true), np.array(predicted), np.sqrt((apart.astype(np.float64) ** 2).mean(axis=1)))


def film(
    agent: int,
    simulator: str,
    out: str | Path,
    *,
    policy: str | Path | None = None,
    steps: int = 200,
    seed: int = 0,
    tolerance: float = 0.1,
    overlay: bool = False,
    force: bool = False,
) -> int | None:
    """Writes a film of one episode.

    Args:
        agent: Agent of the population.
        simulator: Name or path of a simulator.
        out: File, .gif or .mp4.
        policy: Result file of a trained policy; None for the domain's test policy.
        steps: Steps at most; the film ends with the true episode.
        seed: Seed of the initial state.
        tolerance: Distance, in logged standard deviations, from which on the two count as parted.
        overlay: One picture with the truth opaque and the prediction translucent, as thesis Figures 1-2 and B-1,
            instead of two side by side.
        force: Whether a file that is no film of ours is replaced.

    Returns:
        The step at which truth and prediction part; None if they do not.

    Raises:
        ValueError: If the file is neither .gif nor .mp4, the agent is unknown, or the simulator has no domain to draw.
    """
    out = Path(out)
    if not tolerance >= 0:
        raise ValueError(f"tolerance {tolerance} is negative or no number")
    check_film(out, force)
    if not load_simulator(simulator).card.domain:
        raise ValueError(
            f"simulator {simulator} is of data of no domain here: there is no true environment to film, and nothing "
            "that draws its observations. `persim evaluate` measures predictions, `persim train-policy` trains policies"
        )
    env = PersimEnv(agent=agent, simulator=simulator)
    domain = domain_of(env.simulator.card.domain)
    acting: Policy = _policy_of(Path(policy), domain.name) if policy else policy_of_agent(domain, agent, seed)
    pair = roll_out(env, acting, steps, seed)
    parted = pair.parting(tolerance)
    frames = pictures(domain, agent, pair, parted, overlay)
    write_film(out, frames, domain.render_fps)
    return parted


def _policy_of(path: Path, domain: str) -> Policy:
    """The trained policy of a result file.

    Raises:
        ValueError: If there is none, or it is of another domain.
    """
    from persim_gym.policies import load_policy, read_policy  # Stable-Baselines3 is an extra.

    found = read_policy(path)
    if found.domain != domain:
        raise ValueError(f"{path} is a policy of {found.domain or 'data of no domain'}, and the simulator of {domain}")
    return load_policy(path)


def pictures(domain: Domain, agent: int, pair: Pair, parted: int | None, overlay: bool) -> list[Picture]:
    """One picture a step, [height, width, 3]; both robots are drawn at the origin, which observations leave out."""
    frames = []
    with drawing(domain, agent) as draw:
        empty = empty_scene(domain, draw) if overlay else None
        for t, (true, predicted) in enumerate(zip(pair.true, pair.predicted, strict=True)):
            images = draw(true), draw(predicted)
            picture = overlaid(*images, empty) if overlay else np.concatenate(images, axis=1)
            left = "truth opaque, simulator translucent" if overlay else "truth | simulator"
            state = f"parted at step {parted}" if parted is not None and t >= parted else "together"
            frames.append(
                _with_banner(picture, f"agent {agent}: {left}", f"step {t}: {state}", parted is None or t < parted)
            )
    return frames


@contextmanager
def drawing(domain: Domain, agent: int) -> Iterator[Draw]:
    """Gives the function that draws an agent's observations, by the environment's own renderer and without a screen."""
    _need_no_screen()
    renderer = domain.make_renderer("rgb_array", domain.agent_covariates(agent))

    def draw(obs: NDArray[Any]) -> Picture:
        image = renderer.render(domain.embed(obs.astype(np.float64)))
        assert image is not None
        return np.asarray(image, dtype=np.uint8)

    try:
        yield draw
    finally:
        renderer.close()


def _need_no_screen() -> None:
    """Lets pygame draw where there is no screen, of which it complains otherwise."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def overlaid(true: Picture, predicted: Picture, empty: Picture | None) -> Picture:
    """The truth opaque over a translucent prediction; without an empty scene, one picture mixed into the other."""
    if empty is None:
        return (true * (1 - OPACITY) + predicted * OPACITY).astype(np.uint8)
    scene, shown = empty.astype(np.int16), predicted.astype(np.int16)
    ghost = (np.abs(shown - scene) > MIN_DIFFERENCE).any(axis=-1, keepdims=True)
    solid = (np.abs(true.astype(np.int16) - scene) > MIN_DIFFERENCE).any(axis=-1, keepdims=True)
    mixed = np.where(ghost, OPACITY * shown + (1 - OPACITY) * scene, scene)
    return np.where(solid, true, mixed).astype(np.uint8)


def empty_scene(domain: Domain, draw: Draw) -> Picture | None:
    """What does not move: the median of pictures from all over a bounded space; None where it is not bounded."""
    space = domain.observation_space
    bounded = (np.abs(space.low) < MAX_BOUND) & (np.abs(space.high) < MAX_BOUND)
    if not bounded.any():
        return None
    spread = np.random.default_rng(0).uniform(
        np.where(bounded, space.low, 0), np.where(bounded, space.high, 0), (SCENE_VIEWS, len(bounded))
    )
    scene: Picture = np.median([draw(obs.astype(np.float32)) for obs in spread], axis=0).astype(np.uint8)
    return scene


def _with_banner(picture: Picture, left: str, right: str, together: bool) -> Picture:
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + BANNER), "white")
    image.paste(Image.fromarray(picture), (0, BANNER))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    draw.text((8, 6), left, fill="black", font=font)
    draw.text((image.width - 8, 6), right, fill="black" if together else "#c92a2a", font=font, anchor="ra")
    return np.asarray(image)


FILM_FORMATS = (".gif", ".mp4")


def check_film(path: Path, force: bool = False) -> None:
    """Checks, before any work is done, that a film can be written, and that none of it needs a screen.

    Raises:
        ValueError: If the file is neither .gif nor .mp4, what writes .mp4 is not installed, or as `check_own_file`.
    """
    if path.suffix not in FILM_FORMATS:
        raise ValueError(f"{path} is neither {' nor '.join(FILM_FORMATS)}")
    if path.suffix == ".mp4":
        _mp4_writer()
    check_own_file(path, force)
    _need_no_screen()


def _mp4_writer() -> Any:
    """What writes films of type .mp4.

    Raises:
        MissingExtraError: If it is not installed.
    """
    what = "films of type .mp4 need imageio and imageio-ffmpeg, and those of type .gif nothing"
    required("imageio_ffmpeg", "video", what)
    return required("imageio.v3", "video", what)


def write_film(path: Path, frames: Sequence[NDArray[Any]], fps: float) -> None:
    """Writes pictures, [height, width, 3] each, as a film that `check_film` has passed."""
    with replacing(path) as new:
        if path.suffix == ".gif":
            first, *others = map(Image.fromarray, frames)
            first.save(
                new,
                format="GIF",
                save_all=True,
                append_images=others,
                duration=1000 / fps,
                loop=0,
                comment=SIGNATURE.encode(),
            )
        else:
            even = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]  # as the codec wants
            sign = ["-metadata", f"comment={SIGNATURE}"]
            _mp4_writer().imwrite(new, even, fps=fps, macro_block_size=1, output_params=sign)
