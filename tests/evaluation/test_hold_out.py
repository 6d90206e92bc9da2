"""What is held out of data: no row of it is trained on, and rollouts go along unbroken logs alone."""

import numpy as np
import pytest
from support.tank_data import tank_data

from persim_gym.evaluation.hold_out import MIN_WINDOWS, follows, hold_out, horizons, lengths, rollouts


def keys(data):
    """Each transition as one number: trajectory and place."""
    return (
        [] if data is None else [row.tobytes() for row in np.column_stack([data.trajectory, data.obs, data.next_obs])]
    )


@pytest.fixture(scope="module")
def data():
    return tank_data(agents=20, episodes=2, steps=60)


def test_every_transition_is_in_one_part_and_the_shares_are_those_that_are_said(data):
    parts = hold_out(data, seed=0)
    every = sum((keys(p) for p in (parts.kept, parts.later, parts.strangers, parts.strangers_later)), [])
    assert sorted(every) == sorted(keys(data)) and not parts.said
    strangers = set(parts.strangers.agent)
    assert len(strangers) == 2 and strangers == set(parts.strangers_later.agent)
    assert not strangers & set(parts.kept.agent)
    for agent in strangers:  # The first fifth of a log of two episodes lies in the first one.
        first, log = parts.strangers.agent == agent, data.agent == agent
        assert first.sum() == np.ceil(0.2 * log.sum())
        np.testing.assert_array_equal(parts.strangers.obs[first], data.obs[log][: first.sum()])
    for trajectory in np.unique(parts.kept.trajectory):
        late, whole = parts.later.trajectory == trajectory, data.trajectory == trajectory
        assert late.sum() == whole.sum() // 5
        np.testing.assert_array_equal(parts.later.obs[late], data.obs[whole][-late.sum() :])


def test_a_seed_chooses_the_same_agents_and_another_one_others(data):
    chosen = [set(hold_out(data, seed).strangers.agent) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


NO_AGENT = "no agent was held out: of 9 agents none is spared, of 10 or more a tenth"
SHORT = ["no end of a trajectory was held out: a fifth of each is 0", "no agent was held out: their logs are too short"]


@pytest.mark.parametrize(("agents", "steps", "said"), [(9, 60, [NO_AGENT]), (12, 4, SHORT)])
def test_few_data_say_what_was_not_possible(agents, steps, said):
    data = tank_data(agents=agents, episodes=1, steps=steps)
    parts = hold_out(data, seed=0)
    assert len(parts.said) == len(said) and all(a.startswith(b) for a, b in zip(parts.said, said, strict=True))
    assert parts.strangers is None and len(parts.kept) == len(data) - (0 if parts.later is None else len(parts.later))


def test_a_model_that_cannot_be_told_of_new_agents_holds_none_out(data):
    parts = hold_out(data, seed=0, agents=False)
    assert parts.strangers is None and not parts.said and set(parts.kept.agent) == set(range(20))


def test_rollouts_end_where_a_transition_is_missing(data):
    whole = rollouts(data, 2)
    assert lengths(whole).max() == 60
    holed = data.select(np.arange(len(data)) % 60 != 30)
    assert follows(holed, 2).sum() == len(holed) - 2 * 40  # Two runs in each of 40 episodes.
    windows = rollouts(holed, 2)
    assert lengths(windows).max() == 30
    ends = lengths(windows)
    for row in (0, 1, len(ends) // 2):
        start = np.flatnonzero((holed.obs == windows.obs[row]).all(axis=1))[0]
        steps = slice(start, start + ends[row])
        np.testing.assert_array_equal(windows.following[row, : ends[row]], holed.next_obs[steps])


def test_horizons_are_powers_of_two_that_half_of_the_agents_reach(data):
    assert horizons(rollouts(data, 2)) == [1, 2, 4, 8, 16, 32]
    short = data.select((data.agent < 5) | (np.arange(len(data)) % 60 < 6))  # Five of twenty go on.
    assert horizons(rollouts(short, 2)) == [1, 2, 4]
    few = data.select(np.arange(len(data)) < 60)
    assert horizons(rollouts(few, 2)) == [1, 2, 4, 8, 16, 32] and (lengths(rollouts(few, 2)) >= 32).sum() >= MIN_WINDOWS
