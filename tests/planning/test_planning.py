"""All planners: analytic optima, the same draws alone and in a batch, and the refusal of what they cannot plan."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from support.dynamics import BOX, NEAR_ONE, rngs, walk
from support.rollouts import SHAPES, drawn, inputs

from persim_gym.planning import CEM, ICEM, MPC, MPPI, CategoricalCEM, RandomShooting
from persim_gym.planning.scoring import rollout_returns
from persim_gym.task import Task, never

CONTINUOUS = [CEM(40, 8, 3, 10), ICEM(40, 8, 3, 10), MPPI(40, 8)]
DISCRETE = [RandomShooting(40, 8), CategoricalCEM(40, 8, 3, 10)]
ALL = CONTINUOUS + DISCRETE


def name(planner):
    return type(planner).__name__


def space_of(planner):
    return BOX if planner in CONTINUOUS else spaces.Discrete(3)


# --- analytic optima ----------------------------------------------------------------------------------------------


A = np.array([[1.0, 0.1], [0.0, 1.0]])
B = np.array([[0.1, 0.0], [0.5, 0.2]])
Q, R = np.diag([1.0, 0.1]), np.diag([0.1, 0.2])
LQR = Task(
    lambda obs, action, next_obs: (
        -np.einsum("...i,ij,...j", next_obs, Q, next_obs) - np.einsum("...i,ij,...j", action, R, action)
    ),
    never,
)


def lqr_optimum(start: np.ndarray, horizon: int) -> float:
    """Best return by Riccati's recursion, with u = -K x; the box does not bind."""
    value = np.zeros_like(Q)
    gains = []
    for _ in range(horizon):
        ahead = Q + value  # the next observation is paid for, then valued
        gain = np.linalg.solve(R + B.T @ ahead @ B, B.T @ ahead @ A)
        value = A.T @ ahead @ (A - B @ gain)
        gains.append(gain)
    now = start
    for gain in reversed(gains):
        assert np.abs(gain @ now).max() < 1.0
        now = (A - B @ gain) @ now
    return -float(start @ value @ start)


@pytest.mark.parametrize(
    "planner",
    [CEM(500, 8, 15, 125), ICEM(500, 8, 20, 125, decay=1.0), MPPI(600, 8, 40, shrink=0.9, temperature=0.005)],
    ids=name,
)
def test_continuous_planners_reach_the_riccati_optimum(planner):
    def dynamics(obs, action):
        return obs @ A.T + action @ B.T

    for start in np.array([[0.5, -0.3], [-0.4, 0.6]]):
        (plan,) = planner.plan(dynamics, LQR, start, BOX, np.random.default_rng(0))
        earned = rollout_returns(dynamics, LQR, start, plan.sequence[None].astype(np.float64))[0]
        optimum = lqr_optimum(start, 8)
        idle = rollout_returns(dynamics, LQR, start, np.zeros((1, 8, 2)))[0]
        assert idle < 1.2 * optimum  # doing nothing is far off
        assert 1.01 * optimum <= earned <= optimum * (1 - 1e-6)


REWARDS = np.array([0.0, -1.0, 4.0, 2.0, -3.0, 9.0, 1.0])
RING = Task(lambda obs, action, next_obs: REWARDS[next_obs[..., 0].astype(int)], lambda next_obs: next_obs[..., 0] == 5)


def ring(obs, action):
    """A walk on a ring of seven rooms: one on, two back, or stay."""
    return (obs + np.array([1, -2, 0])[action][..., None]) % 7


@pytest.mark.parametrize("planner", [RandomShooting(6000, 6), CategoricalCEM(300, 6, 8, 30)], ids=name)
@pytest.mark.parametrize("room", range(5))
def test_discrete_planners_find_the_best_of_all_sequences(planner, room):
    start = np.array([float(room)])
    every = np.array(list(itertools.product(range(3), repeat=6)))
    optimum = rollout_returns(ring, RING, start, every).max()
    (plan,) = planner.plan(ring, RING, start, spaces.Discrete(3), np.random.default_rng(room))
    assert rollout_returns(ring, RING, start, plan.sequence[None])[0] == optimum


