"""A guard where a simulator remembers the past and sees what comes from outside."""

from collections import deque

import gymnasium as gym
import numpy as np
import pytest

import persim_gym
from persim_gym.datasets import from_table, load
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.wrappers import TrustGuard, usual_surprise

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.slow
AGENTS, STEPS, DELAY = 40, 60, 2
RECIPE = TrainingRecipe(
    rank=2, members=2, state_layers=(16,), action_layers=(8,), activation="silu", standardize=True, agent_mean=1.0,
    agent_std=0.3, epochs=30, batch=64, learning_rate=5e-3, polish=True,
)  # fmt: skip


class Tank(gym.Env):
    """The level of a tank: what a valve lets in takes two steps to arrive, and a load from outside empties it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, strength):
        self.strength = strength

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level, self.load, self.waiting = 0.0, 0.0, deque([0.0] * DELAY)
        return self.observed(), {}

    def observed(self):
        return np.float32([self.level, self.load])

    def step(self, action):
        self.level = 0.9 * self.level + self.strength * self.waiting.popleft() - 0.5 * self.load
        self.waiting.append(float(action[0]))
        self.load = 0.7 * self.load + 0.3 * self.np_random.normal()
        return self.observed(), -abs(self.level), False, False, {}


def strength(agent):
    return 0.5 + agent / AGENTS


def log():
    """A table of tanks under random actions."""
    rows, rng = [], np.random.default_rng(0)
    for agent in range(AGENTS):
        env = Tank(strength(agent))
        (level, load_now), _ = env.reset(seed=agent)
        for step in range(STEPS):
            action = rng.uniform(-1, 1)
            (level_after, load_after), reward, *_ = env.step([action])
            rows.append((f"T-{agent}", step, level, action, load_now, reward))
            level, load_now = level_after, load_after
    return pd.DataFrame(rows, columns=["id", "time", "level", "valve", "load", "reward"])


def test_it_tells_the_past_of_an_environment_that_shows_the_present(tmp_path):
    roles = {"agent": "id", "time": "time", "obs": "level", "action": "valve", "reward": "reward"}
    from_table(log(), name="my/guarded-v0", exogenous="load", progress=False, force=True, **roles)
    simulator = persim_gym.train("my/guarded-v0", recipe=RECIPE, history="valve=2", out=tmp_path / "s", progress=False)
    band = usual_surprise(simulator, load("my/guarded-v0"), false_alarms=5.0)
    tank, rng = Tank(strength(10)), np.random.default_rng(1)
    env = TrustGuard(tank, simulator, "T-10", [0.0], band)
    env.reset(seed=0)
    for _ in range(60):
        env.step(rng.uniform(-1, 1, 1).astype(np.float32))
    assert env.handovers == []
    tank.strength = 2 * strength(10)
    for _ in range(60):
        env.step(rng.uniform(-1, 1, 1).astype(np.float32))
    assert env.handovers and env.handovers[0].step < 75 and env.handovers[0].why == "not as believed"
