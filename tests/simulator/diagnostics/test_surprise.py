"""How surprising transitions are, and which limit keeps false alarms as seldom as was asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from persim_gym.simulator.diagnostics.surprise import (
    ALARM_PAUSE,
    SurpriseBand,
    _alarms,
    _lowest_limit,
    draw_stretches,
    measure_band,
    transition_errors,
)
from persim_gym.simulator.inference.regression import features, targets

# One in ten errors is above 2, one in a hundred above 4, one in a thousand above 6.
BAND = SurpriseBand(tuple(np.arange(0.0, 6.01, 0.1)), 5.0, 1.0, 100)


@pytest.mark.parametrize(
    ("before", "error", "after"),
    [(0, 1, 0), (2, 1, 1.5), (2, 2.9, 2), (2, 5, 3.5), (2, 99, 4), (2, np.nan, 2), (2, np.inf, np.inf)],
)
def test_usual_transitions_take_the_surprise_down_and_rare_ones_up(before, error, after):
    assert BAND.after(before, error) == pytest.approx(after)


def test_the_error_is_the_residual_in_units_of_what_the_belief_expects(simulator, cars):
    model, beliefs = simulator.model, simulator.beliefs
    rows = [torch.from_numpy(x[:150]) for x in (cars.agent, cars.obs, cars.action, cars.next_obs)]
    found = transition_errors(model, beliefs, *rows)
    agent, obs, action, next_obs = rows
    f = features(model, obs, action).numpy()
    change, known = (x.numpy() for x in targets(model, obs, next_obs, torch.empty(150, 0), beliefs.prior.clips))
    for k in (0, 77, 149):
        squares = []
        for d in np.flatnonzero(known[k]):
            each = [f[m, k, d] @ beliefs.mean[m, agent[k]].numpy() for m in range(len(f))]
            spread = [
                float(f[m, k, d] @ beliefs.covariance(int(agent[k]))[m].numpy() @ f[m, k, d]) for m in range(len(f))
            ]
            variance = np.mean(beliefs.prior.noise[:, d].numpy() + spread) + np.var(each)
            squares.append((np.mean(each) - change[k, d]) ** 2 / variance)
        np.testing.assert_allclose(found[k], np.sqrt(np.mean(squares)))
    worse = transition_errors(model, beliefs, agent, obs, action, next_obs + 0.01)
    assert np.median(worse) > 2 * np.median(found)


def test_what_is_not_finite_is_infinite_and_what_a_bound_set_says_nothing(simulator, cars):
    agent, obs, action, next_obs = (torch.from_numpy(x[:2]) for x in (cars.agent, cars.obs, cars.action, cars.next_obs))
    next_obs = next_obs.clone()
    next_obs[0, 1] = torch.nan
    next_obs[1] = torch.tensor([-1.2, 0.07])
    found = transition_errors(simulator.model, simulator.beliefs, agent, obs, action, next_obs)
    assert found[0] == np.inf and np.isnan(found[1])


def test_one_transition_alone_is_no_alarm(simulator, fleet):
    band = measure_band(simulator.model, simulator.beliefs, fleet, false_alarms=10.0)
    once = band.after(0.0, 1e9)
    assert once <= band.limit < band.after(band.limit, 1e9)


def test_after_an_alarm_the_surprise_begins_anew_behind_a_pause():
    steps = np.ones((2, 100))
    steps[1] = -1
    count, highest = _alarms(steps, 4.5)
    # 5 steps to the first alarm, then every pause and 5 more.
    assert count == 1 + (100 - 5) // (ALARM_PAUSE - 1 + 5) and highest.tolist() == [5, 0]


@pytest.mark.parametrize("allowed", [0, 3, 20])
def test_the_limit_is_the_lowest_that_has_no_more_alarms_than_allowed(allowed):
    steps = np.random.default_rng(0).normal(-0.5, 1.0, (50, 80))
    limit = _lowest_limit(steps, allowed)
    assert _alarms(steps, limit)[0] <= allowed < _alarms(steps, 0.9 * limit)[0]


def test_a_rate_holds_on_new_agents_like_the_logged_ones():
    rng, rate, length, others = np.random.default_rng(1), 0.004, 50, 400
    allowed = int(rate * length * 101 - 1)
    limit = _lowest_limit(rng.exponential(1 / np.log(10), (100, length)) - 1.0, allowed)
    count, _ = _alarms(rng.exponential(1 / np.log(10), (others, length)) - 1.0, limit)
    assert 0.3 * rate < count / (others * length) < 1.5 * rate


def test_stretches_are_of_second_halves_and_too_few_agents_are_refused(fleet):
    stretches, allowed = draw_stretches(fleet, 10.0)
    assert [len(s) for s in stretches] == [10] * 60 and allowed == 5
    for agent, stretch in enumerate(stretches):
        assert (fleet.agent[stretch] == agent).all() and (stretch % 60 >= 30).all() and (np.diff(stretch) == 1).all()
    with pytest.raises(ValueError, match="60 agents with 1,800 steps .* too few to promise 0.5 false alarms"):
        draw_stretches(fleet, 0.5)
    for impossible in (0.0, 101.0):
        with pytest.raises(ValueError, match="cannot be kept"):
            draw_stretches(fleet, impossible)
    alone = replace(fleet, agent=np.arange(len(fleet)), n_agents=len(fleet))
    with pytest.raises(ValueError, match="0 agents with 0 steps"):
        draw_stretches(alone, 10.0)
