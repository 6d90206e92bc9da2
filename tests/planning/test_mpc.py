"""MPC as a policy: one row as in a batch, streams that repeat, episodes that start anew."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from support.dynamics import Remembering, starts, walk

from persim_gym.envs import DOMAINS
from persim_gym.planning import CEM
from persim_gym.planning.mpc import MPC
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.planning.scoring import rollout_returns
from persim_gym.simulator.registry import load_simulator

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


def cart_policy(agent=0, seed=0, candidates=30, horizon=15):
    return MPC(
        CARTPOLE.dynamics(agent),
        CARTPOLE.task,
        CARTPOLE.action_space,
        planner=RandomShooting(candidates, horizon),
        seed=seed,
    )


def play(policy, obs, steps=4):
    """Actions of each step, [steps, B], the state passed on; rows move by the true physics."""
    physics, state, actions = CARTPOLE.physics(force=10.0, length=0.5), None, []
    for t in range(steps):
        action, state = policy.predict(obs, state, np.full(len(obs), t == 0))
        actions.append(action)
        obs = physics(obs, action).astype(np.float32)
    return np.stack(actions)


def test_the_same_seed_chooses_the_same_actions():
    np.testing.assert_array_equal(play(cart_policy(), starts(5)), play(cart_policy(), starts(5)))
    assert (play(cart_policy(), starts(5)) != play(cart_policy(seed=1), starts(5))).any()


def test_rows_act_as_in_a_batch_of_another_size():
    batch = play(cart_policy(), starts(5))
    np.testing.assert_array_equal(play(cart_policy(), starts(5)[:1]), batch[:, :1])
    np.testing.assert_array_equal(play(cart_policy(), starts(5)[:3]), batch[:, :3])


def test_a_single_observation_gives_a_single_action():
    action, _ = cart_policy().predict(starts(1)[0])
    assert action.shape == ()
    assert action == cart_policy().predict(starts(1))[0][0]


def test_left_out_state_goes_on_from_the_last_call():
    with_state, without = cart_policy(), cart_policy()
    state = None
    for obs in starts(6):
        action, state = with_state.predict(obs[None], state)
        np.testing.assert_array_equal(without.predict(obs[None])[0], action)


def test_an_episode_start_forgets_the_plan_of_its_row_only():
    policy = cart_policy()
    _, state = policy.predict(starts(2))
    _, after = policy.predict(starts(2), state, np.array([True, False]))
    fresh = RandomShooting(30, 15)
    for row, previous in ((0, None), (1, state[1].plan)):
        rng = np.random.default_rng([0, row])
        rng.integers(2, size=(30, 15))  # what the first call drew
        (expected,) = fresh.plan(
            policy.dynamics, policy.task, starts(2)[row], policy.action_space, rng, previous=previous
        )
        np.testing.assert_array_equal(after[row].plan.sequence, expected.sequence)


def test_reset_starts_the_random_streams_anew():
    policy = cart_policy()
    first = play(policy, starts(2))
    policy.reset()
    np.testing.assert_array_equal(play(policy, starts(2)), first)


def test_an_observation_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="cannot plan from an observation that is not finite"):
        cart_policy().predict(np.array([[0.0, np.nan, 0.0, 0.0]]))


def test_rows_that_do_not_match_are_refused():
    policy = cart_policy()
    _, state = policy.predict(starts(3))
    with pytest.raises(ValueError, match="a state of 3 rows for 2 observations; pass on the entries of the rows that"):
        policy.predict(starts(2), state)
    with pytest.raises(ValueError, match="1 episode_start for 3 observations; give one a row"):
        policy.predict(starts(3), state, np.array([True]))
    for impossible in (np.zeros((0, 4)), np.zeros((2, 3, 4))):
        with pytest.raises(ValueError, match=r"observations must be \[D\] or \[B, D\] with at least one row"):
            policy.predict(impossible)


@pytest.mark.parametrize("rows", [2, 4])
def test_a_first_call_needs_an_observation_for_each_dynamics(rows):
    models = [CARTPOLE.dynamics(agent) for agent in range(3)]
    policy = MPC(models, CARTPOLE.task, CARTPOLE.action_space, planner=RandomShooting(10, 5))
    with pytest.raises(ValueError, match=f"3 dynamics for {rows} observations: begin with one observation for each"):
        policy.predict(starts(rows))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_of_a_policy_goes_on_as_the_policy_does(copied):
    policy = cart_policy()
    policy.predict(starts(3))
    twin = copied(policy)
    for _ in range(3):
        np.testing.assert_array_equal(twin.predict(starts(3))[0], policy.predict(starts(3))[0])


def test_a_simulator_is_planned_in_with_all_its_members():
    dynamics = load_simulator("cartpole/random-v0").dynamics(3)
    policy = MPC(dynamics, CARTPOLE.task, CARTPOLE.action_space, planner=RandomShooting(50, 20))
    actions = np.random.default_rng([0, 0]).integers(2, size=(50, 20))
    returns = rollout_returns(dynamics, CARTPOLE.task, starts(1)[0], actions)
    np.testing.assert_array_equal(policy.predict(starts(1))[1][0].plan.sequence, actions[returns.argmax()])


def test_mpc_balances_the_pole_in_evaluate_policy():
    env = gym.make("persim_gym:HeteroCartPole-v0", agent=1)
    env.reset(seed=0)  # evaluate_policy draws the starts from this stream
    policy = cart_policy(agent=1, candidates=200, horizon=25)
    assert evaluate_policy(policy, env, n_eval_episodes=1, warn=False) == (200.0, 0.0)


def test_the_planner_follows_from_the_action_space():
    cheetah, car = DOMAINS["halfcheetah"], DOMAINS["mountaincar"]
    assert MPC(walk, cheetah.task, cheetah.action_space).planner == CEM()
    assert MPC(walk, car.task, car.action_space).planner == RandomShooting()


def test_rows_of_different_agents_are_planned_as_each_agent_alone():
    car, agents = DOMAINS["cartpole"], [3, 1, 3]
    models = [car.dynamics(agent) for agent in agents]
    obs = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 4))
    many = MPC(models, car.task, car.action_space, planner=RandomShooting(50, 20))
    first, state = many.predict(obs)
    second, _ = many.predict(obs[[0, 2]], (state[0], state[2]))  # the middle row's episode has ended
    for row, agent in enumerate(agents):
        rng = np.random.default_rng([0, row])
        planner = RandomShooting(50, 20)
        (plan,) = planner.plan(car.dynamics(agent), car.task, obs[row], car.action_space, rng)
        assert first[row] == plan.sequence[0]
        if row != 1:
            (plan,) = planner.plan(car.dynamics(agent), car.task, obs[row], car.action_space, rng, previous=plan)
            assert second[row // 2] == plan.sequence[0]


def test_dynamics_that_want_to_know_are_told_what_was_observed_and_chosen():
    dynamics = Remembering(memory=3)
    policy = MPC(dynamics, CARTPOLE.task, CARTPOLE.action_space, planner=RandomShooting(5, 2))
    obs, state, chosen = np.arange(6)[:, None, None] ** 2 * np.ones((1, 2, 4)), None, []
    for t in range(6):
        action, state = policy.predict(obs[t], state, np.array([t == 0, t in (0, 4)]))
        chosen.append(action)
    first, second = dynamics.told[0::2], dynamics.told[1::2]
    assert not first[0].known.any()
    np.testing.assert_array_equal(first[2].known[0], [False, True, True])
    np.testing.assert_array_equal(first[5].change[0, :, 0], [5, 7, 9])
    np.testing.assert_array_equal(first[5].action[0], [a[0] for a in chosen[2:5]])
    # The second row's episode starts anew at step 4.
    assert not second[4].known.any()
    np.testing.assert_array_equal(second[5].known[0], [False, False, True])
    np.testing.assert_array_equal(second[5].change[0, :, 0], [0, 0, 9])


def test_histories_of_continuous_actions_and_of_a_policy_that_goes_on_by_itself():
    domain, dynamics = DOMAINS["pendulum"], Remembering(memory=2)
    policy = MPC(dynamics, domain.task, domain.action_space, planner=CEM(candidates=6, horizon=2, elites=3))
    chosen = [policy.predict(np.full(3, t, dtype=np.float32))[0] for t in range(3)]
    np.testing.assert_array_equal(dynamics.told[2].action[0], chosen[:2])
    np.testing.assert_array_equal(dynamics.told[2].change[0], np.ones((2, 3)))
    policy.reset()
    policy.predict(np.zeros(3, dtype=np.float32))
    assert not dynamics.told[-1].known.any()
