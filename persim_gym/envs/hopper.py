"""Hopper whose mass and joint damping differ between agents."""

from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.mujoco.domain import (
    PLANAR_POSITIONS,
    PLANAR_VELOCITIES,
    joint_angles,
    joint_velocities,
    robot_domain,
    uniform_noise,
)
from persim_gym.envs.mujoco.physics import Robot
from persim_gym.task import Array, Ends, Task

CONTROL_COST = 1e-3
HEALTHY_REWARD = 1.0  # a step
MIN_HEIGHT = 0.7  # m
MAX_PITCH = 0.2  # rad
MAX_VALUE = 100.0  # of every angle (rad) and velocity (m/s, rad/s)
UNHEALTHY = Ends(
    "not all",
    (
        (1, ">", MIN_HEIGHT),
        (2, ">", -MAX_PITCH),
        (2, "<", MAX_PITCH),
        (range(2, 11), ">", -MAX_VALUE),
        (range(2, 11), "<", MAX_VALUE),
    ),
)

JOINTS = ("thigh", "leg", "foot")

ROBOT = Robot(
    xml="hopper.xml",
    frame_skip=4,  # of 0.002 s
    nq=6,
    nv=6,
    unobserved=1,
    position_noise=partial(uniform_noise, 0.005),
    velocity_noise=partial(uniform_noise, 0.005),
)


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    return next_obs[..., 0] + HEALTHY_REWARD * ~UNHEALTHY(next_obs) - CONTROL_COST * (action * action).sum(-1)


DOMAIN = robot_domain(
    title="Hopper",
    summary="hop with a one-legged planar robot; mass and joint damping differ",
    robot=ROBOT,
    task=Task(_reward, UNHEALTHY),
    positions=(*PLANAR_POSITIONS, *joint_angles(JOINTS)),
    velocities=(*PLANAR_VELOCITIES, *joint_velocities(JOINTS)),  # Gymnasium clips them to ±10
    action_space=spaces.Box(-1.0, 1.0, (3,), dtype=np.float32),
    render_fps=125,
)
