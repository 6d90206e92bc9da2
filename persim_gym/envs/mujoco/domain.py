"""What the domains of MuJoCo robots have in common: covariates, agents, spaces, names and initial noise."""

from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.domain import Covariate, Domain
from persim_gym.envs.mujoco.physics import Robot
from persim_gym.envs.mujoco.render import RobotRenderer
from persim_gym.task import Task

MASS_AND_DAMPING = (Covariate("mass", 0.2, 1.8, 1.0), Covariate("damping", 0.2, 1.8, 1.0))
"""Both relative to Gymnasium's model."""

ROBOT_TEST_AGENTS = ((0.3, 1.7), (1.7, 0.3), (0.3, 0.3), (1.7, 1.7), (1.0, 1.0))  # thesis Table 5.1
DEFAULT_AGENT = (1.0, 1.0)

PLANAR_POSITIONS = ("height (m)", "pitch (rad)")
PLANAR_VELOCITIES = ("x velocity (m/s)", "vertical velocity (m/s)", "pitch velocity (rad/s)")
"""Of a torso that moves in a vertical plane."""

FREE_POSITIONS = ("height (m)", *(f"orientation {q}" for q in "wxyz"))
FREE_VELOCITIES = (*(f"{x} velocity (m/s)" for x in "xyz"), *(f"angular velocity about {x} (rad/s)" for x in "xyz"))
"""Of a torso that moves freely."""


def normal_noise(scale: float, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """N(0, scale²)."""
    return scale * rng.standard_normal(shape)


def uniform_noise(scale: float, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """U(-scale, scale)."""
    return rng.uniform(-scale, scale, shape)


def robot_domain(
    title: str,
    summary: str,
    robot: Robot,
    task: Task,
    positions: tuple[str, ...],
    velocities: tuple[str, ...],
    action_space: spaces.Box,
    render_fps: int,
    training_agents: tuple[tuple[float, float], ...] = (DEFAULT_AGENT,),
    **recommended: Any,
) -> Domain:
    """Domain of a robot whose relative mass and joint damping differ, 1,000 steps an episode.

    Args:
        title: Name in CamelCase.
        summary: One line for listings.
        robot: The robot.
        task: Reward and termination, of (x velocity over the last step, observed qpos, qvel).
        positions: Names of the observed qpos.
        velocities: Names of qvel.
        action_space: As Gymnasium's.
        render_fps: Steps in a second.
        training_agents: Relative mass and damping of the agents that logging policies are trained on.
        **recommended: What else the domain says of itself: `recipes`, `behavior`, ….
    """
    names = ("x velocity over the last step (m/s)", *positions, *velocities)
    assert len(names) == 1 + robot.nq - robot.unobserved + robot.nv
    return Domain(
        title=title,
        summary=summary,
        task=task,
        covariates=MASS_AND_DAMPING,
        observation_names=names,
        observation_space=spaces.Box(-np.inf, np.inf, (len(names),), dtype=np.float32),
        action_space=action_space,
        episode_steps=1000,
        test_agents=ROBOT_TEST_AGENTS,
        training_agents=training_agents,
        initial_state=robot.initial_state,
        physics=robot.physics,
        make_renderer=partial(RobotRenderer, robot),
        render_fps=render_fps,
        observe=robot.observe,
        embed=robot.embed,
        **recommended,
    )


def joint_angles(joints: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the angles of hinges."""
    return tuple(f"{joint} angle (rad)" for joint in joints)


def joint_velocities(joints: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the angular velocities of hinges."""
    return tuple(f"{joint} velocity (rad/s)" for joint in joints)
