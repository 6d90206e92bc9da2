"""Bounds of continuous actions where a dataset's space has none."""

from dataclasses import replace

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from support.recipes import TINY
from support.tanks import tank_logs

from persim_gym.cli import app
from persim_gym.persim_env.env import PersimEnv
from persim_gym.planning import CEM, MPC
from persim_gym.spec import EnvironmentSpec
from persim_gym.transition_store import write_transitions
from persim_gym.workflows.action_bounds import with_action_bounds
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import prepare_training

# Minari advises to record an author, a description and the like.
pytestmark = [pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari"), pytest.mark.usefixtures("home")]
OPEN = spaces.Box(-np.inf, np.inf, (2,), np.float32)
SEEN = spaces.Box(-9, 9, (2,), np.float32)


@pytest.fixture
def pumps(pushes):
    """Data of two continuous actions, from -0.5 to 2 and from -1 to 1.5, in memory."""
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.4, 1.4, (len(pushes), 2))
    action[7], action[9] = (-0.5, 1.5), (2.0, -1.0)
    return replace(pushes, action=action.astype(np.float32), source="my/pumps-v0")


@pytest.fixture
def valves(tmp_path, monkeypatch):
    """A Minari dataset whose actions, from -0.5 to 1, are in a space without bounds."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    opening = np.linspace(-0.5, 1.0, 60, dtype=np.float32)[:, None]
    buffers = [
        EpisodeBuffer(**{**log, "actions": opening}, options={"agent": a}) for a, log in enumerate(tank_logs()[:5])
    ]
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    minari.create_dataset_from_buffers("my/valves-v0", buffers, observation_space=SEEN, action_space=action_space)
    return "my/valves-v0"


@pytest.mark.parametrize(
    ("low", "high"), [(-np.inf, 3), (-np.finfo(np.float32).max, 3), (-3, np.inf), (-3, np.finfo(np.float32).max)]
)
def test_a_training_asks_for_bounds_that_the_space_lacks(pumps, low, high):
    space = spaces.Box(np.array([-1, low], np.float32), np.array([3, high], np.float32), dtype=np.float32)
    spec = EnvironmentSpec(SEEN, space, 10)
    said = r"^my/pumps-v0: action 1 has no bounds .*--action-bounds logged .* --action-bounds -2,2 [^\n]*$"
    with pytest.raises(ValueError, match=said):
        with_action_bounds(spec, pumps)
    closed = replace(spec, action_space=spaces.Box(-3, 3, (2,), np.float32))
    assert with_action_bounds(closed, pumps) is closed and with_action_bounds(closed, pumps, "") is closed


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_logged_bounds_are_the_lowest_and_highest_of_each_action(pumps, on_disk, tmp_path):
    data = write_transitions(tmp_path / "rows", [pumps], n_agents=6, source="x") if on_disk else pumps
    box = with_action_bounds(EnvironmentSpec(SEEN, OPEN, 10), data, "logged").action_space
    assert (box.low.tolist(), box.high.tolist(), box.dtype) == ([-0.5, -1.0], [2.0, 1.5], np.float32)


@pytest.mark.parametrize("given", [(-2, 2), [-2.0, 2.0], "-2,2", "-2.0, 2"], ids=str)
def test_bounds_may_be_given_as_two_numbers(pumps, given):
    box = with_action_bounds(EnvironmentSpec(SEEN, OPEN, 10), pumps, given).action_space
    assert (box.low.tolist(), box.high.tolist()) == ([-2.0, -2.0], [2.0, 2.0])


@pytest.mark.parametrize("given", ["", "x", "2", "2,-2", "1,1", "1,2,3", "nan,2", "-inf,inf", (1,), (1, None)], ids=str)
def test_what_is_no_bounds_is_refused(pumps, given):
    with pytest.raises(ValueError, match="are neither logged nor two numbers, the lower|has no bounds"):
        with_action_bounds(EnvironmentSpec(SEEN, OPEN, 10), pumps, given)


@pytest.mark.parametrize(("given", "said"), [("-0.4,2", "-0.5 to 2, outside of -0.4 to 2"), ("-1,1.9", "-0.5 to 2")])
def test_bounds_that_logged_actions_are_past_are_refused(pumps, given, said):
    with pytest.raises(ValueError, match=f"action 0 goes from {said}.*give wider action bounds"):
        with_action_bounds(EnvironmentSpec(SEEN, OPEN, 10), pumps, given)


def test_an_action_that_never_changes_has_no_logged_bounds(pumps):
    still = replace(pumps, action=np.full_like(pumps.action, 0.5))
    with pytest.raises(ValueError, match="action 0 is always 0.5; give its bounds as two numbers"):
        with_action_bounds(EnvironmentSpec(SEEN, OPEN, 10), still, "logged")


def test_bounds_of_what_has_its_own_are_refused(cars):
    with pytest.raises(ValueError, match=r"actions are Discrete\(3\), which are not bounded by numbers"):
        with_action_bounds(EnvironmentSpec(SEEN, spaces.Discrete(3), 10), cars, "logged")
    with pytest.raises(ValueError, match="actions of mountaincar have the bounds of its true environment"):
        prepare_training(cars, domain="mountaincar", action_bounds="logged")


def test_a_simulator_of_logged_bounds_keeps_them_on_its_card(valves):
    with pytest.raises(ValueError, match="my/valves-v0: action 0 has no bounds"):
        train(valves, recipe=TINY, progress=False)
    simulator = train(valves, recipe=TINY, action_bounds="logged", holdout=False, progress=False)
    box = simulator.action_space
    assert (box.low.tolist(), box.high.tolist()) == ([-0.5], [1.0])
    env = PersimEnv(simulator=str(simulator.folder))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    policy = MPC(
        simulator.dynamics(0), simulator.task, box, planner=CEM(candidates=8, horizon=3, iterations=2, elites=3)
    )
    assert box.contains(policy.predict(np.zeros(2, np.float32))[0])


def test_the_verb_takes_bounds(valves, monkeypatch):
    given = {}
    monkeypatch.setattr("persim_gym.workflows.train.train", lambda data, **options: given.update(options) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app(["train", valves, "--action-bounds", "-2,2"], standalone_mode=False)
    assert given["action_bounds"] == "-2,2"
