"""Ends of episodes, once as formulas and once as rules, and observations around them."""

import numpy as np

from persim_gym.envs import DOMAINS
from persim_gym.spec import learned_task
from persim_gym.task import Ends

FORMULAS = {  # (where the episode ends, observation size), written once more, without rules
    "cartpole": (lambda o: (abs(o[..., 0]) > 2.4) | (abs(o[..., 2]) > 12 * 2 * np.pi / 360), 4),
    "mountaincar": (lambda o: (o[..., 0] >= 0.5) & (o[..., 1] >= 0.0), 2),
    "hopper": (lambda o: ~((o[..., 1] > 0.7) & (abs(o[..., 2]) < 0.2) & (abs(o[..., 2:]) < 100.0).all(-1)), 11),
    "walker2d": (lambda o: ~((o[..., 1] > 0.8) & (o[..., 1] < 2.0) & (abs(o[..., 2]) < 1.0)), 17),
    "slimhumanoid": (lambda o: ~((o[..., 1] > 1.0) & (o[..., 1] < 2.0)), 45),
    "ant": (lambda o: ~((o[..., 1] >= 0.2) & (o[..., 1] <= 1.0) & (abs(o) < np.inf).all(-1)), 27),
    "revenue": (lambda o: (o[..., 0] < 0.5) | (o[..., 1] < 0.5), 3),
    "patients": (lambda o: (o[..., 0] <= 10.0) | (o[..., 0] >= 600.0), 9),
    "learned": (lambda o: o[..., 5] > 0.5, 6),
}
RULES = {name: learned_task(4).terminated if name == "learned" else DOMAINS[name].task.terminated for name in FORMULAS}


def around(ends: Ends, size: int, dtype: type, rows: int = 4000) -> np.ndarray:
    """Observations [rows, D] on both sides of every number compared with, on and beside it, some infinite or NaN."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, size)).astype(dtype)
    numbers: dict[int, list[float]] = {}
    for component, _, number in ends.each:
        if np.isfinite(number):
            numbers.setdefault(component, []).append(number)
    for component, own in numbers.items():
        exact, inner = np.array(own, dtype=dtype), sorted(own, key=abs)[:2]
        margin = 0.2 * (max(inner) - min(inner) or 1.0) / len(numbers)
        obs[:, component] = rng.uniform(min(inner) - margin, max(inner) + margin, rows)
        edges = np.concatenate([exact, np.nextafter(exact, dtype(-np.inf)), np.nextafter(exact, dtype(np.inf))])
        on_edge = rng.random(rows) < 0.3 / len(numbers)
        obs[on_edge, component] = rng.choice(edges, on_edge.sum())
    wrong = rng.random(obs.shape) < 0.1 / size
    obs[wrong] = rng.choice([np.nan, np.inf, -np.inf], wrong.sum())
    return obs


def stopped(ahead, ends, live=None):
    """A rollout without ends, [M, C, h, D], as one with them, and the steps that each candidate takes, [M, C]."""
    over = np.asarray(ends(ahead))
    steps = np.where(over.any(axis=2), over.argmax(axis=2) + 1, over.shape[2])
    last = np.minimum(np.arange(over.shape[2]), steps[..., None] - 1)
    steps = steps if live is None else np.where(live, steps, 0)
    return np.take_along_axis(ahead, last[..., None], axis=2), steps
