"""The examples run, on every kind of action."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name, *arguments):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(module.options().parse_args(list(arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["mountaincar/random-v0", "cartpole/random-v0"])
@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_examples_of_discrete_actions_run(algorithm, simulator):
    value = run_example(algorithm, "--simulator", simulator, "--steps", "4000", "--episodes", "3")
    low, high = (-500, 0) if simulator.startswith("mountain") else (1, 200)
    assert low <= value <= high


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["pendulum", "halfcheetah"])
@pytest.mark.parametrize("algorithm", ["sac", "td3", "ppo"])
def test_examples_of_continuous_actions_run(algorithm, domain, save_robot):
    value = run_example(algorithm, "--simulator", str(save_robot(domain)), "--steps", "3000", "--episodes", "1")
    low, high = (-2000, 0) if domain == "pendulum" else (-2000, 2000)
    assert low <= value <= high


@pytest.mark.slow
def test_one_policy_learns_for_many_agents():
    few, many = (
        run_example("one_policy_for_all", "--rows", "64", "--steps", steps, "--episodes", "5")
        for steps in ("64", "100000")
    )
    # an untrained policy may hold one agent's pole upright by chance, not the poles of all five
    assert np.mean(list(many.values())) > 2 * np.mean(list(few.values())), (few, many)
