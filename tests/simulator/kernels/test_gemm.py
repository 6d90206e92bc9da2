"""The matrix products inside compiled kernels."""

import numpy as np
import pytest

from persim_gym.simulator.kernels.gemm import NARROW_COLUMNS, WIDE_COLUMNS, multiply_narrow, multiply_wide


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 13])
@pytest.mark.parametrize(
    ("multiply", "columns"),
    [
        (multiply_wide, WIDE_COLUMNS),
        (multiply_wide, 3 * WIDE_COLUMNS),
        (multiply_narrow, NARROW_COLUMNS),
        (multiply_narrow, 3 * NARROW_COLUMNS),
    ],
)
def test_products_equal_numpys(multiply, columns, rows, add):
    rng = np.random.default_rng(rows)
    a, b, before = (rng.standard_normal(s).astype(np.float32) for s in ((rows, 5), (5, columns), (rows, columns)))
    for factor, strides in ((a, (5, 1)), (np.ascontiguousarray(a.T), (1, rows))):  # rows first, summands first
        out = before.copy()
        multiply(factor, *strides, b, out, add)
        np.testing.assert_allclose(out, a @ b + add * before, rtol=0, atol=1e-5)
