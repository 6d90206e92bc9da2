"""The whole way of a table, as somebody types it: import, train, evaluate, train a policy, add machines."""

import csv
import json

import gymnasium as gym
import numpy as np
import pytest
from support.tables import machine_rows, write_csv

from persim_gym import load_simulator
from persim_gym.cli import main
from persim_gym.policies import train as policy_training
from persim_gym.sb3 import make_vec_env

pytestmark = pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari", "ignore::tqdm.TqdmExperimentalWarning")
ROLES = "--agent machine_id --time timestamp --obs temp,pressure --action valve --reward reward --terminated failed"
QUICK = "--set epochs=4 --set members=2 --set refine=1 --set state_layers=[32]"


@pytest.fixture
def persim(tmp_path, monkeypatch, capsys):
    """`persim(words)`: runs a command line in folders of its own, and returns what it prints."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
        monkeypatch.setattr(policy_training, name, 2)

    def run(words: str, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["persim", *words.split()])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert (end.value.code or 0) == status, shown.err
        return shown.out if status == 0 else shown.err

    return run


@pytest.mark.slow
def test_from_a_table_to_a_policy_without_a_line_of_python(persim, tmp_path):
    write_csv(tmp_path / "fleet.csv", machine_rows())
    said = persim(f"import fleet.csv {ROLES} --exogenous load --static age --unit temp=°C --name my/fleet-v0")
    assert "13,919 transitions left out" in said and "(1 gap)" in said and "of 60 agents" in said
    said = persim(f"train my/fleet-v0 {QUICK}")
    assert "agents of whom the first fifth was known, 1 step: simulator 0." in said
    assert "next: persim plan my/fleet-v0 --agent M-000" in said
    said = persim("evaluate my/fleet-v0 --plot bands.png")
    assert "temp (°C)" in said and "unpersonalized" in said and (tmp_path / "bands.png").stat().st_size > 10_000
    said = persim("plan my/fleet-v0 --agent M-007 --episodes 2 --candidates 20 --horizon 5 --workers 1 --out plan.csv")
    assert "M-007" in said and "simulated; there is no true environment here" in said
    for text in (
        "planning",
        "random actions",
        "the best one: ",
        "logged behaviour, cloned",
        "as logged (not simulated)",
    ):
        assert text in said
    rows = list(csv.DictReader((tmp_path / "plan.csv").read_text().splitlines()))
    assert [row["agent"] for row in rows] == ["7", "7"] and all(int(row["length"]) > 1 for row in rows)
    assert "What is known of agent M-007" in persim("evaluate my/fleet-v0 --agent M-007")
    said = persim("train-policy my/fleet-v0 --agent M-007 --steps 64 --n-envs 4 --out pol")
    assert "M-007" in said and "logged behaviour, cloned" in said
    assert json.loads((tmp_path / "pol/agent-7.json").read_text())["training"]["agent"] == 7
    assert "M-012" in persim(
        "train-policy my/fleet-v0 --agents M-007,M-012 --steps 64 --n-envs 4 --out pol --workers 1"
    )
    assert "(M-000, M-001, " in persim("simulators show my/fleet-v0")
    assert "did you mean M-007" in persim("evaluate my/fleet-v0 --agent M-0077", status=2)

    new = machine_rows(machines=2, steps=40, seed=1)
    new["machine_id"] = [name.replace("M-", "N-") for name in new["machine_id"]]
    write_csv(tmp_path / "new.csv", new)
    persim(f"import new.csv {ROLES} --exogenous load --name my/new-v0")
    said = persim("personalize my/fleet-v0 --data my/new-v0")
    assert "N-001" in said and "--agent N-000" in said
    assert "What is known of agent N-001" in persim("evaluate my/fleet-v0-personalized --agent N-001")
    assert "there is an agent N-000 already" in persim(
        "personalize my/fleet-v0-personalized --data my/new-v0", status=2
    )

    simulator = load_simulator("my/fleet-v0")
    obs, action = np.array([50.0, 1.0, 0.3], dtype=np.float32), np.array(1)
    np.testing.assert_array_equal(simulator.dynamics("M-007")(obs, action), simulator.dynamics(7)(obs, action))
    env = gym.make("persim_gym:PersimEnv-v0", agent="M-007", simulator="my/fleet-v0")
    assert env.unwrapped.agent == 7 and env.reset(seed=0)[0].shape == (3,)
    rows = make_vec_env(agents=["M-007", "M-012", 3], n_envs=3, simulator="my/fleet-v0")
    assert rows.get_attr("agent") == [7, 12, 3]
