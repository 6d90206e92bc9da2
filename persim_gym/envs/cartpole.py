"""CartPole whose push force and pole length differ between agents."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from numpy.typing import NDArray

from persim_gym.envs.behavior import SHORT_EPISODES_DQN, BehaviorConfig
from persim_gym.envs.domain import Covariate, Domain, Physics, stack_state
from persim_gym.task import Array, Ends, Task

GRAVITY = 9.8  # m/s²
CART_MASS = 1.0  # kg
POLE_MASS = 0.1  # kg
TOTAL_MASS = POLE_MASS + CART_MASS
TIME_STEP = 0.02  # s
MAX_POSITION = 2.4  # m
MAX_ANGLE = 12 * 2 * math.pi / 360  # rad
FALLEN = Ends("any", ((0, "<", -MAX_POSITION), (0, ">", MAX_POSITION), (2, "<", -MAX_ANGLE), (2, ">", MAX_ANGLE)))


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """1 on every step, the terminating one included."""
    return next_obs[..., 0] * 0.0 + 1.0


def physics(force: float | NDArray[np.float64], length: float | NDArray[np.float64]) -> Physics:
    """Step function of (position, velocity, angle, angular velocity), [..., 4], under actions 0 (left), 1 (right).

    Explicit Euler, as in Gymnasium.

    Args:
        force: Size of a push, N; a float, or an array [B], one for each row.
        length: Half of the pole's length, m; likewise.
    """
    return partial(_step, force, length)


def _step(force: Array, length: Array, state: Array, action: Array) -> NDArray[np.float64]:
    x, x_dot, theta, theta_dot = state[..., 0], state[..., 1], state[..., 2], state[..., 3]
    pole_moment = POLE_MASS * length
    push = np.where(action == 1, force, -force)
    cos, sin = np.cos(theta), np.sin(theta)
    temp = (push + pole_moment * np.square(theta_dot) * sin) / TOTAL_MASS
    theta_acc = (GRAVITY * sin - cos * temp) / (length * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS))
    x_acc = temp - pole_moment * theta_acc * cos / TOTAL_MASS
    return stack_state(
        x + TIME_STEP * x_dot,
        x_dot + TIME_STEP * x_acc,
        theta + TIME_STEP * theta_dot,
        theta_dot + TIME_STEP * theta_acc,
    )


def _initial_state(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    return rng.uniform(-0.05, 0.05, size=(num, 4))


class CartPoleRenderer:
    """Gymnasium's own drawing of a CartPole state, the pole as long as the agent's."""

    def __init__(self, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens nothing until the first `render`."""
        self._env = CartPoleEnv(render_mode=render_mode)
        self._env.length = covariates["length"]

    def render(self, state: NDArray[np.float64]) -> Any:
        """Draws (position, velocity, angle, angular velocity), [4]."""
        self._env.state = state
        return self._env.render()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Closes the window."""
        self._env.close()  # type: ignore[no-untyped-call]


_HIGH = np.array([MAX_POSITION * 2, np.inf, MAX_ANGLE * 2, np.inf], dtype=np.float32)

# Under a deterministic logging policy an agent sees one action a state: what its own data leave open has to come from
# the other agents, and takes more passes.
_LOGGED_BY_A_POLICY = {"pull": 3e-4, "samples": 14_000_000, "refine": 64}

DOMAIN = Domain(
    title="CartPole",
    summary="balance a pole on a cart; push force and pole length differ",
    task=Task(_reward, FALLEN),
    covariates=(Covariate("force", 2.0, 18.0, 10.0, "N"), Covariate("length", 0.15, 0.85, 0.5, "m")),
    observation_names=("position (m)", "velocity (m/s)", "angle (rad)", "angular velocity (rad/s)"),
    observation_space=spaces.Box(-_HIGH, _HIGH, dtype=np.float32),
    action_space=spaces.Discrete(2),
    episode_steps=200,
    test_agents=((2.0, 0.5), (10.0, 0.5), (18.0, 0.5), (10.0, 0.85), (10.0, 0.15)),
    training_agents=((6.0, 0.5), (14.0, 0.5), (10.0, 0.5), (10.0, 0.675), (10.0, 0.325)),
    initial_state=_initial_state,
    physics=physics,
    make_renderer=CartPoleRenderer,
    render_fps=50,
    recipes={
        "default": {"rank": 5, "state_layers": (128,), "samples": 6_912_000, "refine": 32},
        "thesis": {"rank": 5, "batch": 64},
        "pure-v0": _LOGGED_BY_A_POLICY,
        "pure-eps-20-v0": _LOGGED_BY_A_POLICY,
        "pure-eps-40-v0": _LOGGED_BY_A_POLICY,
    },
    policy_settings={"ppo": {"steps": 60_000}},
    behavior=BehaviorConfig(
        "DQN",
        SHORT_EPISODES_DQN,
        logger=(110.0, 135.0),
        test=(150.0, 165.0),
        max_steps=100_000,
        evaluate_every=250,
    ),
    in_thesis=True,
)
