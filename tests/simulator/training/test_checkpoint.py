"""Checkpoints: a training that was cut off ends with the same weights, and goes on in its own only."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import assert_same_weights
from support.recipes import TINY
from support.training import assert_same, both_engines, interrupt_after, train, train_and_die

from persim_gym.simulator.training import checkpoint as checkpoint_module
from persim_gym.simulator.training import keeper
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.simulator.training.engine import EnsembleTraining
from persim_gym.simulator.training.trainer import TrainingDiverged, fit_ensemble


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["checkpoints", "Ctrl-C only"])
@both_engines
def test_an_interrupted_training_ends_with_the_same_weights(cars, tmp_path, recipe, seconds):
    path = tmp_path / "training.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 5, KeyboardInterrupt)
        patch.setattr(keeper, "CHECKPOINT_SECONDS", seconds)
        with pytest.raises(KeyboardInterrupt):
            train(cars, recipe, checkpoint=path)
    assert read_checkpoint(path)[1]["epoch"] == "5"
    assert_same_weights(train(cars, recipe, checkpoint=path), train(cars, recipe))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_training_ends_with_the_same_weights(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(cars, TINY, path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_checkpoint(path)[1]["epoch"] == "2"
    assert_same_weights(train(cars, TINY, checkpoint=path), train(cars, TINY))


def test_a_finished_checkpoint_is_not_trained_further(cars, tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    model = train(cars, TINY, checkpoint=path)
    interrupt_after(monkeypatch, 0, KeyboardInterrupt)  # no epoch may run
    assert_same_weights(train(cars, TINY, checkpoint=path), model)


@pytest.mark.parametrize("change", ["data", "recipe", "seed"])
def test_a_checkpoint_of_another_training_is_refused(cars, tmp_path, change):
    path = tmp_path / "training.safetensors"
    train(cars, replace(TINY, epochs=1), checkpoint=path)
    data = cars.select(cars.agent != 1) if change == "data" else cars
    recipe = replace(TINY, epochs=2 if change == "recipe" else 1)
    with pytest.raises(ValueError, match="is of other data, recipe, seed or options; delete it"):
        train(data, recipe, checkpoint=path, seed=int(change == "seed"))


def test_a_checkpoint_that_cannot_be_read_is_refused(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    train(cars, TINY, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"checkpoint {path} cannot be read .* delete it to start anew"):
        train(cars, TINY, checkpoint=path)


@both_engines
def test_divergence_leaves_the_last_good_checkpoint(cars, tmp_path, recipe, monkeypatch):
    path = tmp_path / "training.safetensors"
    rate = fit_module.learning_rate
    monkeypatch.setattr(fit_module, "learning_rate", lambda r, epoch, *at: rate(r, epoch, *at) if epoch < 3 else 1e30)
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(TrainingDiverged):
        train(cars, recipe, checkpoint=path)
    assert read_checkpoint(path)[1]["epoch"] == "3"
    saved, _ = read_checkpoint(path)
    assert all(
        torch.isfinite(v).all()
        for k, v in saved.items()
        if k.startswith("model/") and not k.endswith(("obs_low", "obs_high", "walls"))
    )


def test_a_checkpoint_that_another_process_has_just_removed_is_none(cars, tmp_path, monkeypatch):
    """It trained the same, and finished between the look and the read."""
    path = tmp_path / "training.safetensors"
    train(cars, replace(TINY, epochs=2), checkpoint=path)
    monkeypatch.setattr(keeper, "read_checkpoint", lambda file: path.unlink(missing_ok=True) or read_checkpoint(file))
    assert_same_weights(train(cars, replace(TINY, epochs=2), checkpoint=path), train(cars, replace(TINY, epochs=2)))


def test_processes_that_train_the_same_do_not_write_into_one_file(cars, tmp_path, monkeypatch):
    """Here two take turns at every write; with one partial file between them the second finds none to rename."""
    path, others = tmp_path / "training.safetensors", iter(range(100, 200))
    save_file = checkpoint_module.save_file

    def save(tensors, partial, metadata):
        save_file(tensors, partial, metadata)
        if next(others) == 100:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 1)
                train(cars, replace(TINY, epochs=2), checkpoint=path)

    monkeypatch.setattr(checkpoint_module, "save_file", save)
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    both = train(cars, replace(TINY, epochs=2), checkpoint=path)
    assert [p.name for p in tmp_path.iterdir()] == ["training.safetensors"]
    assert_same_weights(both, train(cars, replace(TINY, epochs=2)))


@pytest.mark.parametrize(
    "change",
    [
        {"bounds": (np.array([-1, -1]), np.array([1, 1]))},
        {"n_actions": 4},
        {"learn_task": True},
        {"variant": "unpersonalized"},
        {"variant": "unfactorized"},
    ],
    ids=str,
)
def test_a_checkpoint_of_other_options_is_refused(cars, tmp_path, change):
    path = tmp_path / "training.safetensors"
    recipe = replace(TINY, epochs=1)
    fit_ensemble(cars, recipe, n_actions=3, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="is of other data, recipe, seed or options; delete it"):
        fit_ensemble(cars, recipe, **{"n_actions": 3, **change}, progress=False, checkpoint=path)


def test_a_checkpoint_of_another_population_size_is_refused(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    recipe = replace(TINY, epochs=1)
    fit_ensemble(cars, recipe, n_actions=3, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="seed or options"):
        fit_ensemble(replace(cars, n_agents=9), recipe, n_actions=3, progress=False, checkpoint=path)


def test_an_interrupted_training_of_a_learned_task_ends_with_the_same_weights(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    whole = fit_ensemble(cars, TINY, n_actions=3, learn_task=True, progress=False)
    stopped = iter(range(6))

    def epoch(self, *args, original=EnsembleTraining.epoch):
        if next(stopped) == 5:
            raise KeyboardInterrupt
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EnsembleTraining, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(cars, TINY, n_actions=3, learn_task=True, progress=False, checkpoint=path)
    assert_same(fit_ensemble(cars, TINY, n_actions=3, learn_task=True, progress=False, checkpoint=path), whole)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, {"a": torch.arange(3.0), "b": torch.tensor(True)}, {"epoch": "12"})
    whole = path.read_bytes()
    assert read_checkpoint(path)[1] == {"epoch": "12"}
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            ValueError, match=rf"^checkpoint {path} cannot be read \([^\n]*\); delete it to start anew$"
        ):
            read_checkpoint(path)
