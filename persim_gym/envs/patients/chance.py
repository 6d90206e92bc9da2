"""What chance brings a person in two days, drawn before they begin: meals, and the noise of the sensor."""

import numpy as np
from numpy.typing import NDArray

STEP_MINUTES = 15  # between decisions; also the spacing of the sensor noise that its model draws
STEPS_PER_DAY = 24 * 60 // STEP_MINUTES
PLANNED_STEPS = 2 * STEPS_PER_DAY
MEALS = (
    # As in simglucose's random scenario: probability; earliest, mean and latest hour, spread (h); size, spread (g).
    (0.95, 5.0, 7.0, 9.0, 1.0, 45.0, 10.0),
    (0.30, 9.0, 9.5, 10.0, 0.5, 10.0, 5.0),
    (0.95, 10.0, 12.0, 14.0, 1.0, 70.0, 10.0),
    (0.30, 14.0, 15.0, 16.0, 0.5, 10.0, 5.0),
    (0.95, 16.0, 18.0, 20.0, 1.0, 80.0, 10.0),
    (0.30, 20.0, 21.5, 23.0, 0.5, 10.0, 5.0),
)
MAX_CARBOHYDRATES = 150.0  # g, in one step

# The noise of simglucose's Dexcom sensor: an autoregressive process through Johnson's unbounded transform, after
# Breton and Kovatchev (2008), "Analysis, modeling, and simulation of the accuracy of continuous glucose sensors".
AUTOREGRESSION = 0.7
JOHNSON_SHIFT, JOHNSON_SCALE, JOHNSON_GAMMA, JOHNSON_DELTA = -5.47, 15.9574, -0.5444, 1.6898  # mg/dL, mg/dL, 1, 1


def draw_meals(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    """Carbohydrates that a person begins to eat in each step, from midnight on, g, [num, 192]."""
    planned = np.zeros((num, PLANNED_STEPS))
    rows = np.arange(num)
    for day in range(PLANNED_STEPS // STEPS_PER_DAY):
        for probability, earliest, mean, latest, spread, size, size_spread in MEALS:
            hour = np.clip(rng.normal(mean, spread, num), earliest, latest)
            grams = np.clip(np.round(rng.normal(size, size_spread, num)), 0.0, MAX_CARBOHYDRATES)
            step = day * STEPS_PER_DAY + np.floor(hour * 60 / STEP_MINUTES).astype(np.int64)
            planned[rows, step] += np.where(rng.random(num) < probability, grams, 0.0)
    return np.minimum(planned, MAX_CARBOHYDRATES)


def draw_noise(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    """What the sensor reads too much at the beginning of each step, mg/dL, [num, 192]."""
    shocks = rng.standard_normal((num, PLANNED_STEPS))
    process = np.empty_like(shocks)
    # The first value has the spread that the process keeps.
    process[:, 0] = shocks[:, 0] * AUTOREGRESSION / np.sqrt(1.0 - AUTOREGRESSION**2)
    for step in range(1, PLANNED_STEPS):
        process[:, step] = AUTOREGRESSION * (process[:, step - 1] + shocks[:, step])
    return JOHNSON_SHIFT + JOHNSON_SCALE * np.sinh((process - JOHNSON_GAMMA) / JOHNSON_DELTA)
