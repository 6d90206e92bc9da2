"""Pucks between two walls, and models with walls."""

from dataclasses import replace

import numpy as np
from gymnasium import spaces
from support.recipes import TINY
from support.simulators import save_model

from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.spec import DOMAIN_TASK, EnvironmentSpec, flat_box
from persim_gym.transitions import Transitions

LEFT, RIGHT = -1.0, 1.0
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


def walled(shape, bound=0.1):
    """A model with a wall from above on component 0, which sets component 2, and one from below on component 1."""
    ensemble = build_model(shape, seed=1)
    ensemble.walls[1, 0, 0], ensemble.walls[1, 0, 2] = bound, 7.0
    ensemble.walls[0, 1, 1] = -bound
    return ensemble.requires_grad_(False)


def save_pucks(model, folder, beliefs=None):
    size, few = model.config.obs_dim, spaces.Discrete(model.config.n_actions)
    spec = EnvironmentSpec(flat_box([-9.0] * size, [9.0] * size), few, 20, DOMAIN_TASK)
    own = {"spec": spec, "recipe": RECIPE, "beliefs": beliefs, "folder": folder}
    return save_model(model, name="test/pucks-v0", domain="mountaincar", **own)


def inputs(shape, rows=37):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=rows)
    return obs, rng.uniform(-1, 1, (rows, shape.action_dim)).astype(np.float32)
