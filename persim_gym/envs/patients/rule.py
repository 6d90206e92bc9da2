"""How people dose insulin today: a basal rate, a bolus at each meal, and corrections; with and without errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.behavior import Rule
from persim_gym.envs.patients.chance import STEP_MINUTES
from persim_gym.envs.patients.parameters import FASTING_GLUCOSE, GLUCOSE_VOLUME, Patients, patients
from persim_gym.envs.patients.physics import MAX_RATE, action_of_rate

TARGET, CORRECT_ABOVE, SUSPEND_BELOW = 140.0, 150.0, 70.0  # mg/dL; the first two as simglucose's controller has them
TRIAL_MEAL, TRIAL_BOLUS, TRIAL_MINUTES = 60.0, 6.0, 300  # g, U, min
LARGEST_RATE = MAX_RATE * STEP_MINUTES / 60.0  # U, in one step


@dataclass(frozen=True)
class Errors:
    """How far people are from what is right for them.

    Attributes:
        basal: Spread of the logarithm of the basal rate that the pump is set to.
        ratio: Spread of the logarithm of carbohydrate ratio and of correction factor.
        counting: Spread of the logarithm of the carbohydrates that are counted, meal by meal.
        missed: Share of meals without a bolus.
        late: Share of meals whose bolus comes 30 minutes late.
    """

    basal: float = 0.0
    ratio: float = 0.0
    counting: float = 0.0
    missed: float = 0.0
    late: float = 0.0


NONE = Errors()
USUAL = Errors(basal=0.1, ratio=0.25, counting=0.2, missed=0.1, late=0.2)
LATE_STEPS = 30 // STEP_MINUTES

# Columns of the memory.
BASAL, RATIO, FACTOR, DUE, LATER, WAIT = range(6)


def needs(people: Patients) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Carbohydrates that a unit of insulin covers, g/U, and what it lowers glucose by, mg/dL/U, [B] each.

    Both are of a trial: glucose 5 hours after a meal of 60 g, without a bolus and with one of 6 U.
    """
    from persim_gym.envs.patients.kernel import advance

    after = []
    for bolus in (0.0, TRIAL_BOLUS):
        body, meal = people.rest.copy(), np.zeros((len(people.rest), 4))
        meal[:, 0] = TRIAL_MEAL
        advance(people.params, body, meal, people.basal / 60.0 + bolus / STEP_MINUTES, STEP_MINUTES)
        advance(people.params, body, meal, people.basal / 60.0, TRIAL_MINUTES - STEP_MINUTES)
        after.append(body[:, 12] / GLUCOSE_VOLUME)
    factor = (after[0] - after[1]) / TRIAL_BOLUS
    return TRIAL_MEAL * factor / np.maximum(after[0] - FASTING_GLUCOSE, 1.0), factor


def _start(errors: Errors, covariates: Mapping[str, Any], num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    people = patients(**covariates)
    memory = np.zeros((num, 6))
    memory[:, BASAL] = people.basal * np.exp(errors.basal * rng.standard_normal(num))
    for column, right in zip((RATIO, FACTOR), needs(people), strict=True):
        memory[:, column] = right * np.exp(errors.ratio * rng.standard_normal(num))
    return memory


def _act(
    errors: Errors, obs: NDArray[Any], memory: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    memory, reading, carbohydrates = memory.copy(), obs[:, 0].astype(np.float64), obs[:, 6].astype(np.float64)
    counted = carbohydrates * np.exp(errors.counting * rng.standard_normal(len(obs)))
    correction = np.where(reading > CORRECT_ABOVE, reading - TARGET, 0.0) / memory[:, FACTOR]
    bolus = np.where(carbohydrates > 0.0, counted / memory[:, RATIO] + correction, 0.0)
    chance = rng.random(len(obs))
    bolus[chance < errors.missed] = 0.0
    late = (chance >= errors.missed) & (chance < errors.missed + errors.late) & (bolus > 0.0)

    memory[:, WAIT] = np.where(late, LATE_STEPS, np.maximum(memory[:, WAIT] - 1.0, 0.0))
    memory[:, LATER] += np.where(late, bolus, 0.0)
    due = memory[:, WAIT] == 0.0
    memory[:, DUE] += np.where(late, 0.0, bolus) + np.where(due, memory[:, LATER], 0.0)
    memory[:, LATER] = np.where(due, 0.0, memory[:, LATER])

    basal = np.where(reading < SUSPEND_BELOW, 0.0, memory[:, BASAL])
    given = np.minimum(memory[:, DUE], LARGEST_RATE - basal * STEP_MINUTES / 60.0)
    memory[:, DUE] -= given
    return action_of_rate(basal + given * 60.0 / STEP_MINUTES)[:, None], memory


def basal_bolus(errors: Errors) -> Rule:
    """The dosing rule of people with these errors, which each person keeps, and makes anew at each meal."""
    made = "without errors" if errors == NONE else "with their own errors, missed and late boluses"
    summary = f"each person doses a basal rate, a bolus at each meal and corrections, {made}"
    return Rule(summary, partial(_start, errors), partial(_act, errors))
