"""What a user may write for a candidate, and what is said where it is wrong."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from support.policies import Constant

from persim_gym.baselines.registry import train_baseline
from persim_gym.comparison.acting import check_spaces
from persim_gym.comparison.candidates import find_candidates
from persim_gym.comparison.setting import Setting
from persim_gym.onnx_files import write_onnx
from persim_gym.planning import MPC, RandomShooting
from persim_gym.spec import EnvironmentSpec, flat_box

SETTINGS = ["layers=[8]", "iterations=20", "batch=16"]
rule = Constant(1)
"""A policy that `module:name` refers to."""


def make_rule(env):
    """A function that `module:name` refers to: it makes a policy of an environment."""
    return Constant(env.action_space.n - 1)


def make_nothing(env):
    """A function that makes no policy."""
    return 17


def make_trouble(env):
    """A function that fails."""
    raise KeyError("dose")


class Failing:
    """A policy that fails."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Takes what is not there."""
        return observation.nothing, None


@pytest.fixture
def place(car):
    return Setting.of(car)


def acting(place, what, agent=1, trust=False):
    (candidate,) = find_candidates({"it": what}, place, trust)
    return candidate.acting(place, agent, 0)


def actions(place, what, **keywords):
    return acting(place, what, **keywords).begin(np.zeros((5, 2), dtype=np.float32))


@pytest.mark.parametrize("what", ["random", "constant:2", "logged", "mpc:shooting:candidates=8:horizon=3", Constant(0)])
def test_every_way_gives_actions_of_the_space(place, what):
    found = actions(place, what)
    assert found.shape == (5,) and found.dtype == np.int64 and set(found) <= {0, 1, 2}


def test_planning_takes_sizes(place):
    (candidate,) = find_candidates({"it": "mpc:candidates=8:horizon=3"}, place)
    policy = candidate.make(1, 0)
    assert isinstance(policy, MPC) and policy.planner == RandomShooting(candidates=8, horizon=3)
    assert policy.objective.bonus is not None  # MountainCar's own planning objective.


def test_names_of_modules(place, monkeypatch):
    monkeypatch.syspath_prepend(str(__file__).rsplit("/", 1)[0])
    assert set(actions(place, "test_candidates:rule")) == {1}
    assert set(actions(place, "test_candidates:make_rule")) == {2}
    with pytest.raises(ValueError, match="returned int, which has no predict"):
        acting(place, "test_candidates:make_nothing")
    with pytest.raises(ValueError, match=r"candidate it: test_candidates:make_trouble made no policy .KeyError.'dose'"):
        acting(place, "test_candidates:make_trouble")


def test_a_baseline_of_all_agents_and_of_one(place, tmp_path):
    data = place.data
    spec = place.model.spec
    train_baseline("bc", data, settings=SETTINGS, out=tmp_path / "bc", progress=False, spec=spec)
    assert actions(place, tmp_path / "bc").shape == (5,)
    own = tmp_path / "own" / "agent-3"
    train_baseline("bc", data, agent=3, settings=SETTINGS, out=own, progress=False, spec=spec)
    assert actions(place, str(tmp_path / "own"), agent=3).shape == (5,)
    with pytest.raises(ValueError, match="holds no policy of agent 1; it has agent-3"):
        acting(place, tmp_path / "own")


def test_files_of_stable_baselines3_have_to_be_trusted_and_fit(place, tmp_path):
    PPO("MlpPolicy", gym.make("MountainCar-v0"), n_steps=8, batch_size=8, device="cpu").save(tmp_path / "car")
    PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=8, batch_size=8, device="cpu").save(tmp_path / "pole")
    with pytest.raises(ValueError, match="candidate it: .*car.zip holds pickles.*--trust"):
        acting(place, tmp_path / "car.zip")
    assert actions(place, tmp_path / "car.zip", trust=True).shape == (5,)
    with pytest.raises(ValueError, match="candidate it: it takes observations .*policy of the same spaces") as error:
        acting(place, tmp_path / "pole.zip", trust=True)
    assert "\n" not in str(error.value)
    (tmp_path / "torn.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="torn.zip cannot be read as a file of Stable-Baselines3"):
        acting(place, tmp_path / "torn.zip", trust=True)


def test_onnx_files_act_or_say_in_one_line_why_not(place, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = torch.nn.Linear(2, 3)

    class Greedy(torch.nn.Module):
        def forward(self, obs):
            return layer(obs).argmax(dim=-1)

    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    expected = Greedy()(torch.from_numpy(obs)).numpy()
    write_onnx(Greedy(), {"obs": obs}, {"action": expected}, tmp_path / "it.onnx", {})
    np.testing.assert_array_equal(acting(place, tmp_path / "it.onnx").begin(obs), expected)


def test_a_file_that_is_no_onnx_model_is_one_line(place, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="candidate it: .*(cannot be read|need onnx)") as error:
        acting(place, tmp_path / "torn.onnx")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nowhere.zip", "candidate it: there is no nowhere.zip; give a policy folder"),
        ("nothing at all", "candidate it: there is no nothing at all"),
        ("constant:3", "'3' is no action in Discrete"),
        ("constant:0.5", "'0.5' is no action in Discrete"),
        ("constant:1,1", "'1,1' is no action in Discrete"),
        ("constant:full", "'full' is no action in Discrete"),
        ("mpc:cem", "planner 'cem' does not plan the actions"),
        ("mpc:shooting:candidates=many", "'candidates=many' is no size=number"),
        ("mpc:shooting:elites=3", "planner shooting has no elites"),
        ("nowhere_at_all:policy", "nowhere_at_all:policy cannot be imported .*PYTHONPATH=. adds"),
        ("math:pi", "math:pi is neither a policy nor a function"),
    ],
)
def test_what_is_wrong_is_one_line(place, what, said):
    with pytest.raises(ValueError, match=said) as error:
        acting(place, what)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("action", [7, np.zeros(2), np.nan], ids=["outside", "too many", "no number"])
def test_a_policy_of_other_actions_is_one_line(place, action):
    with pytest.raises(ValueError, match="candidate it does not act in this simulator, whose observations are 2") as e:
        actions(place, Constant(action))
    assert "\n" not in str(e.value)


def test_a_policy_that_fails_is_one_line(place):
    with pytest.raises(
        ValueError, match="candidate it does not act in this simulator.*no attribute 'nothing'"
    ) as error:
        actions(place, Failing())
    assert "\n" not in str(error.value)


def test_spaces_are_compared_by_size():
    spec = EnvironmentSpec(flat_box([-1] * 2, [1] * 2), spaces.Discrete(3), 5)
    check_spaces(flat_box([-9] * 2, [9] * 2), spaces.Discrete(3), spec)
    for observation, action in ((3, spaces.Discrete(3)), (2, spaces.Discrete(2)), (2, flat_box([0], [1]))):
        with pytest.raises(ValueError, match="give a policy of the same spaces"):
            check_spaces(flat_box([-1] * observation, [1] * observation), action, spec)
