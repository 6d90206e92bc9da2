"""Rows of agents in a table of factors."""

import numpy as np
import pytest

from persim_gym.simulator.kernels.factor_table import different_agents, pack_rows


@pytest.mark.parametrize(("rank", "lines"), [(3, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_an_agent_s_row_is_whole_cache_lines(rank, lines):
    table, first, second = np.arange(3 * 7 * rank, dtype=np.float32).reshape(3, 7, rank)
    memory = pack_rows(table, first, second)
    assert memory.shape == (7, 16 * lines) and memory.ctypes.data % 64 == 0
    np.testing.assert_array_equal(memory[:, : 3 * rank], np.concatenate([table, first, second], axis=1))
    assert (memory[:, 3 * rank :] == 0).all()


def test_agents_of_a_batch_are_counted_once():
    rows = np.array([[4, 0], [1, 0], [4, 0], [2, 0], [1, 0]], dtype=np.float32)
    place, where, touched = np.zeros(6, dtype=np.int32), np.empty(5, dtype=np.int64), np.empty(5, dtype=np.int64)
    assert different_agents(rows, place, where, touched) == 3
    assert touched[:3].tolist() == [4, 1, 2] and where.tolist() == [0, 1, 0, 2, 1]
    assert not place.any()
