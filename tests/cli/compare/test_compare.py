"""`persim compare` on the command line."""

import csv

import pytest
from support.simulators import own_simulator
from typer.testing import CliRunner

from persim_gym.cli import app, main

FEW = ["--draws", "3", "--episodes", "2", "--steps", "5", "--baseline", "none"]


@pytest.fixture
def poles(tmp_path):
    return str(own_simulator(tmp_path / "poles", "", starts=True))


def test_table_file_and_picture(poles, tmp_path):
    out, plot = tmp_path / "found.csv", tmp_path / "found.png"
    words = ["compare", poles, "--agents", "0,2", "--policy", "chance=random", "--policy", "constant:1", *FEW]
    words += ["--out", str(out), "--plot", str(plot)]
    done = CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "160"})
    assert done.exit_code == 0 and "chance" in done.stdout and "90 % interval" in done.stdout
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {(r["agent"], r["candidate"]) for r in rows} == {(a, c) for a in "02" for c in ("chance", "constant:1")}
    assert plot.stat().st_size > 10_000
    first = out.read_bytes()
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0 and out.read_bytes() == first


def test_a_file_that_would_be_lost_is_said_before_anything_runs(poles, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr("persim_gym.comparison.compare.compare", None)
    words = ["compare", poles, "--policy", "a=random", "--out", str(tmp_path / "mine.csv"), *FEW]
    monkeypatch.setattr("sys.argv", ["persim", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "mine.csv is another table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "a=nowhere.zip"], "candidate a: there is no nowhere.zip"),
        (["--policy", "a=random", "--policy", "a=constant:1"], "two candidates are called 'a'"),
        (["--policy", "a=constant:9"], "candidate a: '9' is no action in Discrete(2)"),
        ([], "nothing to compare; give at least one policy"),
    ],
)
def test_a_mistake_is_one_line(poles, words, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["persim", "compare", poles, *words, *FEW])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().err
    assert end.value.code == 2 and said in shown and "Traceback" not in shown
    assert shown.strip().splitlines()[-1].startswith("persim: ")
