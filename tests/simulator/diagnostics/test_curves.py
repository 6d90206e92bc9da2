"""TensorBoard's curves say what a training did, and change nothing of it."""

import sys

import numpy as np
import pytest
from support.recipes import TINY

from persim_gym import train
from persim_gym.extras import MissingExtraError
from persim_gym.simulator.diagnostics.curves import EVERY, FIRST_STEPS
from persim_gym.simulator.diagnostics.metrics import known_mean, one_step
from persim_gym.storage import WEIGHTS

pytestmark = pytest.mark.usefixtures("home")


def curves_in(folder):
    """Steps and values of each curve in a folder, by its tag."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def trained(cars, folder, **options):
    return train(cars, domain="mountaincar", name="a/b-v0", recipe=TINY, out=folder, progress=False, **options)


def test_curves_are_there_and_the_simulator_is_the_same(cars, tmp_path):
    watched = trained(cars, tmp_path / "a", tensorboard=tmp_path / "curves")
    trained(cars, tmp_path / "b")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    curves = curves_in(tmp_path / "curves" / "training")
    steps = range(1, TINY.for_data(len(cars)).epochs + 1)
    assert list(curves["gradient_steps/loss"]) == list(steps)
    measured = [step for step in steps if step <= FIRST_STEPS or step % EVERY == 0]
    for part, known in {"gradient_steps": measured, "closed_form": list(range(1, TINY.refine + 2))}.items():
        of_columns = [list(values) for tag, values in curves.items() if tag.startswith(f"{part}/error/")]
        assert of_columns == [known] * cars.obs_dim
    error, change = one_step(watched.model, cars)
    ratio = np.sqrt(known_mean(np.square(error), axis=0) / known_mean(np.square(change), axis=0))
    last = [next(reversed(values.values())) for tag, values in curves.items() if tag.startswith("closed_form")]
    np.testing.assert_allclose(last, ratio, rtol=0.2)  # The curve is of a sample of at most 2,000 rows.


def test_one_for_all_agents_has_curves_too(cars, tmp_path):
    trained(cars, tmp_path / "a", variant="unpersonalized", tensorboard=tmp_path / "curves")
    assert curves_in(tmp_path / "curves" / "training")["gradient_steps/loss"]


def test_without_tensorboard_its_extra_is_named_before_anything_is_done(cars, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'persim-gym\[tensorboard\]'"):
        trained(cars, tmp_path / "a", tensorboard=tmp_path / "curves")
    assert not list(tmp_path.glob("[ac]*"))
