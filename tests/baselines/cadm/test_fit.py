"""Training: what it learns, that it resumes, and that it stops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.cadm import SMALL, gains, same_weights

from persim_gym.baselines.cadm import fit
from persim_gym.baselines.cadm.config import PUBLISHED, CadmShape
from persim_gym.baselines.cadm.dynamics import CadmDynamics
from persim_gym.baselines.cadm.fit import CadmDiverged, fit_cadm
from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.baselines.cadm.windows import logged_steps
from persim_gym.history import History

DETERMINISTIC, PROBABILISTIC = CadmShape(1, 0, 1, 1, False), CadmShape(1, 0, 1, SMALL.members, True)


def fitted(shape=DETERMINISTIC, settings=SMALL, **options):
    return fit_cadm(gains(), shape, settings, progress=False, **options)[0]


@pytest.mark.parametrize("shape", [DETERMINISTIC, PROBABILISTIC])
def test_one_seed_gives_one_model(shape):
    assert same_weights(fitted(shape, seed=1), fitted(shape, seed=1))
    assert not same_weights(fitted(shape, seed=1), fitted(shape, seed=2))


@pytest.mark.parametrize("shape", [DETERMINISTIC, PROBABILISTIC])
@pytest.mark.parametrize("stop", [7, 15])
def test_an_interrupted_training_ends_with_the_same_weights(shape, stop, tmp_path, monkeypatch):
    whole, checkpoint = fitted(shape), tmp_path / "training.safetensors"
    with monkeypatch.context() as patch:
        step = fit._Training._step

        def interrupted(self, rows, ahead, number):
            if number == stop:
                raise KeyboardInterrupt
            return step(self, rows, ahead, number)

        patch.setattr(fit._Training, "_step", interrupted)
        patch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            fitted(shape, checkpoint=checkpoint)
    assert checkpoint.exists()
    assert same_weights(fitted(shape, checkpoint=checkpoint), whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "training.safetensors"
    fitted(checkpoint=checkpoint)
    with pytest.raises(ValueError, match="delete it to start anew"):
        fitted(checkpoint=checkpoint, seed=1)


def test_a_training_that_diverges_names_the_field_to_change():
    with pytest.raises(CadmDiverged, match="lower learning_rate"):
        fitted(settings=replace(SMALL, learning_rate=1e30))


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        fitted(seed=-1)


def test_training_stops_where_the_validation_error_rises(monkeypatch):
    taken, errors = [], iter([1.0, 0.5, 0.8, 0.9, 0.4, 0.9, 0.95, 0.99])

    def step(self, rows, ahead, number):
        taken.append(number)
        return 0.0

    monkeypatch.setattr(fit._Training, "_step", step)
    monkeypatch.setattr(fit._Training, "_validation_error", lambda self, rows: next(errors))
    fitted(settings=replace(SMALL, steps=100, persistency=0.0, patience=2))
    # After 1.5, the averages are the errors: they rise twice in succession at the fourth one.
    assert len(taken) == 4 * SMALL.check_every


def test_without_held_out_trajectories_all_steps_are_taken_and_there_is_no_error():
    _, error = fit_cadm(gains(), DETERMINISTIC, replace(SMALL, validation=0.0), progress=False)
    assert math.isnan(error)


def test_weight_decay_goes_by_layer_and_leaves_biases_alone():
    model = CadmModel(PROBABILISTIC, PUBLISHED)
    decays = {
        id(p): group["weight_decay"] for group in fit._parameter_groups(model, PUBLISHED) for p in group["params"]
    }
    assert len(decays) == len(list(model.parameters()))

    def of(network):
        return [decays[id(layer.weight)] for layer in network.layers], {
            decays[id(layer.bias)] for layer in network.layers
        }

    deep = [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4]
    assert of(model.encoder) == ([2.5e-5, 5e-5, 7.5e-5, 0.0], {0.0})
    assert of(model.forward_model) == of(model.backward_model) == (deep, {0.0})


def test_the_context_identifies_a_hidden_parameter():
    """x' = x + gain * a: the gain is in the history alone."""
    settings = replace(SMALL, layers=(64, 64), batch=32, steps=400, learning_rate=1e-2, check_every=400)
    model, _ = fit_cadm(gains(agents=200), DETERMINISTIC, settings, progress=False)
    new = gains(agents=40, seed=9)
    errors = {}
    for known in (True, False):
        dynamics = CadmDynamics(model)
        each = []
        for agent in range(40):
            own = new.select(new.agent == agent)
            history = History.none(1, 4, 1, 1)
            for t in range(4):
                history = history.after(own.obs[t : t + 1], own.action[t : t + 1], own.next_obs[t : t + 1])
            told = dynamics.given(history) if known else dynamics
            each.append(told(own.obs[None, 5:], own.action[5:])[0] - own.next_obs[5:])
        errors[known] = float(np.sqrt(np.mean(np.square(each))))

    assert errors[True] < 0.4 * errors[False]


@pytest.mark.parametrize("drawn", [1, 2, 5])
def test_steps_that_are_drawn_differ_and_come_up_equally_often(drawn):
    steps = fit.drawn_steps(np.random.default_rng(0), (20_000, drawn), 5)
    assert all(len(set(row)) == drawn for row in steps[:100])
    np.testing.assert_allclose(np.bincount(steps.reshape(-1)) / len(steps), drawn / 5, atol=0.02)


@torch.no_grad()
def test_the_loss_of_drawn_steps_is_that_of_all_of_them_on_average():
    data = gains()
    settings = replace(SMALL, drawn=1)
    model = CadmModel(PROBABILISTIC, settings)
    steps, rows = logged_steps(model, data), torch.arange(0, 280).expand(2, -1)
    inside = rows[:, :, None] % 15 + torch.arange(3) < 15
    rows = rows[:, inside[0].all(1)]
    every = [torch.full((*rows.shape, 1), ahead) for ahead in range(3)]
    each = [fit.window_loss(model, steps, rows, ahead, settings) for ahead in every]
    together = fit.window_loss(model, steps, rows, torch.cat(every, dim=-1), settings)
    np.testing.assert_allclose(float(sum(each)) / 3, float(together), rtol=1e-5)
