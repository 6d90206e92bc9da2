"""Dosing by basal rate, bolus and correction: right where it makes no errors, and its memory."""

import numpy as np
import pytest

from persim_gym.envs.patients.domain import DOMAIN
from persim_gym.envs.patients.parameters import patients
from persim_gym.envs.patients.physics import AT, STATE_SIZE, glucose, insulin_rate
from persim_gym.envs.patients.rule import NONE, Errors, basal_bolus, needs

PEOPLE = {c.name: DOMAIN.population[:30, i] for i, c in enumerate(DOMAIN.covariates)}


def live(rule, state, steps, covariates=PEOPLE):
    """Insulin rates, U/h, and glucose, mg/dL, [steps, B] each."""
    rng, physics = np.random.default_rng(0), DOMAIN.physics(**covariates)
    memory, rates, levels = rule.start(covariates, len(state), rng), [], []
    for _ in range(steps):
        action, memory = rule.act(DOMAIN.observe(state).astype(np.float32), memory, rng)
        assert action.shape == (len(state), 1) and action.dtype == np.float32
        state = physics(state, action)
        rates.append(insulin_rate(action)[:, 0])
        levels.append(glucose(state))
    return np.array(rates), np.array(levels)


def with_meal(grams, step=0, rows=30):
    state = np.zeros((rows, STATE_SIZE))
    state[:, AT.meals.start + step] = grams
    return state


def test_without_errors_a_meal_is_covered():
    _, bare = live(basal_bolus(Errors(missed=1.0)), with_meal(60.0), 20)
    _, covered = live(basal_bolus(NONE), with_meal(60.0), 20)
    assert (bare[-1] > 175.0).all()
    # The bolus is right but for what is not linear.
    assert (abs(covered[-1] - 142.6) < 25.0).all() and abs(covered[-1] - 142.6).mean() < 10.0


def test_a_dose_is_basal_and_bolus_and_no_more():
    rates, _ = live(basal_bolus(NONE), with_meal(60.0), 8)
    ratio, factor = needs(patients(**PEOPLE))
    given = (rates - PEOPLE["basal_rate"]).sum(axis=0) / 4.0
    np.testing.assert_allclose(given, 60.0 / ratio, rtol=0.02, atol=0.05)
    assert rates.max() <= 20.0 + 1e-5
    assert (ratio > 3).all() and (ratio < 30).all() and (factor > 5).all() and (factor < 50).all()


@pytest.mark.parametrize("errors", [Errors(missed=1.0), Errors(late=1.0)])
def test_boluses_are_missed_or_come_30_minutes_late(errors):
    rates, _ = live(basal_bolus(errors), with_meal(60.0), 8)
    extra = rates - PEOPLE["basal_rate"] > 1.0
    assert not extra[:2].any() and extra[2].all() == bool(errors.late)
    assert not extra.any() or (extra.sum(axis=0) >= 1).all()


def test_the_pump_stops_below_70():
    state = np.zeros((1, STATE_SIZE))
    state[:, 3] = state[:, 12] = (60.0 - 142.6) * 1.843
    rates, _ = live(basal_bolus(NONE), state, 1, DOMAIN.agent_covariates(0))
    assert rates[0, 0] < 0.01
