"""Returns of policies equal those of the single environment."""

import gymnasium as gym
import numpy as np
import pytest
from support.policies import Constant

from persim_gym.datasets.behavior.policies import load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.returns import episode_returns

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


class LeftOf:
    """Pushes left while the cart is right of its row's own threshold: survives longer than a constant."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return (observation[:, 2] + 0.3 * observation[:, 3] > 0).astype(np.int64), None


# --- prediction error -----------------------------------------------------------------------------------------------


def test_episodes_can_be_cut_short():
    lengths = episode_returns(Constant(1), CARTPOLE, 0, episodes=40)  # one reward a step
    assert lengths.min() < 20 < lengths.max()
    cut_off = episode_returns(Constant(1), CARTPOLE, 0, episodes=40, steps=20)
    np.testing.assert_array_equal(cut_off, np.minimum(lengths, 20))


# --- returns --------------------------------------------------------------------------------------------------------


def by_hand(domain, agent, policy, seed, episodes):
    """Returns of the single environment from the same states."""
    returns = []
    for state in domain.initial_state(np.random.default_rng(seed), episodes):
        env = gym.make(f"persim_gym:{domain.env_id}", agent=agent)
        obs, _ = env.reset(options={"state": state})
        total, ended = 0.0, False
        while not ended:
            action = policy.predict(obs[None])[0][0]
            obs, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return returns


@pytest.mark.parametrize(
    ("name", "agent", "policy"),
    [
        ("cartpole", 0, Constant(1)),
        ("cartpole", 3, LeftOf()),
        ("mountaincar", 0, Constant(2)),
        ("mountaincar", 3, load_behavior_policy("mountaincar", "test")),
    ],
    ids=["cartpole falls", "cartpole balances", "mountaincar drives up", "mountaincar swings up"],
)
def test_returns_equal_those_of_the_single_environment(name, agent, policy):
    domain = DOMAINS[name]
    returns = episode_returns(policy, domain, agent, episodes=6, seed=11)
    np.testing.assert_allclose(returns, by_hand(domain, agent, policy, 11, 6))
    assert name == "mountaincar" or returns.min() != returns.max() or (returns == 200).all()


class Numbered:
    """Remembers its row: rocks the cart for eight steps a row, then pushes it over, so that early rows end first."""

    @staticmethod
    def action(row, step):
        return step % 2 if step < 8 * row else 0

    def __init__(self, memory):
        self.memory = memory
        self.sizes = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if state is None:
            assert episode_start.all()
            state = [(row, 0) for row in range(len(observation))]
        else:
            assert not episode_start.any()
        assert len(state) == len(observation) == len(episode_start)
        self.sizes.append(len(state))
        action = np.array([self.action(row, step) for row, step in state])
        following = [(row, step + 1) for row, step in state]
        return action, tuple(following) if self.memory is tuple else np.array(following)


@pytest.mark.parametrize("memory", [tuple, np.ndarray])
def test_rows_keep_their_own_memory_when_others_end(memory):
    policy = Numbered(memory)
    returns = episode_returns(policy, CARTPOLE, 1, episodes=5, seed=3)
    assert len(set(policy.sizes)) > 3  # rows ended one after another
    for row, state in enumerate(CARTPOLE.initial_state(np.random.default_rng(3), 5)):
        env = gym.make("persim_gym:HeteroCartPole-v0", agent=1)
        env.reset(options={"state": state})
        total, step, ended = 0.0, 0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(policy.action(row, step))
            total, step, ended = total + reward, step + 1, terminated or truncated
        assert returns[row] == total
