"""Static covariates foretell factors as far as they do, add up with evidence, and never harm where they say nothing."""

import numpy as np
import pytest
import torch

from persim_gym.simulator.inference.posterior import FactorPosterior, FactorPrior
from persim_gym.simulator.inference.static_prior import FEWEST_AGENTS, StaticColumn, fit_static_prior
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics

SITES = ("north", "south", "west")


def population(agents=120, noise=0.3, seed=0, members=2, rank=4):
    """Factors [M, P, R] that age moves along one direction and site along another, and these covariates."""
    rng = np.random.default_rng(seed)
    age, site = rng.uniform(20, 80, agents), rng.integers(3, size=agents)
    ways = np.random.default_rng(9).normal(size=(2, members, rank))
    base = (age[:, None, None] - 50) / 17 * ways[0] + (site[:, None, None] - 1) * ways[1]
    factors = base + noise * rng.normal(size=base.shape) + 3.0
    static = {"age": age.tolist(), "site": [SITES[s] for s in site]}
    return torch.from_numpy(factors).transpose(0, 1).contiguous(), static


def prior_of(factors):
    return FactorPrior(factors, torch.ones(len(factors), 3, dtype=torch.float64))


def believed(prior, *evidence):
    total = evidence[0]
    for more in evidence[1:]:
        total = total + more
    return FactorPosterior(prior, total)


def error(mean, factors):
    return float((mean - factors).square().sum(-1).mean())


def test_covariates_alone_foretell_factors_of_new_agents():
    (factors, static), (new, theirs) = population(), population(60, seed=1)
    fitted, prior = fit_static_prior(factors, static), prior_of(factors)
    beliefs = believed(prior, fitted.evidence(theirs, 60))
    assert error(beliefs.mean, new) < 0.35 * error(prior.mean[:, None], new)
    assert fitted.explained > 0.5 and (beliefs.statistics.seen == 0).all()
    spread = torch.stack([beliefs.covariance(agent).diagonal(dim1=1, dim2=2).sum(1).mean() for agent in range(10)])
    apart = (beliefs.mean - new).square().sum(-1)[:, :10].mean()
    assert 0.4 < apart / spread.mean() < 2.5


def test_they_add_up_with_evidence_in_one_posterior_in_any_order():
    (factors, static), (new, theirs) = population(), population(60, seed=1)
    fitted, prior = fit_static_prior(factors, static), prior_of(factors)
    rng, members, rank = np.random.default_rng(2), 2, 4
    look = torch.from_numpy(rng.normal(size=(members, 60, rank)))
    seen = (look * new).sum(-1) + torch.from_numpy(0.3 * rng.normal(size=(members, 60)))
    one = SufficientStatistics(
        look[..., None] * look[..., None, :] / 0.09, look * seen[..., None] / 0.09, torch.ones(60, dtype=torch.int64)
    )
    both = believed(prior, one, fitted.evidence(theirs, 60))
    assert error(both.mean, new) < error(believed(prior, fitted.evidence(theirs, 60)).mean, new)
    assert error(both.mean, new) < error(believed(prior, one).mean, new)
    torch.testing.assert_close(both.mean, believed(prior, fitted.evidence(theirs, 60), one).mean)


@pytest.mark.parametrize("seed", range(8))
def test_covariates_that_say_nothing_leave_the_population_bit_for_bit(seed):
    factors, static = population(80, seed=seed)
    order = np.random.default_rng(seed).permutation(80)
    shuffled = {name: [values[i] for i in order] for name, values in static.items()}
    fitted, prior = fit_static_prior(factors, shuffled), prior_of(factors)
    assert fitted.explained == 0
    mean = believed(prior, fitted.evidence({"age": 70.0, "site": "west"}, 3)).mean
    torch.testing.assert_close(mean, prior.mean[:, None].expand(-1, 3, -1), rtol=0, atol=0)


def test_the_direction_that_covariates_say_nothing_of_stays_as_the_population_has_it():
    rng = np.random.default_rng(0)
    age = rng.normal(size=200)
    factors = torch.from_numpy(np.stack([age + 0.1 * rng.normal(size=200), rng.normal(size=200)], axis=1))[None]
    fitted = fit_static_prior(factors, {"age": age.tolist()})
    information = fitted.information[0]
    assert information[0, 0] > 20 and abs(information[1, 1]) < 0.3


def test_unknown_values_count_for_nothing_and_others_by_their_share():
    factors, static = population()
    fitted = fit_static_prior(factors, static)
    none = fitted.evidence({"age": None, "site": "east"}, 1)
    assert not none.information.any() and not none.vector.any()
    half = fitted.evidence({"age": 70.0}, 1)
    whole = fitted.evidence({"age": [70.0], "site": ["north"]}, 1)
    torch.testing.assert_close(half.information, 0.5 * whole.information)
    assert fitted.evidence({"age": "70"}, 2).vector.shape == (2, 2, 4)
    gaps = {"age": [None if i % 5 == 0 else v for i, v in enumerate(static["age"])], "site": static["site"]}
    assert fit_static_prior(factors, gaps).explained > 0.4


def test_what_does_not_fit_is_said_in_one_line():
    factors, static = population()
    fitted = fit_static_prior(factors, static)
    with pytest.raises(ValueError, match="weight is none of the static columns of the data: age, site"):
        fitted.evidence({"weight": 3}, 1)
    with pytest.raises(ValueError, match="age has 2 values for 3 new agents; give one for each"):
        fitted.evidence({"age": [1, 2]}, 3)
    with pytest.raises(ValueError, match="age is a number in the data, and not so in"):
        fitted.evidence({"age": "old"}, 1)


def test_few_agents_and_constant_columns_say_nothing():
    factors, static = population(FEWEST_AGENTS - 1)
    assert not fit_static_prior(factors, static).information.any()
    factors, static = population(40)
    constant = fit_static_prior(factors, {"age": [5.0] * 40, "site": ["north"] * 40})
    assert constant.columns == () and not constant.evidence({}, 2).information.any()


def test_numbers_that_are_truth_values_and_texts_are_categories():
    factors, _ = population(40)
    fitted = fit_static_prior(factors, {"old": [i % 2 == 0 for i in range(40)], "kind": ["a", "b"] * 20})
    assert [column.values for column in fitted.columns] == [("False", "True"), ("a", "b")]
    column = StaticColumn("age", 50.0, 10.0)
    np.testing.assert_allclose(column.features([60.0, None, 1e9]), [[1, 0], [0, 0], [4, 15]])
