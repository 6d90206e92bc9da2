"""Rules that log data: their memory row by row, and datasets that need no training."""

import numpy as np
import pytest

from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy, missing_loggers
from persim_gym.datasets.behavior.rules import RulePolicy, policy_of_agent
from persim_gym.datasets.behavior.train import train_behavior_policy
from persim_gym.datasets.collect import collect_episodes, logging_policy
from persim_gym.datasets.registry import DATASETS, DatasetSpec
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import act

RULED = [name for name, domain in DOMAINS.items() if domain.rule is not None]
ruled = pytest.mark.parametrize("name", RULED)


def fresh(domain, agent=3, seed=0):
    return RulePolicy(domain.rule, domain.agent_covariates(agent), np.random.default_rng(seed))


@ruled
def test_actions_fit_the_space_and_a_seed_says_all(name):
    domain = DOMAINS[name]
    physics, state = domain.physics(**domain.agent_covariates(3)), domain.initial_state(np.random.default_rng(1), 5)
    once, again = (list(act(fresh(domain), domain, physics, state, 30)) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert all(action in domain.action_space for action in one.action)
        np.testing.assert_array_equal(one.action, other.action)
    assert len(np.unique(np.concatenate([step.action for step in once]), axis=0)) > 1


@ruled
def test_rows_that_begin_anew_forget_and_the_others_do_not(name):
    domain = DOMAINS[name]
    policy, obs = fresh(domain), domain.observe(domain.initial_state(np.random.default_rng(1), 4)).astype(np.float32)
    _, memory = policy.predict(obs)
    memory = memory + 1.0
    begins = np.array([True, False, True, False])
    policy = fresh(domain)
    _, started = policy.predict(obs, memory, np.ones(4, dtype=bool))
    kept = fresh(domain).predict(obs, memory, begins)[1]
    np.testing.assert_array_equal(kept[begins], started[begins])
    assert not np.array_equal(kept[~begins], started[~begins])


@ruled
def test_one_observation_alone_gets_one_action(name):
    domain = DOMAINS[name]
    obs = domain.observe(domain.initial_state(np.random.default_rng(1), 1)).astype(np.float32)
    action, memory = fresh(domain).predict(obs[0])
    np.testing.assert_array_equal(action, fresh(domain).predict(obs)[0][0])
    assert memory.shape[0] == 1


@ruled
@pytest.mark.parametrize("policy", ["pure", "pure-eps-20", "pure-eps-40"])
def test_logged_data_are_the_rules_and_need_no_training(small, name, policy):
    spec = DatasetSpec(small(DOMAINS[name]), policy)
    assert spec.missing_loggers == [] and f"persim/{name}/pure-v0" in DATASETS
    acting, records = logging_policy(spec)
    assert records == []
    log = collect_episodes(spec.domain, 1e-9, acting, np.random.default_rng(0), progress=False)
    again = collect_episodes(spec.domain, 1e-9, logging_policy(spec)[0], np.random.default_rng(0), progress=False)
    for one, other in zip(log, again, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


@ruled
def test_nothing_is_trained_and_the_test_policy_knows_its_agent(name):
    with pytest.raises(ValueError, match=f"{name} logs by a rule: there is nothing to train"):
        train_behavior_policy(name, TEST)
    assert missing_loggers(name) == []
    assert policy_of_agent(DOMAINS[name], 7).covariates == DOMAINS[name].agent_covariates(7)
    trained = policy_of_agent(DOMAINS["cartpole"], 7)
    assert trained.card == load_behavior_policy("cartpole", TEST).card
