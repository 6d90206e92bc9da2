"""Small made-up dynamics, tasks and starts for planners, and returns by their definition."""

import itertools
from functools import partial

import numpy as np
from gymnasium import spaces

from persim_gym.task import FunctionDynamics, PlanningDynamics, Task, never, planning_dynamics


def counter(obs, action):
    """Adds the action to the first of two numbers; the second never changes."""
    return np.stack(np.broadcast_arrays(obs[..., 0] + action, obs[..., 1]), axis=-1)


def ending_at(limit: float) -> Task:
    """Pays the number reached; ends once it is at least `limit`."""
    return Task(lambda obs, action, next_obs: next_obs[..., 0], lambda next_obs: next_obs[..., 0] >= limit)


@partial(FunctionDynamics, members=3)
def drifting(obs, action):
    """Three members: each adds its own share of the action and of the observation."""
    share = np.array([0.5, 1.0, 1.5])[:, None]
    return np.stack([obs[..., 0] + share * action, 0.9 * obs[..., 1] - share * action], axis=-1)


def plain_returns(dynamics, task, obs, actions, bonus=None):
    """The definition, one candidate and member at a time."""
    members = planning_dynamics(dynamics).members
    returns = np.zeros((members, len(actions)))
    for m, c in itertools.product(range(members), range(len(actions))):
        now, peak = obs, -np.inf
        for action in actions[c]:
            following = dynamics(np.broadcast_to(now, (members, 1, len(obs))), action[None])[m, 0]
            returns[m, c] += task.reward(now, action, following)
            if bonus is not None:
                peak = max(peak, bonus.feature(following))
            now = following
            if task.terminated(following):
                break
        if bonus is not None:
            returns[m, c] += bonus.weight * actions.shape[1] * peak
    return returns.mean(axis=0)


def starts(rows, seed=0):
    return np.random.default_rng(seed).uniform(-0.1, 0.1, (rows, 4)).astype(np.float32)


BOX = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)


def walk(obs, action):
    """Two numbers that the action pushes; a discrete action pushes the first."""
    push = action if action.ndim > 1 else np.stack([action - 1.0, 0.0 * action], axis=-1)
    return 0.9 * obs + 0.2 * push


NEAR_ONE = Task(lambda obs, action, next_obs: -((next_obs - 1.0) ** 2).sum(axis=-1), never)


def rngs(rows):
    return [np.random.default_rng([7, row]) for row in rows]


class Remembering(PlanningDynamics):
    """Dynamics that stand still and keep the histories that they are told, in `told`."""

    def __init__(self, memory=3, told=None):
        self.memory, self.told = memory, [] if told is None else told

    def given(self, history):
        self.told.append(history)
        return Remembering(self.memory, self.told)

    def __call__(self, obs, action):
        return np.array(obs)
