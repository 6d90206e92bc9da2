"""The thesis's two measures against values computed by hand and against the single environment."""

import gymnasium as gym
import numpy as np
import pytest

from persim_gym.datasets.behavior.policies import load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.returns import RandomPolicy, episode_returns, select_rows
from persim_gym.task import FunctionDynamics

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


class Constant:
    """Always the same action."""

    def __init__(self, action):
        self.action = action

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), *np.shape(self.action)), self.action), None


class LeftOf:
    """Pushes left while the cart is right of its row's own threshold: survives longer than a constant."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return (observation[:, 2] + 0.3 * observation[:, 3] > 0).astype(np.int64), None


# --- prediction error -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mountaincar", "cartpole", "pendulum"])
def test_the_true_dynamics_have_no_error(name):
    domain = DOMAINS[name]
    policy = RandomPolicy(domain.action_space)
    error = prediction_error(domain.dynamics(3), domain, 3, policy, episodes=20, warmup=2, horizon=5)
    assert error.mean_rmse < 1e-5
    assert error.median_r2 > 0.999


def test_the_dynamics_of_another_agent_have_an_error():
    error = prediction_error(MOUNTAINCAR.dynamics(0), MOUNTAINCAR, 4, Constant(1), episodes=20)
    assert error.mean_rmse > 0.05
    assert error.median_r2 < 0.5


def offset_dynamics(domain, agent, offsets, start):
    """The truth, each dimension off by `offsets` from the first prediction on; [2, C, D] of two equal members."""
    true, shifted = domain.dynamics(agent), np.asarray(offsets)

    def dynamics(obs, action):
        unshifted = obs if dynamics.first else obs - shifted
        dynamics.first = False
        return true(unshifted, action) + shifted

    dynamics.first = True
    return FunctionDynamics(dynamics, members=2)


def test_a_constant_offset_gives_the_error_computed_by_hand():
    dynamics = offset_dynamics(MOUNTAINCAR, 3, [0.03, 0.04], True)
    error = prediction_error(dynamics, MOUNTAINCAR, 3, Constant(2), episodes=7, warmup=3, horizon=20)
    np.testing.assert_allclose(error.rmse, np.sqrt((0.03**2 + 0.04**2) / 2), rtol=1e-4)
    true = error.true[:, 1:]
    np.testing.assert_allclose(error.r2, 1 - (0.03**2 + 0.04**2) / true.var(axis=1).sum(axis=1), rtol=1e-4)
    assert error.mean_rmse == error.rmse.mean()
    assert error.median_r2 == np.median(error.r2)
    assert error.true.shape == error.predicted.shape == (7, 21, 2)
    np.testing.assert_array_equal(error.true[:, 0], error.predicted[:, 0])


def test_members_roll_out_by_themselves_and_their_mean_is_scored():
    true = MOUNTAINCAR.dynamics(3)

    def dynamics(obs, action):  # one member drifts up, one down: their mean position stays that of the truth
        following = np.stack([true(obs[0] - dynamics.drift, action), true(obs[1] + dynamics.drift, action)])
        dynamics.drift = dynamics.drift + [0.01, 0.0]
        return following + np.stack([[dynamics.drift], [-dynamics.drift]])

    dynamics.drift = np.zeros(2)
    error = prediction_error(FunctionDynamics(dynamics, members=2), MOUNTAINCAR, 3, Constant(1), episodes=5, horizon=20)
    assert error.mean_rmse < 1e-6


def test_steps_after_termination_are_ignored():
    """Agent 0's pole falls under constant pushes to the right; the dynamics give nonsense from then on."""
    true = CARTPOLE.dynamics(0)

    def dynamics(obs, action):
        following = true(obs, action)
        following[CARTPOLE.task.terminated(obs)] = np.nan
        return following

    error = prediction_error(dynamics, CARTPOLE, 0, Constant(1), episodes=30, warmup=0, horizon=120)
    assert error.mean_rmse < 1e-4
    ended = np.isnan(error.true).all(axis=-1)
    assert ended[:, -1].all()
    lengths = (~ended).sum(axis=1) - 1
    for row, length in zip(error.true, lengths, strict=True):  # the terminating observation is scored
        assert CARTPOLE.task.terminated(row[length])
        assert not CARTPOLE.task.terminated(row[:length]).any()


def test_episodes_can_be_cut_short():
    lengths = episode_returns(Constant(1), CARTPOLE, 0, episodes=40)  # one reward a step
    assert lengths.min() < 20 < lengths.max()
    cut_off = episode_returns(Constant(1), CARTPOLE, 0, episodes=40, steps=20)
    np.testing.assert_array_equal(cut_off, np.minimum(lengths, 20))


def test_episodes_that_end_in_the_warm_up_are_left_out():
    lengths = episode_returns(Constant(1), CARTPOLE, 0, episodes=40)  # one reward a step
    warmup = int(np.median(lengths))
    error = prediction_error(CARTPOLE.dynamics(0), CARTPOLE, 0, Constant(1), episodes=40, warmup=warmup, horizon=3)
    assert 0 < len(error.rmse) == (lengths > warmup).sum() < 40


def test_no_episode_left_after_the_warm_up_is_an_error():
    with pytest.raises(ValueError, match="all 5 episodes of agent 4 end within the 100 warm-up steps"):
        prediction_error(CARTPOLE.dynamics(4), CARTPOLE, 4, Constant(1), episodes=5, warmup=100)


def test_the_seed_decides_the_episodes():
    def true(seed):
        policy = load_behavior_policy("mountaincar", "test")
        return prediction_error(MOUNTAINCAR.dynamics(1), MOUNTAINCAR, 1, policy, episodes=3, seed=seed).true

    np.testing.assert_array_equal(true(5), true(5))
    assert (true(5) != true(6)).any()


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


def test_select_rows_keeps_rows_of_every_kind_of_memory():
    keep = np.array([True, False, True])
    assert select_rows(None, keep) is None
    assert select_rows(("a", "b", "c"), keep) == ("a", "c")
    np.testing.assert_array_equal(select_rows(np.arange(6).reshape(3, 2), keep), [[0, 1], [4, 5]])


@pytest.mark.parametrize("name", DOMAINS)
def test_random_actions_fit_the_space_alone_and_in_a_batch(name):
    space = DOMAINS[name].action_space
    policy = RandomPolicy(space, seed=3)
    obs = np.zeros((50, DOMAINS[name].observation_space.shape[0]))
    batch, _ = policy.predict(obs)
    assert all(action in space for action in batch)
    assert len(np.unique(batch, axis=0)) > 1
    assert policy.predict(obs[0])[0] in space
    np.testing.assert_array_equal(RandomPolicy(space, seed=3).predict(obs)[0], batch)
