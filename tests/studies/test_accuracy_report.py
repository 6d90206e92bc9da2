"""Tables of errors beside the thesis's."""

from support.accuracy import row

from persim_gym.studies.accuracy_report import (
    ablation_tables,
    accuracy_page,
    error_tables,
    explained_tables,
    other_policies_tables,
    same_data_tables,
    spread_table,
)


def test_cells_at_or_below_the_thesis_are_bold_and_counted():
    # Table B.1, pure: 0.025, 0.090, 0.031, 0.014, 0.039
    table = error_tables([row()])
    assert "**0.0049 / 0.025** | **0.0309 / 0.090** | **0.0014 / 0.031** | **0.0131 / 0.014** | 0.2000 / 0.039" in table
    assert "At or below the thesis's: 4 of 5 cells; at or below a third of it: 2." in table


def test_errors_are_compared_as_the_thesis_rounds_them():
    # Table B.1, random: 0.004, 0.003, 0.001, 0.001, 0.001
    table = error_tables([row(policy="random", rmse=("0.00449", "0.00451", "0.0014", "0.0016", "0.0004"))])
    assert "**0.0045 / 0.004**" in table and "| 0.0045 / 0.003" in table
    assert "**0.0014 / 0.001**" in table and "| 0.0016 / 0.001" in table
    assert "3 of 5 cells; at or below a third of it: 0." in table


def test_explained_variance_is_bold_where_it_is_no_less_than_the_thesis():
    # Table B.3, random: 0.916, 0.670, 0.812, 0.855, 0.812; RMSE of agent 0 1.194
    rows = [row(domain="halfcheetah", policy="random", r2="0.812", rmse=("1.0",) * 5)]
    table = explained_tables(rows)
    assert "| 0.812 / 0.916 | **0.812 / 0.670** | **0.812 / 0.812** | 0.812 / 0.855 | **0.812 / 0.812** |" in table
    assert "At or above the thesis's: 3 of 5 cells." in table
    assert "| random | 2.31 / 4.12 |" in spread_table(rows)  # 1 / sqrt(0.188), 1.194 / sqrt(0.084)
    assert spread_table([row()]) == "" and "farther" not in accuracy_page([row()])
    assert "farther" in accuracy_page(rows)


def test_the_thesis_recipe_on_the_same_data_stands_beside_ours():
    rows = [row(), row(seed="1"), row("thesis", rmse=("0.0049", "0.0931", "0.0013", "0.0131", "0.1"))]
    table = same_data_tables(rows)  # of seed 0 alone, in which both were run
    assert (
        "**0.0049 / 0.0049** | **0.0309 / 0.0931** | 0.0014 / 0.0013 | **0.0131 / 0.0131** | 0.2000 / 0.1000" in table
    )
    assert "At or below: 3 of 5 cells; at or below a third: 1." in table
    assert same_data_tables(rows[:2]) == "" and "same data" not in accuracy_page(rows[:2])
    assert "## The thesis's recipe on the same data" in accuracy_page(rows)


def test_ablations_start_with_the_default_and_leave_out_what_was_not_run():
    table = ablation_tables([row("rank 5"), row()])
    assert table.index("| default |") < table.index("| rank 5 |") and "| a third of the samples |" not in table
    assert ablation_tables([row()]).strip() == ""
    assert "| rank 5 |" in accuracy_page([row(), row("rank 5")])


def test_ablations_of_several_seeds_are_geometric_means_over_those_that_every_row_has():
    # Table B.1, pure: 0.025, 0.090, 0.031, 0.014, 0.039
    low, high = ("0.01",) * 5, ("0.04",) * 5
    rows = [row(rmse=low), row(rmse=high, seed="1"), row(rmse=high, seed="2"), row("rank 5", rmse=low)]
    assert "Geometric" not in ablation_tables(rows)  # one seed in common
    table = ablation_tables([*rows, row("rank 5", rmse=low, seed="1")])
    assert "Geometric means over seeds 0, 1." in table
    assert f"| default |{' 0.0200 |' * 5} 6 of 10 | 12 |" in table  # agent 1 alone is below with 0.04
    assert f"| rank 5 |{' 0.0100 |' * 5} 10 of 10 | 12 |" in table


def test_errors_under_other_test_policies_have_tables_and_counts_of_their_own():
    # Table B.3, random: RMSE 1.194, 4.064, 4.070, 1.291, 2.325; R² 0.916, 0.670, 0.812, 0.855, 0.812
    values = {"rmse_0": "1.1", "rmse_1": "4.0", "rmse_2": "4.1", "rmse_3": "1.3", "rmse_4": "2.4"}
    values |= {f"r2_{agent}": "0.82" for agent in range(5)}
    rows = [
        {"domain": "halfcheetah", "policy": "random", "test_seed": seed, **values, "mean_return": earned}
        for seed, earned in (("2", "4321.4"), ("1", "4012.3"))
    ]
    table = other_policies_tables(rows)
    first, second = (table.index(f"seed {n}, which earns {earned}") for n, earned in ((1, "4,012"), (2, "4,321")))
    assert first < second
    assert "| **1.1000 / 1.194** | **4.0000 / 4.064** | 4.1000 / 4.070 | 1.3000 / 1.291 | 2.4000 / 2.325 |\n" in table
    assert table.count("RMSE at or below the thesis's: 2 of 5 cells.") == 2
    assert table.count("Median R² at or above the thesis's: 3 of 5 cells.") == 2
    assert "## Under other test policies" in accuracy_page([row()], rows)
    assert "other test policies" not in accuracy_page([row()]) and other_policies_tables([]) == ""
