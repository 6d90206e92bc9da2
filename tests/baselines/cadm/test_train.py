"""From logged data to a model on disk, and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from support.cadm import SMALL, gains, same_weights
from support.missing import lacking

from persim_gym.baselines.cadm import fit
from persim_gym.baselines.cadm.simulator import load_cadm
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.baselines.cadm.windows import logged_steps
from persim_gym.datasets import load
from persim_gym.spec import EnvironmentSpec
from persim_gym.storage import CARD, WEIGHTS

SPEC = EnvironmentSpec(spaces.Box(-9, 9, (1,)), spaces.Box(-1, 1, (1,)), 15, "support.cadm:TASK")


@pytest.mark.parametrize("probabilistic", [True, False])
def test_what_is_saved_and_loaded_is_the_same_bytes(probabilistic, tmp_path):
    options = {"probabilistic": probabilistic, "settings": SMALL, "spec": SPEC, "progress": False}
    model = train_cadm(gains(), out=tmp_path / "one", **options)
    again = train_cadm(gains(), out=tmp_path / "two", **options)
    model.save(tmp_path / "three")
    stored = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("one", "two", "three")]
    assert stored[0] == stored[1] == stored[2]
    loaded = load_cadm(tmp_path / "three")
    assert loaded.card == model.card
    assert loaded.settings == SMALL
    assert same_weights(loaded.model, again.model)
    assert loaded.task.reward(1.0, 2.0, 3.0) == 3.0
    assert loaded.start_obs.shape == (20, 1)


def test_a_model_of_a_domain_is_named_after_its_dataset_and_variant(home):
    data = load("cartpole/random-v0", progress=False)
    model = train_cadm(data, probabilistic=False, settings=replace(SMALL, steps=5), progress=False)
    assert model.card.name == "cartpole/random-v0-cadm"
    assert model.card.domain == "cartpole"
    assert model.folder.as_posix().endswith("simulators/cartpole/random-v0-cadm")
    assert model.model.shape.n_actions == 2
    assert "Vanilla CaDM" in repr(model)
    with pytest.raises(ValueError, match="agent 612 is not of this model's population"):
        model.dynamics(612)
    with pytest.raises(ValueError, match="leave quantize out"):
        model.dynamics(3, quantize=True)


@pytest.mark.parametrize(
    "spec, said",
    [
        (None, "give spec="),
        (replace(SPEC, task="learned"), "learns no rewards"),
        (replace(SPEC, observation_space=spaces.Box(-9, 9, (2,))), "give the spec of these data"),
        (replace(SPEC, action_space=spaces.Discrete(2)), "give the spec of these data"),
    ],
)
def test_data_that_do_not_fit_are_refused(spec, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        train_cadm(gains(), probabilistic=False, settings=SMALL, out=tmp_path / "m", spec=spec, progress=False)


def test_discrete_actions_that_the_space_has_not_are_refused(tmp_path):
    data = gains()
    discrete = replace(data, action=np.arange(len(data)) % 3)
    spec = replace(SPEC, action_space=spaces.Discrete(2))
    with pytest.raises(ValueError, match="actions 0–2 are not 0–1"):
        train_cadm(discrete, probabilistic=False, settings=SMALL, out=tmp_path / "m", spec=spec, progress=False)


def test_a_training_that_diverges_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path))
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    wild = replace(SMALL, learning_rate=1e3, steps=10_000)
    with pytest.raises(fit.CadmDiverged):
        train_cadm(gains(), probabilistic=True, settings=wild, out=tmp_path / "m", spec=SPEC, progress=False)
    assert not list((tmp_path / "training").glob("*"))


def test_a_damaged_model_and_one_of_another_format_are_refused(tmp_path):
    folder = tmp_path / "model"
    train_cadm(gains(), probabilistic=False, settings=SMALL, out=folder, spec=SPEC, progress=False)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(ValueError, match="format 99 on card.json is not 1.*train it again"):
        load_cadm(folder)
    (folder / CARD).write_text(json.dumps(card))
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ValueError, match="damaged"):
        load_cadm(folder)
    with pytest.raises(ValueError, match="give the folder of a trained model"):
        load_cadm(tmp_path / "nothing")


def test_starts_are_sorted_by_agent(tmp_path):
    data = gains()
    turned = data.select(np.argsort(-data.agent, kind="stable"))
    model = train_cadm(turned, probabilistic=False, settings=SMALL, out=tmp_path / "m", spec=SPEC, progress=False)
    assert (np.diff(model.start_agents) > 0).all()


def test_a_finished_training_is_loaded_and_another_is_not_replaced_unasked(tmp_path, monkeypatch):
    options = {"probabilistic": False, "spec": SPEC, "out": tmp_path / "m", "progress": False}
    first = train_cadm(gains(), settings=SMALL, **options)
    with monkeypatch.context() as patch:
        patch.setattr("persim_gym.baselines.cadm.train.fit_cadm", None)  # Nothing may be trained.
        assert train_cadm(gains(), settings=SMALL, **options).card == first.card
        with pytest.raises(ValueError, match=r"holds another model \(different settings\); --force replaces it"):
            train_cadm(gains(), settings=replace(SMALL, steps=6), **options)
    assert train_cadm(gains(), settings=replace(SMALL, steps=6), force=True, **options).settings.steps == 6


def test_what_is_missing_is_left_out_and_ends_a_window(tmp_path):
    data, options = gains(), {"probabilistic": False, "settings": SMALL, "spec": SPEC, "progress": False}
    lacks = lacking(data).select(np.arange(len(data)) % 15 != 7)
    with pytest.warns(UserWarning, match="of 280 transitions lack a value of what followed, and are left out"):
        model = train_cadm(lacks, out=tmp_path / "one", **options)
    whole = lacks.select(~np.isnan(lacks.next_obs[:, 0]))
    assert model.card.transitions == len(whole) and model.start_obs.shape == (20, 1)
    steps = logged_steps(model.model, whole)
    length = (steps.end - steps.first).numpy()
    assert length.max() <= 7 and len(np.unique(steps.first.numpy())) == whole.pieces.max() + 1
    with pytest.raises(ValueError, match="all 300 transitions lack a value of what followed"):
        train_cadm(lacking(data, share=1.0), out=tmp_path / "two", **options)
