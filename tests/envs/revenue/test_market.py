"""The market: who comes, what is sold, and that chance is drawn once an episode."""

import gymnasium as gym
import numpy as np
import pytest
from scipy.stats import chisquare, kstest, poisson

from persim_gym.envs import DOMAINS
from persim_gym.envs.revenue.market import CLASSES, PERIODS, SEATS, Market, at_most, uniform

DOMAIN = DOMAINS["revenue"]
ROWS = 5_000


def sold_in(market, seats, periods, lowest):
    """Seats sold in one period of `ROWS` scenarios, and the state after it."""
    state = DOMAIN.initial_state(np.random.default_rng(0), ROWS)
    state[:, 0], state[:, 1], state[:, 2] = seats, periods, 0.0
    after = market(state, np.full(ROWS, lowest))
    return state[:, 0] - after[:, 0], after


@pytest.mark.parametrize("agent", range(5))
def test_sales_are_poisson_with_the_demand_as_mean(agent):
    market = DOMAIN.physics(**DOMAIN.agent_covariates(agent))
    for periods, lowest in ((60, 4), (31, 2), (5, 1)):
        sold, _ = sold_in(market, SEATS, periods, lowest)
        mean = market.demand(np.float64(periods), lowest)
        most = int(poisson.ppf(0.999, mean))
        seen = np.bincount(np.minimum(sold, most).astype(int), minlength=most + 1)
        expected = np.append(poisson.pmf(np.arange(most), mean), poisson.sf(most - 1, mean)) * ROWS
        assert chisquare(seen, expected).pvalue > 1e-4


def test_no_more_is_sold_than_there_is_and_each_at_the_fare_of_the_lowest_open_class():
    market = Market(960.0, 0.8, 4.0, 0.7)
    for lowest, fare in ((1, 1.0), (2, 0.7), (3, 0.49), (4, 0.343)):
        sold, after = sold_in(market, 3.0, 4, lowest)
        assert set(sold) <= {0.0, 1.0, 2.0, 3.0} and sold.max() == 3.0
        np.testing.assert_allclose(after[:, 2], fare * sold, rtol=1e-12)
        np.testing.assert_array_equal(after[:, 1], 3.0)
    assert not sold_in(market, 3.0, 4, 0)[0].any()
    assert not sold_in(market, 3.0, 0, 1)[0].any()


def test_the_average_scenario_is_the_mean_over_scenarios():
    market = DOMAIN.physics(**DOMAIN.agent_covariates(0))
    for seats in (2.0, 12.0, 180.0):
        sold, after = sold_in(market, seats, 10, 3)
        expected = DOMAIN.dynamics(0)(np.array([seats, 10.0, 0.0]), np.int64(3))
        error = sold.std() / np.sqrt(ROWS)
        assert abs(after[:, 0].mean() - expected[0]) < 4 * error
        assert abs(after[:, 2].mean() - expected[2]) < 4 * error


def test_all_customers_of_the_horizon_come():
    """The lowest fare tends to nothing, which everyone pays."""
    for lateness in (-0.8, 0.0, 0.8):
        market = Market(200.0, lateness, 4.0, 1e-9)
        assert market.demand(np.arange(1.0, PERIODS + 1), CLASSES).sum() == pytest.approx(200.0)


def test_who_comes_is_the_same_whatever_the_seller_does():
    market, rng = DOMAIN.physics(**DOMAIN.agent_covariates(0)), np.random.default_rng(3)
    one, other = np.repeat(DOMAIN.initial_state(rng, 1), 2, axis=0)[:, None]
    for _ in range(PERIODS):
        before = one, other
        one, other = market(one, np.array([4])), market(other, np.array([3]))
        if one[0, 0] > 0:  # Who pays the dearer class would have taken the cheaper.
            assert before[0][0, 0] - one[0, 0] >= before[1][0, 0] - other[0, 0]


def test_random_numbers_are_uniform_and_independent_of_period_and_scenario():
    scenario = DOMAIN.initial_state(np.random.default_rng(0), 2000)[:, 3]
    for numbers in (scenario, np.arange(1.0, 2001.0)):
        drawn = uniform(numbers[:, None], np.arange(1.0, PERIODS + 1))
        assert kstest(drawn.ravel(), "uniform").pvalue > 1e-3
        correlation = np.corrcoef(drawn.T)[~np.eye(PERIODS, dtype=bool)]
        assert abs(correlation).max() < 5 / np.sqrt(2000)
        assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 5 / np.sqrt(2000)


def test_poisson_probabilities_are_scipys():
    means = np.array([0.0, 1e-9, 0.3, 10.8, 200.0])
    np.testing.assert_allclose(at_most(means), poisson.cdf(np.arange(SEATS), means[:, None]), rtol=1e-9, atol=1e-15)


def test_an_episode_ends_sold_out_or_at_departure():
    env = gym.make(DOMAIN.env_id, customers=960.0, lateness=0.8, sensitivity=3.5)
    env.reset(seed=0)
    for lowest, ended in ((4, lambda obs: obs[0] == 0 < obs[1]), (0, lambda obs: obs[1] == 0 < obs[0])):
        env.reset(seed=0)
        for _ in range(PERIODS):
            obs, *_, terminated, _, _ = env.step(lowest)
            assert terminated == ended(obs) == (obs[0] == 0 or obs[1] == 0)
            if terminated:
                break
        assert terminated


def test_the_reward_is_the_revenue_of_the_period():
    env = gym.make(DOMAIN.env_id, agent=2)
    env.reset(seed=5)
    seats, _, earned, _ = env.unwrapped.state
    for _ in range(20):
        obs, reward, *_ = env.step(3)
        assert reward == pytest.approx(0.8**2 * (seats - obs[0]), abs=1e-9)
        earned, seats = earned + reward, obs[0]
    assert obs[2] == pytest.approx(earned, rel=1e-6)


def test_a_scenario_can_be_chosen_and_the_average_one_sells_fractions():
    env = gym.make(DOMAIN.env_id)
    seen = []
    for scenario in (7, 7, 8, 0):
        env.reset(options={"state": [SEATS, PERIODS, 0, scenario]})
        seen.append([env.step(4)[0][0] for _ in range(10)])
    assert seen[0] == seen[1] != seen[2]
    assert seen[3][0] != round(seen[3][0])
