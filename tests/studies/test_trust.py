"""The study of trust: its true windows, its rollouts, and whether promises are kept."""

from dataclasses import replace

import numpy as np

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.published import PREDICTION_WARMUP
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.diagnostics.trust import summarize_trust
from persim_gym.studies import trust as trust_study
from persim_gym.studies.trust import promise_shares, stranger_rollouts, true_windows

CARTPOLE = DOMAINS["cartpole"]


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
    measured = promise_shares([(errors[:1], spreads[:1]), (errors[1:], spreads[1:])], limits)
    assert measured == {"rollouts": 3, "kept": 2 / 3, "trusted": 3, "possible": 2, "share": 7 / 8}


def test_rollouts_of_a_stranger_are_dealt_out_to_draws_of_its_transitions(simulator, cars, monkeypatch):
    asked = []

    def drawn(domain, agent, count, draw):
        asked.append((domain, agent, count, draw))
        rows = cars.select((cars.agent == 3) & (cars.obs[:, 0] > -5))
        one = rows.select(np.arange(len(rows)) == 7 * draw)
        return None if count == "0" else replace(one, agent=np.zeros(1, dtype=np.int64), n_agents=1)

    monkeypatch.setattr(trust_study, "drawn_transitions", drawn)
    windows = cut_windows(cars, np.arange(0, 70, 10), steps=5)
    parts = stranger_rollouts(simulator, None, 3, "1", windows)
    assert asked == [("mountaincar", 3, "1", draw) for draw in range(5)]
    assert [len(errors) for errors, _ in parts] == [2, 2, 1, 1, 1]
    bigger = simulator.personalize(drawn("mountaincar", 3, "1", 4))
    alone = cut_windows(cars, np.array([40]), steps=5)
    alone = replace(alone, agent=np.array([simulator.model.config.n_agents]))
    np.testing.assert_allclose(parts[4][0], open_loop(bigger.model, bigger.known_beliefs(), alone)[0], rtol=1e-5)
    assert [len(errors) for errors, _ in stranger_rollouts(simulator, None, 3, "0", windows)] == [7]
