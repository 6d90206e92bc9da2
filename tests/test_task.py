"""Ends of episodes told as rules: what they decide."""

import pickle

import numpy as np
import pytest
import torch
from support.ends import FORMULAS, RULES, around

from persim_gym.envs import DOMAINS
from persim_gym.planning.scoring import rollout_returns
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import Ends, FunctionDynamics, PlanningDynamics, Task, never, planning_dynamics


def test_every_domain_but_those_that_never_end_tells_its_end_as_a_rule():
    assert {name for name, domain in DOMAINS.items() if domain.task.terminated is not never} == set(RULES) - {"learned"}
    for rule in RULES.values():
        assert isinstance(rule, Ends)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMULAS)
def test_rules_are_their_formulas_in_numpy_and_torch(name, dtype):
    formula, size = FORMULAS[name]
    obs = around(RULES[name], size, dtype)
    expected = formula(obs)
    assert 0.02 < expected.mean() < 0.98
    found = RULES[name](obs)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(RULES[name](torch.from_numpy(obs)).numpy(), expected)
    assert [bool(RULES[name](row)) for row in obs[:50]] == expected[:50].tolist()


def test_a_rule_is_a_value():
    rule = Ends("all", ((0, ">=", 1), (range(2, 4), "<", 0.5)))
    assert pickle.loads(pickle.dumps(rule)) == rule and hash(rule) == hash(pickle.loads(pickle.dumps(rule)))
    assert rule.each == [(0, ">=", 1.0), (2, "<", 0.5), (3, "<", 0.5)]
    assert rule != Ends("any", rule.comparisons)


@pytest.mark.parametrize(
    ("where", "comparisons"),
    [
        ("some", ((0, ">", 1.0),)),
        ("any", ()),
        ("any", ((0, "=", 1.0),)),
        ("any", ((-1, ">", 1.0),)),
        ("any", (("height", ">", 1.0),)),
        ("any", ((range(3, 3), ">", 1.0),)),
        ("any", ((range(0, 6, 2), ">", 1.0),)),
        ("any", ((0, ">", np.nan),)),
        ("any", ((True, ">", 1.0),)),
        ("any", ((0, ">", "1"),)),
        ("any", ((0, ">", None),)),
        ("any", ((0, [">"], 1.0),)),
        ("any", ((0, ">"),)),
        ("any", (0, ">", 1.0)),
        ("any", 0),
    ],
)
def test_what_is_no_rule_is_refused(where, comparisons):
    with pytest.raises(ValueError, match='is no end; write "any", "all" or "not all" of comparisons such as'):
        Ends(where, comparisons)


def test_components_may_be_numpys_integers():
    rule = Ends("any", ((np.int64(1), ">", np.float32(0.5)),))
    assert rule == Ends("any", ((1, ">", 0.5),)) and type(rule.comparisons[0][0]) is int


@pytest.mark.parametrize("span", [range(1, 3), range(2, 4)], ids=["partly there", "not there"])
def test_a_range_of_components_that_are_not_there_decides_nothing(span):
    rule = Ends("all", ((span, ">", 0.0),))
    for obs in (np.ones((4, 2)), np.ones(2), torch.ones(4, 2)):
        with pytest.raises(ValueError, match="compares more components than the 2 of observations"):
            rule(obs)


FIRST = Task(lambda obs, action, next_obs: next_obs[..., 0], never)


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
