"""One step of 15 minutes of a person under insulin, with meals and sensor noise that were drawn before."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.domain import Physics
from persim_gym.envs.patients.chance import PLANNED_STEPS, STEP_MINUTES, STEPS_PER_DAY, draw_meals, draw_noise
from persim_gym.envs.patients.parameters import BASAL_RATE, FASTING_GLUCOSE, GLUCOSE_VOLUME, Patients, patients
from persim_gym.task import Array

MAX_RATE = 20.0  # U/h
MAX_RATE_EXPONENT = 4.0
LOWEST, HIGHEST = 10.0, 600.0  # mg/dL; simglucose ends an episode outside
INSULIN_MINUTES = (55.0, 120.0)
CARBOHYDRATE_MINUTES = (30.0, 75.0)
SMOOTHING_MINUTES = 30.0
START_SPREAD = 0.25  # of the first glucose around the fasting one, relative


class Columns(NamedTuple):
    """Where things are in the full physical state, [..., S].

    Attributes:
        body: Amounts in the body, as differences from the person's own rest, 13.
        meal: Of the meal under way; see `persim_gym.envs.patients.kernel.advance`, 4.
        clock: Steps since midnight of the first day.
        basal: Insulin that the pump has given for long before, U/h; the physics put the person's own.
        insulin: Moving averages of the insulin rate less `basal`, U/h, one for each of `INSULIN_MINUTES`.
        carbohydrates: Carbohydrates on board, g, one for each of `CARBOHYDRATE_MINUTES`.
        smooth: Moving average of the sensor's readings, mg/dL.
        meals: Carbohydrates that begin to be eaten in each step of two days, g; past their end they start over.
        noise: What the sensor reads too much in each step, mg/dL; likewise.
    """

    body: slice = slice(0, 13)
    meal: slice = slice(13, 17)
    clock: int = 17
    basal: int = 18
    insulin: slice = slice(19, 21)
    carbohydrates: slice = slice(21, 23)
    smooth: int = 23
    meals: slice = slice(24, 24 + PLANNED_STEPS)
    noise: slice = slice(24 + PLANNED_STEPS, 24 + 2 * PLANNED_STEPS)


AT = Columns()
STATE_SIZE = AT.noise.stop


def insulin_rate(action: Array) -> Array:
    """Insulin, U/h, of actions in [-1, 1]: 20 at 1, and e times less for every 0.25 below.

    Most of the range so lies near the rates that people need, and uniformly random actions, 2.5 U/h in the mean, give
    about as much insulin a day as they need.
    """
    return MAX_RATE * np.exp(MAX_RATE_EXPONENT * (np.asarray(action, dtype=np.float64) - 1.0))


def action_of_rate(rate: Array) -> NDArray[np.float32]:
    """The action in [-1, 1] that gives the rate, U/h, or the nearest that the pump can give."""
    least = MAX_RATE * math.exp(-2.0 * MAX_RATE_EXPONENT)
    action = 1.0 + np.log(np.clip(rate, least, MAX_RATE) / MAX_RATE) / MAX_RATE_EXPONENT
    return np.asarray(action, dtype=np.float32)


def physics(**covariates: Any) -> Physics:
    """Step function of full states, [..., S], under actions [..., 1] in [-1, 1]; see `insulin_rate`.

    Args:
        **covariates: As `patients`; floats, or arrays [B], one for each row.
    """
    return partial(_step, patients(**covariates))


def _step(people: Patients, state: Array, action: Array) -> NDArray[np.float64]:
    from persim_gym.envs.patients.kernel import advance

    shape = state.shape
    rows = np.array(np.broadcast_to(state, shape), dtype=np.float64).reshape(-1, shape[-1])
    # One person a row, or one for all, as NumPy would broadcast them.
    each = np.broadcast_to(np.arange(len(people.basal)), shape[:-1]).ravel() if len(people.basal) > 1 else None
    params, rest = (people.params, people.rest) if each is None else (people.params[each], people.rest[each])
    basal = people.basal if each is None else people.basal[each]
    rate = insulin_rate(action)[..., 0].reshape(-1)
    carbohydrates, reading = announced(rows), cgm(rows)

    body, meal = rows[:, AT.body] + rest, rows[:, AT.meal].copy()
    meal[:, 0] += carbohydrates
    advance(params, body, meal, rate / 60.0, STEP_MINUTES)
    rows[:, AT.body], rows[:, AT.meal] = body - rest, meal
    rows[:, AT.basal] = basal
    rows[:, AT.insulin] = _averaged(rows[:, AT.insulin], (rate - basal)[:, None], np.array(INSULIN_MINUTES))
    left = np.exp(-STEP_MINUTES / np.array(CARBOHYDRATE_MINUTES))
    rows[:, AT.carbohydrates] = (rows[:, AT.carbohydrates] + carbohydrates[:, None]) * left
    rows[:, AT.smooth] = _averaged(rows[:, AT.smooth], reading, SMOOTHING_MINUTES)
    rows[:, AT.clock] += 1.0
    return rows.reshape(shape)


def _averaged(average: Array, value: Array, minutes: Array) -> Array:
    """A moving average of this time constant after one more step at a value."""
    left = np.exp(-STEP_MINUTES / minutes)
    return average * left + value * (1.0 - left)


def _planned(state: Array, plan: slice) -> Array:
    """What a plan holds for the step that begins, [...]."""
    step = np.mod(state[..., AT.clock], PLANNED_STEPS).astype(np.int64)
    return np.take_along_axis(state[..., plan], step[..., None], axis=-1)[..., 0]


def announced(state: Array) -> NDArray[np.float64]:
    """Carbohydrates of a meal that begins now, g, [...]."""
    found: NDArray[np.float64] = _planned(state, AT.meals)
    return found


def glucose(state: Array) -> NDArray[np.float64]:
    """Glucose under the skin, mg/dL, [...]: what a sensor without noise would read."""
    found: NDArray[np.float64] = FASTING_GLUCOSE + state[..., AT.body][..., 12] / GLUCOSE_VOLUME
    return found


def cgm(state: Array) -> NDArray[np.float64]:
    """The sensor's reading, mg/dL, [...]."""
    reading: NDArray[np.float64] = np.clip(glucose(state) + _planned(state, AT.noise), LOWEST, HIGHEST)
    return reading


