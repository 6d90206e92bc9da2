"""Planners: returns as the definition says, the best plan of small problems, one row as a batch."""

import copy
import itertools
import pickle
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy

from persim_gym.envs import DOMAINS
from persim_gym.planning import Plan
from persim_gym.planning import scoring as rollout
from persim_gym.planning.mpc import MPC
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.planning.scoring import Objective, best_first, rollout_returns
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import FunctionDynamics, PeakBonus, PlanningDynamics, Task, never, planning_dynamics

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


def counter(obs, action):
    """Adds the action to the first of two numbers; the second never changes."""
    return np.stack(np.broadcast_arrays(obs[..., 0] + action, obs[..., 1]), axis=-1)


def ending_at(limit: float) -> Task:
    """Pays the number reached; ends once it is at least `limit`."""
    return Task(lambda obs, action, next_obs: next_obs[..., 0], lambda next_obs: next_obs[..., 0] >= limit)


@partial(FunctionDynamics, members=3)
def drifting(obs, action):
    """Three members: each adds its own share of the action and of the observation."""
    share = np.array([0.5, 1.0, 1.5])[:, None]
    return np.stack([obs[..., 0] + share * action, 0.9 * obs[..., 1] - share * action], axis=-1)


def plain_returns(dynamics, task, obs, actions, bonus=None):
    """The definition, one candidate and member at a time."""
    members = planning_dynamics(dynamics).members
    returns = np.zeros((members, len(actions)))
    for m, c in itertools.product(range(members), range(len(actions))):
        now, peak = obs, -np.inf
        for action in actions[c]:
            following = dynamics(np.broadcast_to(now, (members, 1, len(obs))), action[None])[m, 0]
            returns[m, c] += task.reward(now, action, following)
            if bonus is not None:
                peak = max(peak, bonus.feature(following))
            now = following
            if task.terminated(following):
                break
        if bonus is not None:
            returns[m, c] += bonus.weight * actions.shape[1] * peak
    return returns.mean(axis=0)


# --- returns ------------------------------------------------------------------------------------------------------


def test_the_terminating_reward_counts_and_nothing_after_it():
    actions = np.array([[1, 1, 1, 1], [0, 1, 0, 2], [0, 0, 0, 0]])
    returns = rollout_returns(counter, ending_at(2), np.zeros(2), actions)
    np.testing.assert_array_equal(returns, [1 + 2, 0 + 1 + 1 + 3, 0])


def test_returns_do_not_depend_on_the_other_candidates():
    actions = np.array([[0, 0, 0, 3]] + [[5, 0, 0, 0]] * 20)  # all others end at once and are dropped
    np.testing.assert_array_equal(rollout_returns(counter, ending_at(2), np.zeros(2), actions), [3] + [5] * 20)


@pytest.mark.parametrize("bonus", [None, PeakBonus(0.1, lambda next_obs: next_obs[..., 1])], ids=["plain", "peak"])
@pytest.mark.parametrize("limit", [1.0, 3.0, np.inf])
@pytest.mark.parametrize("tile", [1, 7, 1024])
def test_tiles_and_dropped_candidates_do_not_change_returns(monkeypatch, tile, limit, bonus):
    monkeypatch.setattr(rollout, "TILE_ROWS", tile)
    actions = np.random.default_rng(0).integers(-1, 3, size=(40, 8))
    obs = np.array([0.2, 0.5])
    expected = plain_returns(drifting, ending_at(limit), obs, actions, bonus)
    np.testing.assert_allclose(rollout_returns(drifting, ending_at(limit), obs, actions, Objective(bonus)), expected)


def test_members_roll_out_separately_and_their_returns_are_averaged():
    actions = np.full((1, 3), 2)
    # First numbers reached: 1, 2, 3; 2, 4, 6; 3, 6, 9. The last two end at 4 and at 6.
    returns = rollout_returns(drifting, ending_at(4), np.zeros(2), actions)
    np.testing.assert_allclose(returns, [((1 + 2 + 3) + (2 + 4) + (3 + 6)) / 3])


def test_the_true_environment_pays_the_same_return():
    actions = np.random.default_rng(1).integers(2, size=(30, 60))
    returns = rollout_returns(CARTPOLE.dynamics(0), CARTPOLE.task, np.zeros(4), actions)
    for sequence, expected in zip(actions, returns, strict=True):
        env = gym.make("persim_gym:HeteroCartPole-v0", agent=0)
        env.reset(options={"state": np.zeros(4)})
        total = 0.0
        for action in sequence:
            _, reward, terminated, _, _ = env.step(action)
            total += reward
            if terminated:
                break
        assert total == expected


