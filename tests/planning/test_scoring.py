"""Returns of candidates: as the definition says, whatever is batched, stopped early, or not finite."""

import threading
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from support.dynamics import counter, drifting, ending_at, plain_returns, starts
from support.ends import stopped
from support.rollouts import SHAPES, drawn, inputs

from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import RobotPhysics
from persim_gym.planning import scoring as rollout
from persim_gym.planning.scoring import Objective, best_first, rollout_returns
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import Ends, FunctionDynamics, PeakBonus, PlanningDynamics, Task, never

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


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


# --- simulators and true robots -----------------------------------------------------------------------------------


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


# --- rollouts that stop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cartpole", "mountaincar"])
def test_bundled_simulators_earn_the_same_and_compute_no_step_of_a_finished_candidate(name, moved):
    domain, dynamics = DOMAINS[name], load_simulator(f"{name}/random-v0").dynamics(2)
    obs = np.array({"cartpole": [0.0, 0.0, 0.05, 0.0], "mountaincar": [0.2, 0.03]}[name], dtype=np.float32)
    actions = np.random.default_rng(0).integers(domain.action_space.n, size=(1500, 50))
    ahead = dynamics.rollout(np.broadcast_to(obs, (5, 1500, len(obs))), actions)
    _, steps = stopped(ahead, domain.task.terminated)
    assert steps.mean() < 40
    moved.clear()
    found = rollout_returns(dynamics, domain.task, obs, actions, Objective(domain.peak_bonus))
    assert sum(moved) == steps.sum()
    own = Task(domain.task.reward, lambda next_obs: domain.task.terminated(next_obs))
    moved.clear()
    np.testing.assert_array_equal(rollout_returns(dynamics, own, obs, actions, Objective(domain.peak_bonus)), found)
    assert sum(moved) > steps.sum()  # of a function that is no rule it cannot know


@pytest.mark.parametrize("name", ["deep", "deep learned task", "learned task", "deep, discrete"])
def test_drawn_models_earn_the_same_where_they_stop(name, moved):
    shape, dynamics = SHAPES[name], drawn(SHAPES[name])
    _, actions = inputs(shape, 300, 25)
    start = np.zeros(shape.obs_dim, dtype=np.float32)
    ahead = dynamics.rollout(np.zeros((shape.members, 300, shape.obs_dim)), actions)
    last = shape.out_dim - 1
    rule = Ends("all", ((last, ">", float(np.quantile(ahead[..., last], 0.9))),))

    def reward(obs, action, next_obs):
        return next_obs[..., last - 1]

    plain = FunctionDynamics(dynamics, shape.members)
    _, steps = stopped(ahead, rule)
    moved.clear()
    found = rollout_returns(dynamics, Task(reward, rule), start, actions)
    if name == "deep, discrete":
        assert sum(moved) == shape.members * steps.max(axis=0).sum()
    else:
        assert sum(moved) == steps.sum() < 0.8 * steps.size * 25
    expected = rollout_returns(plain, Task(reward, rule), start, actions)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_start_where_an_episode_would_end_is_planned_from_all_the_same():
    """Only what follows ends an episode: here all but the first step."""
    domain, dynamics = DOMAINS["mountaincar"], load_simulator("mountaincar/random-v0").dynamics(0)
    rule = Ends("any", ((0, "<", 2.0),))
    task = Task(lambda obs, action, next_obs: next_obs[..., 0] * 0 + 1.0, rule)
    actions = np.random.default_rng(0).integers(domain.action_space.n, size=(40, 25))
    np.testing.assert_array_equal(rollout_returns(dynamics, task, np.array([-0.5, 0.0]), actions), 1.0)


def test_dynamics_that_learn_stop_as_those_that_do_not(moved):
    simulator = load_simulator("cartpole/random-v0")
    task, online = DOMAINS["cartpole"].task, simulator.online(3)
    actions = np.random.default_rng(0).integers(2, size=(200, 40))
    found = rollout_returns(online, task, np.zeros(4, dtype=np.float32), actions)
    steps = sum(moved)
    moved.clear()
    own = AgentDynamics(simulator.model, online.factor)
    np.testing.assert_array_equal(rollout_returns(own, task, np.zeros(4, dtype=np.float32), actions), found)
    assert sum(moved) == steps < 5 * 200 * 40


