"""Ctrl-C in the middle of a verb: it ends, keeps what is finished, and the same command goes on."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from support.jobs import hear_ctrl_c

pytestmark = pytest.mark.slow

PLAN = ["plan", "cartpole/random-v0", "--agents", "0-2", "--episodes", "2", "--candidates", "100", "--horizon", "20"]


def started(words):
    """A verb in a group of processes of its own, as a terminal starts it."""
    command = [sys.executable, "-m", "persim_gym", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **pipes, start_new_session=True, preexec_fn=hear_ctrl_c)


def interrupted(process, ready):
    """Sends Ctrl-C to all processes of the group once `ready`; returns what was printed."""
    while not ready():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on where it stopped" in said
    assert "Traceback" not in said and "leaked" not in said
    return said


def says(process, pattern):
    """Reads what a verb prints until the pattern has come; False if it ends before."""
    said = ""
    while letter := process.stdout.read(1):
        said += letter
        if re.search(pattern, said):
            return True
    return False


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def test_planning_keeps_the_episodes_that_have_ended(tmp_path):
    out = tmp_path / "plan.csv"
    interrupted(started([*PLAN, "--out", str(out)]), lambda: rows_of(out))
    kept = rows_of(out)
    assert 0 < len(kept) < 6
    again = started([*PLAN, "--out", str(out)])
    assert "the return of every episode" in again.communicate(timeout=300)[0] and again.returncode == 0
    assert rows_of(out)[: len(kept)] == kept and len(rows_of(out)) == 6


def test_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path))
    words = ["train", "cartpole/random-v0", "--epochs", "60"]
    process, training = started(words), tmp_path / "training"
    interrupted(process, lambda: says(process, r"training: .* ([2-9]|\d\d)/60 "))
    assert list(training.glob("*.safetensors"))
    again = started(words)
    shown = again.communicate(timeout=300)[0]
    assert again.returncode == 0 and "error over 50 steps: RMSE" in shown and not list(training.glob("*"))
    assert "means this simulator from now on, not the bundled one" in shown
