"""Static covariates on their whole way: trained with, kept, asked for a new agent by Python and by the command line."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from support.recipes import TINY
from typer.testing import CliRunner

from persim_gym import load_simulator
from persim_gym.cli import app
from persim_gym.datasets import from_table
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import prepare_training

AGENTS, KNOWN, STEPS = 60, 50, 40
"""Of the carts so many are trained on."""
GAIN = np.random.default_rng(3).uniform(0.5, 2.0, AGENTS)
SPEC = EnvironmentSpec(flat_box([-np.inf], [np.inf]), spaces.Discrete(3), STEPS)
OPTIONS = {"name": "carts", "spec": SPEC, "recipe": replace(TINY, epochs=30, polish=True), "progress": False}


@pytest.fixture(scope="module")
def carts():
    """Carts that an action moves by their own gain: x' = x + gain (a - 1)."""
    rng, agent = np.random.default_rng(0), np.repeat(np.arange(AGENTS), STEPS)
    action, obs = rng.integers(3, size=len(agent)), rng.normal(size=(len(agent), 1))
    zeros = np.zeros(len(agent))
    following = obs + GAIN[agent, None] * (action[:, None] - 1)
    return Transitions(agent, obs, action, zeros, following, zeros > 0, agent, AGENTS, "carts")


@pytest.fixture(scope="module")
def known(carts):
    return replace(carts.select(carts.agent < KNOWN), n_agents=KNOWN)


@pytest.fixture(scope="module")
def knowing(known, tmp_path_factory):
    """A simulator of 50 carts whose gain is known, and whose site is known and says nothing."""
    static = {"gain": GAIN[:KNOWN].tolist(), "site": ["north", "south"] * (KNOWN // 2)}
    return train(known, out=tmp_path_factory.mktemp("known") / "known", static=static, **OPTIONS)


def apart(simulator, target):
    """Mean squared distance of the new agents' factors from those that all of their transitions speak for."""
    return float((simulator.beliefs.mean[:, KNOWN:] - target).square().mean())


def test_an_agent_that_did_nothing_yet_is_known_by_its_covariates(knowing, carts):
    new = {"gain": GAIN[KNOWN:].tolist(), "site": "north"}
    by_covariates = knowing.personalize(static=new)
    assert by_covariates.new_agents == range(50, 60) and by_covariates.n_agents == 60
    assert (by_covariates.beliefs.statistics.seen[50:] == 0).all()
    nothing = knowing.personalize(static={}, names=[f"new {n}" for n in range(10)])
    mean = knowing.beliefs.prior.mean
    torch.testing.assert_close(nothing.beliefs.mean[:, 50:], mean[:, None].expand(-1, 10, -1), rtol=0, atol=0)
    later = carts.agent >= KNOWN
    target = knowing.personalize(carts.select(later)).beliefs.mean[:, KNOWN:]
    assert apart(by_covariates, target) < 0.3 * apart(nothing, target)
    first = carts.select(later & (np.arange(len(carts)) % STEPS < 1))
    both, seen = knowing.personalize(first, static=new), knowing.personalize(first)
    assert apart(both, target) < 0.75 * apart(seen, target)


def test_it_is_kept_and_changes_no_weights(knowing, known, tmp_path):
    again = load_simulator(str(knowing.folder))
    torch.testing.assert_close(again.static.weight, knowing.static.weight, rtol=0, atol=0)
    assert (
        again.static.columns == knowing.static.columns
        and "gain, site; they explain" in (knowing.folder / "README.md").read_text()
    )
    plain = train(known, out=tmp_path / "plain", **OPTIONS)
    assert plain.static is None and plain.card.sha256 == knowing.card.sha256
    assert '"static"' not in (plain.folder / "card.json").read_text()
    with pytest.raises(ValueError, match="carts was trained without static covariates; train it on a dataset that"):
        plain.personalize(static={"gain": 1.0})
    with pytest.raises(ValueError, match=r"another simulator \(different static covariates\)"):
        train(known, out=tmp_path / "plain", static={"gain": GAIN[:KNOWN].tolist()}, **OPTIONS)
    other = {"gain": GAIN[:KNOWN][::-1].tolist(), "site": ["north", "west"] * (KNOWN // 2)}
    with pytest.raises(ValueError, match=r"another simulator \(different static covariates\)"):
        train(known, out=knowing.folder, static=other, **OPTIONS)
    same = {"gain": GAIN[:KNOWN].tolist(), "site": ["north", "south"] * (KNOWN // 2)}
    assert train(known, out=knowing.folder, static=same, **OPTIONS).static.columns == knowing.static.columns
    with pytest.raises(ValueError, match="nothing is known of the new agents; give transitions, static covariates or"):
        plain.personalize()
    with pytest.raises(ValueError, match="static column gain has 2 values for 50 agents"):
        prepare_training(known, static={"gain": [1, 2]}, spec=SPEC)


def test_the_command_line_takes_covariates_with_and_without_data(knowing, tmp_path):
    run = CliRunner()
    words = ["personalize", str(knowing.folder), "--out", str(tmp_path / "new"), "--force"]
    done = run.invoke(app, [*words, "--static", "gain=1.5,site=south", "--name", "M-9"])
    assert done.exit_code == 0, done.output
    new = load_simulator(str(tmp_path / "new"))
    assert new.n_agents == 51 and new.agent_name(50) == "M-9"
    expected = knowing.personalize(static={"gain": 1.5, "site": "south"})
    torch.testing.assert_close(new.beliefs.mean[:, 50], expected.beliefs.mean[:, 50], rtol=1e-4, atol=1e-4)
    for options, said in (
        ([], "nothing is known of the new agents; give --data, --static or both"),
        (["--static", "gain"], "--static 'gain' is not COLUMN=VALUE"),
        (["--static", "weight=3"], "weight is none of the static columns of the data: gain, site"),
        (["--data", "x", "--name", "y"], "--name is for an agent without data"),
    ):
        assert said in str(run.invoke(app, [*words, *options]).exception)


def test_a_table_brings_its_own(knowing, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    rows = {"id": ["a"] * 4 + ["b"] * 4, "x": [0.0, 1.0, 1.0, 0.0, 0.0, 0.7, 0.7, 0.0], "push": [2, 1, 0, 0] * 2}
    columns = {**rows, "gain": [1.0] * 4 + [0.7] * 4, "site": ["north"] * 4 + ["south"] * 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari, about the author and the code, which there are none of.
        from_table(
            pd.DataFrame(columns), name="fleet/new-v0", agent="id", obs=["x"], action="push",
            static=["gain", "site"], progress=False,
        )  # fmt: skip
        out = str(tmp_path / "new")
        done = CliRunner().invoke(app, ["personalize", str(knowing.folder), "--data", "fleet/new-v0", "--out", out])
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    new = load_simulator(out)
    evidence = knowing.static.evidence({"gain": [1.0, 0.7], "site": ["north", "south"]}, 2)
    seen = new.beliefs.statistics.of([50, 51])
    assert (torch.linalg.eigvalsh(seen.information - 0.999 * evidence.information) > -1e-3).all()
    assert new.beliefs.statistics.seen[50:].tolist() == [3, 3]
