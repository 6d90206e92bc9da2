"""The model's equations, against simglucose's own trajectories and an independent solver."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from persim_gym.envs.patients.kernel import advance
from persim_gym.envs.patients.parameters import COVARIATES, PARAMETERS, patients

STORED = json.loads((Path(__file__).parent / "simglucose.json").read_text(encoding="utf-8"))
MEALS = {int(minute): grams for minute, grams in STORED["meals"].items()}


@pytest.mark.parametrize("name", STORED["patients"])
def test_a_day_of_meals_and_boluses_is_simglucoses(name):
    """To 0.1 mg/dL, every 15 minutes; `benchmarks/patients.py compare` compares every minute of all 30 patients."""
    stored = STORED["patients"][name]
    params = np.array([[stored["parameters"][parameter] for parameter in PARAMETERS]])
    body, meal = np.array([stored["body"]]), np.zeros((1, 4))
    found = [body[0, 12] / stored["volume"]]
    for minute in range(24 * 60):
        grams = MEALS.get(minute, 0.0)
        meal[:, 0] += grams
        advance(params, body, meal, np.array([stored["basal"] + grams / stored["ratio"]]))
        if (minute + 1) % STORED["every"] == 0:
            found.append(body[0, 12] / stored["volume"])
    assert np.ptp(stored["glucose"]) > 40.0
    np.testing.assert_allclose(found, stored["glucose"], rtol=0, atol=0.1)


def rates(t, x, p, insulin):
    """The equations of a person who does not eat, by Dalla Man et al. (2007), once more."""
    d = np.zeros(13)
    d[3] = max(p["kp1"] - p["kp2"] * x[3] - p["kp3"] * x[8], 0) - p["Fsnc"] - max(p["ke1"] * (x[3] - p["ke2"]), 0)
    d[3] += p["k2"] * x[4] - p["k1"] * x[3]
    d[4] = p["k1"] * x[3] - p["k2"] * x[4] - (p["Vm0"] + p["Vmx"] * x[6]) * x[4] / (p["Km0"] + x[4])
    d[5] = p["m1"] * x[9] + p["ka1"] * x[10] + p["ka2"] * x[11] - (p["m2"] + p["m4"]) * x[5]
    d[6] = p["p2u"] * (x[5] / p["Vi"] - p["Ib"] - x[6])
    d[7], d[8] = p["ki"] * (x[5] / p["Vi"] - x[7]), p["ki"] * (x[7] - x[8])
    d[9] = p["m2"] * x[5] - (p["m1"] + p["m30"]) * x[9]
    d[10] = insulin * 6000 / p["BW"] - (p["ka1"] + p["kd"]) * x[10]
    d[11] = p["kd"] * x[10] - p["ka2"] * x[11]
    d[12] = p["ksc"] * (x[3] - x[12])
    return d


@pytest.mark.parametrize("covariate", COVARIATES, ids=lambda covariate: covariate.name)
def test_each_covariate_changes_insulins_effect_as_an_independent_solver_says(covariate):
    ends = []
    for value in (covariate.default, covariate.low, covariate.high):
        people = patients(**{**{c.name: c.default for c in COVARIATES}, covariate.name: value})
        body, meal, insulin = people.rest.copy(), np.zeros((1, 4)), people.basal * 3 / 60
        advance(people.params, body, meal, insulin, minutes=90)
        p = dict(zip(PARAMETERS, people.params[0], strict=True))
        expected = solve_ivp(rates, (0, 90), people.rest[0], args=(p, insulin[0]), rtol=1e-9, atol=1e-9).y[:, -1]
        np.testing.assert_allclose(body[0], expected, rtol=1e-5, atol=1e-5)
        ends.append(expected)
    # Stomach and gut play no part here; test_physics.py has a meal.
    changed = covariate.name != "meal_absorption"
    assert (np.abs(np.subtract(ends[1:], ends[0])[:, 12]) > 0.1).all() == changed