# --- what all planners have in common -----------------------------------------------------------------------------


@pytest.mark.parametrize("planner", ALL, ids=name)
def test_a_row_planned_in_a_batch_is_planned_as_alone(planner):
    obs = np.random.default_rng(1).normal(size=(4, 2))
    before = planner.plan(walk, NEAR_ONE, obs, space_of(planner), rngs(range(4)))
    together = planner.plan(walk, NEAR_ONE, obs, space_of(planner), rngs(range(4)), previous=[None, *before[1:]])
    for row, whole in enumerate(together):
        previous = before[row] if row else None
        (alone,) = planner.plan(walk, NEAR_ONE, obs[row], space_of(planner), rngs([row])[0], previous=previous)
        for one, other in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("planner", ALL, ids=name)
def test_candidates_that_leave_the_finite_numbers_are_never_chosen(planner):
    def explodes_to_the_right(obs, action):
        following = walk(obs, action)
        return np.where(following[..., :1] > 0.05, np.nan, following)

    (plan,) = planner.plan(explodes_to_the_right, NEAR_ONE, np.zeros(2), space_of(planner), np.random.default_rng(0))
    first = plan.sequence[0] if planner in DISCRETE else plan.sequence[0, 0]
    assert np.isfinite(plan.sequence).all()
    assert (first < 2) if planner in DISCRETE else (first <= 0.25)
    with pytest.raises(ValueError, match="every candidate's prediction left the finite numbers"):
        planner.plan(lambda o, a: walk(o, a) * np.nan, NEAR_ONE, np.zeros(2), space_of(planner), rngs([0])[0])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("planner", ALL, ids=name)
def test_candidates_of_rewards_that_are_not_finite_are_never_chosen(planner, value):
    def reward(obs, action, next_obs):
        return np.where(next_obs[..., 0] > 0.05, value, NEAR_ONE.reward(obs, action, next_obs))

    (plan,) = planner.plan(walk, Task(reward, never), np.zeros(2), space_of(planner), np.random.default_rng(0))
    first = plan.sequence[0] if planner in DISCRETE else plan.sequence[0, 0]
    assert (first < 2) if planner in DISCRETE else (first <= 0.25)
    everywhere = Task(lambda obs, action, next_obs: np.full(next_obs.shape[:-1], value), never)
    with pytest.raises(ValueError, match="every candidate's prediction left the finite numbers, or its reward did"):
        planner.plan(walk, everywhere, np.zeros(2), space_of(planner), rngs([0])[0])


IMPOSSIBLE = {
    "candidates": (0, -1),
    "horizon": (0,),
    "iterations": (0,),
    "elites": (0, 41),
    "smoothing": (1.0, -0.1),
    "decay": (0.0,),
    "shrink": (0.0,),
    "temperature": (0.0, -1.0),
}


@pytest.mark.parametrize("planner", ALL, ids=name)
def test_impossible_sizes_are_refused(planner):
    for field, values in IMPOSSIBLE.items():
        for value in values if field in planner.__dataclass_fields__ else ():
            with pytest.raises(ValueError, match=f"{name(planner)} (needs|cannot choose) .*{field}"):
                replace(planner, **{field: value})


@pytest.mark.parametrize(
    "planner",
    [
        CEM(1, 1, 2, 1),
        ICEM(1, 1, 2, 1),
        MPPI(1, 1),
        RandomShooting(1, 1),
        CategoricalCEM(1, 1, 2, 1),
        CEM(17, 3, 2, 17),
    ],
    ids=name,
)
def test_the_smallest_sizes_plan(planner):
    space = BOX if isinstance(planner, CEM | ICEM | MPPI) else spaces.Discrete(3, start=-1)
    plans = planner.plan(walk, NEAR_ONE, np.zeros((2, 2)), space, rngs(range(2)))
    plans = planner.plan(walk, NEAR_ONE, np.zeros((2, 2)), space, rngs(range(2)), previous=plans)
    assert all(plan.sequence.shape[0] == planner.horizon and space.contains(plan.sequence[0]) for plan in plans)


