"""`persim baseline` from end to end, small."""

import os

from typer.testing import CliRunner

from persim_gym.baselines.registry import load_baseline
from persim_gym.cli import app


def test_it_prints_returns_where_the_policy_is_and_what_comes_next(tmp_path, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    words = ["baseline", "bcq-p", "cartpole/random-v0", "--agents", "0,3", "--iterations", "20", "--episodes", "2"]
    words += ["--set", "layers=[16,16]", "--set", "threshold=0.5", "--out", str(tmp_path / "it")]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "bcq-p on cartpole/random-v0, in the true environment" in shown.output and "95 % interval" in shown.output
    assert f"{tmp_path / 'it'}  the policy" in shown.output
    assert "next: persim plan cartpole/random-v0 --agents 0,3" in shown.output
    assert load_baseline(tmp_path / "it").card.settings["threshold"] == 0.5


def test_a_context_aware_model_is_trained_and_its_errors_are_shown(tmp_path, place_dataset, home):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    words = ["baseline", "cadm", "cartpole/random-v0", "--agent", "3", "--iterations", "3", "--episodes", "2"]
    words += ["--set", "layers=[8,8]", "--set", "context_layers=[8]", "--set", "batch=8"]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "cartpole/random-v0-cadm: 2 episodes, 50 open-loop steps" in shown.output
    assert "next: persim plan cartpole/random-v0-cadm --agents 3" in shown.output
    assert "--workers is for bcq-a" in str(CliRunner().invoke(app, [*words, "--workers", "2"]).exception)
    shown = CliRunner().invoke(app, ["evaluate", "cartpole/random-v0-cadm", "--agent", "3", "--episodes", "2"])
    assert shown.exit_code == 0 and "random-v0-cadm: 2 episodes" in shown.output
