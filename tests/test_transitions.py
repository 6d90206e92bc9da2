"""Flat transitions: what they refuse, and that they keep what the episodes say."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.missing import lacking

from persim_gym.logged_arrays import UNKNOWN_ACTION, checked_complete, complete
from persim_gym.transitions import Transitions

ARRAYS = [f.name for f in fields(Transitions) if f.name not in ("n_agents", "source", "missing", "step")]


def episode(steps: int, obs_dim: int = 2, continuous: bool = False, seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    return SimpleNamespace(
        observations=rng.normal(size=(steps + 1, obs_dim)),
        actions=rng.normal(size=(steps, 2)) if continuous else rng.integers(3, size=steps),
        rewards=rng.normal(size=steps),
        terminations=np.arange(steps) == steps - 1,
    )


@pytest.mark.parametrize("name", ARRAYS[1:])
def test_arrays_of_unequal_length_are_refused_by_name(cars, name):
    with pytest.raises(ValueError, match=rf"{name}': 599"):
        replace(cars, **{name: getattr(cars, name)[1:]})


def test_no_transitions_at_all_are_refused(cars):
    with pytest.raises(ValueError, match="at least 1"):
        replace(cars, **{name: getattr(cars, name)[:0] for name in ARRAYS})


@pytest.mark.parametrize(("shift", "span"), [(-1, "-1–4"), (1, "1–6")])
def test_agents_out_of_range_are_refused(cars, shift, span):
    with pytest.raises(ValueError, match=f"agents span {span}, outside 0–5"):
        replace(cars, agent=cars.agent + shift)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["obs", "next_obs", "reward"])
def test_a_value_that_is_not_finite_is_named_with_its_episode_and_agent(cars, name, value):
    values = getattr(cars, name).copy()
    values[[250, 333]] = value
    with pytest.raises(ValueError, match=rf"{name} of transition 250 \(episode 2, agent 2\) .* 1 others"):
        replace(cars, **{name: values})


def test_a_continuous_action_that_is_not_finite_is_refused(pushes):
    actions = pushes.action.copy()
    actions[5, 1] = np.nan
    with pytest.raises(ValueError, match="action of transition 5"):
        replace(pushes, action=actions)


def test_arrays_of_other_types_become_those_that_are_documented(cars, pushes):
    other = replace(
        cars,
        agent=cars.agent.astype(np.int16),
        obs=cars.obs.astype(np.float64),
        action=cars.action.astype(np.uint8),
        reward=cars.reward.astype(np.float64),
        next_obs=cars.next_obs.astype(np.float64),
        terminated=cars.terminated.astype(int),
    )
    assert other.content_hash() == cars.content_hash()
    assert replace(pushes, action=pushes.action.astype(np.float64)).content_hash() == pushes.content_hash()
    with pytest.raises(ValueError, match="obs of transition 0 .* is not finite"):
        replace(cars, obs=cars.obs.astype(np.float64) * 1e300)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("action", lambda a: a.astype(np.float32), "action must be whole numbers.*continuous actions are .K, A."),
        ("agent", lambda a: a + 0.5, "agent must be whole numbers"),
        ("next_obs", lambda x: x[:, :1], r"obs \(600, 2\) and next_obs \(600, 1\) must be .K, D. both"),
        ("obs", lambda x: x[..., None], "flatten them first"),
    ],
)
def test_arrays_of_another_shape_or_kind_are_refused(cars, name, change, said):
    with pytest.raises(ValueError, match=said):
        replace(cars, **{name: change(getattr(cars, name))})


@pytest.mark.parametrize("name", ARRAYS)
def test_the_content_hash_changes_with_every_array(cars, name):
    values = getattr(cars, name).copy()
    values[7] = ~values[7] if values.dtype == np.bool_ else (values[7] + 1) % 6
    assert replace(cars, **{name: values}).content_hash() != cars.content_hash()


def test_the_content_hash_depends_on_the_content_only(cars):
    assert replace(cars, obs=np.asfortranarray(cars.obs), source="elsewhere").content_hash() == cars.content_hash()


def test_from_episodes_keeps_every_step_in_order():
    episodes = [episode(3, seed=1), episode(2, seed=2)]
    flat = Transitions.from_episodes(episodes, [4, 1], "two")
    np.testing.assert_array_equal(flat.agent, [4, 4, 4, 1, 1])
    np.testing.assert_array_equal(flat.trajectory, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(flat.terminated, [False, False, True, False, True])
    np.testing.assert_array_equal(flat.obs[3:], episodes[1].observations[:2].astype(np.float32))
    np.testing.assert_array_equal(flat.next_obs[:3], episodes[0].observations[1:].astype(np.float32))
    np.testing.assert_array_equal(flat.action[3:], episodes[1].actions)
    np.testing.assert_array_equal(flat.reward[:3], episodes[0].rewards.astype(np.float32))
    assert (len(flat), flat.n_agents) == (5, 5)


@pytest.mark.parametrize(("continuous", "dtype", "shape"), [(False, np.int64, (3,)), (True, np.float32, (3, 2))])
def test_from_episodes_keeps_the_kind_of_action(continuous, dtype, shape):
    action = Transitions.from_episodes([episode(3, continuous=continuous)], [0], "one").action
    assert (action.dtype, action.shape) == (dtype, shape)


def test_from_episodes_takes_the_size_of_the_population():
    assert Transitions.from_episodes([episode(3)], [1], "one", n_agents=500).n_agents == 500


def test_from_episodes_without_episodes_is_refused():
    with pytest.raises(ValueError, match="nothing: no episodes"):
        Transitions.from_episodes([], [], "nothing")


def test_select_keeps_exactly_the_masked_transitions(cars):
    kept = cars.select(cars.agent == 3)
    assert (len(kept), kept.n_agents, kept.source) == (100, cars.n_agents, cars.source)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(kept, name), getattr(cars, name)[300:400])


# --- missing values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["next_obs", "reward"])
def test_next_values_and_rewards_may_be_missing_where_data_say_so(cars, name):
    values = getattr(cars, name).copy()
    values[[250, 333]] = np.nan
    kept = replace(cars, **{name: values}, missing=True)
    assert np.isnan(getattr(kept, name)).any() and kept.select(kept.agent == 2).missing
    values[333] = np.inf
    with pytest.raises(ValueError, match=f"{name} of transition 333 .* is not finite"):
        replace(cars, **{name: values}, missing=True)


def test_an_observation_of_a_transition_is_never_missing(cars):
    obs = cars.obs.copy()
    obs[3, 1] = np.nan
    with pytest.raises(ValueError, match="obs of transition 3"):
        replace(cars, obs=obs, missing=True)


def holed(continuous: bool = False) -> SimpleNamespace:
    """An episode of eight steps: its second observation lacks a value, its sixth action, its last observation all."""
    whole = episode(8, continuous=continuous)
    whole.observations[1, 0] = whole.observations[8] = np.nan
    whole.rewards[3] = np.nan
    if continuous:
        whole.actions[5, 1] = np.nan
    else:
        whole.actions[5] = UNKNOWN_ACTION
    return whole


@pytest.mark.parametrize("continuous", [False, True])
def test_steps_without_all_of_their_inputs_are_left_out(continuous):
    whole = holed(continuous)
    episodes = [whole, episode(2, continuous=continuous)]
    flat = Transitions.from_episodes(episodes, [1, 0], "two", missing=True)
    kept = [0, 2, 3, 4, 6, 7]
    assert flat.step.tolist() == [*kept, 0, 1] and flat.trajectory.tolist() == [0] * 6 + [1] * 2
    assert flat.pieces.tolist() == [0, 1, 1, 1, 2, 2, 3, 3] and flat.gaps().tolist() == [[1, 1], [4, 1]]
    np.testing.assert_array_equal(flat.obs[:6], whole.observations[kept].astype(np.float32))
    np.testing.assert_array_equal(flat.next_obs[:6], whole.observations[1:][kept].astype(np.float32))
    np.testing.assert_array_equal(flat.reward[:6], whole.rewards[kept].astype(np.float32))
    np.testing.assert_array_equal(complete(flat.read([0])), [False, True, False, True, True, False, True, True])
    starts = flat.starts()
    assert starts[0].tolist() == [1, 0]  # an episode starts once, however many pieces it is in
    np.testing.assert_array_equal(starts[1][0], whole.observations[0].astype(np.float32))


def test_data_with_nothing_missing_are_those_that_are_not_marked():
    episodes = [episode(3, seed=1), episode(2, seed=2)]
    plain, same = (Transitions.from_episodes(episodes, [4, 1], "two", missing=missing) for missing in (False, True))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(plain, name), getattr(same, name))
    assert plain.content_hash() == same.content_hash() and plain.pieces.tolist() == same.pieces.tolist()


def test_where_steps_are_missing_is_part_of_the_content():
    flat = Transitions.from_episodes([holed()], [0], "one", missing=True)
    assert replace(flat, step=np.arange(6)).content_hash() != flat.content_hash()


def test_what_is_left_out_of_marked_data_leaves_a_gap(cars):
    some = replace(cars, missing=True).select(np.arange(600) % 100 != 50)
    assert some.pieces.max() == 11 and np.flatnonzero(np.diff(some.pieces))[:2].tolist() == [49, 98]


def test_infinite_values_are_refused_even_where_they_are_left_out():
    wrong = holed()
    wrong.observations[1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"one: episode 0 \(agent 3\) has infinite observations; a value .* is NaN"):
        Transitions.from_episodes([wrong], [3], "one", missing=True)


def test_nothing_that_is_left_is_refused():
    wrong = episode(4)
    wrong.observations[:, 1] = np.nan
    with pytest.raises(ValueError, match="one: all 4 transitions lack a value of observation or action"):
        Transitions.from_episodes([wrong], [3], "one", missing=True)


def test_methods_of_whole_transitions_are_told_what_is_left_out(cars):
    rows = lacking(cars).read([0])
    with pytest.warns(
        UserWarning, match="fleet: .* of 600 transitions lack a value of what followed, and are left out"
    ):
        assert checked_complete(rows, "fleet").sum() == (~np.isnan(rows["next_obs"]).any(axis=1)).sum()
    with pytest.raises(ValueError, match="fleet: all 600 transitions lack a value of what followed"):
        checked_complete(lacking(cars, share=1.0).read([0]), "fleet")
