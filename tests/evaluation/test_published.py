"""The thesis's published numbers are those of its tables."""

import pytest

from persim_gym.evaluation.published import (
    published_error,
    published_logging,
    published_logging_agents,
    published_return,
)


def test_published_numbers_are_the_tables():
    assert published_error("mountaincar", "pure", 0) == (0.025, 0.969)  # Table B.1
    assert published_error("mountaincar", "pure", 1) == (0.090, 0.973)
    assert published_return("mountaincar", "pure", 0, "BCQ-A") == -44.79  # Table B.4
    assert published_return("cartpole", "random", 0, "BCQ-A") == 43.90  # Table B.5
    assert published_logging("cartpole", "random") == (22.39, 23.39)  # Table A.1
    assert published_logging("halfcheetah", "pure") == (1894.10, 1000.0)


@pytest.mark.parametrize("domain", ["mountaincar", "cartpole", "halfcheetah"])
@pytest.mark.parametrize("policy", ["pure", "random", "pure-eps-20", "pure-eps-40"])
def test_every_experiment_of_the_thesis_has_published_numbers(domain, policy):
    assert published_logging(domain, policy) is not None
    for agent in range(5):
        assert published_error(domain, policy, agent) is not None
        assert published_return(domain, policy, agent) is not None
        assert published_return(domain, "", agent, "True env + MPC") is not None


def test_what_the_thesis_does_not_have_is_none():
    assert published_error("pendulum", "random", 0) is None
    assert published_return("cartpole", "random", 7) is None
    assert published_logging("pendulum", "random") is None


def test_table_a1_of_single_agents():
    assert published_logging_agents("cartpole", "random") == (59, 23, 10, 26, 17)
    assert published_logging_agents("halfcheetah", "pure") == (522.40, 1246.32, 251.25, 2646.85, 1011.99)
    assert published_logging_agents("pendulum", "random") is None
