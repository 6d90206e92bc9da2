"""Errors under test policies of other seeds."""

import os
from dataclasses import replace

import pytest
from support.jobs import run_here
from support.recipes import TINY

from persim_gym.datasets.behavior import policies as behaviour
from persim_gym.studies import accuracy
from persim_gym.studies import test_policies as others


def test_simulators_are_measured_under_each_test_policy_which_is_trained_once(tmp_path, monkeypatch, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    monkeypatch.setattr(accuracy, "varied_recipe", lambda *names: TINY)
    accuracy.train_and_measure("cartpole", "random", "default", 0, tmp_path / "simulators")
    bundled = behaviour.load_behavior_policy("cartpole", "test")
    trained = []

    def train(domain, name, seed, root, progress):
        assert (domain, name) == ("cartpole", "test")
        trained.append(seed)
        layers = tuple((weight * seed, bias) for weight, bias in bundled.layers)
        return behaviour.save_behavior_policy(layers, replace(bundled.card, seed=seed, mean_return=100.0 + seed), root)

    monkeypatch.setattr(others, "train_behavior_policy", train)
    monkeypatch.setattr(others, "run_jobs", run_here)
    rows = others.run_test_policies(["cartpole"], tmp_path, test_seeds=(2, 3))
    assert trained == [2, 3]
    assert [(row["policy"], row["test_seed"], row["mean_return"]) for row in rows] == [
        ("random", "2", "102.0"),
        ("random", "3", "103.0"),
    ]
    assert rows[0]["rmse_0"] != rows[1]["rmse_0"]
    assert others.run_test_policies(["cartpole"], tmp_path, test_seeds=(2, 3)) == rows and trained == [2, 3]


def test_test_policies_need_simulators_and_runs_that_no_logger_is_of(tmp_path):
    with pytest.raises(ValueError, match="no simulator of halfcheetah .*; run `persim study accuracy --domain half"):
        others.run_test_policies(["halfcheetah"], tmp_path)
    with pytest.raises(ValueError, match="logger-2 of cartpole was trained with seed 1 on the same agent"):
        others.trained_test_policy("cartpole", 1, tmp_path)
