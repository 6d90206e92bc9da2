"""A table that lacks a tenth of its cells: import, train, calibrate, personalize, beside the whole table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from persim_gym import calibrate, train
from persim_gym.baselines.registry import train_baseline
from persim_gym.datasets import from_table, load

MACHINES, STEPS, SIZE = 50, 160, 3
COLUMNS = ["temp", "pressure", "flow"]
ROLES = {"agent": "machine", "time": "minute", "obs": COLUMNS, "action": "valve", "reward": "yield"}
QUICK = ("epochs=60", "members=3", "refine=1", "state_layers=[32]")


def machine(number, obs, valve):
    """The next observation of a linear system of a machine's own gain, before noise."""
    turn = np.array([[0.9, 0.1, 0.0], [-0.1, 0.9, 0.05], [0.0, -0.05, 0.95]])
    gain = 0.1 + 0.4 * number / MACHINES
    return obs @ turn.T + gain[..., None] * (valve[..., None] - 1) * np.array([1.0, 0.3, -0.5])


def table(share):
    """A row for each machine and minute; a share of the cells of all columns but these is missing."""
    rng, number = np.random.default_rng(0), np.arange(MACHINES)
    obs, rows = rng.normal(size=(MACHINES, SIZE)), []
    for minute in range(STEPS):
        valve = rng.integers(3, size=MACHINES)
        following = machine(number, obs, valve) + 0.02 * rng.normal(size=obs.shape)
        rows.append({"machine": [f"M-{n:02d}" for n in number], "minute": np.full(MACHINES, minute)})
        rows[-1] |= dict(zip(COLUMNS, obs.T, strict=True)) | {"valve": np.array(["shut", "half", "open"])[valve]}
        rows[-1]["yield"] = -np.abs(following[:, 0])
        obs = following
    frame = pd.concat([pd.DataFrame(row) for row in rows], ignore_index=True)
    cells = frame[[*COLUMNS, "valve", "yield"]]
    frame[cells.columns] = cells.mask(np.random.default_rng(1).random(cells.shape) < share)
    return frame


def error(simulator, first=0, machines=MACHINES):
    """Error of one step of all machines against the true system, at fresh observations."""
    rng = np.random.default_rng(2)
    number, obs, valve = rng.integers(machines, size=5000), rng.normal(size=(5000, SIZE)), rng.integers(3, size=5000)
    order = [simulator.labels.choices.index(name) for name in ("shut", "half", "open")]
    columns = (first + number, obs.astype(np.float32), np.array(order)[valve])
    predicted = simulator.model.predict(*map(torch.from_numpy, columns)).mean(0)[:, :SIZE].numpy()
    return np.sqrt(np.square(predicted - machine(number, obs, valve)).mean(axis=0))


@pytest.mark.slow
def test_a_table_that_lacks_a_tenth_of_its_cells_is_learned_nearly_as_well(home, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    simulators = {}
    for name, share in (("my/whole-v0", 0.0), ("my/lacking-v0", 0.1)):
        from_table(table(share), name=name, progress=False, **ROLES)
        simulators[name] = train(name, settings=QUICK, progress=False)
    data, whole = load("my/lacking-v0"), load("my/whole-v0")
    assert len(whole) == MACHINES * (STEPS - 1) and 0.6 < len(data) / len(whole) < 0.7
    assert len(data.starts()[0]) == len(whole.starts()[0]) == MACHINES
    expected, found = (error(simulator) for simulator in simulators.values())
    assert np.linalg.norm(found) < 1.5 * np.linalg.norm(expected) and (found < 2 * expected).all()

    lacks = simulators["my/lacking-v0"]
    report = lacks.card.error["by_horizon"]
    assert None not in lacks.card.error["one_step_rmse"] and report["later"]["steps"][:2] == [1, 2]
    for part in (report["later"], report["strangers"]):
        assert part["overall"]["simulator"][0] < 0.5 * part["overall"]["nothing changes"][0]
    trust = calibrate(lacks, level=0.8, steps=5, progress=False).card.trust
    assert 0 < trust["scale"] < 100 and trust["horizon"] >= 0

    past = train(
        "my/lacking-v0", history="temp=1,valve=decay:2 steps", name="my/past-v0", settings=QUICK, progress=False
    )
    assert past.spec.layout.width == 7 and None not in past.card.error["one_step_rmse"]
    assert calibrate(past, level=0.8, steps=5, progress=False).card.trust["scale"] > 0
    rmse = (simulator.card.error["one_step_rmse"][:SIZE] for simulator in (past, lacks))
    assert np.divide(*rmse).max() < 1.5

    few = data.select(data.agent < 5)
    bigger = lacks.personalize(replace(few, n_agents=5))
    known = error(bigger, first=MACHINES, machines=5)
    assert np.linalg.norm(known) < 2 * np.linalg.norm(expected)
    with pytest.warns(UserWarning, match="my/lacking-v0: .* transitions lack a value of what followed"):
        policy = train_baseline("bc", "my/lacking-v0", iterations=50, out=tmp_path / "bc", progress=False)
    assert np.isfinite(policy.predict(data.obs[:1])[0]).all()
