"""Which tables of factors are updated row by row."""

from persim_gym.simulator.kernels.adam import is_sparse


def test_large_populations_are_trained_row_by_row():
    assert is_sparse(100_000, 64) and not is_sparse(500, 64)
