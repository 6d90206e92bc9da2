"""`persim import` and `persim doctor TABLE` on the command line."""

import shlex

import pytest
from support.tables import machine_rows, write_csv
from typer.testing import CliRunner

from persim_gym.cli import app, main
from persim_gym.cli.options import chosen_agents
from persim_gym.cli.tables.imports import columns_of
from persim_gym.datasets import labels_of
from persim_gym.datasets.load import open_dataset
from persim_gym.datasets.tables.doctor import diagnose
from persim_gym.datasets.tables.roles import Dialect
from persim_gym.labels import Labels

KNOWN = (Labels(agents=("M-001", "M-007", "Smith, J", "4-2")), 4)


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("COLUMNS", "100")
    return str(write_csv(tmp_path / "fleet.csv", machine_rows(machines=9, steps=60)))


ROLES = "--agent machine_id --time timestamp --obs temp,pressure --action valve --reward reward".split()


def test_an_import_says_what_was_left_out_and_what_comes_next(table):
    shown = CliRunner().invoke(app, ["import", table, *ROLES, "--unit", "temp=°C", "--name", "my/fleet-v0"])
    assert shown.exit_code == 0, shown.exception
    assert "transitions of 9 agents in" in shown.stdout and "valve: 3 choices" in shown.stdout
    assert "the usual step is 1 min; a run ends at a step of more than 3 min" in shown.stdout
    assert "cells of temp missing: " in shown.stdout and "next: persim train my/fleet-v0" in shown.stdout
    labels = labels_of(open_dataset("my/fleet-v0"))
    assert labels.agents[7] == "M-007" and labels.units == {"temp": "°C"}


def test_what_the_doctor_prints_can_be_run(table):
    shown = CliRunner().invoke(app, ["doctor", table])
    assert shown.exit_code == 0, shown.exception
    for text in ("machine_id", "its name says so", "What will hurt", "An import would say"):
        assert text in shown.stdout
    command = shown.stdout.splitlines()[-1].split()
    assert command[:2] == ["persim", "import"]
    assert CliRunner().invoke(app, command[1:]).exit_code == 0


def test_a_column_with_a_comma_stands_in_quotes(tmp_path, table):
    columns = machine_rows(machines=3, steps=30, missing=0)
    columns["temp, °C"] = columns.pop("temp")
    found = diagnose(
        [write_csv(tmp_path / "t.csv", {f'"{n}"' if "," in n else n: c for n, c in columns.items()})], {}, Dialect()
    )
    words = shlex.split(found.command)
    assert columns_of(words[words.index("--obs") + 1]) == ["pressure", "temp, °C"]
    assert CliRunner().invoke(app, words[1:]).exit_code == 0


def test_without_a_table_the_doctor_looks_at_the_installation():
    shown = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "persim_gym" in shown.stdout and "$PERSIM_HOME" in shown.stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--unit", "temp"], "--unit 'temp' is not COLUMN=UNIT; write it as temp=°C"),
        (["--gap", "5"], "--gap 5 has no unit; times are dates"),
        (["--exogenous", "lod"], "has no column 'lod'; did you mean load?"),
    ],
)
def test_a_mistake_is_one_line(table, changes, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["persim", "import", table, *ROLES, *changes, "--name", "my/fleet-v0"])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().err
    assert end.value.code == 2 and said in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("agents", "agent", "numbers"),
    [
        ("M-007,M-001", None, [1, 0]),
        ("0-1,M-007", None, [0, 1]),
        ("Smith, J", None, [2]),
        ("4-2,1", None, [3, 1]),
        (None, "M-007", [1]),
        (None, "2", [2]),
    ],
)
def test_agents_are_chosen_by_names_numbers_and_ranges(agents, agent, numbers):
    assert chosen_agents(agents, agent, known=KNOWN) == numbers


@pytest.mark.parametrize(
    ("agents", "agent", "known", "said"),
    [
        ("M-07", None, KNOWN, "agent M-07 is none of these 4 agents; did you mean M-007"),
        ("0-7", None, KNOWN, "agent 4 is none of these 4 agents"),
        (None, "M-007", None, "--agent M-007 is no number from 0 on, and the agents have no other names"),
        (None, "0-4", None, "--agent 0-4 is no number"),
    ],
)
def test_what_is_no_agent_is_refused(agents, agent, known, said):
    with pytest.raises(ValueError, match=said):
        chosen_agents(agents, agent, known=known)


def test_ranges_of_names_that_are_numbers_are_their_names():
    known = (Labels(agents=("101", "102", "103")), 3)
    assert chosen_agents("102-103,101", None, known=known) == [1, 2, 0]
