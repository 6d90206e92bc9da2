"""Humanoid, observed without contact forces and inertias, whose mass and joint damping differ between agents."""

from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.mujoco.domain import (
    FREE_POSITIONS,
    FREE_VELOCITIES,
    joint_angles,
    joint_velocities,
    robot_domain,
    uniform_noise,
)
from persim_gym.envs.mujoco.physics import Robot
from persim_gym.task import Array, Ends, Task

FORWARD_REWARD = 1.25  # a m/s
CONTROL_COST = 0.1
HEALTHY_REWARD = 5.0  # a step
MIN_HEIGHT, MAX_HEIGHT = 1.0, 2.0  # m
UNHEALTHY = Ends("not all", ((1, ">", MIN_HEIGHT), (1, "<", MAX_HEIGHT)))

JOINTS = (
    *(f"abdomen {axis}" for axis in "zyx"),
    *(f"{side} {joint}" for side in ("right", "left") for joint in ("hip x", "hip z", "hip y", "knee")),
    *(f"{side} {joint}" for side in ("right", "left") for joint in ("shoulder 1", "shoulder 2", "elbow")),
)

ROBOT = Robot(
    xml="humanoid.xml",
    frame_skip=5,  # of 0.003 s
    nq=24,
    nv=23,
    unobserved=2,
    position_noise=partial(uniform_noise, 0.01),
    velocity_noise=partial(uniform_noise, 0.01),
)


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """Gymnasium's without its cost of contact forces, and of the torso's velocity instead of the centre of mass's."""
    forward = FORWARD_REWARD * next_obs[..., 0]
    return forward + HEALTHY_REWARD * ~UNHEALTHY(next_obs) - CONTROL_COST * (action * action).sum(-1)


DOMAIN = robot_domain(
    title="SlimHumanoid",
    summary="walk upright with a humanoid robot; mass and joint damping differ",
    robot=ROBOT,
    task=Task(_reward, UNHEALTHY),
    positions=(*FREE_POSITIONS, *joint_angles(JOINTS)),
    velocities=(*FREE_VELOCITIES, *joint_velocities(JOINTS)),
    action_space=spaces.Box(-0.4, 0.4, (17,), dtype=np.float32),
    render_fps=67,
)
