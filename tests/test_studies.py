"""The studies of new agents and of trust: their jobs, their rollouts, their tables."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.published import PREDICTION_WARMUP
from persim_gym.evaluation.returns import RandomPolicy
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.diagnostics.trust import summarize_trust
from persim_gym.simulator.registry import load_simulator
from persim_gym.studies import trust as trust_study
from persim_gym.studies.personalize import dynamics_for, jobs
from persim_gym.studies.personalize_report import personalize_figure, personalize_tables
from persim_gym.studies.trust import shares, stranger_rollouts, true_windows, trust_table
from persim_gym.workflows.train import train_simulator

CARTPOLE = DOMAINS["cartpole"]


@pytest.fixture(scope="module")
def simulator(cars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "small"
    recipe = replace(TINY, polish=True)
    train_simulator(cars, name="small", domain="mountaincar", recipe=recipe, folder=folder, progress=False)
    return load_simulator(str(folder))


def test_what_leaves_nothing_to_chance_is_measured_once():
    errors = [tuple(job.values()) for job in jobs("cartpole", "v", 3, "error")]
    assert len(errors) == len(set(errors))
    once = [j for j in errors if j[2] == "personalized" and j[3] == 0 and j[4] == "0"]
    thrice = [j for j in errors if j[2] == "personalized" and j[3] == 0 and j[4] == "5"]
    assert len(once) == 1 and len(thrice) == 3
    returns = list(jobs("cartpole", "v", 3, "return", steps=200))
    assert {job["method"] for job in returns} == {"personalized", "retrained", "online"}
    assert {job["steps"] for job in returns} == {200}
    assert len({tuple(job.values()) for job in returns}) == len(returns) == 3 * 5 * 8  # episodes, agents, eight cases


def test_methods_know_what_they_say(simulator, cars):
    data = replace(cars.select(cars.agent == 5), agent=np.zeros(100, dtype=np.int64), n_agents=1)
    prior = simulator.known_beliefs().prior
    average = dynamics_for(simulator, "personalized", None, 5).factor
    np.testing.assert_allclose(average, prior.mean, rtol=1e-6)
    _, posterior = simulator.personalize(data)
    closed = dynamics_for(simulator, "personalized", data, 5).factor
    np.testing.assert_allclose(closed, posterior.mean[:, 0], rtol=1e-5)
    wide = dynamics_for(simulator, "gaussian", data, 5).factor
    np.testing.assert_allclose(wide, closed, atol=0.3)  # with 100 transitions the prior hardly matters
    trained = dynamics_for(simulator, "retrained", None, 5).factor
    np.testing.assert_array_equal(trained, simulator.dynamics(5).factor)


def test_true_windows_are_true():
    windows = true_windows("cartpole", 3, RandomPolicy(CARTPOLE.action_space, seed=1), episodes=40, steps=15)
    physics = CARTPOLE.dynamics(3)
    assert 0 < len(windows.agent) <= 40 and (windows.agent == 3).all()
    now = windows.obs.astype(np.float64)
    for t in range(15):
        now = physics(now, windows.actions[:, t])
        inside = windows.logged[:, t]
        np.testing.assert_allclose(now[inside], windows.following[inside, t], atol=1e-5)
        ended = np.asarray(CARTPOLE.task.terminated(now))
        assert not windows.logged[ended, t + 1 :].any()
    assert windows.logged[:, 0].all() and PREDICTION_WARMUP == 10
    assert not windows.logged[:, -1].all()  # random actions drop the pole


def test_a_promise_is_kept_where_trust_ends_no_later_than_the_bound():
    limits = replace(summarize_trust((np.ones((40, 4)), np.ones((40, 4))), bound=0.5, level=0.9), scale=2.0)
    errors = np.array([[0.1, 0.1, 0.9, 0.1], [0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]])
    spreads = np.array([[0.1, 0.3, 0.3, 0.3], [0.1, 0.1, 0.1, 0.3], [0.1, 0.1, 0.1, 0.1]])  # trusted for 1, 3, 4 steps
    measured = shares([(errors[:1], spreads[:1]), (errors[1:], spreads[1:])], limits)
    assert measured == {"rollouts": 3, "kept": 2 / 3, "trusted": 3, "possible": 2, "share": 7 / 8}


def test_rollouts_of_a_stranger_are_dealt_out_to_draws_of_its_transitions(simulator, cars, monkeypatch):
    asked = []

    def drawn(domain, agent, count, draw):
        asked.append((domain, agent, count, draw))
        rows = cars.select((cars.agent == 3) & (cars.obs[:, 0] > -5))
        one = rows.select(np.arange(len(rows)) == 7 * draw)
        return None if count == "0" else replace(one, agent=np.zeros(1, dtype=np.int64), n_agents=1)

    monkeypatch.setattr(trust_study, "drawn", drawn)
    windows = cut_windows(cars, np.arange(0, 70, 10), steps=5)
    parts = stranger_rollouts(simulator, None, 3, "1", windows)
    assert asked == [("mountaincar", 3, "1", draw) for draw in range(5)]
    assert [len(errors) for errors, _ in parts] == [2, 2, 1, 1, 1]
    bigger, _ = simulator.personalize(drawn("mountaincar", 3, "1", 4))
    alone = cut_windows(cars, np.array([40]), steps=5)
    alone = replace(alone, agent=np.array([simulator.model.config.n_agents]))
    np.testing.assert_allclose(parts[4][0], open_loop(bigger.model, bigger.known_beliefs(), alone)[0], rtol=1e-5)
    assert [len(errors) for errors, _ in stranger_rollouts(simulator, None, 3, "0", windows)] == [7]


def test_tables_and_figure_of_a_small_study(tmp_path):
    rng = np.random.default_rng(0)
    errors = [
        {k: str(v) for k, v in job.items()} | {"rmse": str(rng.uniform()), "r2": "1", "milliseconds": "2.5"}
        for job in jobs("cartpole", "v", 2, "error")
    ]
    returns = [
        {k: str(v) for k, v in job.items()} | {"return": "200"} for job in jobs("cartpole", "v", 2, "return", steps=200)
    ]
    text = personalize_tables({"cartpole": (errors, returns)})
    assert "| return of MPC after … transitions | agent 0 |" in text
    short = personalize_tables({"cartpole": (errors, [{**row, "steps": "100"} for row in returns])})
    assert "| return of MPC in 100 steps after … transitions | agent 0 |" in short
    assert "| trained with them |" in text and "| 0, learned while it acts | 200.0 |" in text
    assert "A factor from 20 transitions takes 2.5 ms" in text
    personalize_figure({"cartpole": (errors, returns), "halfcheetah": (errors, [])}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    limits = summarize_trust((rng.uniform(size=(40, 5)), np.ones((40, 5))), bound=0.5, level=0.9)
    assert "| a case | 7 | 93.0% |  |  |  |" in trust_table([{"case": "a case", "rollouts": 7, "kept": 0.93}], limits)
