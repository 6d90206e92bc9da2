"""Virtual patients of the population, and their rest."""

import numpy as np
import pytest

from persim_gym.envs.patients.domain import DOMAIN
from persim_gym.envs.patients.kernel import advance
from persim_gym.envs.patients.parameters import AVERAGE_ADULT, COVARIATES, PARAMETERS, patients

POPULATION = {c.name: DOMAIN.population[::5, i] for i, c in enumerate(COVARIATES)}


def test_people_rest_under_their_own_basal_insulin():
    people = patients(**POPULATION)
    body, meal = people.rest.copy(), np.zeros((len(people.rest), 4))
    advance(people.params, body, meal, people.basal / 60.0, minutes=8 * 60)
    np.testing.assert_allclose(body, people.rest, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(people.basal, POPULATION["basal_rate"], rtol=1e-12)
    assert (people.rest[:, 3:6] > 0).all() and (people.params[:, PARAMETERS.index("Vm0")] > 0).all()


def test_default_covariates_are_the_average_adult():
    people = patients(**{c.name: c.default for c in COVARIATES})
    for name in ("BW", "Vmx", "kp3", "kabs", "kmax", "kmin", "ka1", "ka2", "kd", "p2u", "ki"):
        assert people.params[0, PARAMETERS.index(name)] == AVERAGE_ADULT[name]
    assert people.rest[0, 3] / AVERAGE_ADULT["Vg"] == AVERAGE_ADULT["Gb"]


def test_each_covariate_moves_what_it_says():
    def moved(name, value):
        base, other = (patients(**{**{c.name: c.default for c in COVARIATES}, **own}) for own in ({}, {name: value}))
        ratio = other.params[0] / base.params[0]
        return {p: ratio[i] for i, p in enumerate(PARAMETERS) if abs(ratio[i] - 1) > 1e-12}

    assert moved("weight", 60.0).keys() == {"BW", "m2", "m4"}
    assert moved("basal_rate", 1.0).keys() == {"Ib", "kp1"}
    assert moved("insulin_sensitivity", 1.5).keys() == {"Vmx", "kp3", "kp1"}
    for name, of in (
        ("insulin_absorption", ("ka1", "kd", "ka2")),
        ("insulin_action", ("p2u", "ki")),
        ("meal_absorption", ("kabs", "kmax", "kmin")),
    ):
        assert moved(name, 1.5) == pytest.approx(dict.fromkeys(of, 1.5))
    assert moved("glucose_production", 1.2).keys() == {"Vm0", "kp1"}
