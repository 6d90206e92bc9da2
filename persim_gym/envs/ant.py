"""Ant whose mass and joint damping differ between agents."""

import math
from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.mujoco.domain import (
    FREE_POSITIONS,
    FREE_VELOCITIES,
    joint_angles,
    joint_velocities,
    normal_noise,
    robot_domain,
    uniform_noise,
)
from persim_gym.envs.mujoco.physics import Robot
from persim_gym.task import Array, Ends, Task

CONTROL_COST = 0.5
HEALTHY_REWARD = 1.0  # a step
MIN_HEIGHT, MAX_HEIGHT = 0.2, 1.0  # m
UNHEALTHY = Ends(
    "not all",
    (
        (1, ">=", MIN_HEIGHT),
        (1, "<=", MAX_HEIGHT),
        (range(27), ">", -math.inf),
        (range(27), "<", math.inf),
    ),
)

JOINTS = tuple(f"{joint} {leg}" for leg in range(1, 5) for joint in ("hip", "ankle"))

ROBOT = Robot(
    xml="ant.xml",
    frame_skip=5,  # of 0.01 s
    nq=15,
    nv=14,
    unobserved=2,
    position_noise=partial(uniform_noise, 0.1),
    velocity_noise=partial(normal_noise, 0.1),
)


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """Gymnasium's without its cost of contact forces, which the observation does not show."""
    return next_obs[..., 0] + HEALTHY_REWARD * ~UNHEALTHY(next_obs) - CONTROL_COST * (action * action).sum(-1)


DOMAIN = robot_domain(
    title="Ant",
    summary="walk with a four-legged robot; mass and joint damping differ",
    robot=ROBOT,
    task=Task(_reward, UNHEALTHY),
    positions=(*FREE_POSITIONS, *joint_angles(JOINTS)),
    velocities=(*FREE_VELOCITIES, *joint_velocities(JOINTS)),
    action_space=spaces.Box(-1.0, 1.0, (8,), dtype=np.float32),
    render_fps=20,
)
