"""The networks against closed forms."""

import numpy as np
import pytest
import torch
from support.cadm import random_cadm

from persim_gym.baselines.cadm.model import Gaussian, gaussian_loss


def drawn(seed=0, members=2, rows=5, size=3):
    """Means, log-variances and targets."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((members, rows, size), generator=generator) for _ in range(3)]


def test_the_loss_is_the_likelihood_of_a_gaussian():
    mean, log_variance, target = drawn()
    density = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(target)
    expected = (-2 * density - np.log(2 * np.pi)).mean(-1)
    np.testing.assert_allclose(gaussian_loss(Gaussian(mean, log_variance), target), expected, rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_deterministic_model_is_the_squared_error():
    mean, _, target = drawn()
    np.testing.assert_allclose(gaussian_loss(Gaussian(mean, None), target), (mean - target).square().mean(-1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_weights_the_gradient_of_the_mean_by_a_power_of_the_variance(beta):
    mean, log_variance, target = drawn()
    mean.requires_grad_()
    gaussian_loss(Gaussian(mean, log_variance), target, beta).sum().backward()
    expected = 2 * (mean - target) * ((beta - 1) * log_variance).exp() / mean.shape[-1]
    np.testing.assert_allclose(mean.grad, expected.detach(), rtol=1e-5)


def test_the_likelihood_is_largest_at_the_squared_error():
    mean, log_variance, target = drawn()
    log_variance.requires_grad_()
    best = Gaussian(mean, (mean - target).square().log())
    at_best = gaussian_loss(best, target)
    assert (gaussian_loss(Gaussian(mean, log_variance), target) >= at_best).all()


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_log_variances_stay_within_their_bounds(scale):
    model = random_cadm()
    generator = torch.Generator().manual_seed(0)
    inputs = scale * torch.randn((2, 50, 5), generator=generator)
    _, log_variance = model.predict(inputs, torch.zeros(2, 50, 2))
    assert (log_variance <= model.log_variance_high + 1e-4).all()
    assert (log_variance >= model.log_variance_low - 1e-4).all()


def test_members_share_nothing():
    one, other = random_cadm(), random_cadm()
    for p in other.parameters():
        p[1] += 1.0
    inputs, past = torch.ones(2, 3, 5), torch.ones(2, 3, 20)
    a = one.predict(inputs, one.context(past)).mean
    b = other.predict(inputs, other.context(past)).mean
    assert torch.equal(a[0], b[0])
    assert not torch.allclose(a[1], b[1])


def test_unknown_steps_are_zeros_and_no_discrete_action():
    model = random_cadm()
    change, action = torch.ones(4, 3), torch.tensor([0, 1, 0, 1])
    seen = model.scaled_past(change, action, torch.tensor([True, True, False, False]))
    assert seen[0].tolist() == [1, 1, 1, 1, 0]
    assert seen[1].tolist() == [1, 1, 1, 0, 1]
    assert not seen[2:].any()


def test_bfloat16_predicts_the_same_to_its_rounding():
    model = random_cadm(layers=(200, 200), context_layers=(256, 128))
    inputs, past = torch.randn(2, 30, 5), torch.randn(2, 30, 20)
    whole = model.predict(inputs, model.context(past)).mean
    half = model.predict(inputs, model.context(past, half=True), half=True).mean
    np.testing.assert_allclose(half, whole, atol=0.02)
