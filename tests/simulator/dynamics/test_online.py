"""Dynamics that learn: updates add up, and predictions follow them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.missing import lacking
from support.populations import DISCRETE, alone, logged, population, prior_of, stranger_of
from support.simulators import believed

from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.dynamics.online import OnlineDynamics
from persim_gym.simulator.inference.posterior import FactorPosterior, FactorPrior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.registry import load_simulator

# --- the closed form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [(), ("reward",), ("terminated",), ("reward", "terminated")], ids=str)
def test_rewards_and_ends_are_learned_from_online_where_they_are_told(known):
    model = population(replace(DISCRETE, extra_dim=2))
    data = logged(model, [7], 30)
    data = alone(replace(data, reward=np.arange(30) / 30, terminated=np.arange(30) % 7 == 0))
    noise = torch.full((2, 5), torch.inf, dtype=torch.float64)
    counted = [0, 1, 2, *(3 + i for i, name in enumerate(("reward", "terminated")) if name in known)]
    noise[:, counted] = 0.01
    expected = gather_statistics(model, noise, data)
    prior = FactorPrior(prior_of(model, 0.01).centres, torch.full((2, 5), 0.01, dtype=torch.float64))
    online = OnlineDynamics(model, FactorPosterior(prior, SufficientStatistics.none(2, 40, 4)))
    told = {name: getattr(data, name) for name in known}
    online.update(data.obs, data.action, data.next_obs, **told)
    torch.testing.assert_close(online.posterior.statistics.information, expected.information)
    torch.testing.assert_close(online.posterior.statistics.vector, expected.vector)
    for wrong in (np.nan, [1.0, 2.0]):
        with pytest.raises(ValueError, match="give a finite number for each"):
            online.update(data.obs[0], data.action[0], data.next_obs[0], reward=wrong)


# --- online ---------------------------------------------------------------------------------------------------------


def test_updates_one_at_a_time_equal_all_at_once(simulator, cars):
    data = stranger_of(cars)
    online = simulator.online()
    for i in range(len(data)):
        online.update(data.obs[i], data.action[i], data.next_obs[i])
    posterior = believed(simulator, data)
    factor = simulator.personalize(data).dynamics(5).factor
    np.testing.assert_allclose(online.factor, factor, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(online.posterior.statistics.information, posterior.statistics.information, rtol=1e-5)
    np.testing.assert_allclose(online.factor, posterior.mean[:, 0], rtol=1e-5, atol=1e-6)
    together = simulator.online()
    together.update(data.obs, data.action, data.next_obs)
    np.testing.assert_allclose(online.factor, together.factor, rtol=1e-5, atol=1e-6)


def test_online_dynamics_predict_with_what_they_have_learned(simulator, cars):
    data = stranger_of(cars)
    online = simulator.online()

    def error():
        return float(np.square(online(data.obs, data.action).mean(0) - data.next_obs).mean())

    before = error()
    online.update(data.obs[:20], data.action[:20], data.next_obs[:20])
    after = error()
    assert after < before
    online.forget()
    assert error() == before
    sampled = online.sample(np.random.default_rng(0))
    assert isinstance(sampled, AgentDynamics) and not torch.equal(sampled.factor, online.factor)


def test_online_starts_from_an_agent_s_own_beliefs(simulator):
    online = simulator.online(3)
    np.testing.assert_allclose(online.factor, simulator.dynamics(3).factor, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"agent 5 is not in this simulator \(5 agents: 0–4\)"):
        simulator.online(5)


def test_a_transition_that_is_not_finite_is_refused(simulator):
    with pytest.raises(ValueError, match="not finite"):
        simulator.online().update([0.0, np.nan], 1, [0.0, 0.0])


@pytest.mark.parametrize(
    ("obs", "action", "next_obs"),
    [
        ([0.0] * 4, 0, [0.0] * 4),  # as many as two observations
        ([0.0] * 3, 0, [0.0] * 3),
        ([[0.0, 0.0]], [0, 1, 1], [[0.0, 0.0]]),
        ([[0.0, 0.0]] * 3, 0, [[0.0, 0.0]] * 3),
        ([0.0, 0.0], 3, [0.0, 0.0]),
        ([0.0, 0.0], -1, [0.0, 0.0]),
        ([0.0, 0.0], 0.7, [0.0, 0.0]),
    ],
)
def test_a_transition_of_other_sizes_or_actions_is_refused_and_not_learned(simulator, obs, action, next_obs):
    online = simulator.online()
    with pytest.raises(ValueError, match="the simulator has 2 observations, and its actions are whole numbers 0–2"):
        online.update(obs, action, next_obs)
    assert online.posterior.statistics.seen.tolist() == [0]


@pytest.mark.parametrize("agent", [1.5, True])
def test_an_agent_to_learn_about_is_a_whole_number(simulator, agent):
    with pytest.raises(ValueError, match="is not in this simulator"):
        simulator.online(agent)


def test_a_single_transition_is_learned_and_predicted_as_it_comes():
    """As the README has it: no axis of rows anywhere."""
    online = load_simulator("cartpole/random-v0").online()
    obs, action = np.zeros(4, dtype=np.float32), 1
    before = online(obs, action)
    online.update(obs, action, before.mean(axis=0) + 0.01)
    assert before.shape == online(obs, action).shape == (5, 4) and not np.array_equal(before, online(obs, action))


def test_next_values_that_are_not_known_are_left_out_online(simulator, cars):
    data = lacking(stranger_of(cars), share=0.3)
    online = simulator.online()
    for i in range(len(data)):
        online.update(data.obs[i], data.action[i], data.next_obs[i])
    expected = believed(simulator, data).statistics
    np.testing.assert_allclose(online.posterior.statistics.information, expected.information, rtol=1e-5)
    np.testing.assert_allclose(online.posterior.statistics.vector, expected.vector, rtol=1e-5)
    assert np.isfinite(online.factor.numpy()).all()
    with pytest.raises(ValueError, match="not finite"):
        simulator.online().update([0.0, 0.0], 1, [0.0, np.inf])
