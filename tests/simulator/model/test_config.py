"""Shapes of models that cannot be."""

from dataclasses import replace

import pytest
from support.models import DISCRETE


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"n_actions": 0}, {"action_dim": 1}, {"state_layers": ()}, {"members": 0}], ids=str
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError, match="impossible model sizes"):
        replace(DISCRETE, **change)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'tanh' is not one of relu, silu"):
        replace(DISCRETE, activation="tanh")
