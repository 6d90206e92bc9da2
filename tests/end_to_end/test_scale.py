"""Training from data on disk: as good as from memory, repeatable, and resumed after a kill."""

import multiprocessing
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.disk import big, from_file, train_and_die
from support.recipes import TINY
from support.training import assert_same

from persim_gym.simulator.training import keeper
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.checkpoint import read_checkpoint
from persim_gym.simulator.training.trainer import TrainingDiverged, fit_ensemble


@pytest.mark.parametrize("layers", [(16,), (16, 16)], ids=["compiled", "tensors"])
def test_training_from_disk_learns_as_well_as_from_memory(file, cars, layers):
    recipe = replace(TINY, state_layers=layers, epochs=6, batch=100, learning_rate=2e-2, schedule="one-cycle")
    data = big(cars)
    columns = [torch.from_numpy(values) for values in (data.agent, data.obs, data.action)]
    errors = []
    for model in (from_file(file, recipe), fit_ensemble(data, recipe, n_actions=3, progress=False)):
        with torch.no_grad():
            errors.append(float((model.predict(*columns) - torch.from_numpy(data.next_obs)).square().mean()))
    assert errors[0] < 1.5 * errors[1] < 0.05 * float(np.square(data.next_obs - data.obs).mean())


def test_training_from_disk_gives_the_same_weights_each_time(file):
    assert_same(from_file(file), from_file(file))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_training_from_disk_ends_with_the_same_weights(file, tmp_path):
    path = tmp_path / "training.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(file.folder, path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_checkpoint(path)[1]["epoch"] == "3"  # three parts: one epoch
    assert_same(from_file(file, checkpoint=path), from_file(file))


def test_divergence_from_disk_leaves_the_last_good_checkpoint(file, tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    rate = fit_module.learning_rate
    monkeypatch.setattr(fit_module, "learning_rate", lambda r, epoch, *at: rate(r, epoch, *at) if epoch < 2 else 1e30)
    monkeypatch.setattr(keeper, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        from_file(file, checkpoint=path)
    assert read_checkpoint(path)[1]["epoch"] == "6"
    saved, _ = read_checkpoint(path)
    assert all(torch.isfinite(v).all() for k, v in saved.items() if not k.endswith(("obs_low", "obs_high", "walls")))
