"""Large populations and large data: row-wise updates equal dense Adam, and data on disk train like data in memory."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from persim_gym.simulator.kernels.adam import is_sparse
from persim_gym.simulator.kernels.factor_table import different_agents, pack_rows
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.batches import Parts, moments
from persim_gym.simulator.training.checkpoint import read_checkpoint
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.sparse_adam import SparseAdam
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.trainer import TrainingDiverged, fit_ensemble
from persim_gym.transition_store import BLOCK_ROWS, TransitionStore, hash_on_disk, write_transitions
from persim_gym.transitions import Transitions

MANY = ModelConfig(
    n_agents=300, obs_dim=3, n_actions=4, action_dim=0, rank=5, members=2, state_layers=(16,), activation="silu"
)
SMALL_PARTS = 2 * BLOCK_ROWS


def many_data(k: int = 1500):
    """Rows of 300 agents, one of which has far more than the others, so that batches repeat it."""
    rng = np.random.default_rng(0)
    agent = rng.integers(300, size=k)
    agent[agent < 60] = 7
    obs, delta = (rng.normal(size=(k, 3)).astype(np.float32) for _ in range(2))
    return agent, obs, rng.integers(4, size=k), delta


def three_epochs(engine_of, rank=5):
    model = FactoredEnsemble(replace(MANY, rank=rank))
    engine = engine_of(model)
    for epoch in range(3):
        order = np.stack([np.random.default_rng([epoch, m]).permutation(1500) for m in range(2)])
        loss = engine.epoch(order, np.linspace(1e-3, 3e-3, 150), 10)
    return loss, model.agent_encoder.factor.detach().clone(), model.state_dict(), engine


def compiled(sparse, rank=5):
    return three_epochs(lambda model: NumbaEngine(model, *many_data(), 0.1, sparse=sparse), rank)


def compiled_on_two_lines(sparse):
    return compiled(sparse, rank=8)


def in_tensors(sparse):
    data = [torch.from_numpy(values) for values in many_data()]
    return three_epochs(lambda model: TorchEngine(model, *data, 0.1, sparse=sparse))


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
    assert engine.state()["factor_moments"].abs().sum() > 0


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


@pytest.mark.parametrize(("rank", "lines"), [(3, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_an_agent_s_row_is_whole_cache_lines(rank, lines):
    table, first, second = np.arange(3 * 7 * rank, dtype=np.float32).reshape(3, 7, rank)
    memory = pack_rows(table, first, second)
    assert memory.shape == (7, 16 * lines) and memory.ctypes.data % 64 == 0
    np.testing.assert_array_equal(memory[:, : 3 * rank], np.concatenate([table, first, second], axis=1))
    assert (memory[:, 3 * rank :] == 0).all()


def test_agents_of_a_batch_are_counted_once():
    rows = np.array([[4, 0], [1, 0], [4, 0], [2, 0], [1, 0]], dtype=np.float32)
    place, where, touched = np.zeros(6, dtype=np.int32), np.empty(5, dtype=np.int64), np.empty(5, dtype=np.int64)
    assert different_agents(rows, place, where, touched) == 3
    assert touched[:3].tolist() == [4, 1, 2] and where.tolist() == [0, 1, 0, 2, 1]
    assert not place.any()


def test_large_populations_are_trained_row_by_row():
    assert is_sparse(100_000, 64) and not is_sparse(500, 64)


def test_moments_of_row_wise_updates_resume(cars, tmp_path, monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.training.numba_engine.is_sparse", lambda agents, batch: True)
    path = tmp_path / "training.safetensors"
    whole = fit_ensemble(cars, TINY, n_actions=3, progress=False)
    stopped = iter(range(4))

    def epoch(self, *args, original=NumbaEngine.epoch):
        if next(stopped) == 3:
            raise KeyboardInterrupt
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NumbaEngine, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(cars, TINY, n_actions=3, progress=False, checkpoint=path)
    assert_same(fit_ensemble(cars, TINY, n_actions=3, progress=False, checkpoint=path), whole)


# --- data on disk -------------------------------------------------------------------------------------------------


def assert_same(one: FactoredEnsemble, other: FactoredEnsemble) -> None:
    for (name, value), again in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(value, again, err_msg=name)


def big(cars: Transitions, times: int = 9) -> Transitions:
    """The cars' transitions several times over, each time as new trajectories: 5,400 rows, six blocks."""
    names = ("agent", "obs", "action", "reward", "next_obs", "terminated")
    repeated = {name: np.concatenate([getattr(cars, name)] * times) for name in names}
    trajectory = np.concatenate([cars.trajectory + 6 * i for i in range(times)])
    return Transitions(**repeated, trajectory=trajectory, n_agents=cars.n_agents, source="big")


