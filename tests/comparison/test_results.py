"""The table, the file and the picture of a comparison."""

import csv
from dataclasses import replace

import pytest
from rich.console import Console

from persim_gym.comparison.results import ComparedPolicy, Comparison, unfamiliar_note

ROWS = (
    ComparedPolicy("A", "mpc", 12.0, 10.0, 14.0, 0.9, 1.0, 11.0, 30.0, 0.0, 0.01, "return"),
    ComparedPolicy("A", "logged", 8.0, 7.5, 9.0, 0.1, None, None, 30.0, 0.0, 0.01, "return"),
    ComparedPolicy("B", "logged", 1.0, 1.0, 1.0, 1.0, None, None, 5.0, 0.5, None, "return"),
)
FOUND = Comparison(ROWS, "logged", ("30 draws", "no noise"))


def test_the_table_shows_every_candidate_and_the_notes():
    console = Console(record=True, width=160)
    console.print(FOUND.table())
    text = console.export_text()
    for said in ("mpc", "10 to 14", "90%", "beats", "100%", "30 draws", "no noise"):
        assert said in text
    assert FOUND.agents == ["A", "B"] and len(FOUND.of("A")) == 2


def test_no_number_is_cut_off_in_a_narrow_window():
    wide = replace(ROWS[0], candidate="a rather long name", low=-17.2945, high=-6.0631, fitted_q=-6.61846, steps=1000.0)
    console = Console(record=True, width=80)
    console.print(Comparison((wide, ROWS[1]), "logged", ()).table())
    text = console.export_text()
    assert all(number in text for number in ("-17.29 to -6.063", "-6.618", " 1000", "100%")) and "…" not in text


def test_a_terminal_objective_is_named(tmp_path):
    last = Comparison(tuple(replace(row, objective="terminal") for row in ROWS), "logged", ())
    console = Console(record=True, width=160)
    console.print(last.table())
    text = console.export_text()
    assert "last reward" in text and "return" not in text
    lines = last.write_csv(tmp_path / "a.csv").read_text().splitlines()
    assert {row["objective"] for row in csv.DictReader(lines)} == {"terminal"}


def test_the_file_holds_all_rows_and_replaces_only_its_own_kind(tmp_path):
    path = FOUND.write_csv(tmp_path / "found.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [r["candidate"] for r in rows] == ["mpc", "logged", "logged"]
    assert rows[0]["fitted_q"] == "11.0" and rows[1]["beats"] == ""
    FOUND.write_csv(path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other.csv is another table"):
        FOUND.write_csv(tmp_path / "other.csv")
    FOUND.write_csv(tmp_path / "other.csv", force=True)


def test_the_picture_is_written(tmp_path):
    assert FOUND.plot(tmp_path / "found.png").stat().st_size > 10_000


def test_candidates_that_leave_the_logs_are_named_once_with_the_agent_of_whom_that_holds_most():
    far = [replace(ROWS[0], unlike=0.4), replace(ROWS[0], agent="B", unlike=0.8), replace(ROWS[1], unlike=0.9)]
    (note,) = unfamiliar_note([*far, ROWS[2]])
    assert note.endswith("logged in 90% of its steps (agent A), mpc in 80% of its steps (agent B)")
    assert unfamiliar_note(ROWS) == []
