"""What planners ask of dynamics, what a planner of one's own writes, and planners that travel to other processes."""

import csv
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from gymnasium import spaces

from persim_gym.envs import DOMAINS
from persim_gym.planning import CEM, MPC, Plan, Planner, rollout_returns
from persim_gym.planning.scoring import best_first
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import FunctionDynamics, PlanningDynamics, Task, never, planning_dynamics
from persim_gym.workflows import plan as plan_runs
from persim_gym.workflows.plan import TRUE_DYNAMICS, PlanSettings, plan_returns, planner_label

FIRST = Task(lambda obs, action, next_obs: next_obs[..., 0], never)


# --- dynamics -----------------------------------------------------------------------------------------------------


def test_a_plain_function_is_taken_for_one_member():
    wrapped = planning_dynamics(lambda obs, action: obs + 1.0)
    assert isinstance(wrapped, FunctionDynamics)
    assert (wrapped.members, wrapped.fused, wrapped.stops, wrapped.concurrent, wrapped.tile) == (1, *[False] * 3, None)
    assert planning_dynamics(wrapped) is wrapped
    np.testing.assert_array_equal(wrapped(np.zeros((1, 3, 2)), np.zeros(3)), 1.0)


def test_our_own_dynamics_say_what_planners_ask():
    simulator = load_simulator("cartpole/random-v0")
    said = {
        "simulator": simulator.dynamics(0),
        "online": simulator.online(0),
        "true": DOMAINS["cartpole"].dynamics(0),
        "robot": DOMAINS["hopper"].dynamics(0),
    }
    assert all(isinstance(dynamics, PlanningDynamics) for dynamics in said.values())
    assert {name: dynamics.members for name, dynamics in said.items()} == {
        "simulator": simulator.model.config.members,
        "online": simulator.model.config.members,
        "true": 1,
        "robot": 1,
    }
    assert [name for name, dynamics in said.items() if dynamics.fused] == ["simulator", "online", "robot"]
    assert [name for name, dynamics in said.items() if dynamics.stops] == ["simulator", "online", "robot"]
    assert [name for name, dynamics in said.items() if dynamics.concurrent] == ["simulator"]


def test_dynamics_that_state_no_rollout_are_called_step_by_step():
    class Own(PlanningDynamics):
        members = 2

        def __call__(self, obs, action):
            return obs + np.array([1.0, 3.0])[:, None, None]

    returns = rollout_returns(Own(), FIRST, np.zeros(2), np.zeros((3, 4), dtype=int))
    assert returns.tolist() == [(1 + 2 + 3 + 4) * 2.0] * 3


# --- planners -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constants(Planner):
    """Repeats one of a few actions."""

    candidates: int = 3
    horizon: int = 4
    actions: tuple[int, ...] = (0, 1, 2)

    def _search(self, rows, action_space):
        sequences = np.repeat(np.array(self.actions)[:, None], self.horizon, axis=1)
        returns = rows.score(np.stack([sequences] * len(rows.rngs)))
        return [Plan(sequences[best_first(earned, 1)[0]]) for earned in returns]


def test_a_planner_of_ones_own_writes_its_search_alone():
    def walk(obs, action):
        return obs + (action - 1.0)[..., None]

    policy = MPC(walk, FIRST, spaces.Discrete(3), planner=Constants(actions=(0, 2, 1)))
    assert policy.predict(np.zeros((2, 1)))[0].tolist() == [2, 2]
    assert planner_label(policy.planner) == "Constants actions=(0,2,1)"
    with pytest.raises(ValueError, match="Constants needs at least one of horizon, got 0"):
        Constants(horizon=0)


def test_planners_reach_the_episodes_as_they_are_and_have_rows_of_their_own(tmp_path, monkeypatch):
    """As if in other processes: what travels there is pickled."""
    seen, out = [], tmp_path / "plan.csv"

    def jobs_here(function, jobs, log, *, constants, drop, **_):
        for job in jobs:
            if log.get(job) is None:
                given = pickle.loads(pickle.dumps({**constants, **{k: v for k, v in job.items() if k not in drop}}))
                seen.append(given["settings"].planner)
                log.add(job, function(**given))
        return [log.get(job) for job in jobs]

    monkeypatch.setattr(plan_runs, "run_jobs", jobs_here)
    planners = [CEM(10, 3, 2, 5), CEM(10, 3, 2, 5, first_std=(0.1, 0.9)), CEM(10, 3, 2, 5, first_std=(0.2, 0.9))]
    for planner in [*planners, *planners]:
        plan_returns(PlanSettings("pendulum", TRUE_DYNAMICS, planner, steps=3), "", [0], 1, out)
    assert seen == planners
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sizes = "cem candidates=10 horizon=3 iterations=2 elites=5"
    assert [row["planner"] for row in rows] == [sizes, f"{sizes} first_std=(0.1,0.9)", f"{sizes} first_std=(0.2,0.9)"]
    assert len({row["return"] for row in rows}) == 3
