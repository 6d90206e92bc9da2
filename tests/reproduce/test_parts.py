"""Parts of the page, each from rows alone."""

import pytest
from support.table_rows import a_row, rows_of

from persim_gym.evaluation.published import published_error
from persim_gym.reproduce.parts import NAMED_PARTS, PARTS, found_part, interquartile_part
from persim_gym.reproduce.published import FAULTS


def test_what_was_found_is_counted_from_rows():
    rows = [
        a_row(value=-50.0),
        a_row(value=-40.0, method="bcq-p"),
        a_row(agent="1", value=-400.0),
        a_row(value=-51.0, method="persim-cem"),
        a_row("B.2", value=0.001),
        a_row("B.2", value=0.5, method="cadm"),
        a_row("B.8", n_agents=100, value=0.5),
    ]
    first, errors, returns, rivals, faulty = found_part(rows).splitlines()
    assert "6 of the 1559 figures" in first and "Of the 5 that can be compared, 3 are no worse" in first
    assert "in 1 of 1 cells, and the lowest of all methods in 1 of 1; in the thesis in 85 of 105" in errors
    assert "in 1 of 2 cells, and the highest of all methods in 0 of 1; in the thesis in 58 of 115" in returns
    assert returns.endswith("those of MountainCar and CartPole are in 1 of 1.")
    assert "BCQ-P in 1" in rivals and "58 figures" in faulty


def test_interquartile_means_stand_in_a_line_for_each_dataset_with_a_column_for_each_method():
    rows = [*rows_of("B.10"), a_row("B.10", method="bcq-p", n_agents=25, agent="1", value=-1.0)]
    lines = interquartile_part(rows, "B.10").splitlines()
    assert lines[0] == "| Return | PerSim | Unfactorized | Unpersonalized | Vanilla CaDM | PE-TS CaDM | BCQ-P |"
    assert [line.split("|")[1].strip() for line in lines[2:6]] == [f"random, {n} agents" for n in (250, 100, 50, 25)]
    assert "(3 of 5)" in lines[2] and "(4 of 5)" in lines[5] and " [" in lines[2]
    assert interquartile_part([], "B.10") == ""
    assert interquartile_part([a_row(value=-60.0)], "B.4").splitlines()[2] == "| random | -60.0 (1 of 5) |"


def test_losses_and_departures_name_the_cells():
    rows = [a_row(value=-400.0), a_row(value=-40.0, method="bcq-p"), a_row(method="cadm", agent="4", value=-100.0)]
    assert "| B.4 | Return | random | agent 0: BCQ-P -40.0 (PerSim -400.00) |" in PARTS["losses"](rows)
    assert "| B.4 | Average reward: MountainCar | Return | 0 | 0 | 1 | 0 | 2 | 0 |" in PARTS["agreement"](rows)
    assert "| B.4 | Return | random | agent 0: -400.00 (thesis -57.70 ± 5.63) |" in PARTS["worse"](rows)
    assert "| B.4 | Average reward: MountainCar | Return | 0 of 1 | 13 of 20 |" in PARTS["wins"](rows)


def test_where_nothing_is_lost_or_worse_a_sentence_says_so():
    rows = [a_row(value=-50.0), a_row(value=-60.0, method="cadm")]
    assert PARTS["losses"](rows) == "In no cell that was run.\n"
    assert PARTS["worse"](rows).startswith("None of PerSim's figures")
    assert "| B.5 | Average reward: CartPole | Return | – | 14 of 20 |" in PARTS["wins"](rows)


def test_context_aware_models_stand_beside_the_thesis_and_beside_persim():
    thesis = [published_error("cartpole", "pure", agent, "PE-TS CaDM")[0] for agent in range(2)]
    own = [("pe-ts-cadm", 0, 1.3), ("pe-ts-cadm", 1, 1.8), ("persim", 0, 0.5), ("persim", 1, 9.0)]
    rows = [
        a_row("B.2", str(agent), factor * off * thesis[agent], seed, method=method, dataset="pure")
        for method, agent, factor in own
        for seed, off in ((0, 0.9), (1, 1.1))
    ]
    lines = PARTS["context"](rows).splitlines()
    assert lines[2:] == ["| B.2 | Prediction error: CartPole | PE-TS CaDM | 1 of 2 | 1 of 2 |"]
    assert PARTS["context"]([]) == ""
    (line,) = PARTS["context"]([row for row in rows if row.method != "persim"]).splitlines()[2:]
    assert line.endswith("| 1 of 2 | – |")


def test_the_gap_to_the_true_environment_is_of_agents_that_both_were_run_for():
    rows = [
        a_row(agent="0", value=-60.0),
        a_row(agent="3", value=-190.0),
        a_row(agent="4", value=-300.0),
        *(a_row(agent=agent, value=value, method="true-mpc") for agent, value in (("0", -50.0), ("3", -200.0))),
        # The thesis's planner exploits the physics of this agent; the other is compared.
        *(a_row("B.6", agent="1", value=100.0, method=method) for method in ("persim", "true-mpc")),
        *(a_row("B.6", agent="3", value=50.0, method=method) for method in ("persim", "true-mpc")),
    ]
    lines = PARTS["gap"](rows).splitlines()[2:4]
    # The thesis: (-57.70 + 53.95 - 186.6 + 182.9) / 2 and 565.2 - 1746.
    assert lines == ["| B.4 | random | 0, 3 | 0.0 | -3.7 |", "| B.6 | random | 3 | 0.0 | -1180.8 |"]


def test_parts_of_no_rows_say_what_the_thesis_alone_says():
    assert [word for word, part in PARTS.items() if not part([])] == ["gap", "losses", "agreement", "worse", "context"]
    assert PARTS["faults"]([]).count("\n- ") == len(FAULTS) - 1
    assert "| PerSim | – / 0.10 |" in NAMED_PARTS["spread"]([], "B.2")


@pytest.mark.parametrize("word", PARTS)
def test_parts_are_the_same_in_any_order_of_rows(word):
    rows = [*rows_of("B.2"), *rows_of("B.11")]
    assert PARTS[word](rows) == PARTS[word](rows[::-1])
