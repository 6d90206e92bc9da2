"""`persim plan`: what is refused before any planning."""

import csv
import sys

import pytest
from support.jobs import run_here
from support.simulators import own_simulator

from persim_gym.cli import main
from persim_gym.workflows import plan as plan_runs


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


def test_in_a_simulator_of_no_domain_episodes_are_simulated_and_compared(tmp_path, monkeypatch, capsys):
    folder, out = own_simulator(tmp_path / "own", "", starts=True), tmp_path / "plan.csv"
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(plan_runs, "run_jobs", run_here)
    words = ["plan", folder, "--agents", "3,1", "--out", out, "--episodes", 2, "--candidates", 5, "--horizon", 3]
    monkeypatch.setattr(sys, "argv", ["persim", *map(str, words), "--workers", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().out
    assert not end.value.code and "simulated; there is no true environment here" in shown
    for text in ("planning", "random actions", "constant action, the best one: "):
        assert shown.count(text) == 2  # Of two agents.
    assert "logged" not in shown  # Its data are not here.
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(r["domain"], r["agent"], r["length"]) for r in rows] == [("none", a, "20") for a in "3131"]


def test_a_simulator_of_no_domain_has_no_film(tmp_path, monkeypatch, capsys):
    folder = own_simulator(tmp_path / "own", "")
    words = ["plan", folder, "--out", tmp_path / "plan.csv", "--video", tmp_path / "film.gif"]
    code, said = persim(monkeypatch, capsys, *words)
    assert code == 2 and "of data of no domain here, which has no pictures" in said
