"""Walker2d whose mass and joint damping differ between agents."""

from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.behavior import SAC, BehaviorConfig
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
MIN_HEIGHT, MAX_HEIGHT = 0.8, 2.0  # m
MAX_PITCH = 1.0  # rad
UNHEALTHY = Ends("not all", ((1, ">", MIN_HEIGHT), (1, "<", MAX_HEIGHT), (2, ">", -MAX_PITCH), (2, "<", MAX_PITCH)))

JOINTS = ("right thigh", "right leg", "right foot", "left thigh", "left leg", "left foot")

ROBOT = Robot(
    xml="walker2d_v5.xml",
    frame_skip=4,  # of 0.002 s
    nq=9,
    nv=9,
    unobserved=1,
    position_noise=partial(uniform_noise, 0.005),
    velocity_noise=partial(uniform_noise, 0.005),
)


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    return next_obs[..., 0] + HEALTHY_REWARD * ~UNHEALTHY(next_obs) - CONTROL_COST * (action * action).sum(-1)


DOMAIN = robot_domain(
    title="Walker2d",
    summary="walk with a two-legged planar robot; mass and joint damping differ",
    robot=ROBOT,
    task=Task(_reward, UNHEALTHY),
    positions=(*PLANAR_POSITIONS, *joint_angles(JOINTS)),
    velocities=(*PLANAR_VELOCITIES, *joint_velocities(JOINTS)),  # Gymnasium clips them to ±10
    action_space=spaces.Box(-1.0, 1.0, (6,), dtype=np.float32),
    render_fps=125,
    # The thesis does not have it: the levels are of our choice, well above random and well below solved.
    behavior=BehaviorConfig(
        "SAC",
        SAC | {"learning_starts": 5_000},
        logger=(300.0, None),
        test=(1_000.0, None),
        max_steps=500_000,
        evaluate_every=2_500,
        episodes=10,
    ),
)
