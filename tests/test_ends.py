"""Ends of episodes told as rules: what they decide, and rollouts that move a finished candidate no further."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from test_rollouts import SHAPES, drawn, inputs

from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import RobotPhysics
from persim_gym.planning import Objective, rollout_returns
from persim_gym.planning import scoring as rollout
from persim_gym.simulator.dynamics import folding as networks
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.kernels import deep_rollout as deep
from persim_gym.simulator.kernels import small_rollout as lanes
from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.simulator.registry import load_simulator
from persim_gym.spec import learned_task
from persim_gym.task import Ends, FunctionDynamics, PlanningDynamics, Task, never

FORMULAS = {  # (where the episode ends, observation size), written once more, without rules
    "cartpole": (lambda o: (abs(o[..., 0]) > 2.4) | (abs(o[..., 2]) > 12 * 2 * np.pi / 360), 4),
    "mountaincar": (lambda o: (o[..., 0] >= 0.5) & (o[..., 1] >= 0.0), 2),
    "hopper": (lambda o: ~((o[..., 1] > 0.7) & (abs(o[..., 2]) < 0.2) & (abs(o[..., 2:]) < 100.0).all(-1)), 11),
    "walker2d": (lambda o: ~((o[..., 1] > 0.8) & (o[..., 1] < 2.0) & (abs(o[..., 2]) < 1.0)), 17),
    "slimhumanoid": (lambda o: ~((o[..., 1] > 1.0) & (o[..., 1] < 2.0)), 45),
    "ant": (lambda o: ~((o[..., 1] >= 0.2) & (o[..., 1] <= 1.0) & (abs(o) < np.inf).all(-1)), 27),
    "learned": (lambda o: o[..., 5] > 0.5, 6),
}
RULES = {name: learned_task(4).terminated if name == "learned" else DOMAINS[name].task.terminated for name in FORMULAS}


def around(ends: Ends, size: int, dtype: type, rows: int = 4000) -> np.ndarray:
    """Observations [rows, D] on both sides of every number compared with, on and beside it, some infinite or NaN."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, size)).astype(dtype)
    numbers: dict[int, list[float]] = {}
    for component, _, number in ends.each:
        if np.isfinite(number):
            numbers.setdefault(component, []).append(number)
    for component, own in numbers.items():
        exact, inner = np.array(own, dtype=dtype), sorted(own, key=abs)[:2]
        margin = 0.2 * (max(inner) - min(inner) or 1.0) / len(numbers)
        obs[:, component] = rng.uniform(min(inner) - margin, max(inner) + margin, rows)
        edges = np.concatenate([exact, np.nextafter(exact, dtype(-np.inf)), np.nextafter(exact, dtype(np.inf))])
        on_edge = rng.random(rows) < 0.3 / len(numbers)
        obs[on_edge, component] = rng.choice(edges, on_edge.sum())
    wrong = rng.random(obs.shape) < 0.1 / size
    obs[wrong] = rng.choice([np.nan, np.inf, -np.inf], wrong.sum())
    return obs


# --- what a rule decides ------------------------------------------------------------------------------------------


def test_every_domain_but_those_that_never_end_tells_its_end_as_a_rule():
    assert {name for name, domain in DOMAINS.items() if domain.task.terminated is not never} == set(RULES) - {"learned"}
    for rule in RULES.values():
        assert isinstance(rule, Ends)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMULAS)
def test_rules_are_their_formulas_in_numpy_and_torch(name, dtype):
    formula, size = FORMULAS[name]
    obs = around(RULES[name], size, dtype)
    expected = formula(obs)
    assert 0.02 < expected.mean() < 0.98
    found = RULES[name](obs)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(RULES[name](torch.from_numpy(obs)).numpy(), expected)
    assert [bool(RULES[name](row)) for row in obs[:50]] == expected[:50].tolist()


SENSES = ("<", "<=", ">", ">=")
EVERY_RULE = [
    Ends(where, ((0, one, 0.1), (range(1, 4), other, np.float64(-0.3))))
    for where, one, other in itertools.product(("any", "all", "not all"), SENSES, SENSES)
]


@pytest.mark.parametrize("rule", [*EVERY_RULE, *RULES.values()], ids=str)
def test_kernels_decide_as_the_call_does(rule):
    size = 1 + max(component for component, _, _ in rule.each)
    obs = around(rule, size, np.float32, 3000)
    running = np.random.default_rng(1).permutation(3000)[:2000]
    expected = running[~rule(obs)[running]]
    listed = np.append(running, np.zeros(1000, dtype=np.int64))
    left = drop_finished(compiled_rule(rule), np.ascontiguousarray(obs.T), listed, 2000, np.empty(3000, dtype=np.uint8))
    np.testing.assert_array_equal(listed[:left], expected)


def test_a_rule_is_a_value():
    rule = Ends("all", ((0, ">=", 1), (range(2, 4), "<", 0.5)))
    assert pickle.loads(pickle.dumps(rule)) == rule and hash(rule) == hash(pickle.loads(pickle.dumps(rule)))
    assert rule.each == [(0, ">=", 1.0), (2, "<", 0.5), (3, "<", 0.5)]
    assert rule != Ends("any", rule.comparisons)


