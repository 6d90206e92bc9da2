"""The data that a name stands for."""

import pytest

from persim_gym.workflows.training_setup import TrainingData


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("cartpole/pure-v0", None, ("persim/cartpole/pure-v0", "cartpole")),
        ("mine/better-v0", "persim/cartpole/pure-v0", ("persim/cartpole/pure-v0", "cartpole")),
        ("my/tanks-v0", None, ("my/tanks-v0", "")),
        ("my/tanks-v1", "my/tanks-v0", ("my/tanks-v0", "")),
    ],
)
def test_a_name_stands_for_data(name, data, expected):
    source = TrainingData.named(name, data, None)
    assert (source.dataset_id, source.domain) == expected