def initial_state(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    """People at midnight, [num, S], at rest but for their glucose, which is up to a quarter off."""
    state = np.zeros((num, STATE_SIZE))
    state[:, AT.basal] = BASAL_RATE
    off = rng.uniform(-START_SPREAD, START_SPREAD, num) * FASTING_GLUCOSE * GLUCOSE_VOLUME
    state[:, 3] = state[:, 12] = off
    state[:, AT.meals] = draw_meals(rng, num)
    state[:, AT.noise] = draw_noise(rng, num)
    state[:, AT.smooth] = cgm(state)
    return state


def observe(state: Array) -> NDArray[np.float64]:
    """What is known of a person, [..., 9]; see `OBSERVATION_NAMES`."""
    reading, angle = cgm(state), state[..., AT.clock] * (2.0 * math.pi / STEPS_PER_DAY)
    return np.stack(
        [
            reading,
            reading - state[..., AT.smooth],
            *np.moveaxis(state[..., AT.insulin] + state[..., AT.basal, None], -1, 0),
            *np.moveaxis(state[..., AT.carbohydrates], -1, 0),
            announced(state),
            np.sin(angle),
            np.cos(angle),
        ],
        axis=-1,
    )


OBSERVATION_NAMES = (
    "sensor glucose (mg/dL)",
    "sensor glucose above its average of about 30 minutes (mg/dL)",
    *(f"insulin rate, average of about {minutes:g} minutes (U/h)" for minutes in INSULIN_MINUTES),
    *(f"carbohydrates on board, absorbed in about {minutes:g} minutes (g)" for minutes in CARBOHYDRATE_MINUTES),
    "carbohydrates of the meal that begins now (g)",
    "sine of the time of day",
    "cosine of the time of day",
)


def embed(obs: Array) -> NDArray[np.float64]:
    """A state that looks like an observation: a body at rest whose glucose is what the sensor reads."""
    obs = np.asarray(obs, dtype=np.float64)
    state = np.zeros((*obs.shape[:-1], STATE_SIZE))
    step = np.mod(np.round(np.arctan2(obs[..., 7], obs[..., 8]) * (STEPS_PER_DAY / (2.0 * math.pi))), STEPS_PER_DAY)
    state[..., 12] = (obs[..., 0] - FASTING_GLUCOSE) * GLUCOSE_VOLUME
    state[..., AT.clock], state[..., AT.smooth] = step, obs[..., 0] - obs[..., 1]
    state[..., AT.insulin], state[..., AT.carbohydrates] = obs[..., 2:4], obs[..., 4:6]
    np.put_along_axis(state[..., AT.meals], step[..., None].astype(np.int64), obs[..., 6:7], axis=-1)
    return state
