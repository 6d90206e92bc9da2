"""Batches of logged transitions, settings, and the loop of updates."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from support.missing import lacking, never
from support.offline import OBS_DIM, SPECS, logged

from persim_gym.baselines import offline
from persim_gym.baselines.bcq_continuous import ContinuousBCQ, ContinuousBCQSettings
from persim_gym.baselines.bcq_discrete import TARGET, DiscreteBCQ, DiscreteBCQSettings
from persim_gym.baselines.offline import BaselineDiverged, Replay, run_updates
from persim_gym.simulator.training.checkpoint import read_checkpoint
from persim_gym.storage import changed_fields
from persim_gym.transition_store import write_transitions

SETTINGS = {
    "discrete": DiscreteBCQSettings(iterations=45, batch=8, layers=(16, 16)),
    "continuous": ContinuousBCQSettings(iterations=45, batch=8, layers=(16, 16), generative_layers=(16, 16)),
}
kinds = pytest.mark.parametrize("kind", SETTINGS)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Checkpoints after every ten updates."""
    monkeypatch.setattr(offline, "CHUNK_UPDATES", 10)
    monkeypatch.setattr(offline, "BASELINE_CHECKPOINT_SECONDS", 0.0)


def new_learner(kind: str):
    learner, size = (DiscreteBCQ, 4) if kind == "discrete" else (ContinuousBCQ, 2)
    return learner(OBS_DIM, size, SETTINGS[kind], torch.Generator().manual_seed(0))


def run(kind: str, learner, path=None, **options):
    replay = Replay(logged(kind), SPECS[kind].action_space)
    options = {"settings": SETTINGS[kind], "identity": "same", **options}
    settings = options.pop("settings")
    run_updates(learner, replay, settings, name=kind, checkpoint=path, progress=False, **options)
    return learner


def assert_same(one, other):
    for name, values in one.state_dict().items():
        np.testing.assert_array_equal(values, other.state_dict()[name], err_msg=name)


def stop_after(learner, updates: int, stop) -> None:
    """Calls `stop` instead of the update after so many."""
    done, update = iter(range(updates)), learner.update
    learner.update = lambda *given: update(*given) if next(done, None) is not None else stop()


def interrupt():
    raise KeyboardInterrupt


