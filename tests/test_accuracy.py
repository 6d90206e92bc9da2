"""Errors beside the thesis's: which trainings are run, what their tables say."""

import os
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from persim_gym.cli import app
from persim_gym.datasets.behavior import policies as behaviour
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.returns import RandomPolicy
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training.recipe import recipe_for
from persim_gym.studies import accuracy
from persim_gym.studies import test_policies as others
from persim_gym.studies.accuracy import ACCURACY_JOB, CHANGES, read_rows, run_accuracy, varied_recipe
from persim_gym.studies.accuracy_report import (
    ablation_tables,
    accuracy_page,
    error_tables,
    explained_tables,
    other_policies_tables,
    same_data_tables,
    spread_table,
)
from persim_gym.studies.sensitivity import OFFSETS, SetOff, sensitivity


def row(
    variation="default",
    rmse=("0.0049", "0.0309", "0.0014", "0.0131", "0.2"),
    policy="pure",
    seed="0",
    r2="0.9",
    domain="mountaincar",
):
    head = {"domain": domain, "policy": policy, "variation": variation, "seed": seed, "seconds": "12.3"}
    return (
        head | {f"rmse_{agent}": value for agent, value in enumerate(rmse)} | {f"r2_{agent}": r2 for agent in range(5)}
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


def test_simulators_are_measured_under_each_test_policy_which_is_trained_once(tmp_path, monkeypatch, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    monkeypatch.setattr(accuracy, "varied_recipe", lambda *names: TINY)
    accuracy.accuracy("cartpole", "random", "default", 0, str(tmp_path / "simulators"))
    bundled = behaviour.load_behavior_policy("cartpole", "test")
    trained = []

    def train(domain, name, seed, root, progress):
        assert (domain, name) == ("cartpole", "test")
        trained.append(seed)
        layers = tuple((weight * seed, bias) for weight, bias in bundled.layers)
        return behaviour.save_behavior_policy(layers, replace(bundled.card, seed=seed, mean_return=100.0 + seed), root)

    def run_here(function, jobs, log, *, constants, **rest):
        for job in jobs:
            if log.get(job) is None:
                log.add(job, function(**job, **constants))
        return [log.get(job) for job in jobs]

    monkeypatch.setattr(others, "train_behavior_policy", train)
    monkeypatch.setattr(others, "run_jobs", run_here)
    rows = others.run_test_policies(["cartpole"], tmp_path, test_seeds=(2, 3))
    assert trained == [2, 3]
    assert [(row["policy"], row["test_seed"], row["mean_return"]) for row in rows] == [
        ("random", "2", "102.0"),
        ("random", "3", "103.0"),
    ]
    assert rows[0]["rmse_0"] != rows[1]["rmse_0"]
    assert others.run_test_policies(["cartpole"], tmp_path, test_seeds=(2, 3)) == rows and trained == [2, 3]


def test_test_policies_need_simulators_and_runs_that_no_logger_is_of(tmp_path):
    with pytest.raises(ValueError, match="no simulator of halfcheetah .*; run `persim study accuracy --domain half"):
        others.run_test_policies(["halfcheetah"], tmp_path)
    with pytest.raises(ValueError, match="logger-2 of cartpole was trained with seed 1 on the same agent"):
        others.trained_test_policy("cartpole", 1, tmp_path)


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, changes in CHANGES.items() for name in changes])
def test_every_change_changes_the_default_recipe(dataset, name):
    domain, policy = dataset
    default = recipe_for(f"{domain}/{policy}-v0", continuous=domain == "halfcheetah")
    assert varied_recipe(domain, policy, name) != default == varied_recipe(domain, policy, "default")


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no variation 'more' of cartpole/random-v0; known: default, thesis, ReLU"):
        varied_recipe("cartpole", "random", "more")
    with pytest.raises(ValueError, match="the thesis has no errors of pendulum/random"):
        run_accuracy(["pendulum"], ["random"], tmp_path)
    with pytest.raises(ValueError, match="run `persim study accuracy` first"):
        read_rows(tmp_path / "accuracy.csv")


