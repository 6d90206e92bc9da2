"""How far candidates go from what was logged: there a simulator extrapolates, and its members may be wrong together."""

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from scipy.spatial import KDTree

from persim_gym.actions import model_actions
from persim_gym.comparison.rollouts import Visited
from persim_gym.comparison.setting import Setting
from persim_gym.observation_layout import action_components
from persim_gym.transitions import Transitions

USUAL = 0.99
"""Share of logged steps that have another logged step as near as a familiar step has one."""
MAX_LOGGED = 20_000
"""Logged steps that others are held against, where there are more."""
PROBES = 1_000
"""Further logged steps, which say how far apart logged steps lie."""
MAX_VISITED = 2_000
"""Steps of a candidate that are looked at, where there are more."""
_APART = 100.0  # Of different choices, in standard deviations of observations: a step of another choice is never near.


class Familiarity:
    """Logged steps, and how near one of them others have to be.

    A step is an observation and an action. Distances are Euclidean, in standard deviations of the logged components; of
    choices only the same count.
    """

    def __init__(self, data: Transitions, action_space: spaces.Space[Any], n_actions: int) -> None:
        """Draws logged steps of all agents.

        Args:
            data: Logged transitions.
            action_space: Space of their actions.
            n_actions: Number of choices; 0 for continuous actions.
        """
        order = np.random.default_rng(0).permutation(len(data))[: MAX_LOGGED + PROBES]
        obs, action = data.obs[order], np.asarray(model_actions(action_space, data.action[order]))
        self._n_actions, self._obs_scale = n_actions, np.maximum(obs.std(axis=0), 1e-6)
        self._action_scale = 1 / _APART if n_actions else np.maximum(action.std(axis=0), 1e-6)
        points, probes = self._points(Visited(obs, action)), min(PROBES, len(order) // 2)
        self._logged = KDTree(points[probes:])
        self._limit = float(np.quantile(self._distances(points[:probes]), USUAL))

    def unlike(self, visited: Visited) -> float:
        """Share of steps that are farther from every logged one than logged ones are from each other."""
        count = len(visited.obs)
        some = np.unique(np.linspace(0, count - 1, min(count, MAX_VISITED)).astype(np.int64))
        points = self._points(Visited(visited.obs[some], visited.action[some]))
        return float((self._distances(points) > self._limit).mean())

    def _points(self, steps: Visited) -> NDArray[np.float64]:
        parts = action_components(steps.action, self._n_actions) / self._action_scale
        return np.concatenate([steps.obs / self._obs_scale, parts], axis=1, dtype=np.float64)

    def _distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of each point to the nearest logged step, [P]."""
        distance: NDArray[np.float64] = self._logged.query(points)[0]
        return distance


@lru_cache(maxsize=2)
def familiarity_of(setting: Setting) -> Familiarity:
    """What is familiar to a simulator.

    Raises:
        ValueError: If its data are not here.
    """
    spec = setting.model.spec
    return Familiarity(setting.data, setting.model.action_space, spec.n_actions)
