"""What dynamics are told of an agent's last steps."""

import numpy as np
import pytest

from persim_gym.history import History


def walked(steps, rows=2, action_dim=0):
    """A history of 3 steps after `steps` steps from 0, 1, 4, 9, …; actions count them."""
    history = History.none(rows, 3, 2, action_dim)
    for t in range(steps):
        action = np.full((rows, action_dim), t) if action_dim else np.full(rows, t)
        history = history.after(np.full((rows, 2), t**2), action, np.full((rows, 2), (t + 1) ** 2))
    return history


@pytest.mark.parametrize("action_dim", [0, 2])
def test_it_slides_along(action_dim):
    history = walked(5, action_dim=action_dim)
    np.testing.assert_array_equal(history.change[0, :, 0], [5, 7, 9])
    np.testing.assert_array_equal(history.action.reshape(2, 3, -1)[1, :, 0], [2, 3, 4])
    assert history.known.all()
    assert history.action.dtype == (np.float32 if action_dim else np.int64)


def test_a_young_episode_begins_with_unknown_steps():
    history = walked(1)
    np.testing.assert_array_equal(history.known[0], [False, False, True])
    np.testing.assert_array_equal(history.change[0, :, 0], [0, 0, 1])


def test_rows_that_begin_forget_and_others_do_not():
    history = walked(3)
    history.forget(np.array([1]))
    assert history.known[0].all()
    assert not history.known[1].any() and not history.change[1].any() and not history.action[1].any()


def test_the_last_steps_of_a_longer_and_of_a_shorter_history():
    history = walked(3)
    np.testing.assert_array_equal(history.last(2).change, history.change[:, 1:])
    longer = history.last(5)
    np.testing.assert_array_equal(longer.known[0], [False, False, True, True, True])
    np.testing.assert_array_equal(longer.change[:, 2:], history.change)
    assert longer.last(3).action.tolist() == history.action.tolist()