def test_the_peak_bonus_is_the_weighted_highest_feature_before_the_end():
    bonus = PeakBonus(0.5, lambda next_obs: next_obs[..., 0])
    actions = np.array([[3, -3, 0, 0], [1, -1, 1, 0], [5, 9, 9, 9]])
    plain = rollout_returns(counter, ending_at(4), np.zeros(2), actions)
    with_bonus = rollout_returns(counter, ending_at(4), np.zeros(2), actions, Objective(bonus))
    np.testing.assert_allclose(with_bonus - plain, 0.5 * 4 * np.array([3, 1, 5]))


def explodes_at_one(obs, action):
    """Not finite once the first number passes 1, as a diverged model."""
    following = counter(obs, action)
    following[following[..., 0] > 1] = np.nan
    return following


def test_a_candidate_whose_prediction_is_not_finite_ranks_last():
    task = Task(lambda obs, action, next_obs: 10.0 + 0 * next_obs[..., 1], lambda next_obs: next_obs[..., 0] < -5)
    actions = np.array([[1, 1, 1], [0, 0, 0], [-9, 0, 0]])
    returns = rollout_returns(explodes_at_one, task, np.zeros(2), actions)
    np.testing.assert_array_equal(returns, [np.nan, 30, 10])
    assert best_first(returns, 2).tolist() == [1, 2]


def test_a_prediction_that_is_not_finite_does_not_pay_even_where_the_reward_ignores_it():
    task = Task(lambda obs, action, next_obs: np.ones(next_obs.shape[:-1]), lambda next_obs: next_obs[..., 0] > 99)
    returns = rollout_returns(explodes_at_one, task, np.zeros(2), np.array([[0, 0], [1, 1]]))
    np.testing.assert_array_equal(returns, [2, np.nan])


def test_what_happens_after_the_end_cannot_spoil_a_candidate():
    task = Task(lambda obs, action, next_obs: next_obs[..., 0], lambda next_obs: next_obs[..., 0] == 1)
    actions = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 1]])  # the first ends, then would explode
    np.testing.assert_array_equal(rollout_returns(explodes_at_one, task, np.zeros(2), actions), [1, 0, 1])


def test_one_member_of_three_that_is_not_finite_spoils_a_candidate():
    @partial(FunctionDynamics, members=3)
    def dynamics(obs, action):
        following = drifting(obs, action)
        following[2, following[2, :, 0] > 3] = np.inf
        return following

    returns = rollout_returns(dynamics, ending_at(99), np.zeros(2), np.array([[0, 0], [2, 2]]))
    np.testing.assert_array_equal(np.isnan(returns), [False, True])


