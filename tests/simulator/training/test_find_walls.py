"""Walls are found in logged data, with what they set, and nothing else is taken for one."""

from dataclasses import fields, replace

import numpy as np
import torch
from support.missing import lacking
from support.walls import LEFT, RIGHT, bouncing

from persim_gym.simulator.model.walls import describe_walls, stopped
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.transition_store import TransitionStore, write_transitions
from persim_gym.transitions import Transitions

HEAD = ("n_agents", "source", "missing", "step")


def describe(data):
    return describe_walls(find_walls(data))


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


def test_walls_are_looked_for_in_what_is_known(pucks):
    assert describe(lacking(pucks, column=2)) == describe(pucks)
    assert describe(lacking(pucks, share=1.0)) == {}
