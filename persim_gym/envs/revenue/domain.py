"""A seller of seats who opens and closes fare classes; demand, its timing, its price sensitivity and fares differ."""

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.behavior import SHORT_EPISODES_DQN, BehaviorConfig
from persim_gym.envs.domain import Covariate, Domain, Renderer, stack_state
from persim_gym.envs.revenue.market import AVERAGE, CLASSES, PERIODS, SEATS, Market
from persim_gym.task import Array, Ends, Task

GROUP_SEATS = 90  # Seats that groups may have taken before the sale.
GROUP_FARES = (0.2, 0.8)  # What groups may have paid for a seat, in full fares.
SCENARIOS = 2**53  # All whole numbers that a float64 holds.
CLOSED = Ends("any", ((0, "<", 0.5), (1, "<", 0.5)))
"""Sold out, or departed. Half a seat or day, because a learned model may leave a fraction of one."""


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """Revenue of the period's sales, in full fares."""
    return next_obs[..., 2] - obs[..., 2]


def _initial_state(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    """The first day: what groups have taken and paid is random, and so is who will come.

    Groups let sellers meet every stock on every day. Had all begun with the same, few seats left would always mean much
    demand, in logged data, and a learned simulator could not tell the two apart.
    """
    groups = rng.integers(GROUP_SEATS + 1, size=num)
    paid = groups * rng.uniform(*GROUP_FARES, size=num)
    scenario = rng.integers(1, SCENARIOS, size=num).astype(np.float64)
    return stack_state(SEATS - groups.astype(np.float64), np.full(num, float(PERIODS)), paid, scenario)


def _observe(state: Array) -> Array:
    """The seller does not see who will come."""
    return state[..., :3]


def _embed(obs: Array) -> NDArray[np.float64]:
    """The average scenario: what follows an observation is then what is expected to follow it."""
    return stack_state(obs[..., 0], obs[..., 1], obs[..., 2], np.full_like(obs[..., 0], AVERAGE))


def _make_renderer(render_mode: str, covariates: Mapping[str, float]) -> Renderer:
    # Who does not draw needs no pygame, which greets whoever imports it.
    from persim_gym.envs.revenue.render import SeatsRenderer

    return SeatsRenderer(render_mode, covariates)


DOMAIN = Domain(
    title="Revenue",
    summary="sell 180 seats in 60 days by opening fare classes; demand, its timing, price sensitivity and fares differ",
    task=Task(_reward, CLOSED),
    covariates=(
        # From fewer buyers than seats at the fares that earn most, to several for each.
        Covariate("customers", 320.0, 960.0, 640.0, "a horizon"),
        # At 0.8 nine customers come on the last day for one on the first, at -0.8 one for nine.
        Covariate("lateness", -0.8, 0.8, 0.0),
        # The first customers would pay 1/3.5 to 1/7 of the full fare on average, the last ten times that.
        Covariate("sensitivity", 3.5, 7.0, 5.0, "per full fare"),
        # The lowest of four classes costs 0.13 to 0.51 of the full fare.
        Covariate("fare_ratio", 0.5, 0.8, 0.65),
    ),
    observation_names=("seats left", "days to go", "revenue so far (full fares)"),
    observation_space=spaces.Box(0.0, np.array([SEATS, PERIODS, SEATS], dtype=np.float32), dtype=np.float32),
    action_space=spaces.Discrete(CLASSES + 1),
    episode_steps=PERIODS,
    test_agents=(
        (640.0, 0.0, 5.0, 0.65),
        (320.0, 0.8, 7.0, 0.5),
        (960.0, -0.8, 7.0, 0.8),
        (320.0, -0.8, 3.5, 0.8),
        (960.0, 0.8, 7.0, 0.5),
    ),
    # Sellers of the middle whose optimum is about the same, 87 to 100 full fares, so that one band fits their loggers.
    training_agents=(
        (640.0, 0.0, 5.0, 0.65),
        (480.0, 0.4, 5.0, 0.6),
        (640.0, 0.4, 6.0, 0.7),
        (860.0, -0.4, 6.0, 0.65),
        (560.0, -0.4, 4.2, 0.7),
    ),
    initial_state=_initial_state,
    physics=Market,
    make_renderer=_make_renderer,
    render_fps=10,
    observe=_observe,
    embed=_embed,
    clips=True,
    random=True,
    # Chance is most of a day's sales: few passes, and agents held close to each other, keep it from being learned.
    recipes={"default": {"rank": 4, "epochs": 40, "pull": 0.3}},
    policy_settings={
        "ppo": {
            "steps": 80_000,
            "gamma": 1.0,
            "scale_observations": True,
            "normalize_reward": True,
        },
    },
    # Random actions earn 50 to 65 full fares with the training agents, the optimum 87 to 100.
    behavior=BehaviorConfig(
        "DQN",
        SHORT_EPISODES_DQN | {"policy_kwargs": {"net_arch": [64, 64]}},
        logger=(70.0, 82.0),
        test=(85.0, None),
        max_steps=100_000,
        evaluate_every=250,
    ),
)
