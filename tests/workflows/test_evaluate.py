"""Prediction errors of a simulator by name or as it is, as the thesis measures them."""

import numpy as np
import pytest
from support.policies import Constant
from support.simulators import own_simulator
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows.evaluate import evaluate


def test_evaluation_is_the_prediction_error_of_each_agent():
    domain, simulator = DOMAINS["cartpole"], load_simulator("cartpole/random-v0")
    test = load_behavior_policy("cartpole", TEST)
    found = evaluate("cartpole/random-v0", [3, 0], episodes=4, seed=1)
    assert list(found) == [3, 0]
    for agent, error in found.items():
        expected = prediction_error(simulator.dynamics(agent), domain, agent, test, episodes=4, seed=1)
        for name in ("rmse", "r2", "true", "predicted"):
            np.testing.assert_array_equal(getattr(error, name), getattr(expected, name))


def test_a_policy_of_ones_own_acts_instead_of_the_test_policy():
    simulator = load_simulator()
    error = evaluate(simulator, [1], policy=Constant(2), episodes=3)[1]
    expected = prediction_error(simulator.dynamics(1), DOMAINS["mountaincar"], 1, Constant(2), episodes=3)
    np.testing.assert_array_equal(error.true, expected.true)
    assert error.mean_rmse == expected.mean_rmse


def test_what_has_no_truth_is_refused(tmp_path):
    with pytest.raises(ValueError, match="its card holds no errors on data that were held out"):
        evaluate(str(own_simulator(tmp_path / "own", "")))
    with pytest.raises(ValueError, match="agent 612 is not in"):
        evaluate("cartpole/random-v0", [612], episodes=1)


@pytest.mark.parametrize("given", [{"agents": "0-3"}, {"agents": 3}, {"episodes": 0}], ids=str)
def test_agents_are_several_numbers(given):
    with pytest.raises(ValueError, match="agents are several numbers, not .* and episodes at least 1"):
        evaluate("cartpole/random-v0", **given)


def test_the_command_line_draws_predictions_beside_the_true_environment(tmp_path):
    words = ["evaluate", "cartpole/random-v0", "--agents", "0,1", "--episodes", "2", "--plot", str(tmp_path / "x.png")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "predictions beside the true environment" in shown.stdout
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
