"""Walls: found in logged data, left out of training, and applied alike by everything that predicts."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from conftest import TINY

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.regression import factor_posterior, gather_statistics, targets
from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.walls import describe_walls, no_walls, stop, stopped, walls_of
from persim_gym.simulator.model_card import card_markdown
from persim_gym.simulator.registry import load_simulator, save_simulator
from persim_gym.simulator.training.batches import Parts
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.simulator.training.recipe import recipe_for
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.storage import read_folder, write_folder
from persim_gym.transition_store import TransitionStore, write_transitions
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train_simulator

LEFT, RIGHT = -1.0, 1.0
HEAD = ("n_agents", "source")
RECIPE = replace(TINY, walls=True)
SHAPES = {
    "small": ModelConfig(4, 3, 2, 0, 3, 2, (20,)),
    "small, silu": ModelConfig(4, 3, 3, 0, 3, 2, (33,), (), "silu"),
    "deep, discrete": ModelConfig(4, 3, 2, 0, 3, 2, (20, 20)),
    "deep": ModelConfig(4, 3, 0, 2, 3, 2, (24, 24), (16,), "silu"),
    "unfactorized": ModelConfig(4, 3, 2, 0, 3, 2, (20,), variant="unfactorized"),
    "learned task": ModelConfig(4, 3, 2, 0, 3, 2, (20,), extra_dim=2),
}


def bouncing(force=0.5, decimals=None, episodes=40, steps=100):
    """Pucks [position, velocity, clock] pushed about between two walls that take all of their speed."""
    rng = np.random.default_rng(0)
    agent, obs, action, following = [], [], [], []
    for e in range(episodes):
        now = np.array([rng.uniform(-0.5, 0.5), 0.0, rng.uniform()])
        for _ in range(steps):
            push = int(rng.integers(2))
            velocity = 0.9 * now[1] + force * (0.02 + 0.01 * (e % 4)) * (2 * push - 1)
            position = np.clip(now[0] + velocity, LEFT, RIGHT)
            stopped = position in (LEFT, RIGHT)
            after = np.array([position, 0.0 if stopped else velocity, now[2] + rng.uniform()])
            if decimals is not None:
                after = after.round(decimals)
            for kept, value in zip((agent, obs, action, following), (e % 4, now, push, after), strict=True):
                kept.append(value)
            now = after
    k = len(agent)
    return Transitions(
        agent=np.array(agent),
        obs=np.array(obs),
        action=np.array(action),
        reward=np.zeros(k),
        next_obs=np.array(following),
        terminated=np.zeros(k, dtype=bool),
        trajectory=np.repeat(np.arange(episodes), steps),
        n_agents=4,
    )


@pytest.fixture(scope="module")
def pucks():
    return bouncing()


def walled(shape, bound=0.1):
    """A model with a wall from above on component 0, which sets component 2, and one from below on component 1."""
    ensemble = build_model(shape, seed=1)
    ensemble.walls[1, 0, 0], ensemble.walls[1, 0, 2] = bound, 7.0
    ensemble.walls[0, 1, 1] = -bound
    return ensemble.requires_grad_(False)


def describe(data):
    return describe_walls(find_walls(data))


def saved(model, folder, beliefs=None):
    return save_simulator(
        model,
        name="test/pucks-v0",
        domain="mountaincar",
        dataset="pucks",
        dataset_hash="",
        transitions=1,
        recipe_name="tiny",
        recipe=RECIPE.to_json(),
        seed=0,
        training_seconds=0.0,
        folder=folder,
        beliefs=beliefs,
    )


def inputs(shape, rows=37):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=rows)
    return obs, rng.uniform(-1, 1, (rows, shape.action_dim)).astype(np.float32)


def test_a_wall_is_found_with_what_it_sets(pucks):
    table = find_walls(pucks)
    assert describe_walls(table) == {
        "low": {"0": {"0": LEFT, "1": 0.0}},
        "high": {"0": {"0": RIGHT, "1": 0.0}},
    }
    hit = np.isin(pucks.next_obs[:, 0], (LEFT, RIGHT))
    assert 0 < hit.mean() < 0.04
    held = stopped(table, torch.from_numpy(pucks.next_obs)).numpy()
    np.testing.assert_array_equal(held, hit[:, None] & [True, True, False])


def test_walls_of_data_on_disk_are_those_in_memory(pucks, tmp_path):
    on_disk = write_transitions(tmp_path / "rows", [pucks], n_agents=4, source="pucks")
    assert torch.equal(find_walls(on_disk), find_walls(pucks))


def test_what_looks_like_a_wall_is_none(pucks):
    few = pucks.next_obs.copy()
    few[np.flatnonzero(few[:, 0] == LEFT)[2:], 0] += 0.01
    few[np.flatnonzero(few[:, 0] == RIGHT)[2:], 0] -= 0.01
    assert describe(replace(pucks, next_obs=few)) == {}  # two touches may be chance
    assert describe(bouncing(force=3.0)) == {}  # where states often are, that is to be learned
    assert describe(bouncing(decimals=1)) == {}  # rounded values repeat anyway
    hit = np.isin(pucks.next_obs[:, 0], (LEFT, RIGHT))
    assert describe(replace(pucks, terminated=hit)) == {}  # nothing follows an end
    slides = pucks.next_obs.copy()
    slides[hit, 1] = np.linspace(-0.1, 0.1, hit.sum())
    assert describe(replace(pucks, next_obs=slides)) == {}  # only cut off: nothing else is set
    alone = replace(pucks, agent=np.where(hit, 0, pucks.agent))
    assert describe(alone) == {}  # of one agent among others


def test_a_component_that_mostly_has_one_value_is_not_set_to_it(pucks):
    right = pucks.next_obs[:, 0] == RIGHT
    few = pucks.select(~right | (np.cumsum(right) % 10 == 0))  # of several agents
    touched = few.next_obs[:, 0] == RIGHT
    assert 3 <= touched.sum() <= 8
    rng = np.random.default_rng(0)
    now, after = (np.where(rng.uniform(size=len(few)) < 0.15, rng.uniform(size=len(few)), 0.0) for _ in range(2))
    now[touched], after[touched] = 1.0, 0.0
    assert describe(with_column(few, now, after))["high"]["0"] == {"0": RIGHT, "1": 0.0}


def test_what_is_no_wall_among_touches_does_not_hide_one(pucks):
    one = np.zeros(len(pucks), dtype=bool)
    one[np.flatnonzero(pucks.next_obs[:, 0] == LEFT)[0]] = True
    both = describe(pucks)
    assert both == describe(replace(pucks, terminated=one))  # a time limit that was logged as an end
    twice = {f.name: np.concatenate([getattr(pucks, f.name)] * 2) for f in fields(pucks) if f.name not in HEAD}
    assert both == describe(Transitions(**twice, n_agents=4))
    assert describe(pucks.select(pucks.agent == 1))["high"] == both["high"]  # a population of one


def test_a_wall_that_data_on_disk_go_past_is_none(pucks, tmp_path, monkeypatch):
    other = pucks.obs[:50].copy()
    further = replace(
        pucks.select(np.arange(len(pucks)) < 50),
        obs=other,
        next_obs=other - np.array([3.0, 0.0, 0.0], dtype=np.float32),
        agent=np.full(50, 3),
        trajectory=np.full(50, 1000),
    )
    monkeypatch.setattr("persim_gym.simulator.training.find_walls.WALL_EPISODES", 40)
    monkeypatch.setattr(TransitionStore, "sample", lambda self, episodes, seed=0: pucks)
    on_disk = write_transitions(tmp_path / "rows", [pucks, further], n_agents=4, source="pucks")
    assert list(describe(on_disk)) == ["high"]


def test_new_agents_that_go_past_a_wall_are_refused(pucks, tmp_path):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False).requires_grad_(False)
    folder = saved(model, tmp_path / "pucks", factor_posterior(model, pucks, clips=False))
    simulator = load_simulator(str(folder))
    few = pucks.select(pucks.agent == 2)
    simulator.personalize(few)
    with pytest.raises(ValueError, match="component 0 of the observations goes past -1, where all agents"):
        simulator.personalize(replace(few, next_obs=few.next_obs * 1.5))


def with_column(data, now, following):
    return replace(
        data,
        obs=np.column_stack([data.obs, now]).astype(np.float32),
        next_obs=np.column_stack([data.next_obs, following]).astype(np.float32),
    )


def test_what_is_put_at_its_extreme_from_afar_is_not_stopped_there(pucks):
    rng = np.random.default_rng(0)
    charge, current = rng.uniform(0.2, 0.9, (2, len(pucks)))
    charged = rng.uniform(size=len(pucks)) < 0.01
    for farthest in (0.01, 0.9):  # what others come near to could have been stopped
        left = np.where(charged, 1.0, charge - rng.uniform(0, farthest, len(pucks)))
        both = with_column(with_column(pucks, charge, left), current, np.where(charged, 0.0, current))
        assert ("3" in describe(both)["high"]) == (farthest > 0.5)


def test_a_wall_sets_a_flag_that_every_touch_raises_but_none_that_is_up_anyway(pucks):
    before, after = (np.isin(x[:, 0], (LEFT, RIGHT)) for x in (pucks.obs, pucks.next_obs))
    up = np.ones(len(pucks))
    table = describe(with_column(with_column(pucks, before, after), up, up))
    assert table["low"]["0"] == {"0": LEFT, "1": 0.0, "3": 1.0}
    assert table["high"]["0"] == {"0": RIGHT, "1": 0.0, "3": 1.0}


def test_walls_are_learned_apart_only_where_the_recipe_says_so_and_the_task_is_known(pucks):
    assert walls_of(fit_ensemble(pucks, RECIPE, n_actions=2, progress=False).walls)
    assert not walls_of(fit_ensemble(pucks, TINY, n_actions=2, progress=False).walls)
    assert not walls_of(fit_ensemble(pucks, RECIPE, n_actions=2, learn_task=True, progress=False).walls)
    assert recipe_for("mountaincar/pure-v0").walls and not recipe_for("mountaincar", "thesis").walls


def test_what_a_wall_did_to_a_transition_has_no_part_in_training(pucks):
    touched = stopped(find_walls(pucks), torch.from_numpy(pucks.next_obs)).any(dim=1).numpy()
    other = pucks.next_obs.copy()
    other[touched, 2] += 100.0  # in a component that no wall sets
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    part, changed = (Parts(data, 0, 10**6).read(model, 0, 0) for data in (pucks, replace(pucks, next_obs=other)))
    for one, same in zip(part, changed, strict=True):
        assert torch.equal(one, same)
    agent, obs, action, target = part
    assert len(obs) == len(pucks)
    change = target * model.delta_std + model.delta_mean
    following = obs * model.obs_std + model.obs_mean + change
    assert following[:, 0].abs().max() < 1.0 - 1e-6


def test_evidence_and_targets_leave_out_what_a_wall_stopped(pucks):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    held = stopped(model.walls, torch.from_numpy(pucks.next_obs))
    rows = [torch.from_numpy(x) for x in (pucks.obs, pucks.next_obs)]
    _, known = targets(model, *rows, torch.empty(len(pucks), 0), clips=False)
    assert torch.equal(known, ~held) and held[:, :2].any() and not held[:, 2].any()
    noise = torch.tensor([1.0, 1.0, torch.inf], dtype=torch.float64).expand(model.config.members, 3)
    every = gather_statistics(model, noise, pucks, clips=False)
    free = gather_statistics(model, noise, pucks.select(~held.any(dim=1).numpy()), clips=False)
    torch.testing.assert_close(every.information, free.information)
    torch.testing.assert_close(every.vector, free.vector)


@pytest.mark.parametrize("name", SHAPES)
def test_everything_that_predicts_stops_at_walls(name):
    shape = SHAPES[name]
    model, open_model = walled(shape), walled(shape, np.inf)
    obs, action = inputs(shape)
    agents = np.arange(len(obs)) % shape.n_agents
    same = torch.from_numpy(agents), torch.from_numpy(obs), torch.from_numpy(action)
    free, expected = open_model.predict(*same).numpy(), model.predict(*same).numpy()
    above, below = free[..., 0] >= 0.1, free[..., 1] <= -0.1
    assert 0.1 < above.mean() < 0.9 and 0.1 < below.mean() < 0.9
    by_hand = free.copy()
    by_hand[above, 0], by_hand[above, 2], by_hand[below, 1] = 0.1, 7.0, -0.1
    np.testing.assert_allclose(expected, by_hand, atol=1e-6)

    rows = BatchDynamics(model, agents.tolist())
    np.testing.assert_allclose(rows(obs, action), expected, atol=2e-5)
    for member in range(shape.members):
        stepped, _ = rows.step(obs, action, np.full(len(obs), member))
        np.testing.assert_allclose(stepped, expected[member], atol=2e-5)
    dynamics = bind_agent(model, 2)
    two = model.predict(torch.full((len(obs),), 2), *same[1:]).numpy()
    np.testing.assert_allclose(dynamics(obs, action), two, atol=2e-5)
    np.testing.assert_allclose(dynamics(*same[1:]).numpy(), two, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "unfactorized"])
def test_rollouts_stop_at_walls_as_the_calls_do(name, monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.dynamics.folding.byte_products", lambda: None)
    shape = SHAPES[name]
    dynamics = bind_agent(walled(shape), 1)
    obs, action = inputs(shape)
    now = np.repeat(obs[None], shape.members, axis=0)
    actions = np.stack([action] * 4, axis=1)
    steps = []
    each = now
    for _ in range(4):
        each = dynamics(each, action)
        steps.append(each)
    np.testing.assert_allclose(dynamics.rollout(now, actions), np.stack(steps, axis=2), rtol=1e-4, atol=1e-4)
    assert (np.stack(steps)[..., 2] == 7.0).any()


def test_stopping_is_the_same_of_arrays_and_tensors_and_leaves_nan():
    table = no_walls(2)
    table[0, 0] = torch.tensor([-1.0, 0.5])
    obs = np.array([[-2.0, 3.0, 9.0], [0.0, 3.0, 9.0], [np.nan, 3.0, 9.0], [-1.0, 3.0, 9.0]])
    tensor = torch.from_numpy(obs.copy())
    stop(walls_of(table), obs)
    stop(walls_of(table), tensor)
    np.testing.assert_array_equal(obs, [[-1.0, 0.5, 9.0], [0.0, 3.0, 9.0], [np.nan, 3.0, 9.0], [-1.0, 0.5, 9.0]])
    np.testing.assert_array_equal(tensor.numpy(), obs)


@pytest.mark.parametrize("name", ["small", "deep, discrete", "deep"])
def test_no_wall_hides_a_prediction_that_is_no_number(name):
    shape = SHAPES[name]
    model = walled(shape)
    model.delta_mean[0], model.delta_mean[2] = 1e3, torch.nan
    obs, action = inputs(shape)
    after, spread = BatchDynamics(model, [0] * len(obs)).step(obs, action, np.zeros(len(obs), dtype=np.int64))
    assert np.isinf(spread).all()
    np.testing.assert_array_equal(after, obs)
    assert np.isnan(bind_agent(model, 0)(obs, action)[..., 2]).all()


def test_a_simulator_on_disk_keeps_its_walls_and_its_card_tells_them(pucks, tmp_path):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    again = load_simulator(str(saved(model, tmp_path / "pucks")))
    assert torch.equal(again.model.walls, model.walls)
    assert again.card.walls == describe_walls(model.walls)
    said = "component 0 is no lower than -1 and there component 1 becomes 0"
    assert said in (tmp_path / "pucks" / "README.md").read_text(encoding="utf-8")


def test_files_from_before_walls_are_read(pucks, tmp_path):
    model = fit_ensemble(pucks, TINY, n_actions=2, progress=False)
    folder = saved(model, tmp_path / "pucks")
    stored, tensors = read_folder(folder)
    older = {name: value for name, value in tensors.items() if name != "walls"}
    write_folder(
        folder, {k: v for k, v in stored.items() if k not in ("walls", "sha256")} | {"sha256": ""}, older, card_markdown
    )
    again = load_simulator(str(folder))
    assert "walls" not in read_folder(folder)[1] and torch.equal(again.model.walls, no_walls(3))
    assert again.card.walls == {}


@pytest.mark.slow
def test_mountaincar_is_learned_as_exactly_as_if_it_had_no_wall(tmp_path):
    data = load("persim/mountaincar/random-v0", progress=False)
    domain, test = DOMAINS["mountaincar"], load_behavior_policy("mountaincar", TEST)
    folder = train_simulator(
        data, name="mountaincar/random-v0", domain="mountaincar", folder=tmp_path / "s", progress=False
    )
    simulator = load_simulator(str(folder))
    assert simulator.card.walls == {"low": {"0": {"0": pytest.approx(-1.2), "1": 0.0}}}
    for agent, thesis in enumerate((0.004, 0.003, 0.001, 0.001, 0.001)):
        assert prediction_error(simulator.dynamics(agent), domain, agent, test).mean_rmse < thesis / 3
