"""The measures of benchmarks/revenue.py: the true expected change has no error, the optimum its own revenue."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from persim_gym.envs.revenue.rules import optimal_policy
from persim_gym.evaluation.acting import RandomPolicy

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
revenue = import_module("revenue")
RANDOM = RandomPolicy(revenue.DOMAIN.action_space)


class Truth:
    """The true expected change in place of a simulator."""

    def dynamics(self, agent):
        return revenue.DOMAIN.dynamics(agent)


def test_the_expected_change_is_right_but_for_the_rounding_of_observations():
    errors = revenue.one_step(Truth(), 1, RANDOM)
    assert max(errors.seats, errors.revenue) < 1e-5 < min(errors.seats_unchanged, errors.revenue_unchanged)


def test_the_expected_change_of_the_expectation_is_nearly_the_expectation(monkeypatch):
    """Not quite where seats run out, which they may do before or after they do on average."""
    monkeypatch.setattr(revenue, "SCENARIOS", 60)
    monkeypatch.setattr(revenue, "SEQUENCES", 5)
    errors = revenue.open_loop(Truth(), 0)
    assert errors.seats < 0.05 * errors.seats_unchanged and errors.revenue < 0.05 * errors.revenue_unchanged


def test_shares_are_of_the_optimum_in_the_same_scenarios():
    policies = {"optimum": optimal_policy(), "random": RANDOM}
    rows = {(row["policy"], row["metric"]): row["value"] for row in revenue.revenue_rows(0, policies, 20)}
    assert rows["optimum", "share"] == 1.0
    share = rows["random", "return"] / rows["optimum", "return"]
    assert rows["random", "share"] == pytest.approx(share, abs=1e-4)
    assert share < 0.7


@pytest.mark.slow
def test_booking_curves_are_drawn(tmp_path):
    curves = {agent: dict.fromkeys(revenue.STYLE, optimal_policy()) for agent, _ in revenue.DRAWN}
    revenue.draw(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
