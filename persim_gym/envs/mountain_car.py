"""MountainCar whose gravity differs between agents."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from numpy.typing import NDArray

from persim_gym.envs.behavior import DQN, BehaviorConfig
from persim_gym.envs.domain import Covariate, Domain, Physics, stack_state
from persim_gym.task import Array, Ends, PeakBonus, Task

MIN_POSITION = -1.2
MAX_POSITION = 0.6
MAX_SPEED = 0.07  # a step
GOAL_POSITION = 0.5
FORCE = 0.001  # of the engine, a step
AT_GOAL = Ends("all", ((0, ">=", GOAL_POSITION), (1, ">=", 0.0)))


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """0 at the goal, -1 elsewhere, which the sums of thesis Table A.1 fit (its text writes +1 at the goal)."""
    return AT_GOAL(next_obs) * 1.0 - 1.0


def _position(next_obs: Array) -> Array:
    return next_obs[..., 0]


def physics(gravity: float | NDArray[np.float64]) -> Physics:
    """Step function of (position, velocity), [..., 2], under actions 0 (left), 1 (none), 2 (right), [...].

    Args:
        gravity: Pull of the hill, a step; a float, or an array [B], one for each row.
    """
    return partial(_step, gravity)


def _step(gravity: Array, state: Array, action: Array) -> NDArray[np.float64]:
    position, velocity = state[..., 0], state[..., 1]
    velocity = velocity + ((action - 1) * FORCE + np.cos(3 * position) * -gravity)
    velocity = np.minimum(np.maximum(velocity, -MAX_SPEED), MAX_SPEED)
    position = np.minimum(np.maximum(position + velocity, MIN_POSITION), MAX_POSITION)
    velocity = np.where((position == MIN_POSITION) & (velocity < 0), 0.0, velocity)  # The wall is inelastic.
    return stack_state(position, velocity)


def _initial_state(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    state = np.zeros((num, 2))
    state[:, 0] = rng.uniform(-0.6, -0.4, size=num)
    return state


class MountainCarRenderer:
    """Gymnasium's own drawing of a MountainCar state."""

    def __init__(self, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens nothing until the first `render`; gravity does not show."""
        self._env = MountainCarEnv(render_mode=render_mode)

    def render(self, state: NDArray[np.float64]) -> Any:
        """Draws (position, velocity), [2]."""
        self._env.state = state  # type: ignore[assignment]
        return self._env.render()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Closes the window."""
        self._env.close()  # type: ignore[no-untyped-call]


DOMAIN = Domain(
    title="MountainCar",
    summary="drive an under-powered car up a hill; gravity differs",
    task=Task(_reward, AT_GOAL),
    covariates=(Covariate("gravity", 0.0001, 0.0035, 0.0025),),
    observation_names=("position", "velocity (a step)"),
    observation_space=spaces.Box(
        np.array([MIN_POSITION, -MAX_SPEED], dtype=np.float32),
        np.array([MAX_POSITION, MAX_SPEED], dtype=np.float32),
        dtype=np.float32,
    ),
    action_space=spaces.Discrete(3),
    episode_steps=500,  # Gymnasium: 200
    test_agents=((0.0001,), (0.0005,), (0.0010,), (0.0025,), (0.0035,)),
    training_agents=((0.0003,), (0.00075,), (0.00175,), (0.0025,), (0.0030,)),
    initial_state=_initial_state,
    physics=physics,
    make_renderer=MountainCarRenderer,
    render_fps=30,
    clips=True,
    peak_bonus=PeakBonus(weight=0.01, feature=_position),
    recipes={
        "default": {"rank": 3, "state_layers": (64,), "samples": 5_000_000, "refine": 8},
        "thesis": {"rank": 3},
    },
    policy_settings={
        "dqn": {"steps": 40_000},
        "ppo": {
            "steps": 300_000,
            "gae_lambda": 0.98,
            "n_epochs": 4,
            "scale_observations": True,
            "normalize_reward": True,
        },
    },
    behavior=BehaviorConfig(
        "DQN",
        DQN
        | {
            "train_freq": 16,
            "gradient_steps": 8,
            "target_update_interval": 600,
            "learning_starts": 1_000,
            "buffer_size": 50_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
        },
        logger=(-200.0, None),
        test=(-150.0, None),
        max_steps=300_000,
        evaluate_every=2_000,
    ),
    in_thesis=True,
)
