"""One cell: which data, which model, which figures; the same seed gives the same figures."""

from dataclasses import replace

import numpy as np
import pytest
from support.cells import FEW, SMALL
from support.recipes import TINY

from persim_gym.datasets import load
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.planning import MPC, RandomShooting
from persim_gym.reproduce import models
from persim_gym.reproduce.cells import result_keys, run_cell, settings_of
from persim_gym.reproduce.models import first_agents, model_key, models_of, trained_model
from persim_gym.reproduce.protocol import LOGS, NO_DATA, PREDICTION, RETURN, SCALES, Cell


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(models, "recipe_for", lambda name, kind: replace(TINY, epochs=1))


def cell(method, metrics=RETURN, **changes):
    fields = {"domain": "cartpole", "dataset": "random", "n_agents": 25, "agent": "1", "seed": 3} | changes
    return Cell(method=method, metrics=metrics, **fields)


@pytest.mark.parametrize(
    "method",
    ["persim", "persim-cem", "unfactorized", "unpersonalized", "cadm", "pe-ts-cadm", "bcq-p", "bcq-a", "true-mpc"],
)
def test_every_method_earns_a_return_that_can_be_repeated(method, tiny, tmp_path):
    chosen = cell(method, dataset=NO_DATA if method == "true-mpc" else "random")
    (first,), (again,) = run_cell(chosen, SMALL, tmp_path), run_cell(chosen, SMALL, tmp_path)
    assert 1 <= first.value <= 4 and first.value == again.value
    assert (first.method, first.agent, first.seed, first.metric, first.episodes) == (method, "1", 3, "return", 2)
    assert "numpy" in first.versions and first.hardware.endswith("cores")


@pytest.mark.parametrize("method", ["persim", "unfactorized", "unpersonalized", "cadm", "pe-ts-cadm"])
def test_every_model_has_errors_of_its_predictions(method, tiny, tmp_path):
    rmse, r2 = run_cell(cell(method, PREDICTION), SMALL, tmp_path)
    assert (rmse.metric, r2.metric) == PREDICTION and rmse.value > 0 and r2.value <= 1 and rmse.episodes == 5


def test_the_return_is_that_of_the_thesis_planner_in_the_true_environment(tmp_path):
    chosen, domain = cell("true-mpc", dataset=NO_DATA), DOMAINS["cartpole"]
    (result,) = run_cell(chosen, SMALL, tmp_path)
    policy = MPC(domain.dynamics(1), domain.task, domain.action_space, planner=RandomShooting(**dict(FEW)), seed=3)
    seed = int(np.random.SeedSequence([3, 1]).generate_state(1)[0])
    assert result.value == episode_returns(policy, domain, 1, episodes=2, seed=seed, steps=4).mean()


@pytest.mark.parametrize(("agent", "count"), [("2", 1), ("all", 500)])
def test_logs_are_counted_as_they_are(agent, count, tmp_path):
    data = load("persim/cartpole/random-v0", progress=False)
    earned, length = run_cell(cell("logging", LOGS, n_agents=500, agent=agent), SMALL, tmp_path)
    keep = np.full(len(data), True) if agent == "all" else data.agent == 2
    assert earned.value == pytest.approx(data.reward[keep].sum() / count, rel=1e-5)
    assert length.value == pytest.approx(keep.sum() / count, rel=1e-5) and length.episodes == count


def test_fewer_agents_are_the_first_ones():
    few, all_of_them = first_agents("cartpole", "random", 25), load("persim/cartpole/random-v0", progress=False)
    assert few.n_agents == 25 and set(few.agent) == set(range(25))
    np.testing.assert_array_equal(few.obs, all_of_them.obs[all_of_them.agent < 25])


def test_cells_share_trainings_but_where_the_agent_or_the_trial_differs():
    pooled = [cell("bcq-p", agent=str(agent)) for agent in range(5)] + [cell("bcq-p", seed=4)]
    single = [cell("bcq-a", agent=str(agent)) for agent in range(5)]
    assert len(models_of(pooled, SMALL)) == 2 and len(models_of(single, SMALL)) == 5
    assert models_of([cell("persim-cem")], SMALL) == models_of([cell("persim")], SMALL)
    assert not models_of([cell("true-mpc"), cell("logging", LOGS)], SMALL)
    folders = {key.folder for key in models_of([*pooled, *single], SMALL)}
    assert len(folders) == 7


def test_a_trained_model_is_not_trained_again(tiny, tmp_path):
    key = model_key(cell("persim"), SMALL)
    first = trained_model(key, tmp_path)
    written = (tmp_path / key.folder / "card.json").stat().st_mtime_ns
    assert trained_model(key, tmp_path).card == first.card
    assert (tmp_path / key.folder / "card.json").stat().st_mtime_ns == written


def test_results_of_other_sizes_stand_beside_each_other():
    quick, whole = (result_keys(cell("bcq-p"), SCALES[name]) for name in ("quick", "thesis"))
    assert quick != whole
    assert settings_of(cell("cadm"), SMALL) == "candidates=6 horizon=3 training_steps=3 episode_steps=4"
    assert settings_of(cell("persim-cem"), SCALES["thesis"]) == "planner=categorical-cem"
    # Neither the planner nor the length of episodes has a part in prediction errors.
    assert settings_of(cell("cadm", PREDICTION), SMALL) == "training_steps=3"
