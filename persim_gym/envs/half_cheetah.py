"""HalfCheetah whose mass and joint damping differ between agents."""

from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.envs.domain import Domain
from persim_gym.envs.mujoco_physics import MASS_AND_DAMPING, TEST_AGENTS, TRAINING_AGENTS, Robot, normal_noise
from persim_gym.task import Array, Task

CONTROL_COST = 0.1  # the thesis's text writes 0.05; its Table A.1 fits 0.1, as in Gymnasium

ROBOT = Robot(
    xml="half_cheetah.xml",
    frame_skip=5,  # of 0.01 s
    nq=9,
    nv=9,
    unobserved=1,
    position_noise=partial(normal_noise, 0.001),  # Gymnasium: 0.1
    velocity_noise=partial(normal_noise, 0.001),  # Gymnasium: 0.1
    camera={"distance": 4.0},
)

JOINTS = ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    return next_obs[..., 0] - CONTROL_COST * (action * action).sum(-1)


def _terminated(next_obs: Array) -> Array:
    """Never."""
    return next_obs[..., 0] != next_obs[..., 0]


DOMAIN = Domain(
    title="HalfCheetah",
    summary="run with a two-legged planar robot; mass and joint damping differ",
    task=Task(_reward, _terminated),
    covariates=MASS_AND_DAMPING,
    observation_names=(
        "x velocity over the last step (m/s)",
        "height (m)",
        "pitch (rad)",
        *(f"{joint} angle (rad)" for joint in JOINTS),
        "x velocity (m/s)",
        "vertical velocity (m/s)",
        "pitch velocity (rad/s)",
        *(f"{joint} velocity (rad/s)" for joint in JOINTS),
    ),
    observation_space=spaces.Box(-np.inf, np.inf, (18,), dtype=np.float32),
    action_space=spaces.Box(-1.0, 1.0, (6,), dtype=np.float32),
    episode_steps=1000,
    test_agents=TEST_AGENTS,
    training_agents=TRAINING_AGENTS,
    initial_state=ROBOT.initial_state,
    physics=ROBOT.physics,
    make_renderer=ROBOT.make_renderer,
    render_fps=20,
    observe=ROBOT.observe,
    embed=ROBOT.embed,
)
