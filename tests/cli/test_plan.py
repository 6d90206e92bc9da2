"""`persim plan`: what is refused before any planning."""

import sys

import numpy as np
import pytest
from support.simulators import own_simulator

from persim_gym.cli import main
from persim_gym.planning import MPC
from persim_gym.simulator.registry import load_simulator


def persim(monkeypatch, capsys, *words):
    """What the command prints to the error stream, and how it ends."""
    monkeypatch.setattr(sys, "argv", ["persim", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("video", ["film.avi", "film", "taken/film.gif", "folder.gif"])
def test_a_film_that_cannot_be_written_is_refused_before_planning(tmp_path, monkeypatch, capsys, video):
    (tmp_path / "taken").write_text("a file, not a folder")
    (tmp_path / "folder.gif").mkdir()
    words = ["plan", "cartpole", "--truth", "--out", tmp_path / "plan.csv", "--video", tmp_path / video]
    code, said = persim(monkeypatch, capsys, *words)
    assert code == 2 and len(said.splitlines()) == 1
    reasons = {"taken/film.gif": "taken", "folder.gif": "is no regular file"}
    assert reasons.get(video, "is neither .gif nor .mp4") in said
    assert not (tmp_path / "plan.csv").exists()


def test_what_cannot_be_the_table_of_returns_is_one_line(tmp_path, monkeypatch, capsys):
    code, said = persim(monkeypatch, capsys, "plan", "cartpole", "--truth", "--out", tmp_path)
    assert code == 2 and said.startswith("persim: ") and len(said.splitlines()) == 1 and str(tmp_path) in said


def test_a_simulator_of_no_domain_says_how_to_plan_in_it(tmp_path, monkeypatch, capsys):
    folder = own_simulator(tmp_path / "own", "")
    code, said = persim(monkeypatch, capsys, "plan", folder, "--out", tmp_path / "plan.csv")
    assert code == 2 and "there is no true environment to act in. Plan in it by persim_gym.planning.MPC(" in said
    simulator = load_simulator(str(folder))
    policy = MPC(simulator.dynamics(3), simulator.task, simulator.action_space)  # as it says
    assert policy.predict(np.zeros((2, 4)))[0].shape == (2,)
