"""Packed statistics keep what the data say, in a third of the memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.populations import DISCRETE, alone, logged, population, prior_of, uneven

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.inference.sufficient_statistics import PackedStatistics


def test_packed_evidence_keeps_directions_that_the_data_say_little_about():
    prior, statistics = uneven(agents=300, rank=6)
    packed = PackedStatistics.pack(statistics)
    exact, kept = FactorPosterior(prior, statistics), FactorPosterior(prior, packed)
    singles = {name: getattr(statistics, name).float().double() for name in ("information", "vector")}
    rounded = FactorPosterior(prior, replace(statistics, **singles))
    for agent in (0, 255, 256, 299):
        covariance = exact.covariance(agent)
        lower = torch.linalg.cholesky(covariance)
        shifts = [
            torch.linalg.solve_triangular(lower, (p.mean - exact.mean)[:, agent, :, None], upper=False).abs().max()
            for p in (kept, rounded)
        ]
        assert shifts[0] < 0.01 < 0.1 < shifts[1]  # posterior standard deviations
        np.testing.assert_allclose(kept.determination(agent), exact.determination(agent), rtol=2e-3)
        ratio = torch.linalg.solve_triangular(lower, kept.covariance(agent), upper=False)
        ratio = torch.linalg.solve_triangular(lower, ratio.mT, upper=False)
        np.testing.assert_allclose(torch.linalg.eigvalsh(ratio), 1.0, atol=5e-3)


def test_packed_evidence_of_few_transitions_stays_without_negative_eigenvalues():
    """Three equations in four directions, in units of a noise of 1e-5; and an agent without any transition."""
    model = population(DISCRETE)
    data = replace(alone(logged(model, [3], 1, noise=0.01)), n_agents=2)
    prior = prior_of(model, 1e-10)
    statistics = gather_statistics(model, prior.noise, data)
    kept = FactorPosterior(prior, PackedStatistics.pack(statistics))
    values = torch.linalg.eigvalsh(kept.statistics.of([0]).information)[:, 0]
    assert (values[:, 0].abs() < 1e-12 * values[:, -1]).all()
    np.testing.assert_allclose(kept.mean, FactorPosterior(prior, statistics).mean, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(kept.sample(0, np.random.default_rng(0))).all()
    nobody = kept.statistics.of([1])
    assert not nobody.information.any() and not nobody.vector.any() and kept.undetermined(1) == 4


@pytest.mark.parametrize(("rank", "share"), [(3, 0.41), (30, 0.27)])
def test_packed_evidence_takes_a_third_of_the_memory(rank, share):
    _, statistics = uneven(agents=4, rank=rank)
    packed = PackedStatistics.pack(statistics)
    sizes = [sum(x.nbytes for x in vars(kept).values()) for kept in (statistics, packed)]
    assert sizes[1] < share * sizes[0]
