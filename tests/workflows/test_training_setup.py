"""The data that a name stands for."""

import pytest
from gymnasium import spaces

from persim_gym.spec import EnvironmentSpec, finite_box
from persim_gym.workflows import training_setup
from persim_gym.workflows.training_setup import prepare_training


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("cartpole/pure-v0", None, ("cartpole/pure-v0", "cartpole")),
        ("mine/better-v0", "persim/cartpole/pure-v0", ("mine/better-v0", "cartpole")),
        ("persim/cartpole/pure-v0", None, ("cartpole/pure-v0", "cartpole")),
        ("my/tanks-v0", None, ("my/tanks-v0", "")),
        ("my/tanks-v1", "my/tanks-v0", ("my/tanks-v1", "")),
    ],
)
def test_a_name_stands_for_data(name, data, expected, cars, home, monkeypatch):
    asked = []
    spec = EnvironmentSpec(finite_box([-2, -1], [2, 1]), spaces.Discrete(3), 50)
    monkeypatch.setattr(training_setup, "_load_data", lambda data, memory: asked.append(data) or (cars, spec))
    setup = prepare_training(data or name, name=name if data else None)
    assert asked == [data or name] and (setup.name, setup.domain) == expected
    assert setup.folder == home / "simulators" / expected[0]
