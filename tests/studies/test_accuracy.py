"""Which trainings the study of accuracy runs."""

import os

import pytest
from support.recipes import TINY

from persim_gym.simulator.registry import load_simulator
from persim_gym.studies import accuracy
from persim_gym.studies.accuracy import CHANGES, read_rows, run_accuracy, varied_recipe
from persim_gym.workflows.training_setup import recipe_for


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, changes in CHANGES.items() for name in changes])
def test_every_change_changes_the_default_recipe(dataset, name):
    domain, policy = dataset
    default = recipe_for(f"{domain}/{policy}-v0")
    assert varied_recipe(domain, policy, name) != default == varied_recipe(domain, policy, "default")


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no variation 'more' of cartpole/random-v0; known: default, thesis, ReLU"):
        varied_recipe("cartpole", "random", "more")
    with pytest.raises(ValueError, match="the thesis has no errors of pendulum/random"):
        run_accuracy(["pendulum"], ["random"], tmp_path)
    with pytest.raises(ValueError, match="run `persim study accuracy` first"):
        read_rows(tmp_path / "accuracy.csv")


def test_a_simulator_is_trained_once_and_measured_for_every_test_agent(tmp_path, monkeypatch, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    monkeypatch.setattr(accuracy, "varied_recipe", lambda *names: TINY)
    job = {"domain": "cartpole", "policy": "random", "variation": "two words", "seed": 1, "folder": tmp_path}
    first = accuracy.train_and_measure(**job)
    folder = tmp_path / "cartpole" / "random-v0" / "two-words-1"
    card = load_simulator(str(folder)).card
    assert (card.recipe_name, card.seed, card.training_seconds) == ("two words", 1, first["seconds"])
    assert {name for name in first if name != "seconds"} == set(accuracy.ACCURACY_COLUMNS)
    monkeypatch.setattr(accuracy, "train", None)  # must not be called again
    assert accuracy.train_and_measure(**job) == first
