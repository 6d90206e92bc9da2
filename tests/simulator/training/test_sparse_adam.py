"""Row-wise updates of factors equal dense Adam."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import training
from support.recipes import TINY
from support.training import MANY, assert_same

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.engine import EnsembleTraining
from persim_gym.simulator.training.sparse_adam import SparseAdam
from persim_gym.simulator.training.trainer import fit_ensemble

PULLED = replace(TINY, pull=0.1)


def many_data(k: int = 1500):
    """Rows of 300 agents, one of which has far more than the others, so that batches repeat it."""
    rng = np.random.default_rng(0)
    agent = rng.integers(300, size=k)
    agent[agent < 60] = 7
    obs, delta = (rng.normal(size=(k, 3)).astype(np.float32) for _ in range(2))
    return tuple(map(torch.from_numpy, (agent, obs, rng.integers(4, size=k), delta)))


def three_epochs(engine_of, rank=5):
    model = FactoredEnsemble(replace(MANY, rank=rank))
    engine = engine_of(model)
    for epoch in range(3):
        order = np.stack([np.random.default_rng([epoch, m]).permutation(1500) for m in range(2)])
        loss = engine.epoch(order, np.linspace(1e-3, 3e-3, 150), 10)
    return loss, model.agent_encoder.factor.detach().clone(), model.state_dict(), engine


def compiled(sparse, rank=5):
    return three_epochs(lambda model: training.compiled(model, many_data(), PULLED, sparse=sparse), rank)


def compiled_on_two_lines(sparse):
    return compiled(sparse, rank=8)


def in_tensors(sparse):
    return three_epochs(lambda model: training.in_tensors(model, many_data(), PULLED, sparse=sparse))


@pytest.mark.parametrize("run", [compiled, compiled_on_two_lines, in_tensors])
def test_row_wise_updates_equal_dense_adam(run):
    """Each factor is without a gradient for 30 steps on average between two with one."""
    (loss, dense, state, _), (sparse_loss, sparse, sparse_state, engine) = run(False), run(True)
    start = FactoredEnsemble(replace(MANY, rank=dense.shape[2])).agent_encoder.factor.detach()
    assert (dense - start).abs().mean() > 0.02  # far more than the tolerance
    assert sparse_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-5)
    for name, value in state.items():
        torch.testing.assert_close(sparse_state[name], value, rtol=0, atol=1e-5, msg=name)
    assert engine.state()["0/factor_moments"].abs().sum() > 0


def test_a_row_without_a_gradient_moves_as_adam_moves_it():
    """Steps 2 to 40 have no gradient; torch's own Adam is the reference, also for gradients near its epsilon, 1e-8."""
    for scale, tolerance in ((1.0, 1e-6), (1e-6, 1e-3)):
        table = torch.zeros(3, 2, dtype=torch.float64)
        gradient = scale * torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]], dtype=torch.float64)
        reference = torch.nn.Parameter(table.clone())
        adam = torch.optim.Adam([reference], lr=0.01)
        for step in range(40):
            reference.grad = gradient if step == 0 else torch.zeros_like(gradient)
            adam.step()
        rows = SparseAdam(table)
        rows.moments = rows.moments.double()
        rows.start(np.full(40, 0.01), 0)
        every = torch.arange(3)
        rows.fetch(every)
        rows.update(every, gradient)
        rows._step = 40
        rows.finish()
        torch.testing.assert_close(table, reference.detach(), rtol=tolerance, atol=0)


def test_moments_of_row_wise_updates_resume(cars, tmp_path, monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.training.numba_engine.is_sparse", lambda agents, batch: True)
    path = tmp_path / "training.safetensors"
    whole = fit_ensemble(cars, TINY, n_actions=3, progress=False)
    stopped = iter(range(4))

    def epoch(self, *args, original=EnsembleTraining.epoch):
        if next(stopped) == 3:
            raise KeyboardInterrupt
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EnsembleTraining, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(cars, TINY, n_actions=3, progress=False, checkpoint=path)
    assert_same(fit_ensemble(cars, TINY, n_actions=3, progress=False, checkpoint=path), whole)
