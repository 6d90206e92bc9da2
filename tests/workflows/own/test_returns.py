"""Returns inside a simulator of data of no domain: those of its environment, and what a policy is held against."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from rich.console import Console
from support.jobs import run_here
from support.recipes import TINY
from support.simulators import own_simulator
from support.tank_data import tank_data

from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.labels import Labels
from persim_gym.planning import RandomShooting
from persim_gym.simulator.registry import load_simulator
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.transitions import Transitions
from persim_gym.workflows import plan as plan_runs
from persim_gym.workflows.own.plan import own_plan_returns, own_plan_table, run_own_episode
from persim_gym.workflows.own.returns import (
    ClonedPolicy,
    ConstantPolicy,
    Returns,
    constant_actions,
    logged_returns,
    own_data,
    references,
    simulated_returns,
)
from persim_gym.workflows.plan import NO_DOMAIN, PlanSettings, known_dynamics, policy_of, stream_of
from persim_gym.workflows.train import train

CONTINUOUS = EnvironmentSpec(flat_box([-9] * 2, [9] * 2), flat_box([-1.0, 0.0], [1.0, 4.0]), 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(own_simulator(tmp_path_factory.mktemp("own") / "poles", "", starts=True))


@pytest.fixture(scope="module")
def tanks():
    return tank_data(agents=4, noise=0.01)


@pytest.fixture(scope="module")
def simulator(tanks, tmp_path_factory):
    labels = Labels(agents=("A", "B", "C", "2"), choices=("drain", "fill"))
    spec = EnvironmentSpec(flat_box([-np.inf] * 2, [np.inf] * 2), spaces.Discrete(2), 60, labels=labels)
    keywords = {"recipe": replace(TINY, epochs=8), "holdout": False, "progress": False}
    return train(tanks, name="my/tanks", spec=spec, out=tmp_path_factory.mktemp("simulators") / "tanks", **keywords)


def test_a_return_is_that_of_the_environment_under_the_same_seed(simulator):
    path = str(simulator.folder)
    found = simulated_returns(ConstantPolicy(1), path, 3, [5, 6], steps=9)
    for row, seed in enumerate((5, 6)):
        env = gym.make("persim_gym:PersimEnv-v0", simulator=path, agent="2", starts="logged")
        env.reset(seed=seed)
        earned = sum(env.step(1)[1] for _ in range(9))
        assert found.earned[row] == pytest.approx(earned, rel=1e-4) and found.steps[row] == 9
    assert simulated_returns(ConstantPolicy(1), path, 3, [5]).steps.tolist() == [60]  # The time limit.


def test_what_a_policy_is_held_against_starts_where_it_does(simulator, tanks):
    path = str(simulator.folder)
    found = references(path, tanks, 1, [3, 4, 5], steps=6)
    assert list(found) == [
        "random actions",
        f"constant action, the best one: {best_choice(found)}",
        "logged behaviour, cloned",
        "logged behaviour, as logged (not simulated)",
    ]
    again = simulated_returns(RandomPolicy(simulator.action_space, 3), path, 1, [3, 4, 5], 6)
    np.testing.assert_array_equal(found["random actions"].earned, again.earned)
    each = [simulated_returns(ConstantPolicy(a), path, 1, [3, 4, 5], 6).earned.mean() for a in (0, 1)]
    assert found[f"constant action, the best one: {('drain', 'fill')[int(np.argmax(each))]}"].earned.mean() == max(each)
    logged = found["logged behaviour, as logged (not simulated)"]
    own = tanks.agent == 1
    np.testing.assert_allclose(logged.earned.sum(), tanks.reward[own].sum(), rtol=1e-5)
    assert logged.steps.tolist() == [60, 60]
    assert list(references(path, None, 1, [3], steps=2))[2:] == []


def best_choice(found):
    return next(name for name in found if name.startswith("constant")).rpartition(": ")[2]


def test_cloned_behavior_does_what_was_done_close_by(tanks):
    rule = replace(tanks, action=(tanks.obs[:, 0] > 1).astype(np.int64))
    action, _ = ClonedPolicy(rule, 2).predict(np.array([[1.4, 0.0], [0.4, 0.0]], dtype=np.float32))
    assert action.tolist() == [1, 0]
    few = rule.select((rule.agent == 2) & (np.cumsum(rule.agent == 2) < 3))
    assert ClonedPolicy(few, 2).predict(few.obs)[0].shape == (2,)


def test_constants_are_choices_or_low_middle_and_high(tanks, tmp_path):
    numbers = replace(tanks, action=np.column_stack([2.0 * tanks.action - 1, 4.0 * tanks.action]).astype(np.float32))
    recipe = replace(TINY, epochs=1, action_layers=(8,))
    keywords = {"spec": CONTINUOUS, "recipe": recipe, "holdout": False, "progress": False}
    loaded = train(numbers, name="my/numbers", out=tmp_path / "n", **keywords)
    assert {name: action.tolist() for name, action in constant_actions(loaded)} == {
        "lowest": [-1, 0], "middle": [0, 2], "highest": [1, 4]
    }  # fmt: skip
    assert simulated_returns(ConstantPolicy(np.float32([0, 2])), str(loaded.folder), 0, [1]).steps.tolist() == [7]


def test_logged_returns_of_ones_own_task_are_by_that_task(tanks, simulator):
    class Known:
        spec = replace(simulator.spec, task="mine:task")

        class task:  # noqa: N801
            @staticmethod
            def reward(obs, action, next_obs):
                return next_obs[..., 0] * 0 + 2.0

    assert logged_returns(Known, tanks, 0).earned.tolist() == [120.0, 120.0]


def test_the_data_of_a_simulator_are_used_where_they_are_here(simulator, folder):
    assert own_data(folder) is None and own_data(str(simulator.folder)) is None  # Given as objects, they have no name.


def test_planning_without_a_domain_is_planning_inside_the_simulator(simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_runs, "run_jobs", run_here)
    domain, dynamics, folder = known_dynamics(str(simulator.folder), truth=False)
    assert domain == NO_DOMAIN
    settings = PlanSettings(domain, dynamics, RandomShooting(8, 3), steps=5)
    returns = own_plan_returns(settings, folder, [2, 0, 2], 2, tmp_path / "p.csv", progress=False)
    assert list(returns) == [2, 0] and returns[2].steps.tolist() == [5, 5]
    policy = policy_of(settings, folder, 2, stream_of(0, 2, 1))
    assert returns[2].earned[1] == simulated_returns(policy, folder, 2, [stream_of(0, 2, 1)], 5).earned[0]
    assert run_own_episode(settings, folder, 2, 0, 1)["return"] == returns[2].earned[1]
    with pytest.raises(ValueError, match="agent 9 is not in"):
        own_plan_returns(settings, folder, [9], 1, tmp_path / "q.csv", progress=False)
    table = own_plan_table("title", settings, folder, returns)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    shown = captured.get()
    assert "simulated; there is no true environment here" in shown and shown.count("planning") == 2
    assert " C " in shown and " A " in shown  # Agents are called by their names.


def test_episodes_that_end_count_no_further(folder):
    class Ending:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros(len(observation), dtype=np.int64), None

    found = simulated_returns(Ending(), folder, 1, [0, 1, 2])
    assert isinstance(found, Returns) and (found.steps <= 20).all()
    assert load_simulator(folder).episode_steps == 20 and isinstance(tank_data(agents=1), Transitions)
