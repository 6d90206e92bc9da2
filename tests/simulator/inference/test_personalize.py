"""The polish of factors, and agents of whom nothing is known."""

from dataclasses import replace

import numpy as np
import torch
from support.missing import lacking, never
from support.populations import DISCRETE, every_shape, logged, population, prior_of
from support.recipes import TINY

from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import factor_posterior, gather_statistics, residual_variance
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


def factors(model, data):
    """Posterior means of the agents of data, of the member that made them, and its true factors."""
    beliefs = FactorPosterior(prior_of(model, 1e-4), gather_statistics(model, prior_of(model, 1e-4).noise, data))
    return beliefs.mean[0].numpy(), model.agent_encoder(torch.arange(data.n_agents))[0].double().numpy()


@every_shape
def test_new_agents_of_whom_values_are_missing_are_known_nearly_as_well(shape):
    model = population(shape)
    data = logged(model, [0, 1, 2], 60, noise=0.01)
    whole, true = factors(model, data)
    worst = np.abs(whole - true).max()
    assert worst < 0.2
    lacks, _ = factors(model, lacking(data))
    assert np.abs(lacks - true).max() < 1.5 * worst + 0.01
    blind, _ = factors(model, never(data, agent=1, column=0))
    np.testing.assert_array_equal(blind[[0, 2]], whole[[0, 2]])
    assert np.abs(blind[1] - true[1]).max() < 0.2  # two other dimensions tell it apart


def test_an_agent_of_whom_no_next_value_is_known_is_the_population_average():
    model = population(DISCRETE)
    data = logged(model, [0, 1], 20)
    next_obs = np.where((data.agent == 1)[:, None], np.float32(np.nan), data.next_obs)
    found, _ = factors(model, replace(data, next_obs=next_obs, missing=True))
    np.testing.assert_allclose(found[1], prior_of(model, 1e-4).mean[0], rtol=1e-5, atol=1e-6)