@kinds
@pytest.mark.parametrize(("updates", "seconds"), [(5, 0.0), (27, 0.0), (27, 1e9), (40, 1e9)])
def test_an_interrupted_training_ends_with_the_same_weights(kind, updates, seconds, tmp_path, monkeypatch):
    monkeypatch.setattr(offline, "BASELINE_CHECKPOINT_SECONDS", seconds)
    path, cut = tmp_path / "training.safetensors", new_learner(kind)
    stop_after(cut, updates, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(kind, cut, path)
    assert path.exists() == (updates >= 10)
    if path.exists():
        assert read_checkpoint(path)[1]["done"] == str(updates // 10 * 10)
    assert_same(run(kind, new_learner(kind), path), run(kind, new_learner(kind)))


def _train_and_die(kind, path):
    torch.set_num_threads(1)
    learner = new_learner(kind)
    stop_after(learner, 33, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run(kind, learner, path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    path = tmp_path / "training.safetensors"
    process = multiprocessing.get_context("fork").Process(target=_train_and_die, args=("discrete", path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert_same(run("discrete", new_learner("discrete"), path), run("discrete", new_learner("discrete")))


def test_other_seeds_draw_other_batches():
    one, other = (run("discrete", new_learner("discrete"), seed=seed) for seed in (0, 1))
    assert not torch.equal(one.adam.moments, other.adam.moments)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    run("discrete", new_learner("discrete"), path)
    with pytest.raises(ValueError, match="is of other data, settings or seed; delete it to start anew"):
        run("discrete", new_learner("discrete"), path, identity="another")


@kinds
def test_a_training_that_diverges_stops_and_names_the_field_to_change(kind, tmp_path):
    path, settings = tmp_path / "training.safetensors", replace(SETTINGS[kind], learning_rate=1e30)
    learner, size = (DiscreteBCQ, 4) if kind == "discrete" else (ContinuousBCQ, 2)
    learner = learner(OBS_DIM, size, settings, torch.Generator().manual_seed(0))
    with pytest.raises(
        BaselineDiverged, match=r"diverged by update 10 of 45 \(loss .*\); lower learning_rate \(1e\+30"
    ):
        run(kind, learner, path, settings=settings)
    assert not path.exists()


def test_weights_that_are_not_finite_are_an_error_where_the_loss_is_finite():
    learner = new_learner("discrete")
    learner.policy.networks.layers[0].bias.data[TARGET] = torch.nan
    stop_after(learner, 0, lambda: torch.zeros(()))
    with pytest.raises(BaselineDiverged, match="lower learning_rate"):
        run("discrete", learner)


@kinds
def test_batches_hold_whole_transitions_drawn_evenly(kind):
    data, space = logged(kind), SPECS[kind].action_space
    replay = Replay(data, space)
    assert len(replay) == len(data)
    counts = np.zeros(len(data))
    for batch in replay.batches(300, 40, torch.Generator().manual_seed(0)):
        rows = (batch.obs[:, None] == torch.from_numpy(data.obs)).all(2).int().argmax(1).numpy()
        counts += np.bincount(rows, minlength=len(data))
    np.testing.assert_array_equal(batch.next_obs, data.next_obs[rows])
    np.testing.assert_array_equal(batch.reward[:, 0], data.reward[rows])
    np.testing.assert_array_equal(batch.live[:, 0], ~data.terminated[rows])
    if kind == "discrete":
        assert batch.action.dtype == torch.int64
        np.testing.assert_array_equal(batch.action[:, 0], data.action[rows])
    else:
        assert batch.action.abs().max() <= 1.0
        middle, half = (space.low + space.high) / 2, (space.high - space.low) / 2
        np.testing.assert_allclose(middle + half * batch.action.numpy(), data.action[rows], atol=1e-6)
    # That is five standard deviations.
    assert abs(counts / counts.mean() - 1).max() < 0.5


def test_one_agent_s_transitions_are_its_own(tmp_path):
    data = logged("discrete")
    on_disk = write_transitions(tmp_path / "store", [data], n_agents=3, source="on disk")
    for some in (data, on_disk):
        assert len(Replay(some, SPECS["discrete"].action_space)) == 120
        (batch,) = Replay(some, SPECS["discrete"].action_space, agent=1).batches(1, 500, torch.Generator())
        own = {tuple(row) for row in data.obs[data.agent == 1].tolist()}
        assert {tuple(row) for row in batch.obs.tolist()} == own
    with pytest.raises(ValueError, match=r"agent 7 has no transitions in in memory \(3 agents\)"):
        Replay(data, SPECS["discrete"].action_space, agent=7)


def test_standardized_observations_have_no_mean_and_unit_spread():
    data = logged("discrete")
    data = replace(data, obs=data.obs * [1.0, 50.0, 0.0] + [0.0, 1000.0, 3.0])
    replay = Replay(data, SPECS["discrete"].action_space, standardize=True)
    table = replay._table[:, :OBS_DIM]
    torch.testing.assert_close(table.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(table.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Discrete(3), r"actions \[120\] are not 0 to 2"),
        (spaces.Box(-1, 1, (2,), dtype=np.float32), "are not of Box"),
    ],
)
def test_actions_of_another_space_are_refused(space, said):
    with pytest.raises(ValueError, match=said):
        Replay(logged("discrete"), space)


def test_unbounded_actions_are_refused():
    with pytest.raises(ValueError, match="actions need finite bounds"):
        Replay(logged("continuous"), spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32))


def test_settings_change_by_name_and_text():
    changed = changed_fields(DiscreteBCQSettings(), ["learning_rate=1", "layers=[64, 32]", "bfloat16=false", "batch=7"])
    assert changed == DiscreteBCQSettings(learning_rate=1.0, layers=(64, 32), bfloat16=False, batch=7)


@pytest.mark.parametrize("text", ["rank=3", "batch=1.5", "batch", "layers=64", "bfloat16=1", "learning_rate=fast"])
def test_what_sets_no_field_is_refused(text):
    with pytest.raises(ValueError, match="there is no setting|cannot be"):
        changed_fields(DiscreteBCQSettings(), [text])


@pytest.mark.parametrize("text", ["batch=0", "iterations=-1", "learning_rate=0"])
def test_impossible_settings_are_refused(text):
    with pytest.raises(ValueError, match="must be positive"):
        changed_fields(DiscreteBCQSettings(), [text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers=[64, 0]", "layers must be positive whole numbers"),
        ('layers=["64", 32]', "layers cannot be"),
        ("learning_rate=NaN", "learning_rate cannot be 'NaN'"),
        ("discount=-0.5", "discount must be finite and not negative"),
        ("logit_weight=Infinity", "logit_weight cannot be 'Infinity'"),
    ],
)
def test_impossible_values_are_refused_by_their_field(text, said):
    with pytest.raises(ValueError, match=said):
        changed_fields(DiscreteBCQSettings(), [text])


@kinds
def test_transitions_that_lack_a_value_are_left_out_and_counted(kind):
    data = lacking(logged(kind))
    out = int(np.isnan(data.next_obs).any(axis=1).sum())
    with pytest.warns(UserWarning, match=f"in memory: {out} of 120 transitions lack a value of what followed"):
        replay = Replay(data, SPECS[kind].action_space, standardize=True)
    assert len(replay) == 120 - out
    for batch in replay.batches(2, 64, torch.Generator().manual_seed(0)):
        assert all(bool(torch.isfinite(values).all()) for values in batch)
    with pytest.raises(ValueError, match="in memory, agent 1: all 40 transitions lack a value of what followed"):
        Replay(never(data, agent=1, column=2), SPECS[kind].action_space, agent=1)
    assert len(Replay(replace(logged(kind), missing=True), SPECS[kind].action_space)) == 120
