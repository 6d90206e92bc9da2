"""`--history` and `--exogenous` as they are written."""

import math

import pytest
from gymnasium import spaces

from persim_gym.labels import Labels
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.workflows.history import spec_with_history

LABELS = Labels(observations=("glucose", "mode=a", "mode=b", "meal"), actions=("insulin",))
SPEC = EnvironmentSpec(flat_box([0, 0, 0, 0], [9, 1, 1, 5]), spaces.Box(-1, 1, (1,)), 20, labels=LABELS)
MINUTES = {"step": 15 * 60e9, "dates": True}


def test_a_number_remembers_every_column_and_action():
    spec = spec_with_history(SPEC, 2)
    assert spec.layout.width == 4 + 2 * 5 and spec.layout.lag == 2
    assert spec.labels.observations[4:6] == ("glucose 1 step before", "glucose 2 steps before")
    assert spec.labels.observations[-1] == "insulin 2 steps before"
    assert spec.observation_space.high[4:6].tolist() == [9, 9] and spec.observation_space.low[-1] == -1
    assert spec_with_history(SPEC, "2") == spec


@pytest.mark.parametrize(
    "history",
    [
        "glucose=2,insulin=decay:55min,120min",
        {"glucose": 2, "insulin": "decay:55min,120min"},
        {"glucose": "2", "insulin": ["decay:55min", "decay:120min"]},
    ],
)
def test_columns_are_remembered_as_they_are_asked_for(history):
    spec = spec_with_history(SPEC, history, **MINUTES)
    glucose, before, slow, slower = spec.layout.past
    assert (glucose.source, before.source, glucose.keep) == (0, 4, 0)
    assert slow.source == slower.source == spec.layout.width
    assert [slow.keep, slower.keep] == pytest.approx([math.exp(-15 / 55), math.exp(-15 / 120)])
    assert spec.labels.observations[-2:] == ("insulin over 55min", "insulin over 120min")


def test_categories_are_remembered_by_the_name_of_their_column():
    spec = spec_with_history(SPEC, "mode=1")
    assert spec.labels.observations[4:] == ("mode=a 1 step before", "mode=b 1 step before")


def test_time_constants_may_be_steps():
    for text in ("insulin=decay:4", "insulin=decay:4 steps"):
        assert spec_with_history(SPEC, text).layout.past[0].keep == pytest.approx(math.exp(-1 / 4))


def test_last_columns_may_be_exogenous():
    layout = spec_with_history(SPEC, exogenous=["meal"]).layout
    assert (layout.learned, layout.exogenous, layout.context) == (3, 1, ((3, 0.0),))


def test_discrete_actions_are_remembered_by_choice():
    labels = Labels(actions=("valve",), choices=("shut", "open"))
    spec = EnvironmentSpec(flat_box([0], [1]), spaces.Discrete(2), 9, labels=labels)
    wide = spec_with_history(spec, "valve=1")
    assert wide.labels.observations == ("observation 0", "valve=shut 1 step before", "valve=open 1 step before")
    assert [past.source for past in wide.layout.past] == [3, 4]


@pytest.mark.parametrize(
    ("history", "exogenous", "said"),
    [
        ("glocose=2", (), "no column 'glocose' to remember; did you mean glucose"),
        ("0", (), "history 0 is no number of steps"),
        ("glucose", (), "neither a number of steps nor such as"),
        ("glucose=x", (), "history of glucose is 'x'; give a number of steps"),
        ("insulin=decay:5min", (), "the length of a step is not known here"),
        ("insulin=decay:0.01", (), "shorter than a tenth of a step"),
        ("", ["glucose"], "must be the last of the observations, which are meal"),
        ("", ["meel"], "no observed column 'meel'; did you mean meal"),
    ],
)
def test_what_cannot_be_meant_is_refused(history, exogenous, said):
    with pytest.raises(ValueError, match=said):
        spec_with_history(SPEC, history, exogenous)