def test_a_simulator_is_trained_once_and_measured_for_every_test_agent(tmp_path, monkeypatch, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    monkeypatch.setattr(accuracy, "varied_recipe", lambda *names: TINY)
    job = {"domain": "cartpole", "policy": "random", "variation": "two words", "seed": 1, "out": str(tmp_path)}
    first = accuracy.accuracy(**job)
    folder = tmp_path / "cartpole" / "random-v0" / "two-words-1"
    card = load_simulator(str(folder)).card
    assert (card.recipe_name, card.seed, card.training_seconds) == ("two words", 1, first["seconds"])
    assert {name for name in first if name != "seconds"} == set(accuracy.ACCURACY_COLUMNS)
    monkeypatch.setattr(accuracy, "train_simulator", None)  # must not be called again
    assert accuracy.accuracy(**job) == first


def test_the_command_writes_the_page_from_all_rows(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    def measure(domain, policy, variation, seed, out):
        return {column: 0.001 for column in accuracy.ACCURACY_COLUMNS} | {"seconds": 1.0}

    def run_here(function, jobs, log, *, constants, **rest):
        for job in jobs:
            log.add(job, function(**job, **constants))
        return []

    monkeypatch.setattr(accuracy, "accuracy", measure)
    monkeypatch.setattr(accuracy, "run_jobs", run_here)
    page = tmp_path / "accuracy.md"
    words = ["study", "accuracy", "--domain", "cartpole", "--out", str(tmp_path), "--page", str(page)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and "Table B.2" in done.stdout
    assert [tuple(r[k] for k in ACCURACY_JOB) for r in read_rows(tmp_path / "accuracy.csv")] == [
        ("cartpole", policy, "default", "0") for policy in accuracy.LOGGING_POLICIES
    ]
    assert "0.0010 / 0.014" in page.read_text(encoding="utf-8")


def test_the_true_dynamics_set_off_by_nothing_are_exact():
    spec = DOMAINS["cartpole"]

    def error(**noise):
        policy = RandomPolicy(spec.action_space)
        return prediction_error(SetOff(spec.dynamics(1), 2, **noise), spec, 1, policy, episodes=5, horizon=10).mean_rmse

    assert error() < 1e-6
    assert 0.001 < error(start=np.full(4, 0.01)) < 0.1
    assert error(step=np.full(4, 1e-4)) < error(step=np.full(4, 0.01)) < 0.2


def test_noise_at_the_start_comes_once_and_noise_at_every_step_at_every_step():
    def still(obs, action):
        return obs

    obs, action = np.zeros((3, 2)), np.zeros(3)
    once, always = SetOff(still, 4, start=np.ones(2)), SetOff(still, 4, step=np.array([1.0, 0.0]))
    first = once(obs, action)
    assert np.abs(first).min() > 0
    np.testing.assert_array_equal(once(first, action), first)
    first = always(obs, action)
    assert np.abs(always(first, action) - first)[..., 0].min() > 0
    assert not first[..., 1].any()
    assert len(np.unique(first[..., 0])) == 12  # members and rows each have noise of their own


def test_sensitivity_grows_with_the_offset_and_is_on_the_page():
    rows = [
        {"domain": "mountaincar", "when": when, "offset": str(o), **sensitivity("mountaincar", when, o, episodes=4)}
        for when, offsets in OFFSETS.items()
        for o in (offsets[0], offsets[-1])
    ]
    for agent in range(5):
        for when, factor in (("start", 10), ("step", 20)):
            least, most = (row[f"rmse_{agent}"] for row in rows if row["when"] == when)
            assert factor / 5 < most / least < 5 * factor
    page = accuracy_page([row()], set_off=rows)
    assert "What nearly perfect simulators would score" in page
    assert "| 0.1 % of its spread at the start |" in page and "| 20 % of its change at every step |" in page
    assert "nearly perfect" not in accuracy_page([row()])
