"""What a model got wrong on logged transitions around a point: no spread shows what all members get wrong alike."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.noise.disturbance import NOISES, Noise
from persim_gym.simulator.noise.gaussian import GaussianNoise
from persim_gym.transitions import Transitions

MAX_LOGGED_POINTS = 500_000  # At most so many logged transitions are looked at.
NEIGHBOURS = 10  # A draw is the residual of one of so many logged transitions nearest to a point.
_CHUNK = 2048
_MIN_SCALE = 1e-6  # A dimension with a smaller standard deviation counts as constant, and sets no scale.
# In more dimensions a tree looks at most of its points; neighbours may then be thrice as far as the nearest.
_WIDE = 8


class NearestResiduals:
    """One-step residuals of a model on the logged transitions nearest to a point, of whichever agents.

    Members agree where they share a bias, as at a jump that few logged transitions meet and every member smears over a
    strip (a wall is one, where `persim_gym.simulator.model.walls` does not find it). The residuals there are in the
    data nevertheless. Near is what has the same action where actions are discrete, and else what is close in
    observation and action, in logged standard deviations.

    As a noise (`persim_gym.simulator.noise.disturbance.Noise`) it draws one of them.

    Source: nearest neighbours as a measure of difficulty in conformal prediction, Papadopoulos et al. 2011.
    """

    def __init__(self, model: FactoredEnsemble, transitions: Transitions, seed: int = 0) -> None:
        """Measures the model where its data are.

        Args:
            model: The ensemble, on the CPU.
            transitions: What it was trained on; agents are the model's.
            seed: Chooses `MAX_LOGGED_POINTS` transitions where there are more.

        Raises:
            ValueError: If the model is on another device.
        """
        model.check_on_cpu()
        if len(transitions) > MAX_LOGGED_POINTS:
            keep = np.zeros(len(transitions), dtype=np.bool_)
            keep[np.random.default_rng(seed).choice(len(transitions), MAX_LOGGED_POINTS, replace=False)] = True
            transitions = transitions.select(keep)
        self._members = model.config.members
        unit = model.logged_std.double().numpy()
        if model.config.context:
            unit = np.append(unit, transitions.obs[:, len(unit) :].std(axis=0, dtype=np.float64))
        self._unit = _scale(unit)
        self._learned = model.config.learned_dim
        self._discrete = bool(model.config.n_actions)
        self._action_unit = None if self._discrete else _scale(transitions.action.std(axis=0, dtype=np.float64))
        residuals = _residuals(model, transitions)  # [K, D], NaN where what followed is not known
        keys = self._keys(transitions.obs, transitions.action)
        self._regions: dict[int, tuple[KDTree, NDArray[np.float32]]] = {}
        for action in np.unique(transitions.action).tolist() if self._discrete else [0]:
            inside = transitions.action == action if self._discrete else np.ones(len(keys), dtype=np.bool_)
            self._regions[action] = KDTree(keys[inside]), _filled(keys[inside], residuals[inside])

    @property
    def numbers(self) -> int:
        """Uniform random numbers that one draw takes."""
        return 1

    def __call__(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float32]:
        """Residuals of the nearest logged transition, the second nearest, …, one a member, [M, B, L].

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A].

        Returns:
            Logged next observation minus the members' mean; NaN where an observation is not finite, or what follows
            its action was never logged.
        """
        return self._nearest(obs, action, self._members)

    def draw(self, obs: NDArray[Any], action: NDArray[Any], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residual of one of the `NEIGHBOURS` nearest logged transitions, each as likely, [B, D].

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A].
            uniform: Random numbers between 0 and 1 that choose it, [B, 1].

        Returns:
            As a call's, of one neighbour.
        """
        rank = np.minimum((uniform[:, 0] * NEIGHBOURS).astype(np.int64), NEIGHBOURS - 1)
        nearest = self._nearest(obs, action, NEIGHBOURS)
        return nearest[rank, np.arange(len(obs))].astype(np.float64)

    def _nearest(self, obs: NDArray[Any], action: NDArray[Any], count: int) -> NDArray[np.float32]:
        """Residuals of the nearest logged transitions, nearest first, [count, B, D]; again where there are fewer."""
        keys = self._keys(obs, action)
        result = np.full((count, len(obs), self._learned), np.nan, dtype=np.float32)
        finite = np.isfinite(keys).all(axis=1)
        for number, (tree, residuals) in self._regions.items():
            rows = np.flatnonzero(finite & (action == number) if self._discrete else finite)
            if len(rows):
                ranks = np.arange(count) % len(residuals) + 1
                _, nearest = tree.query(keys[rows], k=ranks, eps=2.0 if keys.shape[1] > _WIDE else 0.0)  # [B, count]
                result[:, rows] = residuals[nearest.T]
        return result

    def _keys(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
        """Points as the trees know them, [B, D] or [B, D + A]."""
        keys = obs[:, : len(self._unit)] / self._unit
        return keys if self._action_unit is None else np.concatenate([keys, action / self._action_unit], axis=1)


def _filled(keys: NDArray[np.float64], residuals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Residuals with those of the nearest transition that has one of a dimension where they are not known, [K, D]."""
    known, filled = ~np.isnan(residuals), residuals.copy()
    for d in np.flatnonzero(known.any(axis=0) & ~known.all(axis=0)):
        some = known[:, d]
        _, nearest = KDTree(keys[some]).query(keys[~some], eps=2.0 if keys.shape[1] > _WIDE else 0.0)
        filled[~some, d] = residuals[some, d][nearest]
    return filled


@torch.no_grad()
def _residuals(model: FactoredEnsemble, transitions: Transitions) -> NDArray[np.float32]:
    """Logged next observations minus the members' mean, [K, L]."""
    learned = model.config.learned_dim
    result = np.empty((len(transitions), learned), dtype=np.float32)
    for start in range(0, len(transitions), _CHUNK):
        rows = slice(start, start + _CHUNK)
        columns = (getattr(transitions, name)[rows] for name in ("agent", "obs", "action"))
        predicted = model.predict(*(torch.from_numpy(np.ascontiguousarray(c)) for c in columns))
        mean = predicted[..., :learned].double().mean(0).numpy()
        result[rows] = transitions.next_obs[rows, :learned] - mean
    return result


def _scale(std: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(std > _MIN_SCALE, std, 1.0)


def noise_of(
    kind: str, model: FactoredEnsemble, gaussian: GaussianNoise | None, logged: Transitions | None
) -> Noise | None:
    """The noise of a name; None for "none".

    Args:
        kind: One of `NOISES`.
        model: The model.
        gaussian: Its measured noise, for "gaussian".
        logged: What it was trained on, for "residual".

    Raises:
        ValueError: If there is no noise of that name, or there are no logged data.
    """
    if kind not in NOISES:
        raise ValueError(f"noise={kind!r}; use one of {', '.join(NOISES)}")
    if kind != "residual":
        return gaussian
    if logged is None:
        raise ValueError('noise="residual" draws from the logged data; give them as logged=…')
    return NearestResiduals(model, logged)
