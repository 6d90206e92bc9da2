"""`persim compare` on own data with a past and a load from outside: from a table to the chosen policy."""

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

import persim_gym
from persim_gym.cli import app
from persim_gym.datasets import from_table
from persim_gym.simulator.training.recipe import TrainingRecipe

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.slow
AGENTS, STEPS, DELAY = 12, 60, 1
RECIPE = TrainingRecipe(
    rank=2, members=2, state_layers=(16,), action_layers=(8,), activation="silu", standardize=True, agent_mean=1.0,
    agent_std=0.3, epochs=60, batch=64, learning_rate=5e-3, polish=True,
)  # fmt: skip


class Steady:
    """Opens the valve where the level, the first of the present observations, is low."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if observation.shape[1] != 2:
            raise ValueError("this rule knows level and load alone")
        return np.clip(-observation[:, :1], -1, 1).astype(np.float32), None


def tanks():
    rng, rows = np.random.default_rng(0), []
    for number in range(AGENTS):
        strength, level, load, waiting = 0.5 + number / AGENTS, 0.0, 0.0, [0.0] * DELAY
        for step in range(STEPS):
            action = rng.uniform(-1, 1)
            rows.append((f"T-{number}", step, level, action, load, -abs(level)))
            level = 0.9 * level + strength * waiting[0] - 0.5 * load
            waiting, load = [*waiting[1:], action], 0.7 * load + 0.3 * rng.normal()
    return pd.DataFrame(rows, columns=["id", "time", "level", "valve", "load", "reward"])


def test_a_rule_beats_chance_and_the_log_on_own_data(tmp_path):
    roles = {"agent": "id", "time": "time", "obs": "level", "action": "valve", "reward": "reward"}
    from_table(tanks(), name="my/tanks-v0", exogenous="load", progress=False, force=True, **roles)
    folder = tmp_path / "simulator"
    persim_gym.train("my/tanks-v0", recipe=RECIPE, history="valve=1", out=folder, progress=False)
    given = {"rule": Steady(), "open": "constant:0.9", "mpc": "mpc:cem:candidates=20:horizon=4:elites=5:iterations=2"}
    found = persim_gym.compare(folder, given, ["T-3", "T-7"], draws=12, episodes=4, steps=20)
    for agent in ("T-3", "T-7"):
        rows = {row.candidate: row for row in found.of(agent)}
        assert set(rows) == {"rule", "open", "mpc", "logged"}
        assert rows["rule"].mean > rows["logged"].mean > rows["open"].mean
        assert rows["rule"].beats > 0.6 and rows["open"].best == 0.0
        assert rows["rule"].fitted_q > rows["open"].fitted_q
    assert "of no domain here" in " ".join(found.notes) and "replayed logs" in " ".join(found.notes)
    out = tmp_path / "found.csv"
    words = [
        "compare",
        str(folder),
        "--agent",
        "T-3",
        "--policy",
        "open=constant:0.9",
        "--draws",
        "6",
        "--episodes",
        "4",
    ]
    done = CliRunner().invoke(
        app, [*words, "--draws", "12", "--episodes", "4", "--steps", "20", "--out", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0
    again = {row["candidate"]: float(row["mean"]) for row in csv.DictReader(out.read_text().splitlines())}
    (first,) = [row.mean for row in found.of("T-3") if row.candidate == "open"]
    assert again["open"] == pytest.approx(first)