@pytest.mark.parametrize("pessimism", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_candidate_whose_reward_is_not_finite_ranks_last(value, pessimism):
    task = Task(lambda obs, action, next_obs: np.where(next_obs[..., 0] > 1, value, 1.0), never)
    actions = np.array([[1, 1], [0, 0], [0, 1]])
    returns = rollout_returns(counter, task, np.zeros(2), actions, Objective(pessimism=pessimism))
    np.testing.assert_array_equal(returns, [np.nan, 2, 2])


def test_rewards_of_huge_or_infinite_predictions_are_no_warnings():
    """Warnings are errors in these tests."""
    for huge in (1e30, np.inf):
        task = Task(lambda obs, action, next_obs: -(next_obs[..., 0] ** 2) * np.cos(next_obs[..., 1]), never)
        returns = rollout_returns(
            lambda obs, action, huge=huge: np.where(action[..., None] > 0, huge, obs).astype(np.float32),
            task,
            np.zeros(2),
            np.array([[1], [0]]),
        )
        np.testing.assert_array_equal(returns, [np.nan, 0])


def test_members_that_dynamics_do_not_say_are_an_error():
    def silent(obs, action):
        return drifting(obs, action)

    with pytest.raises(ValueError, match="must say their number of members: derive them from persim_gym.task.Planning"):
        rollout_returns(silent, ending_at(3), np.zeros(2), np.zeros((4, 2), dtype=int))


@pytest.mark.parametrize("fused", [False, True])
def test_finished_candidates_are_dropped(monkeypatch, fused):
    """Half of them end at each step: no call moves one that is finished, but for fused rollouts of whole chunks."""
    monkeypatch.setattr(rollout, "ROLLOUT_STEPS", 2)
    moved = []

    class Halving(PlanningDynamics):
        def __call__(self, obs, action):
            moved.append(obs[0, :, 0].copy())
            return counter(obs, action)

    class Rolling(Halving):
        fused = True

        def rollout(self, obs, actions, ends=None, live=None):
            steps = [obs := self(obs, actions[:, t]) for t in range(actions.shape[1])]
            return np.stack(steps, axis=2)

    ends = np.repeat(range(6), [32, 16, 8, 4, 2, 2])
    actions = (np.arange(12) == ends[:, None]).astype(int)  # each reaches 1 in step `ends`
    returns = rollout_returns((Rolling if fused else Halving)(), ending_at(1), np.zeros(2), actions)
    np.testing.assert_array_equal(returns, 1)
    assert len(moved) == 6  # of 12 steps
    for before in moved[::2] if fused else moved:
        assert (before < 1).all()
    if not fused:
        assert sum(map(len, moved)) == (ends + 1).sum()


def test_no_finite_candidate_at_all_is_an_error():
    with pytest.raises(ValueError, match="every candidate's prediction left the finite numbers"):
        best_first(np.full(3, np.nan), 1)


def test_observations_without_their_candidates_are_refused():
    with pytest.raises(ValueError, match=r"obs must be \[D\] or \[E, D\] with candidates for each"):
        rollout_returns(counter, ending_at(1), np.zeros((2, 4)), np.zeros((3, 5)))


@pytest.mark.parametrize("tile", [7, 1024])
def test_rows_in_a_batch_earn_what_they_earn_alone(monkeypatch, tile):
    monkeypatch.setattr(rollout, "TILE_ROWS", tile)
    rng = np.random.default_rng(2)
    obs, actions = rng.normal(size=(4, 2)), rng.integers(-1, 3, size=(4, 10, 6))
    together = rollout_returns(drifting, ending_at(2.0), obs, actions)
    alone = [rollout_returns(drifting, ending_at(2.0), o, a) for o, a in zip(obs, actions, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_each_row_moves_by_the_dynamics_of_its_own_agent():
    agents = [0, 3, 0, 4]
    models = {agent: CARTPOLE.dynamics(agent) for agent in set(agents)}
    obs, actions = starts(4), np.random.default_rng(0).integers(2, size=(4, 20, 30))
    together = rollout_returns([models[agent] for agent in agents], CARTPOLE.task, obs, actions)
    for row, agent in enumerate(agents):
        alone = rollout_returns(models[agent], CARTPOLE.task, obs[row], actions[row])
        np.testing.assert_array_equal(together[row], alone)
    with pytest.raises(ValueError, match="2 dynamics for 4 observations"):
        rollout_returns([counter, drifting], CARTPOLE.task, obs, actions)


def test_pessimism_subtracts_the_spread_over_members():
    actions = np.array([[2, 0], [1, 1]])
    each = np.array([[1 + 1, 2 + 2, 3 + 3], [0.5 + 1, 1 + 2, 1.5 + 3]])  # [C, M]
    returns = rollout_returns(drifting, ending_at(99), np.zeros(2), actions, Objective(pessimism=1.5))
    np.testing.assert_allclose(returns, each.mean(axis=1) - 1.5 * each.std(axis=1))


def test_beyond_the_trust_horizon_nothing_counts():
    actions = np.random.default_rng(0).integers(-1, 3, size=(10, 8))
    cut = rollout_returns(drifting, ending_at(3), np.zeros(2), actions, Objective(trust=5))
    np.testing.assert_array_equal(cut, rollout_returns(drifting, ending_at(3), np.zeros(2), actions[:, :5]))


@pytest.mark.parametrize(
    "impossible",
    [{"pessimism": -1.0}, {"pessimism": np.nan}, {"pessimism": np.inf}, {"trust": 0}, {"trust": -3}, {"trust": 2.5}],
)
def test_impossible_objectives_are_refused(impossible):
    with pytest.raises(ValueError, match="pessimism must not be negative and trust at least one step"):
        Objective(**impossible)


# --- random shooting ----------------------------------------------------------------------------------------------


def plan(planner, dynamics, task, obs, actions=2, seed=0, **keywords):
    space = spaces.Discrete(actions)
    (only,) = planner.plan(dynamics, task, obs, space, np.random.default_rng(seed), **keywords)
    return only.sequence


def test_random_shooting_finds_the_best_of_all_sequences():
    """A walk on a ring of seven rooms with different rewards; it ends in room 5."""
    rewards = np.array([0.0, -1.0, 4.0, 2.0, -3.0, 9.0, 1.0])
    task = Task(
        lambda obs, action, next_obs: rewards[next_obs[..., 0].astype(int)], lambda next_obs: next_obs[..., 0] == 5
    )

    def dynamics(obs, action):
        return (obs + np.where(action == 1, 1, -2)[..., None]) % 7

    for room in range(5):
        every = np.array(list(itertools.product(range(2), repeat=6)))
        returns = plain_returns(dynamics, task, np.array([float(room)]), every)
        best = plan(RandomShooting(candidates=1500, horizon=6), dynamics, task, np.array([float(room)]))
        assert plain_returns(dynamics, task, np.array([float(room)]), best[None]) == returns.max()


def test_the_same_seed_draws_the_same_plan():
    planner = RandomShooting(candidates=20, horizon=10)
    one, again, other = (plan(planner, counter, ending_at(99), np.zeros(2), 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_the_last_plan_shifted_by_one_step_is_candidate_zero():
    seen = []

    def recording(obs, action):
        seen.append(action.copy())
        return counter(obs, action)

    planner = RandomShooting(candidates=20, horizon=5)
    plan(planner, recording, ending_at(99), np.zeros(2), previous=Plan(np.array([1, 2, 3, 4, 5])))
    drawn = np.random.default_rng(0).integers(2, size=(20, 5))
    np.testing.assert_array_equal(np.stack(seen, axis=1)[0], [2, 3, 4, 5, drawn[0, -1]])
    np.testing.assert_array_equal(np.stack(seen, axis=1)[1:], drawn[1:])


def test_a_good_plan_is_kept_by_the_warm_start():
    task = Task(lambda obs, action, next_obs: 1.0 * (action == 1), lambda next_obs: next_obs[..., 0] < 0)
    best = plan(RandomShooting(10, 40), counter, task, np.zeros(2), previous=Plan(np.ones(40, dtype=int)))
    assert best[:39].all()


def test_random_shooting_refuses_continuous_actions():
    with pytest.raises(ValueError, match="random shooting draws discrete actions, not Box"):
        RandomShooting().plan(counter, ending_at(1), np.zeros(2), spaces.Box(-1, 1, (2,)), np.random.default_rng(0))


def test_actions_of_a_space_that_starts_elsewhere_are_drawn_from_it():
    (drawn,) = RandomShooting(50, 10).plan(
        counter, ending_at(99), np.zeros(2), spaces.Discrete(2, start=3), np.random.default_rng(0)
    )
    assert set(drawn.sequence) <= {3, 4}


# --- MPCPolicy ----------------------------------------------------------------------------------------------------


def cart_policy(agent=0, seed=0, candidates=30, horizon=15):
    return MPC(
        CARTPOLE.dynamics(agent),
        CARTPOLE.task,
        CARTPOLE.action_space,
        planner=RandomShooting(candidates, horizon),
        seed=seed,
    )


def starts(rows, seed=0):
    return np.random.default_rng(seed).uniform(-0.1, 0.1, (rows, 4)).astype(np.float32)


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


def test_the_domains_bonus_prefers_the_candidate_that_gets_furthest_right():
    """From the valley no 50 random steps reach the goal: every candidate earns -50."""
    obs, actions = np.array([-0.5, 0.0]), np.random.default_rng(0).integers(3, size=(100, 50))
    dynamics = MOUNTAINCAR.dynamics(3)
    np.testing.assert_array_equal(rollout_returns(dynamics, MOUNTAINCAR.task, obs, actions), -50)
    now, furthest = np.tile(obs, (100, 1)), np.full(100, -np.inf)
    for t in range(50):
        now = dynamics(now, actions[:, t])
        furthest = np.maximum(furthest, now[:, 0])
    with_bonus = rollout_returns(dynamics, MOUNTAINCAR.task, obs, actions, Objective(MOUNTAINCAR.peak_bonus))
    assert best_first(with_bonus, 1)[0] == furthest.argmax()
