"""Torch's default type and autocast of the caller change no number: all is computed as without them."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.recipes import TINY
from support.simulators import save_model

from persim_gym.planning import CEM, MPC, RandomShooting
from persim_gym.simulator.diagnostics.metrics import logged_error
from persim_gym.simulator.registry import _load, load_simulator
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.trainer import fit_ensemble, train_model
from persim_gym.wrappers import latent_factors

SETTINGS = {"float64": lambda: _Default(torch.float64), "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}
SIMULATORS = ["small", "deep", "robot", "unfactorized"]
RECIPES = {
    "compiled": {},
    "tensors": {"state_layers": (16, 16), "noise": 0.01, "pull": 1e-3, "interaction": 1e-3},
    "sparse": {"state_layers": (16, 16), "batch": 2, "epochs": 1},
    "closed form": {"refine": 1, "polish": True},
}


class _Default:
    """Sets torch's default type for a while."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *error):
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def folder_of(cars, save_car, save_robot, tmp_path, car_model):
    """`folder_of(kind)`: a simulator of that kind on disk."""

    def folder(kind):
        if kind == "robot":
            return str(save_robot("halfcheetah"))
        if kind == "small":
            return "mountaincar/random-v0"
        recipe = replace(TINY, state_layers=(16, 16), epochs=1)
        variant = "unfactorized" if kind == "unfactorized" else "factored"
        model = fit_ensemble(cars, recipe, n_actions=3, variant=variant, progress=False)
        return str(save_model(model, name=kind, domain="mountaincar", data=cars, recipe=recipe, folder=tmp_path / kind))

    return folder


def same_under(setting, compute):
    """Computes without and with a setting, simulators read anew each time: numbers and types are equal."""
    each = []
    for context in (None, SETTINGS[setting]()):
        _load.cache_clear()
        if context is None:
            each.append(compute())
        else:
            with context:
                each.append(compute())
    _load.cache_clear()
    for plain, other in zip(*each, strict=True):
        plain, other = np.asarray(plain), np.asarray(other)
        assert plain.dtype == other.dtype
        np.testing.assert_array_equal(plain, other)


every_setting = pytest.mark.parametrize("setting", SETTINGS)
every_simulator = pytest.mark.parametrize("kind", SIMULATORS)


@every_setting
@every_simulator
def test_steps_are_the_same(setting, kind, folder_of):
    folder = folder_of(kind)

    def steps():
        single = gym.make("PersimEnv-v0", agent=1, simulator=folder)
        rows = gym.make_vec("PersimEnv-v0", num_envs=3, agents=[0, 1, 2], simulator=folder)
        rows.single_action_space.seed(0)
        seen = [single.reset(seed=0)[0], rows.reset(seed=0)[0]]
        for _ in range(3):
            actions = np.stack([rows.single_action_space.sample() for _ in range(3)])
            seen += single.step(actions[0])[:2]
            seen += rows.step(actions)[:2]
        return seen

    same_under(setting, steps)


@every_setting
@every_simulator
def test_plans_and_predictions_are_the_same(setting, kind, folder_of):
    folder = folder_of(kind)

    def plan():
        simulator = load_simulator(folder)
        dynamics, space = simulator.dynamics(1), simulator.action_space
        discrete = isinstance(space, gym.spaces.Discrete)
        planner = RandomShooting(20, 5) if discrete else CEM(20, 5, 2, elites=5)
        obs = np.zeros(simulator.observation_space.shape, dtype=np.float32)
        each = np.zeros((simulator.model.config.members, 4, len(obs)), dtype=np.float32)
        space.seed(0)
        actions = np.stack([space.sample() for _ in range(4)])
        tensors = torch.from_numpy(each), torch.from_numpy(actions)
        inside = simulator.model.predict(torch.zeros(4, dtype=torch.int64), *tensors)
        others = [latent_factors(simulator)] if kind != "unfactorized" else []
        if kind == "robot":
            others.append(simulator.dynamics(1, quantize=True).rollout(each, actions[:, None]))
        action = MPC(dynamics, simulator.task, space, planner=planner).predict(obs)[0]
        return [action, dynamics(each, actions), dynamics(*tensors), inside, *others]

    same_under(setting, plan)


@every_setting
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_training_is_the_same(setting, recipe, cars):
    def train():
        model, _ = train_model(cars, replace(TINY, **{"epochs": 2, **recipe}), Problem(3, None), progress=False)
        return [*model.state_dict().values(), *logged_error(model, cars)["one_step_rmse"]]

    same_under(setting, train)


@every_setting
def test_what_is_learned_of_agents_is_the_same(setting, simulator, cars):
    new = cars.select(cars.agent == 5)
    new = replace(new, n_agents=6)

    def learn():
        loaded = load_simulator(str(simulator.folder))
        online = loaded.online(2)
        online.update(new.obs, new.action, new.next_obs, new.reward, new.terminated)
        env = gym.make("PersimEnv-v0", agent=2, simulator=str(simulator.folder), factor="sample")
        env.reset(seed=0)
        added = loaded.personalize(new)
        return [
            added.model.agent_encoder.factor,
            online.factor,
            env.step(2)[0],
            online(new.obs[None, :1], new.action[:1]),
        ]

    same_under(setting, learn)
