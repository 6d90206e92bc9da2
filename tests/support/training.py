"""Engines and trainings, whole or cut off."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import random_inputs
from support.recipes import TINY

from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training import keeper
from persim_gym.simulator.training.engine import EnsembleTraining
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.trainer import fit_ensemble

both_engines = pytest.mark.parametrize(
    "recipe", [TINY, replace(TINY, state_layers=(16, 16))], ids=["compiled", "tensors"]
)


def train(cars, recipe, **keywords):
    return fit_ensemble(cars, recipe, n_actions=3, progress=False, **keywords)


def engines(shape: ModelConfig, k: int = 200):
    """Data in scaled units and a start that both engines may have."""
    agent, obs, action = random_inputs(shape, k)
    delta = torch.randn(k, 3, generator=torch.Generator().manual_seed(1))
    return FactoredEnsemble(shape), (agent, obs.float(), action if shape.n_actions else action.float(), delta)


def compiled(model: FactoredEnsemble, data, recipe=TINY, **options) -> EnsembleTraining:
    """Compiled steps of each member."""
    each = [slice(m, m + 1) for m in range(model.config.members)]
    return EnsembleTraining([NumbaEngine(model, member, recipe, **options) for member in each], data)


def in_tensors(model: FactoredEnsemble, data, recipe=TINY, **options) -> EnsembleTraining:
    """Steps of all members at once, in tensors."""
    engine = TorchEngine(model, slice(0, model.config.members), recipe, **options)
    return EnsembleTraining([engine], data, side_by_side=False)


def order(k: int, members: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(k) for _ in range(members)])


def interrupt_after(monkeypatch, epochs: int, error: type[BaseException]) -> None:
    """Raises inside the epoch that follows `epochs` whole ones, half of its updates done."""
    done, original = iter(range(epochs + 1)), EnsembleTraining.epoch

    def epoch(self, order, rates, batch):
        if next(done) < epochs:
            return original(self, order, rates, batch)
        original(self, order, rates[: len(rates) // 2], batch)
        raise error

    monkeypatch.setattr(EnsembleTraining, "epoch", epoch)


def train_and_die(cars, recipe, path):
    """Kills its own process while the third checkpoint is being written."""
    torch.set_num_threads(1)
    replaced = iter(range(3))

    def replace_or_die(source, target, original=os.replace):
        if next(replaced) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace, keeper.CHECKPOINT_SECONDS = replace_or_die, 0.0
    train(cars, recipe, checkpoint=path)


MANY = ModelConfig(
    n_agents=300, obs_dim=3, n_actions=4, action_dim=0, rank=5, members=2, state_layers=(16,), activation="silu"
)


def assert_same(one: FactoredEnsemble, other: FactoredEnsemble) -> None:
    for (name, value), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(value, again, err_msg=name)
