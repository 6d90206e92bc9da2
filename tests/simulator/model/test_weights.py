"""Weights of a file fit their module before memory is taken for it."""

import pytest
import torch
from torch import nn

from persim_gym.simulator.model.weights import with_weights


def test_a_module_takes_the_weights_and_is_frozen():
    source = nn.Linear(3, 2)
    module = with_weights(lambda: nn.Linear(3, 2), source.state_dict())
    assert torch.equal(module.weight, source.weight) and not module.weight.requires_grad and not module.training


@pytest.mark.parametrize(
    "change",
    [{"weight": torch.zeros(2, 4)}, {"more": torch.zeros(1)}, {"bias": None}],
    ids=["another shape", "too many", "missing"],
)
def test_weights_that_do_not_fit_are_refused_by_name(change):
    weights = {k: v for k, v in (dict(nn.Linear(3, 2).state_dict()) | change).items() if v is not None}
    with pytest.raises(ValueError, match=f"do not fit the shape on the card .see {next(iter(change))}"):
        with_weights(lambda: nn.Linear(3, 2), weights)


def test_a_card_that_asks_for_too_much_takes_no_memory():
    with pytest.raises(ValueError, match="do not fit"):
        with_weights(lambda: nn.Linear(10**7, 10**7), nn.Linear(3, 2).state_dict())
