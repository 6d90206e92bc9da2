"""What whole observations hold: lags and compartments are exact, and agree with those of the data."""

import numpy as np
import pytest

from persim_gym.observation_layout import LoggedSeries, ObservationLayout, PastColumn, action_components
from persim_gym.transitions import Transitions

KEEP = 0.75
# [x, load | x 1 before, x 2 before, action 1 before, load over four steps]; the action is column 6.
LAYOUT = ObservationLayout(1, 1, (PastColumn(0), PastColumn(2), PastColumn(6), PastColumn(1, KEEP)))


def logged(lengths=(5, 4), width=2, seed=0):
    rng, total = np.random.default_rng(seed), sum(lengths)
    obs = [rng.normal(size=(n + 1, width)).astype(np.float32) for n in lengths]
    return Transitions(
        agent=np.repeat(np.arange(len(lengths)), lengths),
        obs=np.concatenate([o[:-1] for o in obs]),
        action=rng.normal(size=(total, 1)).astype(np.float32),
        reward=np.zeros(total, dtype=np.float32),
        next_obs=np.concatenate([o[1:] for o in obs]),
        terminated=np.zeros(total, dtype=np.bool_),
        trajectory=np.repeat(np.arange(len(lengths)), lengths),
        n_agents=len(lengths),
    )


def test_lags_hold_the_values_of_the_steps_before():
    data = logged()
    wide = LAYOUT.widened(data, 0)
    assert LAYOUT.lag == 2 and wide.trajectory.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(wide.obs[:, 2], data.obs[[1, 2, 3, 6, 7], 0])
    np.testing.assert_array_equal(wide.obs[:, 3], data.obs[[0, 1, 2, 5, 6], 0])
    np.testing.assert_array_equal(wide.obs[:, 4], data.action[[1, 2, 3, 6, 7], 0])


def test_compartments_forget_at_their_rate_from_the_mean_of_what_flows_in():
    data = logged()
    wide = LAYOUT.widened(data, 0)
    level = data.obs[:5, 1].mean()
    for value in data.obs[:2, 1]:
        level = KEEP * level + (1 - KEEP) * value
    np.testing.assert_allclose(wide.obs[0, 5], level, rtol=1e-6)


def test_what_follows_a_row_is_the_next_row():
    wide = LAYOUT.widened(logged(), 0)
    np.testing.assert_array_equal(wide.next_obs[:2], wide.obs[1:3])
    stepped = LAYOUT.after(wide.obs, wide.action, wide.next_obs[:, : LAYOUT.present])
    np.testing.assert_array_equal(stepped, wide.next_obs)


def test_discrete_actions_are_remembered_choice_by_choice():
    data = logged(width=1)
    choices = np.arange(9) % 3
    layout = ObservationLayout(1, 0, (PastColumn(3), PastColumn(5)))
    wide = layout.widened(Transitions(**{**vars(data), "action": choices}), 3)
    assert wide.obs[:, 1].tolist() == [float(c == 0) for c in choices[[0, 1, 2, 3, 5, 6, 7]]]
    assert wide.obs[:, 2].tolist() == [float(c == 2) for c in choices[[0, 1, 2, 3, 5, 6, 7]]]
    assert action_components(np.array(1), 3).tolist() == [0, 1, 0]


def test_an_episode_without_a_past_begins_with_the_usual_one():
    layout = LAYOUT.with_usual(LAYOUT.widened(logged(), 0))
    begun = layout.begin(np.array([[2.0, 3.0]]))
    assert begun[0, :4].tolist() == [2, 3, 2, 2]
    np.testing.assert_allclose(begun[0, 4:], layout.usual[2:], rtol=1e-6)


def test_trajectories_shorter_than_the_history_are_refused():
    with pytest.raises(ValueError, match="no trajectory is longer than the 2 steps of the history"):
        LAYOUT.widened(logged((2, 1)), 0)
    with pytest.raises(ValueError, match="has 3 observations, not the 2"):
        LAYOUT.widened(logged(width=3), 0)


def test_a_layout_returns_from_its_card():
    layout = LAYOUT.with_usual(LAYOUT.widened(logged(), 0))
    assert ObservationLayout.from_json(layout.to_json()) == layout
    with pytest.raises(ValueError, match="keeps more than there is"):
        ObservationLayout.from_json({**layout.to_json(), "past": [[0, 1.5]], "usual": []})


def test_series_are_those_of_their_episodes():
    data = logged()
    series = LoggedSeries.from_transitions(data, slice(1, 2))
    np.testing.assert_array_equal(series.of(0)[:, 0], [*data.obs[:5, 1], data.next_obs[4, 1]])
    turned = series.reordered(np.array([1, 0]))
    np.testing.assert_array_equal(turned.of(1), series.of(0))
    np.testing.assert_array_equal(series.joined(turned).of(2), series.of(1))
