"""The demo writes its results and goes on where it stopped."""

import csv
import io

import pytest
from rich.console import Console
from support.recipes import TINY

from persim_gym.workflows import training_setup
from persim_gym.workflows.demo import DEMO_METHODS, run_demo

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_the_demo_writes_its_results_and_goes_on_where_it_stopped(tmp_path, monkeypatch, home):
    monkeypatch.setattr(training_setup, "recipe_for", lambda *args, **keywords: TINY)
    console = Console(width=200, record=True, file=io.StringIO())
    result = run_demo("cartpole", [4], 1, tmp_path, console=console)
    with (tmp_path / "results.csv").open() as file:
        rows = {(row["method"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    assert {method for method, _ in rows} == {"persim", *DEMO_METHODS}
    assert rows["true-mpc", "return_mean"] == 200
    assert 0 < rows["persim", "rmse_50step_mean"] == result.errors[4].mean_rmse
    for name in ("trajectories", "latent_factors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    kept = [tmp_path / "simulator" / "weights.safetensors", tmp_path / "episodes.csv"]
    before = [path.read_bytes() for path in kept]
    again = run_demo("cartpole", [4], 1, tmp_path, console=console)
    assert [path.read_bytes() for path in kept] == before
    assert again.returns == result.returns
    assert "trained before" in console.export_text()


def test_the_demo_refuses_domains_it_cannot_plan_in(tmp_path):
    with pytest.raises(ValueError, match="choose from mountaincar, cartpole"):
        run_demo("halfcheetah", [0], 1, tmp_path)


def test_the_demo_refuses_agents_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="agent 612 is not in the cartpole population"):
        run_demo("cartpole", [612], 1, tmp_path)


@pytest.mark.parametrize("name", ["results.csv", "trajectories.png", "latent_factors.png"])
def test_the_demo_replaces_no_file_of_the_users_unasked(tmp_path, name):
    (tmp_path / name).write_text("my own figures")
    with pytest.raises(ValueError, match=f"{name} is there and was not written by persim; --force replaces it"):
        run_demo("cartpole", [0], 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
