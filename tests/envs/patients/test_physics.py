"""Steps of 15 minutes: actions, known averages, meals, and the ends of plans."""

import numpy as np
import pytest
from support.domains import random_actions

from persim_gym.envs.patients.chance import PLANNED_STEPS
from persim_gym.envs.patients.domain import DOMAIN
from persim_gym.envs.patients.physics import (
    AT,
    MAX_RATE,
    STATE_SIZE,
    action_of_rate,
    announced,
    cgm,
    glucose,
    initial_state,
    insulin_rate,
)

FASTING = np.zeros(STATE_SIZE)


def test_actions_are_insulin_rates_and_back():
    rates = np.array([0.01, 0.5, 1.23, 5.0, MAX_RATE])
    np.testing.assert_allclose(insulin_rate(action_of_rate(rates)), rates, rtol=1e-6)
    assert insulin_rate(1.0) == MAX_RATE and insulin_rate(-1.0) < 0.01
    assert action_of_rate(0.0) == -1.0 and action_of_rate(100.0) == 1.0
    assert np.mean(insulin_rate(np.random.default_rng(0).uniform(-1, 1, 100_000))) == pytest.approx(2.5, rel=0.02)


def test_columns_are_the_averages_and_filters_that_their_names_say():
    """By sums over the past, written once more."""
    state, actions = initial_state(np.random.default_rng(3), 1), random_actions(DOMAIN, (60, 1))
    physics, covariates = DOMAIN.physics(**DOMAIN.agent_covariates(7)), DOMAIN.agent_covariates(7)
    basal, states = covariates["basal_rate"], [state]
    for action in actions:
        states.append(physics(states[-1], action))
    obs = DOMAIN.observe(np.concatenate(states))
    age = 15.0 * np.arange(60)[::-1]  # minutes since each step ended
    rate = insulin_rate(actions)[:, 0, 0]
    for column, minutes in ((2, 55.0), (3, 120.0)):
        weight = np.exp(-age / minutes) * (1 - np.exp(-15 / minutes))
        assert obs[-1, column] == pytest.approx(weight @ rate + (1 - weight.sum()) * basal, rel=1e-6)
    for column, minutes in ((4, 30.0), (5, 75.0)):
        assert obs[-1, column] == pytest.approx(obs[:-1, 6] @ np.exp(-(age + 15) / minutes), rel=1e-6)
    weight = np.exp(-age / 30.0) * (1 - np.exp(-0.5))
    smooth = weight @ obs[:-1, 0] + (1 - weight.sum()) * obs[0, 0]
    assert obs[-1, 1] == pytest.approx(obs[-1, 0] - smooth, abs=1e-6)
    assert np.arctan2(obs[24, 7], obs[24, 8]) == pytest.approx(np.pi / 2)  # six o'clock


def test_a_meal_raises_glucose_by_the_step_in_which_it_was_planned_and_later():
    physics = DOMAIN.physics(**{c.name: c.default for c in DOMAIN.covariates})
    basal = action_of_rate(1.23)[None]
    for grams in (0.0, 40.0, 80.0):
        state = FASTING.copy()
        state[AT.meals.start + 2] = grams
        seen = []
        for _ in range(16):
            seen.append((announced(state), glucose(state)))
            state = physics(state, basal)
        eaten, level = np.array(seen).T
        assert eaten.tolist() == [0.0, 0.0, grams, *[0.0] * 13]
        np.testing.assert_allclose(level[:3], level[0], atol=1e-4)
        assert abs(level[-1] - level[0]) < 1e-2 if grams == 0 else level[-1] - level[0] > grams


def test_a_large_meal_is_eaten_at_five_grams_a_minute_over_several_steps():
    physics, state = DOMAIN.physics(**DOMAIN.agent_covariates(0)), FASTING.copy()
    state[AT.meals.start] = 100.0
    state = physics(state, np.zeros(1, dtype=np.float32))
    assert state[AT.meal][0] == 25.0 and state[AT.meal][3] == 1.0
    state = physics(state, np.zeros(1, dtype=np.float32))
    assert state[AT.meal][0] == 0.0 and state[AT.meal][3] == 0.0


def test_meal_absorption_moves_the_peak():
    def rise(speed):
        covariates = {c.name: c.default for c in DOMAIN.covariates} | {"meal_absorption": speed}
        physics, state = DOMAIN.physics(**covariates), FASTING.copy()
        state[AT.meals.start] = 60.0
        for _ in range(6):
            state = physics(state, action_of_rate(1.23)[None])
        return float(glucose(state))

    assert rise(0.6) + 5.0 < rise(1.0) < rise(1.6) - 5.0


def test_plans_start_over_behind_their_end():
    state = initial_state(np.random.default_rng(0), 3)
    later = state.copy()
    later[:, AT.clock] = PLANNED_STEPS
    np.testing.assert_array_equal(DOMAIN.observe(later)[:, :7], DOMAIN.observe(state)[:, :7])


def test_the_sensor_shows_glucose_and_correlated_noise():
    state = initial_state(np.random.default_rng(0), 400)
    noise = state[:, AT.noise]
    assert 9.0 < noise.std() < 14.0 and abs(noise.mean()) < 2.0
    correlation = [np.corrcoef(noise[:, :-lag].ravel(), noise[:, lag:].ravel())[0, 1] for lag in (1, 4)]
    assert correlation == pytest.approx([0.7, 0.7**4], abs=0.05)
    np.testing.assert_allclose(cgm(state), glucose(state) + noise[:, 0])
    assert 150 < state[:, AT.meals].sum(axis=1).mean() / 2 < 230  # g a day
