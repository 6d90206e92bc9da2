"""The table of trained policies."""

import csv
from pathlib import Path

import pytest

from persim_gym.studies.policy_training import reached, training_table


def test_the_table_compares_returns_or_the_steps_they_count():
    assert reached(190.0, 200.0) == pytest.approx(0.95)
    assert reached(-105.0, -100.0) == pytest.approx(100 / 105)
    head = {"simulator": "mountaincar/random-v0", "algo": "dqn", "steps": "1000", "agent": "2"}
    rows = [
        {**head, "place": place, "seed": str(seed), "return": str(value), "seconds": "10"}
        for place, values in (("simulator", (-110, -100)), ("truth", (-100, -100)))
        for seed, value in enumerate(values)
    ]
    line = training_table(rows).splitlines()[2]
    assert "| -105.0 ± 5.0 | -100.0 ± 0.0 | 95.2 % | 10/10 |" in line


def test_the_table_of_the_page_is_that_of_the_rows():
    docs = Path(__file__).parents[2] / "docs"
    rows = list(csv.DictReader((docs / "training" / "returns.csv").read_text(encoding="utf-8").splitlines()))
    assert training_table(rows) in (docs / "training.md").read_text(encoding="utf-8")
    assert len({(row["simulator"], row["weights"]) for row in rows if row["place"] == "simulator"}) == 2
