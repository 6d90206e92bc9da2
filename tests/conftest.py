"""Isolation from the user's files, and small data and simulators that several tests share."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.cluster import cluster, importable  # noqa: F401
from support.disk import big
from support.recipes import TINY
from support.simulators import save_model

from persim_gym.datasets.collect import build
from persim_gym.datasets.registry import dataset_spec
from persim_gym.envs import DOMAINS
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.kernels import deep_rollout as deep
from persim_gym.simulator.kernels import small_rollout as lanes
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transition_store import TransitionStore, write_transitions
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train

os.environ["SDL_VIDEODRIVER"] = "dummy"
torch.set_num_threads(1)
AGENTS = 6


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory):
    """No test reads or writes the user's datasets, simulators or policies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        patch.setenv("PERSIM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def torch_threads():
    """`torch_threads(number)`: sets torch's number of threads, till the end of the test."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def place_dataset(tmp_path_factory):
    """`place_dataset(dataset_id, folder)`: puts one of our datasets, of all 500 agents, there; built once a session."""
    built = {}

    def place(dataset_id, folder):
        if dataset_id not in built:
            built[dataset_id] = tmp_path_factory.mktemp("built")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MINARI_DATASETS_PATH", str(built[dataset_id]))
                patch.setenv("PERSIM_HOME", str(built[dataset_id] / "no policies but bundled ones"))
                build(dataset_spec(dataset_id), progress=False)
        shutil.copytree(built[dataset_id], folder, dirs_exist_ok=True)

    return place


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folder of this test alone."""
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PERSIM_TRUSTED_TASKS", "")
    return tmp_path / "home"


@pytest.fixture(scope="session")
def cars() -> Transitions:
    """600 transitions of MountainCar, 100 of each of six agents, from all over the observation space."""
    domain = DOMAINS["mountaincar"]
    rng = np.random.default_rng(0)
    agent = np.repeat(np.arange(AGENTS), 100)
    obs = rng.uniform([-1.0, -0.05], [0.4, 0.05], (len(agent), 2)).astype(np.float32)
    action = rng.integers(3, size=len(agent))
    next_obs = domain.physics(gravity=domain.population[agent, 0])(obs.astype(np.float64), action)
    return Transitions(
        agent=agent,
        obs=obs,
        action=action,
        reward=domain.task.reward(obs, action, next_obs).astype(np.float32),
        next_obs=next_obs.astype(np.float32),
        terminated=domain.task.terminated(next_obs),
        trajectory=agent,
        n_agents=AGENTS,
        source="persim/mountaincar/tiny-v0",
    )


@pytest.fixture(scope="session")
def pushes() -> Transitions:
    """400 transitions of a made-up linear domain with three observations and two continuous actions, four agents."""
    rng = np.random.default_rng(1)
    agent = np.arange(400) % 4
    obs = rng.normal(size=(400, 3)).astype(np.float32)
    action = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    change = (1 + agent[:, None]) * (0.1 * obs + action @ rng.normal(size=(2, 3)) * 0.1)
    return Transitions(
        agent=agent,
        obs=obs,
        action=action,
        reward=np.zeros(400, dtype=np.float32),
        next_obs=(obs + change).astype(np.float32),
        terminated=np.zeros(400, dtype=np.bool_),
        trajectory=agent,
        n_agents=4,
        source="pushes",
    )


@pytest.fixture(scope="session")
def car_model(cars):
    """A MountainCar simulator of six agents and three members, hardly trained."""
    space = DOMAINS["mountaincar"].observation_space
    return fit_ensemble(cars, TINY, n_actions=3, bounds=(space.low, space.high), progress=False)


@pytest.fixture
def save_car(car_model, cars):
    """Saves the small MountainCar simulator: `save_car(folder)`, or by name into the user's folder."""

    def save(folder=None, name="mountaincar/tiny-v0", model=car_model):
        return save_model(model, name=name, domain="mountaincar", data=cars, recipe=TINY, folder=folder)

    return save


