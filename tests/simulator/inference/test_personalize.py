"""The polish of factors, and agents of whom nothing is known."""

from dataclasses import replace

import numpy as np
import torch
from support.recipes import TINY

from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.regression import factor_posterior, residual_variance
from persim_gym.simulator.training.trainer import fit_ensemble


def test_the_polish_lowers_the_error_of_one_step(cars):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, cars)
    better = polished(model, beliefs)
    assert (residual_variance(better, cars).sum(1) < residual_variance(model, cars).sum(1)).all()
    untouched = polished(model, beliefs, every=False)
    everyone = torch.arange(6)
    np.testing.assert_allclose(untouched.agent_encoder(everyone), model.agent_encoder(everyone), rtol=0, atol=1e-6)


def test_agents_without_transitions_get_the_population_average(cars):
    data = replace(cars.select(cars.agent > 0), n_agents=8)
    model = fit_ensemble(data, TINY, n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, data)
    for every in (True, False):
        factors = polished(model, beliefs, every).agent_encoder(torch.arange(8))
        for nobody in (0, 6, 7):
            np.testing.assert_allclose(factors[:, nobody], beliefs.prior.mean, rtol=1e-5, atol=1e-6)