@pytest.mark.parametrize(
    ("where", "comparisons"),
    [
        ("some", ((0, ">", 1.0),)),
        ("any", ()),
        ("any", ((0, "=", 1.0),)),
        ("any", ((-1, ">", 1.0),)),
        ("any", (("height", ">", 1.0),)),
        ("any", ((range(3, 3), ">", 1.0),)),
        ("any", ((range(0, 6, 2), ">", 1.0),)),
        ("any", ((0, ">", np.nan),)),
        ("any", ((True, ">", 1.0),)),
        ("any", ((0, ">", "1"),)),
        ("any", ((0, ">", None),)),
        ("any", ((0, [">"], 1.0),)),
        ("any", ((0, ">"),)),
        ("any", (0, ">", 1.0)),
        ("any", 0),
    ],
)
def test_what_is_no_rule_is_refused(where, comparisons):
    with pytest.raises(ValueError, match='is no end; write "any", "all" or "not all" of comparisons such as'):
        Ends(where, comparisons)


def test_components_may_be_numpys_integers():
    rule = Ends("any", ((np.int64(1), ">", np.float32(0.5)),))
    assert rule == Ends("any", ((1, ">", 0.5),)) and type(rule.comparisons[0][0]) is int


@pytest.mark.parametrize("span", [range(1, 3), range(2, 4)], ids=["partly there", "not there"])
def test_a_range_of_components_that_are_not_there_decides_nothing(span):
    rule = Ends("all", ((span, ">", 0.0),))
    for obs in (np.ones((4, 2)), np.ones(2), torch.ones(4, 2)):
        with pytest.raises(ValueError, match="compares more components than the 2 of observations"):
            rule(obs)


# --- rollouts that stop -------------------------------------------------------------------------------------------


@pytest.fixture
def moved(monkeypatch):
    """A list of how many steps of candidates each call of a learned model's network computes."""
    counts = []

    def counting(function):
        def call(*arguments):
            counts.append(function(*arguments))

        return call

    def following(self, obs, action, function=AgentDynamics._following):
        counts.append(obs.shape[0] * obs.shape[1])
        return function(self, obs, action)

    monkeypatch.setattr(lanes, "_rollout_member", counting(lanes._rollout_member))
    monkeypatch.setattr(deep, "_rollout_deep", counting(deep._rollout_deep))
    monkeypatch.setattr(AgentDynamics, "_following", following)
    monkeypatch.setattr(networks, "byte_products", lambda: None)
    return counts


def stopped(ahead, ends, live=None):
    """A rollout without ends, [M, C, h, D], as one with them, and the steps that each candidate takes, [M, C]."""
    over = np.asarray(ends(ahead))
    steps = np.where(over.any(axis=2), over.argmax(axis=2) + 1, over.shape[2])
    last = np.minimum(np.arange(over.shape[2]), steps[..., None] - 1)
    steps = steps if live is None else np.where(live, steps, 0)
    return np.take_along_axis(ahead, last[..., None], axis=2), steps


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("some", [False, True], ids=["all run", "some run"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_candidate_is_moved_till_it_ends_and_not_once_more(name, some, threads, moved, torch_threads):
    torch_threads(threads)
    shape, dynamics = SHAPES[name], drawn(SHAPES[name])
    obs, actions = inputs(shape, 150, 12)
    live = np.random.default_rng(3).random(obs.shape[:2]) < 0.6 if some else np.ones(obs.shape[:2], dtype=bool)
    ahead = dynamics.rollout(obs, actions)
    last = shape.out_dim - 1
    low, high = np.quantile(ahead[..., last], [0.1, 0.9]).tolist()
    rule = Ends("not all", ((last, ">", low), (last, "<=", high)))
    expected, steps = stopped(ahead, rule, live)
    assert len(np.unique(steps[live])) >= (2 if shape.obs_dim == 1 else 5) and steps[live].mean() < 11
    moved.clear()
    found = dynamics.rollout(obs, actions, rule, live)
    np.testing.assert_allclose(found[live], expected[live], rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(stopped(found, rule, live)[1], steps)
    if name == "deep, discrete":  # members go together
        assert sum(moved) == shape.members * steps.max(axis=0).sum()
    else:
        assert sum(moved) == steps.sum()


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


def test_rules_of_components_that_are_not_there_are_refused():
    dynamics, (obs, actions) = drawn(SHAPES["relu"]), inputs(SHAPES["relu"])
    with pytest.raises(ValueError, match="compares more components than the 2 of predictions"):
        dynamics.rollout(obs, actions, Ends("any", ((range(3), ">", 0.0),)))
    with pytest.raises(ValueError, match="do not fit"):
        dynamics.rollout(obs, actions, live=np.ones((2, 5), dtype=bool))


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


def test_the_kernels_write_nothing_where_there_is_no_step():
    live, obs = np.array([True, False]), np.ones((2, 3), dtype=np.float32)
    memory = np.zeros((2, 3, 2), dtype=np.float32)
    running = np.empty(2, dtype=np.int64)
    assert list_running(live, obs, memory[:0], running) == 1 and running[0] == 0
    assert not memory.any()
