"""Pendulum whose length and mass differ between agents."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from numpy.typing import NDArray

from persim_gym.envs.behavior import SAC, BehaviorConfig
from persim_gym.envs.domain import Covariate, Domain, Physics, stack_state
from persim_gym.task import Array, Task, never

GRAVITY = 10.0  # m/s²
TIME_STEP = 0.05  # s
MAX_SPEED = 8.0  # rad/s
MAX_TORQUE = 2.0  # N m


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """Of the angle before the step, in [-π, π] and 0 when upright, as in Gymnasium."""
    cos, sin, speed, torque = obs[..., 0], obs[..., 1], obs[..., 2], action[..., 0]
    angle = sin.arctan2(cos) if hasattr(sin, "arctan2") else np.arctan2(sin, cos)  # A torch tensor has the method, too.
    return -(angle * angle + 0.1 * speed * speed + 0.001 * torque * torque)


def _exact_reward(state: NDArray[np.float64], action: NDArray[np.float32], next_state: Any) -> float:
    """Gymnasium's arithmetic on scalars, bit for bit; `_reward` differs by less than 1e-9.

    NumPy squares a scalar with C's pow and an array with a product, and rounds them differently in one case of a
    thousand.
    """
    angle, speed = state
    angle = (angle + math.pi) % (2 * math.pi) - math.pi
    return float(-(angle**2 + 0.1 * speed**2 + 0.001 * action[0] ** 2))


def physics(length: float | NDArray[np.float64], mass: float | NDArray[np.float64]) -> Physics:
    """Step function of (angle, angular velocity), [..., 2], under torques [..., 1] in N m.

    The angle is 0 upright and not wrapped. Semi-implicit Euler, as in Gymnasium.

    Args:
        length: Of the rod, m; a float, or an array [B], one for each row.
        mass: Of the rod, kg; likewise.
    """
    return partial(_step, 3.0 * GRAVITY / (2.0 * length), 3.0 / (mass * length * length))


def _step(gravity_gain: Array, torque_gain: Array, state: Array, action: Array) -> NDArray[np.float64]:
    angle, speed = state[..., 0], state[..., 1]
    push = (torque_gain * action[..., 0].astype(np.float64)).astype(action.dtype)  # Gymnasium's rounding
    speed = speed + (gravity_gain * np.sin(angle) + push) * TIME_STEP
    speed = np.minimum(np.maximum(speed, -MAX_SPEED), MAX_SPEED)
    return stack_state(angle + speed * TIME_STEP, speed)


def _initial_state(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    return rng.uniform([-math.pi, -1.0], [math.pi, 1.0], size=(num, 2))


def _observe(state: Array) -> NDArray[np.float64]:
    return stack_state(np.cos(state[..., 0]), np.sin(state[..., 0]), state[..., 1])


def _embed(obs: Array) -> NDArray[np.float64]:
    return stack_state(np.arctan2(obs[..., 1], obs[..., 0]), obs[..., 2])


class PendulumRenderer:
    """Gymnasium's own drawing of a pendulum."""

    def __init__(self, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens nothing until the first `render`; length and mass do not show."""
        self._env = PendulumEnv(render_mode=render_mode)
        self._env.last_u = None

    def render(self, state: NDArray[np.float64]) -> Any:
        """Draws (angle, angular velocity), [2]."""
        self._env.state = state
        return self._env.render()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Closes the window."""
        self._env.close()  # type: ignore[no-untyped-call]


_HIGH = np.array([1.0, 1.0, MAX_SPEED], dtype=np.float32)

DOMAIN = Domain(
    title="Pendulum",
    summary="swing a rod up with a weak motor; length and mass differ",
    task=Task(_reward, never),
    covariates=(Covariate("length", 0.5, 1.5, 1.0, "m"), Covariate("mass", 0.5, 1.5, 1.0, "kg")),
    observation_names=("cosine of the angle", "sine of the angle", "angular velocity (rad/s)"),
    observation_space=spaces.Box(-_HIGH, _HIGH, dtype=np.float32),
    action_space=spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), dtype=np.float32),
    episode_steps=200,
    test_agents=((0.6, 1.4), (1.4, 0.6), (0.6, 0.6), (1.4, 1.4), (1.0, 1.0)),
    training_agents=((0.8, 1.2), (1.2, 0.8), (0.8, 0.8), (1.2, 1.2)),
    initial_state=_initial_state,
    physics=physics,
    make_renderer=PendulumRenderer,
    render_fps=30,
    observe=_observe,
    embed=_embed,
    clips=True,  # The physics clips the speed; cosine and sine are bounded by themselves.
    exact_reward=_exact_reward,
    policy_settings={
        "ppo": {"steps": 300_000, "n_steps": 128, "gamma": 0.9, "gae_lambda": 0.95},
        "sac": {"steps": 20_000},
        "td3": {"steps": 20_000},
    },
    # The thesis does not have it: the levels are of our choice, well above random and well below solved.
    behavior=BehaviorConfig(
        "SAC",
        SAC | {"learning_rate": 1e-3, "learning_starts": 500},
        logger=(-400.0, None),
        test=(-200.0, None),
        max_steps=50_000,
        evaluate_every=500,
    ),
)
