"""The optimum and the rule of thumb: what they earn."""

import numpy as np
import pytest

from persim_gym.envs import DOMAINS
from persim_gym.envs.revenue import rules
from persim_gym.envs.revenue.market import CLASSES, PERIODS, SEATS, Market
from persim_gym.envs.revenue.rules import (
    BookingTable,
    emsr_b_policy,
    expected_revenue,
    optimal_policy,
    random_revenue,
)
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.returns import episode_returns

DOMAIN = DOMAINS["revenue"]
every_test_agent = pytest.mark.parametrize("agent", range(5))


@every_test_agent
def test_values_are_the_mean_returns_in_the_environment(agent):
    covariates = DOMAIN.agent_covariates(agent)
    optimum, rule = optimal_policy(**covariates), emsr_b_policy(**covariates)
    assert expected_revenue(optimum, **covariates) == pytest.approx(optimum.revenue, rel=1e-12)
    for policy, value in (
        (optimum, optimum.revenue),
        (rule, expected_revenue(rule, **covariates)),
        (RandomPolicy(DOMAIN.action_space), random_revenue(**covariates)),
    ):
        returns = episode_returns(policy, DOMAIN, agent, episodes=200, seed=agent)
        assert abs(returns.mean() - value) < 4 * returns.std() / np.sqrt(len(returns)) + 1e-9


@every_test_agent
def test_the_optimum_is_above_the_rule_and_the_rule_above_chance(agent):
    covariates = DOMAIN.agent_covariates(agent)
    best = optimal_policy(**covariates).revenue
    for marginal in (False, True):
        rule = expected_revenue(emsr_b_policy(marginal, **covariates), **covariates)
        assert random_revenue(**covariates) < rule <= best


def test_no_change_of_one_decision_improves_on_the_optimum():
    optimum, rng = optimal_policy(), np.random.default_rng(0)
    for _ in range(10):
        lowest = optimum.lowest.copy()
        lowest[rng.integers(1, PERIODS + 1), rng.integers(1, SEATS + 1)] = rng.integers(CLASSES + 1)
        assert expected_revenue(BookingTable(lowest)) <= optimum.revenue + 1e-12


def test_one_seat_on_the_last_day_is_worth_the_best_fare_times_the_chance_that_someone_pays_it():
    market = Market(640.0, 0.0, 5.0, 0.65)
    chances = [1 - np.exp(-640 / 60 * np.exp(-(0.65**k) * 5 * (1 - 0.9 * (1 - 0.5 / 60)))) for k in range(CLASSES)]
    worth = [0.65**k * chance for k, chance in enumerate(chances)]
    optimum = optimal_policy()
    assert optimum.value[1, 1] == pytest.approx(max(worth), rel=1e-12)
    assert optimum.lowest[1, 1] == 1 + np.argmax(worth)
    # With more seats than anyone could want, each day stands alone: the class of most revenue is open.
    days = np.arange(1.0, PERIODS + 1)
    alone = np.stack([market.fare(k) * market.demand(days, k) for k in range(1, CLASSES + 1)], axis=1)
    assert optimum.value[2, SEATS] == pytest.approx(alone[:2].max(axis=1).sum(), rel=1e-9)
    assert not optimum.value[0].any() and not optimum.value[:, 0].any()


def test_two_classes_are_protected_as_littlewood_says():
    """Half the fare protects the median of a normal demand, more of it less."""
    levels = rules._protection_levels(np.array([1.0, 0.5, 0.5, 0.5]), np.array([16.0, 1e-9, 1e-9, 1e-9]))
    assert levels[1] == pytest.approx(16.0)
    levels = rules._protection_levels(np.array([1.0, 0.8413447, 0.1, 0.1]), np.array([16.0, 1.0, 1.0, 1.0]))
    assert levels[1] == pytest.approx(12.0, abs=1e-4)  # one standard deviation, 4, below the mean
    assert (np.diff(levels) >= 0).all()


def test_a_class_that_costs_more_than_it_brings_is_never_opened():
    levels = rules._protection_levels(np.array([1.0, 0.4, -0.1, -0.2]), np.array([5.0, 5.0, 5.0, 5.0]))
    assert np.isinf(levels).tolist() == [False, False, True, True]


def test_a_table_is_read_as_stable_baselines_reads_a_policy():
    table = optimal_policy()
    single, _ = table.predict(np.array([70.0, 60.0, 0.0], dtype=np.float32))
    rows, _ = table.predict(np.array([[70.0, 60.0, 0.0], [1.0, 1.0, 3.0]], dtype=np.float32))
    assert np.ndim(single) == 0 and single == rows[0] == table.lowest[60, 70]
    assert rows[1] == table.lowest[1, 1]


def test_unknown_covariates_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'price'"):
        optimal_policy(price=1.0)
    with pytest.raises(ValueError, match=r"fare_ratio=2.0 is outside \[0.5, 0.8\]"):
        emsr_b_policy(fare_ratio=2.0)