@pytest.fixture(scope="session")
def save_robot(tmp_path_factory):
    """`save_robot(domain)`: folder of a small simulator of four agents of a domain with continuous actions."""
    made = {}

    def save(name):
        if name in made:
            return made[name]
        domain, rng = DOMAINS[name], np.random.default_rng(0)
        agents = np.repeat(np.arange(4), 50)
        physics = domain.physics(**{c.name: domain.population[agents, i] for i, c in enumerate(domain.covariates)})
        state = domain.initial_state(rng, len(agents))
        parts = {"obs": [], "action": [], "next_obs": []}
        for _ in range(10):
            action = rng.uniform(
                domain.action_space.low, domain.action_space.high, (len(agents),) + (domain.action_space.shape[0],)
            ).astype(np.float32)
            following = physics(state, action)
            parts["obs"].append(domain.observe(state).astype(np.float32))
            parts["action"].append(action)
            parts["next_obs"].append(domain.observe(following).astype(np.float32))
            state = following
        obs, action, next_obs = (np.concatenate(parts[key]) for key in ("obs", "action", "next_obs"))
        data = Transitions(
            agent=np.tile(agents, 10),
            obs=obs,
            action=action,
            reward=np.asarray(domain.task.reward(obs, action, next_obs), dtype=np.float32),
            next_obs=next_obs,
            terminated=np.zeros(len(obs), dtype=np.bool_),
            trajectory=np.tile(np.arange(len(agents)), 10),
            n_agents=4,
            source=f"persim/{name}/tiny-v0",
        )
        recipe = TrainingRecipe(
            rank=4, state_layers=(32, 32), action_layers=(16,), members=3, standardize=True, agent_mean=1.0,
            agent_std=0.3, epochs=10, batch=128, activation="silu",
        )  # fmt: skip
        space = domain.observation_space
        bounds = (space.low, space.high) if domain.clips else None
        model = fit_ensemble(data, recipe, bounds=bounds, progress=False)
        folder = tmp_path_factory.mktemp("robots") / name
        starts = np.arange(4), obs[:200:50]
        made[name] = save_model(
            model, name=f"{name}/tiny-v0", domain=name, data=data, recipe=recipe, starts=starts, folder=folder
        )
        return made[name]

    return save


@pytest.fixture(scope="session")
def fleet() -> Transitions:
    """One trajectory of 60 steps of each of 60 MountainCar agents."""
    domain = DOMAINS["mountaincar"]
    rng, n, steps = np.random.default_rng(0), 60, 60
    physics = domain.physics(gravity=domain.population[:n, 0])
    state = np.stack([rng.uniform(-0.9, 0.2, n), rng.uniform(-0.04, 0.04, n)], axis=1)
    parts = []
    for _ in range(steps):
        action = rng.integers(3, size=n)
        following = physics(state, action)
        parts.append((state, action, following))
        state = following
    obs, action, next_obs = (np.swapaxes(np.stack(x), 0, 1).reshape(n * steps, -1) for x in zip(*parts, strict=True))
    agent = np.repeat(np.arange(n), steps)
    zeros = np.zeros(len(agent), dtype=np.float32)
    return Transitions(
        agent,
        obs.astype(np.float32),
        action[:, 0],
        zeros,
        next_obs.astype(np.float32),
        zeros > 0,
        agent,
        n,
        "fleet",
    )


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
    return counts


@pytest.fixture(scope="session")
def simulator(cars, tmp_path_factory):
    """A small simulator of MountainCar's first five agents of six."""
    folder = tmp_path_factory.mktemp("simulators") / "small"
    known = replace(cars.select(cars.agent < 5), n_agents=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("persim_gym.workflows.training_setup.recipe_for", lambda *a, **k: replace(TINY, polish=True))
        return train(known, name="small", domain="mountaincar", out=folder, progress=False)


@pytest.fixture
def file(cars, tmp_path) -> TransitionStore:
    """The cars' transitions several times over, on disk."""
    data = big(cars)
    pieces = (data.select(data.trajectory == t) for t in range(54))
    return write_transitions(tmp_path / "rows", pieces, n_agents=6, source="big")
