"""People with type 1 diabetes, whose bodies answer differently to insulin and meals: the domain."""

from typing import Any

import numpy as np
from gymnasium import spaces

from persim_gym.envs.domain import Domain
from persim_gym.envs.patients.chance import MAX_CARBOHYDRATES, PLANNED_STEPS
from persim_gym.envs.patients.parameters import COVARIATES
from persim_gym.envs.patients.physics import (
    HIGHEST,
    LOWEST,
    MAX_RATE,
    OBSERVATION_NAMES,
    embed,
    initial_state,
    observe,
    physics,
)
from persim_gym.envs.patients.render import StripRenderer
from persim_gym.envs.patients.rule import USUAL, basal_bolus
from persim_gym.task import Array, Ends, Task

BEYOND = Ends("any", ((0, "<=", LOWEST), (0, ">=", HIGHEST)))


def risk(reading: Array) -> Array:
    """Kovatchev's risk of a blood glucose, mg/dL: 0 at 112.5, about 8 at 70 and 180, growing to both sides, [...].

    Source: Kovatchev et al. (1997), "Symmetrization of the blood glucose measurement scale and its applications".
    """
    # A torch tensor has the methods. NumPy rounds powers of scalars and of arrays differently, but not these.
    if hasattr(reading, "log"):
        power: Any = (1.084 * reading.log().log()).exp()
    else:
        power = np.exp(1.084 * np.log(np.log(reading)))
    scaled = 1.509 * (power - 5.381)
    return 10.0 * scaled * scaled


def _reward(obs: Array, action: Array, next_obs: Array) -> Array:
    """Less by 1 for each 100 of the next reading's risk."""
    return risk(next_obs[..., 0]) * -0.01


_LOW = np.array([LOWEST, LOWEST - HIGHEST, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0], dtype=np.float32)
_HIGH = np.array(
    [HIGHEST, HIGHEST - LOWEST, MAX_RATE, MAX_RATE, 1000.0, 1000.0, MAX_CARBOHYDRATES, 1.0, 1.0], dtype=np.float32
)

DOMAIN = Domain(
    title="Patients",
    summary="keep the glucose of people with type 1 diabetes in range by insulin; their bodies differ",
    task=Task(_reward, BEYOND),
    covariates=COVARIATES,
    observation_names=OBSERVATION_NAMES,
    observation_space=spaces.Box(_LOW, _HIGH, dtype=np.float32),
    action_space=spaces.Box(-1.0, 1.0, (1,), dtype=np.float32),
    episode_steps=PLANNED_STEPS,
    test_agents=(
        tuple(c.default for c in COVARIATES),
        (105.0, 1.6, 0.6, 0.7, 0.6, 1.5, 1.25),  # heavy, resistant, slow insulin, fast meals
        (58.0, 0.9, 1.8, 1.4, 1.6, 0.7, 0.85),  # light, sensitive, fast insulin, slow meals
        (58.0, 1.2, 1.8, 0.7, 0.6, 0.7, 1.0),  # sensitive, and insulin acts long
        (105.0, 1.2, 0.6, 1.4, 1.6, 1.5, 1.0),  # resistant, and everything is fast
    ),
    training_agents=(),
    initial_state=initial_state,
    physics=physics,
    make_renderer=StripRenderer,
    render_fps=12,
    observe=observe,
    embed=embed,
    hides_state=True,
    clips=True,
    # A small network sees few of the sensor's errors as if they were a person's; so do factors without `polish`.
    recipes={
        "default": {
            "rank": 8,
            "state_layers": (64, 64),
            "action_layers": (32,),
            "activation": "silu",
            "agent_mean": 1.0,
            "agent_std": 0.3,
            "epochs": 10,
            "batch": 256,
            "learning_rate": 3e-3,
            "schedule": "one-cycle",
            "pull": 0.003,
            "noise": 0.0,
            "polish": False,
        }
    },
    rule=basal_bolus(USUAL),
)
