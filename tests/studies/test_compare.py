"""The study of comparisons: scores, coverage and the table on made-up rows, and one agent's rows."""

import csv
from pathlib import Path

import numpy as np
import pytest

from persim_gym.studies import compare as study
from persim_gym.studies.compare import COMPARED, compare_table, coverage, run_compare_study, scores, unlike_table

ROOT = Path(__file__).parents[2]
TRUTH = np.array([10.0, 8.0, 4.0, 0.0])


def test_scores_of_right_and_of_wrong_estimates():
    right = scores(TRUTH + 1, TRUTH)
    assert right[:3] == pytest.approx((1.0, 0.0, 0.0)) and right.error == pytest.approx(0.1)
    wrong = scores(-TRUTH, TRUTH)
    assert wrong[:3] == pytest.approx((-1.0, 1.0, 0.2))


def row(mean, low, high, truth, error=0.0, **others):
    numbers = {
        "mean": mean,
        "low": low,
        "high": high,
        "truth": truth,
        "truth_error": error,
        "fitted_q": mean,
        "noise": "none",
    }
    return {key: str(value) for key, value in {**numbers, **others}.items()}


def test_coverage_counts_the_sampling_error_of_true_returns():
    assert coverage([row(0, -1, 1, 0.9), row(0, -1, 1, 1.1), row(0, -3, 1, -2.9), row(5, 5, 5, 5)]) == 0.75
    assert coverage([row(0, -1, 1, 1.1, 0.5)]) == 1.0


def test_the_table_has_a_line_a_domain_and_estimate():
    rows = [
        row(
            truth + 0.5,
            truth - 1,
            truth + 1,
            truth,
            0.1 * (truth > 0),
            domain="cartpole",
            dataset="cartpole/pure-v0",
            agent=agent,
            candidate=str(truth),
        )
        for agent in (16, 17)
        for truth in TRUTH
    ]
    table = compare_table(rows)
    assert "| cartpole/pure | simulator | 2 | 4 | 1.00 (1.00) | 0.0% (0.0%) | 0.0% | 5.0% | 100% (100%) |" in table
    assert "| cartpole/pure | fitted Q | 2 | 4 | 1.00" in table
    noisy = compare_table(rows + [{**one, "noise": "residual", "mean": str(-float(one["truth"]))} for one in rows])
    assert "| cartpole/pure | simulator, residual noise | 2 | 4 | -1.00 (-1.00)" in noisy
    assert all(line in noisy for line in table.splitlines()) and noisy.count("fitted Q") == 1
    other = compare_table(rows + [{**one, "dataset": "cartpole/random-v0", "mean": one["low"]} for one in rows])
    assert all(line in other for line in table.splitlines()) and "| cartpole/random | simulator | 2 | 4 |" in other


def test_candidates_that_leave_the_logs_have_a_line_of_their_own():
    known = {"dataset": "cartpole/pure-v0", "agent": "16"}
    rows = [
        row(0, -1, 1, 0, unlike=0.0, **known),
        row(5, 4, 6, 10, unlike=0.5, **known),
        row(1, 1, 1, 1, unlike="", **known),
    ]
    assert unlike_table(rows).splitlines()[2:] == [
        "| cartpole/pure | up to 20% | 1 | 0.0% | 100% |",
        "| cartpole/pure | more than 20% | 1 | 50.0% | 0% |",
    ]


def test_the_table_of_the_page_is_that_of_the_rows():
    rows = list(csv.DictReader((ROOT / "results" / "compare.csv").read_text(encoding="utf-8").splitlines()))
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    assert compare_table(rows) in page and unlike_table(rows) in page


def test_a_domain_without_candidates_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no comparison for hopper; choose from mountaincar"):
        run_compare_study({"hopper": "hopper/random-v0"}, [16], tmp_path)


@pytest.mark.parametrize("domain", COMPARED)
def test_there_are_candidates_enough(domain, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "load_policy", lambda path: path)
    assert len(study.study_candidates(domain, tmp_path)) >= 10


def test_a_policy_with_random_actions_between_does_both():
    from gymnasium import spaces
    from support.policies import Constant

    mixed = study.Unsteady(Constant(0), spaces.Discrete(4), 0.5, 0)
    action, _ = mixed.predict(np.zeros((4000, 2)))
    assert (action == 0).mean() == pytest.approx(0.5 + 0.5 / 4, abs=0.04)
