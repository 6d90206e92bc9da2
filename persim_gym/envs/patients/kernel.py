"""The UVa/Padova model's 13 differential equations, compiled; imported where physics begin, for Numba takes a while.

The equations are those of simglucose 0.2.11 (MIT licence), which follow Dalla Man et al. (2014), "The UVA/PADOVA type 1
diabetes simulator: new features", and Kovatchev et al. (2009). Amounts in the body are, in this order:

    0 solid and 1 liquid glucose in the stomach, 2 glucose in the gut (mg)
    3 glucose in plasma and fast tissues, 4 in slow tissues (mg/kg)
    5 insulin in plasma (pmol/kg), 6 its action on uptake (pmol/L), 7 its delayed signal, 8 that on the liver (pmol/L)
    9 insulin in the liver, 10 and 11 insulin under the skin, as injected and dissolved (pmol/kg)
    12 glucose under the skin (mg/kg)
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.paths import find_room_for_compiled_code

AMOUNTS = 13
EATING_RATE = 5.0  # g/min of carbohydrates, as simglucose's patients eat
PMOL_PER_UNIT = 6000.0

find_room_for_compiled_code()


@njit(nogil=True, cache=True, error_model="numpy")
def _derivatives(x, p, insulin, eaten, meal, dx):  # type: ignore[no-untyped-def]
    """Writes the rates of change of the amounts `x` [13], a minute, into `dx` [13].

    Insulin comes in pmol/kg/min, `eaten` in mg/min; `meal` is the size (mg) that emptying the stomach is relative to.
    """
    (weight, kabs, kmax, kmin, b, d, f, kp1, kp2, kp3, uptake, ke1, ke2, k1, k2, vm0, vmx, km0) = p[:18]
    (m1, m2, m4, m30, ka1, ka2, kd, insulin_volume, basal_insulin, p2u, ki, ksc) = p[18:30]
    emptying = kmax
    if meal > 0.0:
        stomach = x[0] + x[1]
        steepness_above, steepness_below = 5.0 / (2.0 * meal * (1.0 - b)), 5.0 / (2.0 * meal * d)
        above = math.tanh(steepness_above * (stomach - b * meal))
        below = math.tanh(steepness_below * (stomach - d * meal))
        emptying = kmin + (kmax - kmin) / 2.0 * (above - below + 2.0)
    dx[0] = eaten - kmax * x[0]
    dx[1] = kmax * x[0] - emptying * x[1]
    dx[2] = emptying * x[1] - kabs * x[2]

    appearance = f * kabs * x[2] / weight
    production = max(kp1 - kp2 * x[3] - kp3 * x[8], 0.0)
    excretion = max(ke1 * (x[3] - ke2), 0.0)
    dx[3] = production + appearance - uptake - excretion - k1 * x[3] + k2 * x[4]
    dx[4] = k1 * x[3] - k2 * x[4] - (vm0 + vmx * x[6]) * x[4] / (km0 + x[4])

    concentration = x[5] / insulin_volume
    dx[5] = m1 * x[9] + ka1 * x[10] + ka2 * x[11] - (m2 + m4) * x[5]
    dx[6] = p2u * (concentration - basal_insulin - x[6])
    dx[7] = ki * (concentration - x[7])
    dx[8] = ki * (x[7] - x[8])
    dx[9] = m2 * x[5] - (m1 + m30) * x[9]
    dx[10] = insulin - (ka1 + kd) * x[10]
    dx[11] = kd * x[10] - ka2 * x[11]
    dx[12] = ksc * (x[3] - x[12])
    # What has fallen under zero stands still, as in simglucose; insulin's actions (6, 7, 8) have either sign.
    for i in (3, 4, 5, 9, 10, 11, 12):
        if x[i] < 0.0:
            dx[i] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _advance_row(p, x, meal, insulin, minutes, substeps, rates, middle):  # type: ignore[no-untyped-def]
    """Moves one person on, in place; `rates` [4, 13] and `middle` [13] are room to work in."""
    flow, h = insulin * PMOL_PER_UNIT / p[0], 1.0 / substeps
    for _ in range(minutes):
        eaten = min(EATING_RATE, meal[0])
        meal[0] -= eaten
        if eaten > 0.0 and meal[3] == 0.0:
            meal[1], meal[2] = x[0] + x[1], 0.0
        meal[2] += eaten
        meal[3] = 1.0 if eaten > 0.0 else 0.0
        size = meal[1] + meal[2] * 1000.0
        for _ in range(substeps):
            _derivatives(x, p, flow, eaten * 1000.0, size, rates[0])
            for stage in range(1, 4):
                share = h if stage == 3 else 0.5 * h
                for i in range(AMOUNTS):
                    middle[i] = x[i] + share * rates[stage - 1, i]
                _derivatives(middle, p, flow, eaten * 1000.0, size, rates[stage])
            for i in range(AMOUNTS):
                x[i] += h / 6.0 * (rates[0, i] + 2.0 * (rates[1, i] + rates[2, i]) + rates[3, i])


@njit(nogil=True, cache=True, error_model="numpy")
def _advance(params, x, meal, insulin, minutes, substeps):  # type: ignore[no-untyped-def]
    rates, middle = np.empty((4, AMOUNTS)), np.empty(AMOUNTS)
    for row in range(len(x)):
        own = min(row, len(params) - 1)
        _advance_row(params[own], x[row], meal[row], insulin[row], minutes, substeps, rates, middle)


def advance(
    params: NDArray[np.float64],
    x: NDArray[np.float64],
    meal: NDArray[np.float64],
    insulin: NDArray[np.float64],
    minutes: int = 1,
    substeps: int = 2,
) -> None:
    """Moves people on in time, in place, by the classical Runge-Kutta method.

    Args:
        params: Parameters of `persim_gym.envs.patients.parameters.PARAMETERS`, [B, 30], or [1, 30] for all rows.
        x: Amounts in the body, [B, 13].
        meal: Of the meal under way, [B, 4]: carbohydrates still to be eaten (g), what the stomach held before it (mg),
            what has been eaten of it (g), and whether the last minute was spent eating (0 or 1).
        insulin: Insulin, U/min, [B]; the same in all minutes.
        minutes: Minutes to go on.
        substeps: Steps of the integrator in a minute; by two, a day is within 0.07 mg/dL of what many give.
    """
    _advance(params, x, meal, insulin, minutes, substeps)
