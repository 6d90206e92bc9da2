"""What a training resolves before its first step: the data that a name stands for, name, domain and folder."""

from importlib import import_module

import pytest
from gymnasium import spaces
from support.missing import lacking

from persim_gym.simulator.trusted_tasks import check_task
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, EnvironmentSpec, flat_box
from persim_gym.workflows import training_setup
from persim_gym.workflows.training_setup import prepare_training


@pytest.fixture
def opened(cars, monkeypatch, tmp_path):
    """Ids of the Minari datasets that are opened; all hold the small MountainCar data."""
    ids = []
    spec = EnvironmentSpec(flat_box([-2.0] * 2, [2.0] * 2), spaces.Discrete(3), 20, LEARNED_TASK)
    loading = import_module("persim_gym.datasets.load")
    monkeypatch.setattr(loading, "build", lambda *args, **keywords: None)
    monkeypatch.setattr(loading, "open_minari", ids.append)
    (tmp_path / "my" / "tanks-v0" / "data").mkdir(parents=True)
    monkeypatch.setattr(loading, "dataset_folder", lambda dataset_id: tmp_path / dataset_id)
    monkeypatch.setattr("persim_gym.workflows.history.load_for_training", lambda dataset, memory, spec: cars)
    monkeypatch.setattr(training_setup, "spec_of_dataset", lambda dataset: spec)
    monkeypatch.setattr(training_setup, "static_of", lambda dataset: {})
    return ids


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("cartpole/pure-v0", None, ("persim/cartpole/pure-v0", "cartpole")),
        ("mine/better-v0", "persim/cartpole/pure-v0", ("persim/cartpole/pure-v0", "cartpole")),
        ("mine/better-v0", "cartpole/pure-v0", ("persim/cartpole/pure-v0", "cartpole")),
        ("my/tanks-v0", None, ("my/tanks-v0", "")),
        ("my/tanks-v1", "my/tanks-v0", ("my/tanks-v0", "")),
    ],
)
def test_a_name_stands_for_data(name, data, expected, opened, home):
    setup = prepare_training(data or name, name=name if data else None)
    assert (*opened, setup.domain) == expected
    assert (setup.name, setup.folder) == (name, home / "simulators" / name)
    assert setup.spec.task == (DOMAIN_TASK if setup.domain else LEARNED_TASK)


def test_both_spellings_of_our_datasets_train_the_same_simulator(opened, home):
    one, other = (prepare_training(f"{prefix}cartpole/random-v0") for prefix in ("", "persim/"))
    assert one.name == other.name == "cartpole/random-v0"
    assert opened == ["persim/cartpole/random-v0"] * 2
    assert (one.domain, one.recipe, one.folder) == (other.domain, other.recipe, other.folder)


def test_an_option_that_does_not_exist_is_refused(home):
    with pytest.raises(ValueError, match="train has no option folder, variants; known: task, recipe_name, settings"):
        prepare_training("cartpole/random-v0", folder="x", variants="factored")


def test_an_own_task_is_tried_on_what_is_known(cars):
    check_task("support.missing:TASK", lacking(cars))
    with pytest.raises(ValueError, match="not finite on logged transitions"):
        check_task("support.missing:UNKNOWN", cars)
