"""Posteriors of factors in closed form: against brute force and against synthetic truth."""

from dataclasses import replace

import numpy as np
import torch
from support.populations import DISCRETE, alone, every_shape, logged, population, prior_of, uneven

from persim_gym.simulator.inference.personalize import with_factors
from persim_gym.simulator.inference.posterior import (
    BANDWIDTHS,
    FactorPosterior,
    FactorPrior,
    from_tensors,
    shrunk_covariance,
    to_tensors,
)
from persim_gym.simulator.inference.regression import features, gather_statistics
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics

# --- the closed form ------------------------------------------------------------------------------------------------


@every_shape
def test_the_posterior_equals_generalised_least_squares_of_every_component(shape):
    """Each component of the mixture solved as a stacked least-squares problem, weighted by its marginal likelihood."""
    model = population(shape)
    data = alone(logged(model, [5], 6, noise=0.05))
    prior = prior_of(model, 0.05**2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    f = features(model, torch.from_numpy(data.obs), torch.from_numpy(data.action))[1].reshape(-1, 4).numpy()
    y = (data.next_obs.astype(np.float64) - data.obs).reshape(-1)
    component = (prior.bandwidth[1] ** 2 * shrunk_covariance(prior.centres)[1]).numpy()
    marginal = f @ component @ f.T + 0.05**2 * np.eye(len(y))  # of y, around f @ centre
    root = np.linalg.cholesky(np.linalg.inv(component))
    means, logs = [], []
    for centre in prior.centres[1].numpy():
        stacked = np.concatenate([f / 0.05, root.T])
        means.append(np.linalg.lstsq(stacked, np.concatenate([y / 0.05, root.T @ centre]), rcond=None)[0])
        logs.append(-0.5 * (y - f @ centre) @ np.linalg.solve(marginal, y - f @ centre))
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    np.testing.assert_allclose(posterior.mean[1, 0], mean, rtol=1e-8, atol=1e-9)
    apart = np.array(means) - mean
    covariance = np.linalg.inv(f.T @ f / 0.05**2 + root @ root.T) + (apart * weights[:, None]).T @ apart
    np.testing.assert_allclose(posterior.covariance(0)[1], covariance, rtol=1e-7, atol=1e-10)


def test_the_posterior_without_transitions_is_the_prior():
    model = population(DISCRETE)
    prior = prior_of(model, 0.01)
    posterior = FactorPosterior(prior, SufficientStatistics.none(2, 3, 4))
    np.testing.assert_array_equal(posterior.mean, prior.mean[:, None].expand(2, 3, 4))
    spread = torch.stack([torch.cov(c.T, correction=0) for c in prior.centres])
    inner = (prior.bandwidth**2)[:, None, None] * shrunk_covariance(prior.centres)
    np.testing.assert_allclose(posterior.covariance(1), spread + inner, rtol=1e-9, atol=1e-12)
    assert posterior.undetermined(2) == 4


@every_shape
def test_transitions_of_a_synthetic_agent_recover_its_factor(shape):
    model = population(shape)
    prior = prior_of(model, 1e-10)
    truth = torch.tensor([0.3, -2.5, 1.4, 0.9])  # no agent of the population
    stranger = with_factors(model, truth.expand(2, 1, 4).double())
    for member in (0, 1):
        data = logged(stranger, [0], 60, member=member)
        posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
        np.testing.assert_allclose(posterior.mean[member, 0], truth, atol=2e-4)
        assert posterior.undetermined(0) == 0


def test_samples_have_the_posterior_s_mean_and_covariance():
    model = population(DISCRETE)
    prior = prior_of(model, 0.3**2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, alone(logged(model, [7], 2, noise=0.3))))
    rng = np.random.default_rng(0)
    draws = torch.stack([posterior.sample(0, rng) for _ in range(1200)])[:, 1].numpy()
    covariance = posterior.covariance(0)[1].numpy()
    error = np.sqrt(covariance.diagonal() / len(draws))
    assert (np.abs(draws.mean(0) - posterior.mean[1, 0].numpy()) < 4 * error).all()
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.15 * covariance.diagonal().max())


def test_credible_ellipsoids_cover_synthetic_agents():
    """90 % ellipsoids of agents drawn like the population contain the true factor in about 90 % of cases."""
    model = population(replace(DISCRETE, n_agents=400))
    prior = prior_of(model, 0.2**2)
    truth = np.random.default_rng(5).normal(size=(1, 300, 4)).repeat(2, axis=0)
    strangers = with_factors(model, torch.from_numpy(truth))
    data = logged(strangers, list(range(300)), 10, noise=0.2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    apart = posterior.mean[0].numpy() - truth[0]
    distance = [apart[a] @ np.linalg.solve(posterior.covariance(a)[0].numpy(), apart[a]) for a in range(300)]
    covered = np.mean(np.array(distance) < 7.779)  # 90 % quantile of chi-squared with 4 degrees of freedom
    assert 0.84 < covered < 0.96


def test_directions_that_no_transition_moves_stay_undetermined():
    """With one action and one place, D = 3 equations at most bind R = 4 directions."""
    model = population(DISCRETE)
    data = alone(logged(model, [3], 1, noise=0.01))
    prior = prior_of(model, 1e-8)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    assert posterior.undetermined(0) >= 1
    ratios = posterior.determination(0)
    assert (ratios[:, 0] < 1e-6).all() and (ratios[:, -1] > 1e3).all()


def test_the_prior_s_components_are_narrow_where_agents_lie_on_a_curve():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 3, 400)
    curve = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle), angle**2 / 4], axis=1))
    cloud = torch.from_numpy(rng.normal(size=(400, 3)))
    few = cloud[:5]
    narrow, wide, widest = (float(FactorPrior(x[None], torch.ones(1, 1)).bandwidth[0]) for x in (curve, cloud, few))
    assert narrow <= 0.1 < wide < widest
    assert {narrow, wide, widest} <= set(BANDWIDTHS)


def test_few_agents_still_give_a_covariance_that_can_be_inverted():
    factors = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 6)))
    assert torch.linalg.eigvalsh(shrunk_covariance(factors)).min() > 1e-3
    many = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5000, 3)) * [1.0, 2.0, 3.0])
    np.testing.assert_allclose(shrunk_covariance(many)[0].diagonal(), [1, 4, 9], rtol=0.1)
    one = torch.ones(1, 1, 3, dtype=torch.float64)
    assert torch.isfinite(torch.linalg.inv(shrunk_covariance(one))).all()
    for alike in (torch.ones(1, 4, 3), torch.zeros(1, 4, 3), torch.ones(1, 4, 1)):
        assert torch.linalg.eigvalsh(shrunk_covariance(alike.double())).min() > 0


# --- statistics as it is kept -----------------------------------------------------------------------------------------


def test_files_with_whole_information_matrices_can_be_read():
    prior, statistics = uneven(agents=3, rank=4)
    old = {
        "prior.centres": prior.centres,
        "prior.noise": prior.noise,
        "evidence.information": statistics.information,
        "evidence.vector": statistics.vector,
        "evidence.seen": statistics.seen,
    }
    loaded = from_tensors(old)
    np.testing.assert_array_equal(loaded.mean, FactorPosterior(prior, statistics).mean)
    assert "evidence.information" not in to_tensors(loaded)