@pytest.mark.parametrize("name", ["relu", "deep", "deep, discrete"])
def test_an_end_told_as_a_function_stops_each_member_at_the_next_look(name, moved, monkeypatch):
    monkeypatch.setattr(rollout, "ROLLOUT_STEPS", 3)
    dynamics, (obs, actions) = drawn(SHAPES[name]), inputs(SHAPES[name], 60, 12)
    ahead = dynamics.rollout(obs[:1, :1].repeat(2, axis=0).repeat(60, axis=1), actions)
    rule = Ends("any", ((0, ">", float(np.quantile(ahead[..., 0].max(axis=2), 0.3))),))
    _, steps = stopped(ahead, rule)
    looks = 3 * -(-steps // 3)  # to the end of the three in which it ends
    if name == "deep, discrete":
        looks = looks.max(axis=0, keepdims=True).repeat(2, axis=0)
    reward = Task(lambda obs, action, next_obs: next_obs[..., 0], rule).reward
    moved.clear()
    found = rollout_returns(dynamics, Task(reward, lambda next_obs: rule(next_obs)), obs[0, 0], actions)
    assert sum(moved) == looks.sum() < steps.size * 12
    np.testing.assert_allclose(found, rollout_returns(dynamics, Task(reward, rule), obs[0, 0], actions), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "rule"),
    [("hopper", DOMAINS["hopper"].task.terminated), ("ant", Ends("any", ((1, "<", 0.6), (1, ">", 0.8))))],
    ids=["hopper", "ant"],
)
def test_true_robots_are_stepped_till_they_end_and_not_once_more(name, rule, monkeypatch):
    domain = DOMAINS[name]
    rng = np.random.default_rng(0)
    obs = domain.observe(domain.initial_state(rng, 1))[0]
    actions = rng.uniform(domain.action_space.low, domain.action_space.high, (40, 30, *domain.action_space.shape))
    stepped = []

    class Counting:
        def __init__(self, batch):
            self.batch, self.model = batch, batch.model

        def step(self, ids, nstep):
            stepped.append(self.batch.nsim if ids is None else len(ids))
            self.batch.step(ids, nstep=nstep)

    def counted(self, rows, made=RobotPhysics._simulations_of):
        simulations = made(self, rows)
        return simulations._replace(batch=Counting(simulations.batch))

    monkeypatch.setattr(RobotPhysics, "_simulations_of", counted)
    dynamics, starts = domain.dynamics(2), obs[None, None].repeat(40, axis=1)
    expected, steps = stopped(dynamics.rollout(starts, actions), rule)
    assert 1 < steps.mean() < 20
    stepped.clear()
    np.testing.assert_array_equal(dynamics.rollout(starts, actions, rule), expected)
    assert sum(stepped) == steps.sum()
    stepped.clear()
    found = rollout_returns(dynamics, Task(domain.task.reward, rule), obs, actions)
    own = Task(domain.task.reward, lambda next_obs: rule(next_obs))
    assert sum(stepped) < 1.05 * steps.sum()  # the contact solver starts anew every few steps, which moves some ends
    monkeypatch.setattr(rollout, "ROLLOUT_STEPS", rollout.STOPPING_ROLLOUT_STEPS)  # which starts it as often
    np.testing.assert_array_equal(rollout_returns(dynamics, own, obs, actions), found)


# --- dynamics of others -------------------------------------------------------------------------------------------


class Around(PlanningDynamics):
    """Dynamics around a simulator's, of rollouts that stop or that know nothing of ends."""

    fused = True

    def __init__(self, inner, stops):
        self.inner, self.members, self.stops = inner, inner.members, stops

    def rollout(self, obs, actions, ends=None, live=None):
        assert self.stops or ends is live is None
        return self.inner.rollout(obs, actions, ends, live)


@pytest.mark.parametrize("stops", [False, True])
def test_dynamics_around_those_that_stop_earn_what_these_do(stops, moved):
    task, dynamics = DOMAINS["cartpole"].task, load_simulator("cartpole/random-v0").dynamics(1)
    actions = np.random.default_rng(0).integers(2, size=(100, 45))
    counts, found = [], []
    for each in (dynamics, Around(dynamics, stops)):
        moved.clear()
        found.append(rollout_returns(each, task, np.zeros(4, dtype=np.float32), actions))
        counts.append(sum(moved))
    np.testing.assert_array_equal(*found)
    assert (counts[0] == counts[1]) == stops


