"""Simulated trajectories as data, and the study that trains on them."""

import os
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from persim_gym.datasets.collect import EpsilonGreedy, closest_loggers
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.studies import offline_rl
from persim_gym.studies.offline_rl import (
    INSIDE,
    SOURCES,
    joined,
    offline_data,
    offline_rl_table,
    run_offline_rl,
    simulated_episodes,
)

SIMULATOR, DOMAIN = "cartpole/random-v0", DOMAINS["cartpole"]


def random_episodes(agents, seed: int = 0, first: int = 0):
    rng = np.random.default_rng(seed)
    return simulated_episodes(SIMULATOR, agents, RandomPolicy(DOMAIN.action_space, rng), rng, first)


def test_simulated_episodes_are_chains_that_end_as_the_task_says():
    data = random_episodes([3, 0, 3], first=7)
    assert np.unique(data.trajectory).tolist() == [7, 8, 9] and data.n_agents == 500
    for number, agent in ((7, 3), (8, 0), (9, 3)):
        own = data.select(data.trajectory == number)
        assert (own.agent == agent).all()
        np.testing.assert_array_equal(own.obs[1:], own.next_obs[:-1])
        # Random actions let the pole fall.
        assert not own.terminated[:-1].any() and own.terminated[-1]
        np.testing.assert_array_equal(own.terminated, DOMAIN.task.terminated(own.next_obs))


def test_simulated_transitions_are_near_the_truth_of_their_agent():
    data = random_episodes(range(20))
    covariates = dict(zip((c.name for c in DOMAIN.covariates), DOMAIN.population[data.agent].T, strict=True))
    true = DOMAIN.physics(**covariates)(data.obs.astype(np.float64), data.action)
    change = np.abs(true - data.obs).mean(0)
    assert (np.abs(true - data.next_obs).mean(0) < 0.05 * change).all()


def test_under_the_behavior_policy_simulated_returns_are_the_true_ones():
    rng = np.random.default_rng(0)
    policy = EpsilonGreedy(closest_loggers(DOMAIN), DOMAIN.action_space, 0.0, rng)
    data = simulated_episodes(SIMULATOR, range(500), policy, rng)
    # In the truth it is 114.4.
    assert 100 < data.reward.sum() / 500 < 130


def test_joined_data_hold_all_episodes_apart():
    one, other = random_episodes([0, 1]), random_episodes([1], seed=1)
    both = joined([one, other, other])
    assert len(both) == len(one) + 2 * len(other)
    assert np.unique(both.trajectory).tolist() == [0, 1, 2, 3]
    assert both.source == one.source


@pytest.mark.parametrize("source", ["dreams", "inside"])
def test_what_is_no_source_of_data_lists_those_that_are(source):
    known = ", ".join(name for name in SOURCES if name not in INSIDE)
    with pytest.raises(ValueError, match=re.escape(f"{source!r} is not one of {known}")):
        offline_data(SIMULATOR, source, 1, 0)


def test_an_unknown_source_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"'dreams' is not one of {', '.join(SOURCES)}")):
        run_offline_rl(["cartpole"], ["dreams"], tmp_path)


@pytest.mark.slow
def test_the_study_trains_once_and_makes_a_table(tmp_path, place_dataset):
    place_dataset("persim/cartpole/random-v0", os.environ["MINARI_DATASETS_PATH"])
    options = {"iterations": 20, "seeds": 1, "workers": 1}
    rows = run_offline_rl(["cartpole"], ["logged", "simulated-random"], tmp_path, **options)
    assert [row["source"] for row in rows] == ["logged", "simulated-random"]
    assert rows == run_offline_rl(["cartpole"], ["logged", "simulated-random"], tmp_path, **options)
    table = offline_rl_table(rows)
    assert "| simulated, random actions |" in table and f"| {int(rows[0]['transitions']):,} |" in table


@pytest.mark.parametrize(
    ("source", "environment"), [("inside", {}), ("inside-penalty", {"penalty": 1.0}), ("inside-halt", {"halt": 1.0})]
)
def test_policies_inside_the_simulator_are_trained_as_their_row_says(source, environment, tmp_path, monkeypatch):
    """One an agent, DQN where actions are discrete, and its return in the truth is what counts."""
    trained = []

    def run_training(training, folder, progress):
        trained.append(training)
        return SimpleNamespace(true_return=10.0 * training.agent, training=replace(training, steps=77))

    monkeypatch.setattr(offline_rl, "run_training", run_training)
    row = offline_rl.train_on("cartpole/random-v0", "cartpole", source, 1, 1, 5, tmp_path)
    assert [training.agent for training in trained] == [0, 1, 2, 3, 4]
    assert {(t.algo, t.seed, t.truth) for t in trained} == {("dqn", 5, False)}
    assert all(training.environment == environment for training in trained)
    assert row["return"] == 20.0 and row["return_4"] == 40.0 and row["transitions"] == 77


def test_a_single_seed_has_no_spread():
    returns = {f"return_{agent}": "10" for agent in range(5)}
    row = {"domain": "cartpole", "source": "logged", "transitions": "7", "return": "10", **returns}
    other = row | {"return": "20"}
    assert "| 7 | 10.0 | 10.0 | 10.0 | 10.0 | 10.0 | 10.0 |" in offline_rl_table([row])
    assert offline_rl_table([row, other]).rstrip().endswith("| 15.0 ± 5.0 |")