@pytest.mark.parametrize("planner", ALL, ids=name)
@pytest.mark.parametrize("horizon", [1, 6])
def test_a_previous_plan_of_another_horizon_is_refused(planner, horizon):
    other = replace(planner, horizon=horizon)
    previous = other.plan(walk, NEAR_ONE, np.zeros(2), space_of(planner), rngs([0])[0])
    with pytest.raises(ValueError, match=f"the previous plan has {horizon} steps, this planner's have 8"):
        planner.plan(walk, NEAR_ONE, np.zeros(2), space_of(planner), rngs([0])[0], previous=previous)


@pytest.mark.parametrize("planner", ALL, ids=name)
def test_replanning_comes_to_the_goal_and_stays(planner):
    policy = MPC(walk, NEAR_ONE, space_of(planner), planner=planner)
    obs = np.array([[-1.0, 1.0], [2.0, 1.0]])
    for _ in range(15):
        action, _ = policy.predict(obs)
        obs = walk(obs, action)
    assert np.abs(obs[:, 0] - 1.0).max() < 0.25


@pytest.mark.parametrize("planner", ALL, ids=name)
def test_planners_refuse_the_other_kind_of_action(planner):
    other = spaces.Discrete(3) if planner in CONTINUOUS else BOX
    with pytest.raises(ValueError, match="draws (discrete )?actions"):
        planner.plan(walk, NEAR_ONE, np.zeros(2), other, np.random.default_rng(0))
    with pytest.raises(ValueError, match="2 observations, 1 random streams and 2 plans"):
        planner.plan(walk, NEAR_ONE, np.zeros((2, 2)), space_of(planner), rngs([0]))


@pytest.mark.parametrize("planner", CONTINUOUS, ids=name)
def test_actions_keep_to_a_lopsided_box(planner):
    box = spaces.Box(np.array([0.0, -3.0]), np.array([4.0, -2.0]), dtype=np.float64)
    far = Task(lambda obs, action, next_obs: action.sum(axis=-1), never)
    (plan,) = replace(planner, iterations=10).plan(walk, far, np.zeros(2), box, np.random.default_rng(0))
    assert (plan.sequence >= box.low).all() and (plan.sequence <= box.high).all()
    assert (plan.sequence.mean(axis=0) > [2.5, -2.4]).all()  # towards (4, -2)


@pytest.mark.parametrize("planner", CONTINUOUS, ids=name)
def test_unbounded_boxes_are_refused(planner):
    below = spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, 1], np.float32))
    for space in (spaces.Box(-np.inf, np.inf, (2,)), below, spaces.Box(-1, 1, (1, 2))):
        with pytest.raises(ValueError, match=r"draws actions from a bounded Box of shape \(A,\)"):
            planner.plan(walk, NEAR_ONE, np.zeros(2), space, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["relu", "silu", "deep", "deep, relu"])
def test_rows_planned_together_are_planned_as_alone(name):
    shape = SHAPES[name]
    agents = drawn(shape), drawn(shape, bounded=True)
    models = [agents[row % 2] for row in range(5)]
    low = Task(lambda obs, action, next_obs: next_obs.sum(axis=-1), lambda next_obs: next_obs[..., 0] > 1.5)
    obs = np.random.default_rng(0).normal(size=(5, shape.obs_dim)).astype(np.float32)
    _, actions = inputs(shape, 5 * 300, 25)
    actions = actions.reshape(5, 300, *actions.shape[1:])
    together = rollout_returns(models, low, obs, actions)
    for row, model in enumerate(models):
        np.testing.assert_allclose(rollout_returns(model, low, obs[row], actions[row]), together[row], rtol=1e-6)
    planner = RandomShooting(200, 25) if shape.n_actions else CEM(100, 25, 2, 20)
    space = spaces.Discrete(shape.n_actions) if shape.n_actions else spaces.Box(-1, 1, (shape.action_dim,))
    plans = planner.plan(models, low, obs, space, [np.random.default_rng(row) for row in range(5)])
    for row, plan in enumerate(plans):
        (alone,) = planner.plan(models[row], low, obs[row], space, np.random.default_rng(row))
        np.testing.assert_allclose(alone.sequence, plan.sequence, rtol=1e-6, atol=1e-6)
