"""What planners share: the unit box and the shifted plan."""

import numpy as np
from gymnasium import spaces

from persim_gym.planning.base import shifted, unit_box

# --- what all planners have in common -----------------------------------------------------------------------------


def test_actions_at_the_ends_of_a_finer_box_lie_inside_it():
    box = spaces.Box(np.array([-0.7, 0.0]), np.array([0.1, 1 / 3]), dtype=np.float64)
    assert not box.contains(box.high.astype(np.float32))
    ends = unit_box(box, "CEM").actions(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    assert ends.dtype == np.float32 and all(box.contains(end) for end in ends)
    np.testing.assert_allclose(ends, [box.low, box.high], rtol=1e-6)


# --- what is each planner's own -----------------------------------------------------------------------------------


def test_shifting_drops_the_first_action():
    np.testing.assert_array_equal(shifted(np.array([1, 2, 3]), 9), [2, 3, 9])
    moved = shifted(np.arange(12.0).reshape(2, 3, 2), -1.0)
    np.testing.assert_array_equal(moved[0], [[2, 3], [4, 5], [-1, -1]])
