"""Ends of episodes in kernels: decided as the rule's call decides."""

import itertools

import numpy as np
import pytest
from support.ends import RULES, around

from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.task import Ends

# --- what a rule decides ------------------------------------------------------------------------------------------


SENSES = ("<", "<=", ">", ">=")
EVERY_RULE = [
    Ends(where, ((0, one, 0.1), (range(1, 4), other, np.float64(-0.3))))
    for where, one, other in itertools.product(("any", "all", "not all"), SENSES, SENSES)
]


@pytest.mark.parametrize("rule", [*EVERY_RULE, *RULES.values()], ids=str)
def test_kernels_decide_as_the_call_does(rule):
    size = 1 + max(component for component, _, _ in rule.each)
    obs = around(rule, size, np.float32, 3000)
    running = np.random.default_rng(1).permutation(3000)[:2000]
    expected = running[~rule(obs)[running]]
    listed = np.append(running, np.zeros(1000, dtype=np.int64))
    left = drop_finished(compiled_rule(rule), np.ascontiguousarray(obs.T), listed, 2000, np.empty(3000, dtype=np.uint8))
    np.testing.assert_array_equal(listed[:left], expected)


# --- dynamics of others -------------------------------------------------------------------------------------------


def test_the_kernels_write_nothing_where_there_is_no_step():
    live, obs = np.array([True, False]), np.ones((2, 3), dtype=np.float32)
    memory = np.zeros((2, 3, 2), dtype=np.float32)
    running = np.empty(2, dtype=np.int64)
    assert list_running(live, obs, memory[:0], running) == 1 and running[0] == 0
    assert not memory.any()
