"""What transitions say about factors, and which say nothing."""

from dataclasses import replace

import numpy as np
import torch
from support.missing import lacking
from support.populations import CONTINUOUS, DISCRETE, alone, logged, population, prior_of
from support.walls import RECIPE

from persim_gym.simulator.inference.regression import features, gather_statistics, residual_variance, targets
from persim_gym.simulator.model.walls import stopped
from persim_gym.simulator.training.trainer import fit_ensemble


def test_the_order_of_transitions_does_not_matter():
    model = population(CONTINUOUS)
    data = logged(model, [0, 1, 2], 30, noise=0.1)
    order = np.random.default_rng(2).permutation(len(data))
    fields = ("agent", "obs", "action", "reward", "next_obs", "terminated", "trajectory")
    shuffled = replace(data, **{name: getattr(data, name)[order] for name in fields})
    noise = prior_of(model, 0.01).noise
    one, other = gather_statistics(model, noise, data), gather_statistics(model, noise, shuffled)
    np.testing.assert_allclose(one.information, other.information, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(one.vector, other.vector, rtol=1e-5, atol=1e-3)  # float32 encoders
    np.testing.assert_array_equal(one.seen, other.seen)


def test_evidence_adds_up_over_transitions_and_keeps_agents_apart():
    model = population(DISCRETE)
    data = logged(model, [0, 1, 2], 8, noise=0.1)
    noise = prior_of(model, 0.01).noise
    half = np.arange(len(data)) % 2 == 0
    total = gather_statistics(model, noise, data)
    parts = gather_statistics(model, noise, data.select(half)) + gather_statistics(model, noise, data.select(~half))
    np.testing.assert_allclose(total.information, parts.information, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(total.vector, parts.vector, rtol=1e-5, atol=1e-3)
    single = gather_statistics(model, noise, alone(data.select(data.agent == 1)))
    np.testing.assert_allclose(total.of([1]).information, single.information, rtol=1e-5, atol=1e-4)
    assert total.seen.tolist() == [8, 8, 8]


def test_a_clipped_observation_says_nothing():
    model = population(DISCRETE)
    data = alone(logged(model, [4], 10))
    noise = prior_of(model, 0.01).noise
    free = gather_statistics(model, noise, data)
    model.obs_high.copy_(torch.tensor([np.inf, -100.0, np.inf]))  # the second dimension is always clipped
    next_obs = data.next_obs.copy()
    next_obs[:, 1] = -100.0
    clipped = gather_statistics(model, noise, replace(data, next_obs=next_obs))
    f = features(model, torch.from_numpy(data.obs), torch.from_numpy(data.action))[:, :, 1]
    np.testing.assert_allclose(free.information - clipped.information, (f.mT @ f / 0.01)[:, None], rtol=1e-9, atol=1e-9)


def test_what_was_constant_in_training_says_nothing():
    model = population(DISCRETE)
    data, noise = alone(logged(model, [7], 50)), prior_of(model, 0.01).noise
    ignored = noise.clone()
    ignored[:, 1] = torch.inf
    expected = gather_statistics(model, ignored, data)
    model.delta_std[1] = 1e-8  # as training scales it: what moves now would count as billions of standard deviations
    found = gather_statistics(model, noise, data)
    torch.testing.assert_close(found.information, expected.information)
    torch.testing.assert_close(found.vector, expected.vector)


def test_evidence_and_targets_leave_out_what_a_wall_stopped(pucks):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    held = stopped(model.walls, torch.from_numpy(pucks.next_obs))
    rows = [torch.from_numpy(x) for x in (pucks.obs, pucks.next_obs)]
    _, known = targets(model, *rows, torch.empty(len(pucks), 0), clips=False)
    assert torch.equal(known, ~held) and held[:, :2].any() and not held[:, 2].any()
    noise = torch.tensor([1.0, 1.0, torch.inf], dtype=torch.float64).expand(model.config.members, 3)
    every = gather_statistics(model, noise, pucks, clips=False)
    free = gather_statistics(model, noise, pucks.select(~held.any(dim=1).numpy()), clips=False)
    torch.testing.assert_close(every.information, free.information)
    torch.testing.assert_close(every.vector, free.vector)


def test_a_next_value_that_is_missing_says_nothing_and_the_others_what_they_say():
    model = population(DISCRETE)
    data = logged(model, [0, 1, 2], 30, noise=0.1)
    lack, noise = lacking(data, column=1, share=0.3), prior_of(model, 0.01).noise
    out, ignored = np.isnan(lack.next_obs[:, 1]), noise.clone()
    ignored[:, 1] = torch.inf
    found = gather_statistics(model, noise, lack)
    parts = gather_statistics(model, noise, data.select(~out)) + gather_statistics(model, ignored, data.select(out))
    np.testing.assert_allclose(found.information, parts.information, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.vector, parts.vector, rtol=1e-5, atol=1e-3)
    assert found.seen.tolist() == [30, 30, 30]
    spread = residual_variance(model, lack)
    torch.testing.assert_close(spread[:, 0], residual_variance(model, data)[:, 0])
    torch.testing.assert_close(spread[:, 1], residual_variance(model, data.select(~out))[:, 1])
