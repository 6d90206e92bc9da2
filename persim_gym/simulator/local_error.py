"""Errors of a model around a point, from logged transitions: no spread shows what all members get wrong alike."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from persim_gym.simulator.model import FactoredEnsemble
from persim_gym.transitions import Transitions

NEIGHBOURS = 8
MOST = 500_000  # logged transitions that are looked at
_CHUNK = 2048
_WIDE = 8  # dimensions past which a tree looks at most of its points; neighbours are then no more than thrice as far
_VARIES = 1e-6  # standard deviation below which a dimension counts as constant: it sets no scale


class LocalError:
    """One-step error that a model makes on logged transitions around a point, of whichever agents.

    An ensemble's members agree where they share a bias, as at MountainCar's wall: it stops a car at once, few logged
    transitions meet it, and every member smears it over a strip. Their residuals there are in the data nevertheless.
    The error around (obs, action) is the root mean square of those of the nearest logged transitions: of the same
    action where actions are discrete, else nearest in observation and action, all in logged standard deviations.

    Source: difficulty of nearest neighbours as a normalised nonconformity score, Papadopoulos et al. 2011.
    """

    def __init__(
        self, model: FactoredEnsemble, transitions: Transitions, neighbours: int = NEIGHBOURS, seed: int = 0
    ) -> None:
        """Measures the model where its data are.

        Args:
            model: The ensemble, on the CPU.
            transitions: What it was trained on; agents are the model's.
            neighbours: Logged transitions that a point is judged by.
            seed: Chooses `MOST` transitions where there are more.
        """
        if len(transitions) > MOST:
            keep = np.zeros(len(transitions), dtype=np.bool_)
            keep[np.random.default_rng(seed).choice(len(transitions), MOST, replace=False)] = True
            transitions = transitions.select(keep)
        self._unit = _scale(model.logged_std.double().numpy())
        self._discrete = bool(model.shape.n_actions)
        self._action_unit = None if self._discrete else _scale(transitions.action.std(axis=0, dtype=np.float64))
        squared = _squared_errors(model, transitions, self._unit)
        keys = self._keys(transitions.obs, transitions.action)
        self._regions: dict[int, tuple[KDTree, NDArray[np.float64]]] = {}
        for action in np.unique(transitions.action).tolist() if self._discrete else [0]:
            inside = transitions.action == action if self._discrete else np.ones(len(keys), dtype=np.bool_)
            self._regions[action] = KDTree(keys[inside]), squared[inside]
        self._neighbours = neighbours

    def __call__(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
        """Error around points, in standard deviations of the logged observations, [B].

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A].

        Returns:
            Errors; infinite where an observation is not finite, or its action was never logged.
        """
        keys = self._keys(obs, action)
        result = np.full(len(keys), np.inf)
        finite = np.isfinite(keys).all(axis=1)
        for number, (tree, squared) in self._regions.items():
            rows = np.flatnonzero(finite & (action == number) if self._discrete else finite)
            if len(rows):
                count = min(self._neighbours, len(squared))
                wide = 2.0 if keys.shape[1] > _WIDE else 0.0
                _, nearest = tree.query(keys[rows], k=np.arange(1, count + 1), eps=wide)
                result[rows] = np.sqrt(squared[nearest].mean(axis=1))
        return result

    def _keys(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
        """Points as the trees know them, [B, D] or [B, D + A]."""
        keys = obs / self._unit
        return keys if self._action_unit is None else np.concatenate([keys, action / self._action_unit], axis=1)


@torch.no_grad()
def _squared_errors(
    model: FactoredEnsemble, transitions: Transitions, unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean squared one-step error over dimensions of the members' mean, in squares of the unit, [K]."""
    result = np.empty(len(transitions))
    for start in range(0, len(transitions), _CHUNK):
        rows = slice(start, start + _CHUNK)
        columns = (getattr(transitions, name)[rows] for name in ("agent", "obs", "action"))
        predicted = model.predict(*(torch.from_numpy(np.ascontiguousarray(c)) for c in columns))
        mean = predicted[..., : model.shape.obs_dim].double().mean(0).numpy()  # [K, D]
        result[rows] = np.square((mean - transitions.next_obs[rows]) / unit).mean(axis=1)
    return result


def _scale(std: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(std > _VARIES, std, 1.0)
