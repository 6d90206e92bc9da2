"""The doctor of tables: roles with reasons, the command that imports, and what will hurt."""

import shlex

import numpy as np
import pyarrow as pa
import pytest
from support.tables import machine_rows, write_csv

from persim_gym.datasets.tables.doctor import diagnose
from persim_gym.datasets.tables.guess import guess_roles, words_of
from persim_gym.datasets.tables.roles import Dialect


@pytest.fixture(scope="module")
def machines():
    return machine_rows(machines=12, steps=60)


def looked_at(tmp_path, columns, **given):
    return diagnose([write_csv(tmp_path / "fleet.csv", columns)], given, Dialect())


def test_roles_are_guessed_with_reasons(machines):
    found = {g.column: (g.role, g.why) for g in guess_roles(pa.table(machines), {})}
    assert {column: role for column, (role, _) in found.items()} == {
        "machine_id": "agent",
        "timestamp": "time",
        "temp": "obs",
        "pressure": "obs",
        "valve": "action",
        "load": "exogenous",
        "age": "static",
        "reward": "reward",
        "failed": "terminated",
    }
    assert found["machine_id"][1] == "12 different values, each in 60 rows on average; its name says so"
    assert found["age"][1] == "it is the same in all rows of an agent"


def test_what_is_given_is_not_guessed(machines):
    found = {g.column: g.role for g in guess_roles(pa.table(machines), {"action": ("load",), "obs": ("temp",)})}
    assert (found["load"], found["valve"], found["pressure"]) == ("action", "", "")


def test_the_command_can_be_run_as_it_is(machines, tmp_path):
    found = looked_at(tmp_path, machines)
    assert shlex.split(found.command) == [
        "persim", "import", str(tmp_path / "fleet.csv"), "--agent", "machine_id", "--time", "timestamp", "--obs",
        "temp,pressure", "--action", "valve", "--reward", "reward", "--terminated", "failed", "--exogenous", "load",
        "--static", "age", "--name", "my/fleet-v0",
    ]  # fmt: skip
    assert any(line.startswith("together ") for line in found.notes)


def test_columns_that_tell_the_future_are_named(machines, tmp_path):
    temp = [50.0 if value is None else value for value in machines["temp"]]
    leaks = {"soon": [*temp[1:], 0.0], "verdict": machines["reward"]}
    found = looked_at(tmp_path, {**machines, "temp": temp, **leaks}).warnings
    assert "soon is the next value of temp: it tells the future; leave it out of --obs" in found
    assert "verdict is the reward of the same row, which is not known before the action; leave it out of --obs" in found
    assert not any("tells the future" in line for line in looked_at(tmp_path, machines).warnings)


def test_agents_that_do_one_thing_only_are_named(machines, tmp_path):
    names = machines["machine_id"]
    valve = ["open" if name in ("M-003", "M-004") else v for name, v in zip(names, machines["valve"], strict=True)]
    found = looked_at(tmp_path, {**machines, "valve": valve}).warnings
    assert "one action only in M-003, M-004: other actions are guessed from other agents" in found


def test_what_hardly_changes_is_named(machines, tmp_path):
    rows = len(machines["temp"])
    columns = {**machines, "alarm": [float(i == 3) for i in range(rows)], "valve": ["open"] * rows}
    found = looked_at(tmp_path, columns, obs=("temp", "alarm"), action=("valve",)).warnings
    assert any(line.startswith("alarm is 0 in 99.9% of the rows") for line in found)
    assert "valve is open in all rows: nothing can be learned of it; leave it out" in found


def test_too_few_data_are_told(tmp_path):
    found = looked_at(tmp_path, machine_rows(machines=1, steps=20, missing=0)).warnings
    assert any(line.startswith("19 transitions are few") for line in found)
    assert any(line.startswith("there is one agent only") for line in found)


def test_mostly_missing_columns_are_told(machines, tmp_path):
    temp = [value if i % 4 else None for i, value in enumerate(machines["temp"])]
    assert any(
        line.startswith("26% of temp is missing") for line in looked_at(tmp_path, {**machines, "temp": temp}).warnings
    )


def test_an_agent_a_row_is_told(machines, tmp_path):
    ids = [f"R{i}" for i in range(len(machines["temp"]))]
    found = looked_at(tmp_path, {**machines, "machine_id": ids}, agent=("machine_id",)).warnings
    assert any("column machine_id names 720 agents in 720 rows" in line for line in found)


def test_without_a_role_the_command_has_a_gap(machines, tmp_path):
    columns = {name: values for name, values in machines.items() if name != "valve"}
    found = looked_at(tmp_path, columns)
    assert "--action COLUMN" in found.command and any("no column looks like an action" in w for w in found.warnings)


def test_a_column_that_is_not_there_is_one_line(machines, tmp_path):
    with pytest.raises(ValueError, match="fleet.csv has no column 'tmp'; did you mean temp"):
        looked_at(tmp_path, machines, obs=("tmp",))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("machine_id", {"machine", "id"}),
        ("machineId", {"machine", "id"}),
        ("MACHINE ID", {"machine", "id"}),
        ("T1", {"t", "1"}),
    ],
)
def test_names_are_read_by_their_words(name, words):
    assert words_of(name) == words


def test_numbers_that_are_the_same_in_all_agents_are_exogenous(machines):
    rng = np.random.default_rng(0)
    tides = dict(zip(sorted(set(machines["timestamp"])), rng.normal(size=10_000).tolist(), strict=False))
    columns = {**machines, "tide": [tides[t] for t in machines["timestamp"]]}
    found = {
        g.column: (g.role, g.why)
        for g in guess_roles(pa.table({**columns, "timestamp": np.array(columns["timestamp"], "datetime64[s]")}), {})
    }
    assert found["tide"] == ("exogenous", "at one time it is the same in all agents")