@pytest.fixture
def file(cars, tmp_path) -> TransitionStore:
    data = big(cars)
    pieces = (data.select(data.trajectory == t) for t in range(54))
    return write_transitions(tmp_path / "rows", pieces, n_agents=6, source="big")


def test_a_file_holds_the_transitions(file, cars):
    data = big(cars)
    rows = file.read(range(file.blocks))
    for name, values in rows.items():
        np.testing.assert_array_equal(values, getattr(data, name), err_msg=name)
    np.testing.assert_array_equal(file.starts()[0], data.starts()[0])
    np.testing.assert_array_equal(file.starts()[1], data.starts()[1])
    assert len(file) == len(data) and len(np.unique(file.sample(5).trajectory)) == 5


def test_scales_of_a_file_are_those_of_the_data(file, cars):
    ours, theirs = moments(file), moments(big(cars))
    for one, other in ((ours.obs, theirs.obs), (ours.target, theirs.target)):
        for value, expected in zip(one, other, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


def test_an_epoch_reads_every_row_once_in_another_order_each_time(file):
    model = FactoredEnsemble(replace(MANY, n_agents=6, obs_dim=2, n_actions=3))
    parts = Parts(file, seed=0, rows=SMALL_PARTS)
    seen = []
    for epoch in (0, 1):
        read = [parts.read(model, epoch, part) for part in range(parts.number)]
        assert [len(r[0]) for r in read] == parts.lengths(epoch)
        seen.append(torch.cat([torch.column_stack([r[0], r[1], r[2]]) for r in read]).numpy())
    assert parts.number == 3 and max(parts.lengths(0)) <= SMALL_PARTS
    assert not np.array_equal(*seen)
    np.testing.assert_array_equal(*(np.sort(rows, axis=0) for rows in seen))


def from_file(file, recipe=TINY, **keywords):
    return fit_ensemble(file, recipe, n_actions=3, part_rows=SMALL_PARTS, progress=False, **keywords)


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


def train_and_die(file, path):
    """Kills its own process while the fourth checkpoint, in the middle of an epoch, is being written."""
    torch.set_num_threads(1)
    replaced = iter(range(4))

    def replace_or_die(source, target, original=os.replace):
        if next(replaced) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace_or_die
    from_file(TransitionStore(file), checkpoint=path, checkpoint_seconds=0.0)


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
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        from_file(file, checkpoint=path, checkpoint_seconds=0.0)
    assert read_checkpoint(path)[1]["epoch"] == "6"
    saved, _ = read_checkpoint(path)
    assert all(torch.isfinite(v).all() for k, v in saved.items() if not k.endswith(("obs_low", "obs_high", "walls")))


def test_a_damaged_file_says_to_delete_it(file):
    (file.folder / "rows.f32").write_bytes(b"short")
    with pytest.raises(ValueError, match=f"{file.folder} cannot be read .*delete it"):
        TransitionStore(file.folder)


def test_data_in_memory_know_the_hash_that_they_would_have_on_disk(file, cars):
    assert hash_on_disk(big(cars)) == file.content_hash() != big(cars).content_hash()


def test_an_interrupted_write_leaves_no_file(cars, tmp_path):
    def pieces():
        yield cars.select(cars.trajectory == 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_transitions(tmp_path / "rows", pieces(), n_agents=6, source="big")
    assert list(tmp_path.iterdir()) == []


# --- what a checkpoint belongs to ---------------------------------------------------------------------------------


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

    def epoch(self, *args, original=NumbaEngine.epoch):
        if next(stopped) == 5:
            raise KeyboardInterrupt
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NumbaEngine, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(cars, TINY, n_actions=3, learn_task=True, progress=False, checkpoint=path)
    assert_same(fit_ensemble(cars, TINY, n_actions=3, learn_task=True, progress=False, checkpoint=path), whole)
