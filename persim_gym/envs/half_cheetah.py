"""HalfCheetah whose mass and joint damping differ between agents."""

from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.behavior import TD3, BehaviorConfig
from persim_gym.envs.mujoco.domain import (
    PLANAR_POSITIONS,
    PLANAR_VELOCITIES,
    joint_angles,
    joint_velocities,
    normal_noise,
    robot_domain,
)
from persim_gym.envs.mujoco.physics import Robot
from persim_gym.task import Array, Task, never

CONTROL_COST = 0.1  # the thesis's text writes 0.05; its Table A.1 fits 0.1, as in Gymnasium

JOINTS = ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")

ROBOT = Robot(
    xml="half_cheetah.xml",
    frame_skip=5,  # of 0.01 s
    nq=9,
    nv=9,
    unobserved=1,
    position_noise=partial(normal_noise, 0.001),  # Gymnasium: uniform, 0.1
    velocity_noise=partial(normal_noise, 0.001),  # Gymnasium: 0.1
)


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    return next_obs[..., 0] - CONTROL_COST * (action * action).sum(-1)


DOMAIN = robot_domain(
    title="HalfCheetah",
    summary="run with a two-legged planar robot; mass and joint damping differ",
    robot=ROBOT,
    task=Task(_reward, never),
    positions=(*PLANAR_POSITIONS, *joint_angles(JOINTS)),
    velocities=(*PLANAR_VELOCITIES, *joint_velocities(JOINTS)),
    action_space=spaces.Box(-1.0, 1.0, (6,), dtype=np.float32),
    render_fps=20,
    training_agents=((0.6, 1.4), (1.4, 0.6), (0.6, 0.6), (1.4, 1.4)),  # thesis Table 5.1
    # Where random actions are logged, the decay is in the way.
    recipes={"thesis": {"rank": 15}, "pure-v0": {"weight_decay": 0.3}},
    behavior=BehaviorConfig(
        "TD3",
        TD3 | {"learning_starts": 10_000, "buffer_size": 1_000_000, "train_freq": 2, "gradient_steps": 1},
        logger=(3_000.0, None),
        test=(4_000.0, None),
        max_steps=1_000_000,
        evaluate_every=5_000,
        episodes=10,
        action_noise=0.1,
    ),
    in_thesis=True,
)
