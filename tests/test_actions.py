"""Actions of several columns: what a model sees of them is what environments show, there and back."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces.utils import flatten
from gymnasium.vector.utils import batch_space

from persim_gym.actions import (
    ActionLayout,
    ScoreBox,
    layout_of,
    model_actions,
    model_size,
    shown_space,
    with_choices,
)
from persim_gym.envs.spaces import checked_actions, own_space, random_actions
from persim_gym.labels import Labels
from persim_gym.spec import EnvironmentSpec, flat_box

AMOUNT = spaces.Box(-1.0, 3.0, (1,), np.float32)
NESTED = {
    "several choices": (spaces.MultiDiscrete([3, 2]), (3, 2)),
    "truth values": (spaces.MultiBinary(3), (2, 2, 2)),
    "choices by name": (spaces.Dict(valve=spaces.Discrete(3), mode=spaces.Discrete(2)), (3, 2)),
    "both by name": (spaces.Dict({"valve": spaces.Discrete(3), "power": AMOUNT}), (0, 3)),
    "both in order": (spaces.Tuple((spaces.Discrete(3), AMOUNT, spaces.MultiDiscrete([2, 2]))), (3, 0, 2, 2)),
    "amounts in order": (spaces.Tuple((AMOUNT, spaces.Box(0.0, 1.0, (2,), np.float32))), (0, 0, 0)),
}
MIXED = shown_space(NESTED["both in order"][0])


@pytest.mark.parametrize("kind", NESTED)
def test_a_model_sees_an_action_as_gymnasium_flattens_it(kind):
    space, sizes = NESTED[kind]
    shown, layout = shown_space(space), ActionLayout(sizes)
    flat = with_choices(space)
    flat.seed(0)
    seen = np.stack([flatten(flat, flat.sample()) for _ in range(50)]).astype(np.float32)
    assert seen.shape[1] == layout.size == model_size(shown)
    np.testing.assert_array_equal(layout.settled(seen), seen)
    given = layout.decoded(seen)
    assert all(shown.contains(action) for action in given)
    np.testing.assert_array_equal(checked_actions(shown, given, (50,)), seen)
    np.testing.assert_array_equal(model_actions(shown, given), seen)
    np.testing.assert_array_equal(checked_actions(shown, given[3]), seen[3])
    kinds = {(True, False): spaces.MultiDiscrete, (True, True): ScoreBox, (False, True): spaces.Box}
    assert type(shown) is kinds[any(sizes), 0 in sizes]


def test_the_highest_score_of_a_block_is_chosen_and_amounts_stay():
    assert MIXED.low.tolist() == [-1] * 8 and MIXED.high.tolist() == [1, 1, 1, 3, 1, 1, 1, 1]
    action = np.array([-0.2, 0.9, 0.8, 2.5, 0.5, 0.5, -7.0, -0.9], dtype=np.float32)
    assert checked_actions(MIXED, action).tolist() == [0, 1, 0, 2.5, 1, 0, 0, 1]  # The first of equals; clipped.
    assert checked_actions(MIXED, action * 2)[3] == 3.0
    for wrong in (action[:-1], np.full(8, np.nan)):
        with pytest.raises(ValueError, match="is outside the action space"):
            checked_actions(MIXED, wrong)
    space = shown_space(spaces.MultiDiscrete([3, 2]))
    for wrong in ([3, 0], [0, -1], [0.0, 1.0], [0], [[0, 1]]):
        with pytest.raises(ValueError, match="is outside the action space"):
            checked_actions(space, np.array(wrong))


def test_spaces_of_one_kind_stay_what_they_are():
    for space in (spaces.Discrete(3), flat_box([-1.0], [1.0])):
        assert layout_of(space) is None and shown_space(space) == space
        assert type(shown_space(space)) is type(space)
    assert (model_size(spaces.Discrete(3)), model_size(flat_box([0, 0], [1, 1]))) == (0, 2)
    assert model_actions(spaces.Discrete(3), 2) == 2


@pytest.mark.parametrize("kind", NESTED)
def test_random_actions_are_in_the_space_and_every_choice_occurs(kind):
    shown, layout = shown_space(NESTED[kind][0]), ActionLayout(NESTED[kind][1])
    drawn = random_actions(shown, np.random.default_rng(0), 200)
    assert all(shown.contains(action) for action in drawn)
    seen = checked_actions(shown, drawn, (200,))
    assert (seen[:, ~layout.amounts].sum(axis=0) > 10).all()


def test_a_score_box_stays_one_where_gymnasium_copies_it_and_is_a_box_to_it():
    copy = own_space(MIXED)
    assert isinstance(copy, ScoreBox) and copy.layout == MIXED.layout and copy == MIXED
    assert batch_space(MIXED, 4).shape == (4, 8) and MIXED.contains(MIXED.sample())


@pytest.mark.parametrize("kind", NESTED)
def test_a_card_keeps_the_space(kind):
    shown = shown_space(NESTED[kind][0])
    labels = Labels(actions=tuple(f"part {a}" for a in range(model_size(shown))))
    spec = EnvironmentSpec(flat_box([0.0], [1.0]), shown, 9, labels=labels)
    again = EnvironmentSpec.from_json(spec.to_json())
    assert again.action_space == shown and layout_of(again.action_space) == layout_of(shown)
    assert (spec.n_actions, spec.action_dim) == (0, model_size(shown))
    with pytest.raises(ValueError, match="1 names of actions, of which there are"):
        EnvironmentSpec(flat_box([0.0], [1.0]), shown, 9, labels=Labels(actions=("one",)))


def test_a_damaged_card_is_refused():
    stored = EnvironmentSpec(flat_box([0.0], [1.0]), MIXED, 9).to_json()
    for parts in ([3, 0], [3, 0, 2, -2], []):
        with pytest.raises(ValueError, match="have parts"):
            EnvironmentSpec.from_json({**stored, "action": {**stored["action"], "parts": parts}})


def test_actions_in_words_and_all_combinations():
    layout = ActionLayout((2, 0, 3))
    names = ("mode=off", "mode=on", "power", "valve=a", "valve=b", "valve=c")
    assert layout.combinations == 6 and layout.table.shape == (6, 6)
    assert len({layout.described(row, names) for row in layout.table}) == 6
    assert layout.described(np.float32([0, 1, 0.25, 0, 0, 1]), names) == "mode=on, valve=c, power=0.25"
    assert layout.described(np.float32([0, 1, 0.25, 0, 0, 1])) == "action 1, action 5, action 2=0.25"


def test_what_is_neither_choice_nor_number_is_refused_by_name():
    with pytest.raises(ValueError, match=r"actions\['said'\] must be choices or numbers of a fixed size, not Text"):
        shown_space(spaces.Dict(said=spaces.Text(5), valve=spaces.Discrete(2)))
    with pytest.raises(ValueError, match=r"actions\[0\] must count choices from 0, not 1"):
        shown_space(spaces.Tuple((spaces.Discrete(2, start=1), AMOUNT)))