FIRST = Task(lambda obs, action, next_obs: next_obs[..., 0], never)
MAIN = threading.main_thread()


@pytest.mark.parametrize("agents", [[2] * 7, [0, 1, 0, 2, 3, 3, 0]], ids=["one agent", "four agents"])
@pytest.mark.parametrize("name", ["relu", "deep, discrete", "deep"])
def test_threads_that_take_whole_tiles_do_not_change_returns(name, agents, monkeypatch, torch_threads):
    shape = SHAPES[name]
    models = [drawn(shape, agent=agent) for agent in range(4)]
    obs, actions = inputs(shape, 7 * 30)
    obs, actions = obs[0, :7], actions.reshape(7, 30, *actions.shape[1:])
    dynamics = [models[agent] for agent in agents]
    monkeypatch.setattr(rollout, "TILE_ROWS", 16)
    alone = rollout_returns(dynamics, FIRST, obs, actions)
    torch_threads(3)
    np.testing.assert_allclose(rollout_returns(dynamics, FIRST, obs, actions), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("concurrent", [True, False])
def test_only_dynamics_that_say_so_are_called_from_other_threads(concurrent, monkeypatch, torch_threads):
    seen = set()

    class Still(PlanningDynamics):
        fused = True

        def rollout(self, obs, actions, ends=None, live=None):
            seen.add(threading.current_thread())
            return np.repeat(obs[:, :, None], actions.shape[1], axis=2)

    dynamics = Still()
    dynamics.concurrent = concurrent
    torch_threads(2)
    monkeypatch.setattr(rollout, "TILE_ROWS", 5)
    rollout_returns(dynamics, FIRST, np.zeros((3, 2)), np.zeros((3, 10, 4), dtype=np.int64))
    assert (MAIN in seen) != concurrent


@pytest.mark.parametrize("tile", [0, -5])
def test_dynamics_that_say_an_impossible_tile_are_refused(tile):
    still = PlanningDynamics()
    still.tile = tile
    with pytest.raises(ValueError, match="must be a whole number of rows"):
        rollout_returns(still, FIRST, np.zeros((3, 2)), np.zeros((3, 10, 4), dtype=np.int64))


@pytest.mark.parametrize("name", ["mountaincar", "cartpole"])
def test_trained_simulators_rank_candidates_as_the_plain_calls_do(name):
    domain, dynamics = DOMAINS[name], load_simulator(f"{name}/random-v0").dynamics(3)

    plain = FunctionDynamics(dynamics, dynamics.members)
    rng = np.random.default_rng(0)
    obs = domain.observe(domain.initial_state(rng, 3)).astype(np.float32)
    actions = rng.integers(domain.action_space.n, size=(3, 300, 50))
    objective = Objective(domain.peak_bonus)
    fused = rollout_returns(dynamics, domain.task, obs, actions, objective)
    reference = rollout_returns(plain, domain.task, obs, actions, objective)
    for ours, theirs in zip(fused, reference, strict=True):
        assert len(set(best_first(ours, 40)) & set(best_first(theirs, 40))) >= 38
        assert np.isclose(ours, theirs, rtol=1e-4, atol=1e-4).mean() > 0.97  # the others end a step earlier or later


@pytest.mark.parametrize("name", ["learned task", "deep learned task"])
def test_planners_plan_where_reward_and_termination_are_learned(name):
    shape = SHAPES[name]
    dynamics = drawn(shape)
    learned = Task(lambda obs, action, next_obs: next_obs[..., -2], lambda next_obs: next_obs[..., -1] > 1.0)
    obs = np.random.default_rng(0).normal(size=shape.obs_dim).astype(np.float32)
    _, actions = inputs(shape, 40, 25)

    plain = FunctionDynamics(dynamics, shape.members)
    expected = rollout_returns(plain, learned, obs, actions)
    np.testing.assert_allclose(rollout_returns(dynamics, learned, obs, actions), expected, rtol=1e-3, atol=1e-3)
