"""`persim reproduce`: what is chosen is what runs, and tables come from rows alone."""

import csv
from dataclasses import astuple

import pytest
from typer.testing import CliRunner

from persim_gym.cli import app, main
from persim_gym.reproduce.results import COLUMNS, Result

ROW = Result("mountaincar", "random", 500, "0", "persim", 0, "return", -57.5, 5, "as the thesis", 1.5, "a 1", "b")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, astuple(ROW)])
    return path


def shown(*words):
    result = CliRunner().invoke(app, ["reproduce", *words], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_is_made_from_rows_alone(rows, tmp_path):
    said = shown("--table", "5.2a", "--results", str(rows), "--out", str(tmp_path))
    assert "Table 5.2a, thesis p. 39" in said and "-57.5" in said and "-57.7" in said
    for suffix in (".md", ".tex", ".csv"):
        assert (tmp_path / "tables" / f"5.2a{suffix}").stat().st_size
    assert not (tmp_path / "results.csv").exists() and not (tmp_path / "models").exists()


def test_tables_without_a_row_are_left_out(rows, tmp_path):
    said = shown("--table", "B.5", "--table", "B.4", "--results", str(rows), "--out", str(tmp_path))
    assert "B.4.md" in said and "B.5" not in said


def test_what_would_run_is_listed(tmp_path):
    words = ("--table", "B.4", "--table", "B.5", "--domain", "cartpole", "--method", "persim", "--method", "bcq-a")
    said = shown(*words, "--list", "--out", str(tmp_path)).splitlines()
    assert [line.split() for line in said[1:]] == [["cartpole", m, "12", "12"] for m in ("persim", "bcq-a")]
    assert shown(*words, "--list", "--out", str(tmp_path), "--scale", "thesis", "--trials", "2").count("40") == 4
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--table", "B.44"), "there is no table 'B.44'; did you mean B.4"),
        (("--figure", "C-1"), "there is no figure 'C-1'"),
        (("--scale", "large"), "there is no scale 'large'; known: quick, committed, thesis"),
        (("--domain", "pendulum"), "there is no domain of the thesis 'pendulum'"),
        (("--method", "sac"), "there is no method 'sac'"),
        (("--results", "nosuch.csv", "--workers", "2"), "--workers has no effect where --results are shown"),
        (("--results", "nosuch.csv"), "nosuch.csv"),
    ],
)
def test_a_mistake_is_one_line(words, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["persim", "reproduce", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("persim: ") and said in line


@pytest.mark.slow
def test_a_cell_runs_and_its_table_is_printed(tmp_path):
    words = ("--table", "B.5", "--method", "true-mpc", "--out", str(tmp_path), "--workers", "2")
    first = shown(*words)
    assert "True env + MPC" in first and "200" in first
    written = (tmp_path / "results.csv").read_bytes()
    assert shown(*words) == first and (tmp_path / "results.csv").read_bytes() == written
