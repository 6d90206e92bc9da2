"""Measured widths stay beside the simulator, and are stale as soon as anything that they rest on is another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from persim_gym.comparison.calibration import first_logs
from persim_gym.comparison.intervals import Widening
from persim_gym.comparison.kept import INTERVALS, keep, kept, measured_under
from persim_gym.comparison.setting import Sampling, Setting
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise

FEW = Sampling(draws=4, steps=8)
WIDE = Widening(1.25, 1 / 3, 5)


@pytest.fixture
def place(car):
    return Setting.of(car)


def mark_of(place, sampling=FEW):
    return measured_under(place, sampling, first_logs(place, np.array([0, 3])))


def test_it_is_read_as_it_was_written(place):
    keep(place, "a", WIDE)
    keep(place, "b", Widening())
    assert kept(place, "a") == WIDE and kept(place, "b") == Widening() and kept(place, "c") is None


@pytest.mark.parametrize("text", ["", "[]", '{"weights": "x"}', '{"weights": 1, "measured": 2}', "\x00"])
def test_a_file_that_cannot_be_read_is_written_anew(place, text):
    (Path(place.folder) / INTERVALS).write_text(text)
    assert kept(place, "a") is None
    keep(place, "a", WIDE)
    assert kept(place, "a") == WIDE


@pytest.mark.parametrize("wrong", [{"factor": "2"}, {"factor": 2.0, "size": 3}, 7, {"factor": float("nan")}])
def test_an_entry_that_is_none_is_measured_again(place, wrong):
    stored = {"weights": place.model.card.sha256, "measured": {"a": wrong, "b": {"factor": 2.0}}}
    (Path(place.folder) / INTERVALS).write_text(json.dumps(stored))
    assert kept(place, "a") is None and kept(place, "b") == Widening(2.0)


def test_what_is_beside_other_weights_is_stale(place):
    keep(place, "a", WIDE)
    other = Setting(place.folder, replace(place.model, card=replace(place.model.card, sha256="other")))
    assert kept(other, "a") is None
    keep(other, "b", WIDE)
    assert kept(place, "a") is None and kept(other, "b") == WIDE


def test_the_newest_are_kept(place, monkeypatch):
    monkeypatch.setattr("persim_gym.comparison.kept.MAX_KEPT", 3)
    for number in range(5):
        keep(place, str(number), WIDE)
    stored = json.loads((Path(place.folder) / INTERVALS).read_text())["measured"]
    assert list(stored) == [str(number) for number in (2, 3, 4)]


@pytest.mark.parametrize("elsewhere", ["bundled", "read-only"])
def test_where_nothing_is_written_it_is_kept_among_the_users_own(place, elsewhere, home, monkeypatch):
    if elsewhere == "bundled":
        monkeypatch.setattr("persim_gym.comparison.kept.ASSETS", Path(place.folder).parent)
    else:
        monkeypatch.setattr("persim_gym.comparison.kept.unwritable_part", lambda folder: folder)
    keep(place, "a", WIDE)
    assert kept(place, "a") == WIDE and not (Path(place.folder) / INTERVALS).exists()
    assert [path.name for path in (home / "intervals").iterdir()] == [place.model.card.sha256[:16]]


def test_a_full_disk_loses_no_comparison(place, monkeypatch):
    def full(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr("persim_gym.comparison.kept.write_json", full)
    keep(place, "a", WIDE)
    assert kept(place, "a") is None


@pytest.mark.parametrize(
    "change",
    [{"draws": 5}, {"steps": 9}, {"discount": 0.9}, {"seed": 1}, {"noise": "residual"}, {"objective": "terminal"}],
    ids=str,
)
def test_a_mark_is_of_all_that_logs_are_replayed_with(place, change):
    assert mark_of(place) == mark_of(place, FEW._replace(episodes=9)) == mark_of(place, FEW._replace(noise="none"))
    assert mark_of(place) != mark_of(place, FEW._replace(**change))
    assert mark_of(place, FEW._replace(steps=0)) == mark_of(place, FEW._replace(steps=10**6))


def test_a_mark_is_of_the_task_the_data_and_the_noise(place, cars):
    task, card = place.model.task, place.model.card
    others = [
        replace(place.model, card=replace(card, dataset_hash="other")),
        replace(place.model, noise=fitted_noise(place.model.model, cars.select(cars.agent < 5))),
        replace(place.model, noise=fitted_noise(place.model.model, cars.select(cars.agent < 4))),
    ]
    for change in (
        {"reward": lambda obs, action, next_obs: task.reward(obs, action, next_obs) + obs[..., 0]},
        {"terminated": lambda next_obs: next_obs[..., 0] > 0},
    ):
        others.append(replace(place.model))
        others[-1].__dict__["task"] = task._replace(**change)
    marks = {mark_of(Setting(place.folder, model)) for model in others}
    assert len(marks) == len(others) and mark_of(place) not in marks
