"""iCEM: the cross-entropy method with coloured noise and a memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, Planner, PlanningRows, shifted, unit_box
from persim_gym.planning.scoring import best_first


@dataclass(frozen=True)
class ICEM(Planner):
    """Sample-efficient cross-entropy method: noise that is correlated in time, kept elites, fewer and fewer samples.

    Attributes:
        candidates: Sequences C that the first iteration draws.
        horizon: Planning steps H.
        iterations: Rounds of drawing.
        elites: Best sequences K of a round that the distribution moves to.
        decay: Factor by which later rounds draw fewer; no round draws fewer than two times the elites.
        keep: Share of the elites (at least one) that compete again in the next round and, shifted, the next decision;
            in a first decision as many sequences of white noise stand in for them.
        color: Exponent of the noise's power spectrum 1 / f^color; 0 is white.
        smoothing: Share of the old mean and standard deviation that is kept.
        first_std: Standard deviation of the first round, in units of half the width of the action box.

    Source: Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning, CoRL 2020; defaults of its
    table for HalfCheetah.
    """

    candidates: int = 200
    horizon: int = 30
    iterations: int = 3
    elites: int = 10
    decay: float = 1.25
    keep: float = 0.3
    color: float = 0.25
    smoothing: float = 0.1
    first_std: float = 0.5

    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """The best sequence of all rounds."""
        box = unit_box(action_space, "iCEM")
        kept_size = max(1, round(self.keep * self.elites))
        mean = np.zeros((len(rows.rngs), self.horizon, box.size))  # [E, H, A]
        kept = np.zeros((len(rows.rngs), kept_size, self.horizon, box.size))
        std = np.full_like(mean, self.first_std)
        for row, (before, stream) in enumerate(zip(rows.previous, rows.rngs, strict=True)):
            if before is not None and before.start is not None and before.elites is not None:
                mean[row] = shifted(before.start, before.start[-1])
                kept[row] = shifted(before.elites, stream.uniform(-1, 1, (kept_size, box.size)))
            else:
                kept[row] = mean[row] + std[row] * stream.standard_normal(kept.shape[1:])
        for iteration in range(self.iterations):
            count = max(round(self.candidates * self.decay**-iteration), 2 * self.elites)
            noise = np.stack([colored_noise(self.color, (count, box.size), self.horizon, s) for s in rows.rngs])
            unit = mean[:, None] + std[:, None] * noise.swapaxes(2, 3)  # [E, C, H, A]
            if iteration == self.iterations - 1:
                unit[:, 0] = mean
            unit = np.clip(np.concatenate([unit, kept], axis=1), -1.0, 1.0)
            returns = rows.score(box.actions(unit))
            for row, (drawn, earned) in enumerate(zip(unit, returns, strict=True)):
                chosen = drawn[best_first(earned, self.elites)]
                kept[row] = np.resize(chosen[:kept_size], kept.shape[1:])  # Repeats where fewer are finite.
                mean[row] = self.smoothing * mean[row] + (1 - self.smoothing) * chosen.mean(axis=0)
                std[row] = self.smoothing * std[row] + (1 - self.smoothing) * chosen.std(axis=0)
        return [
            Plan(sequence, start, elites)
            for sequence, start, elites in zip(box.actions(kept[:, 0]), mean, kept, strict=True)
        ]


def colored_noise(color: float, shape: tuple[int, ...], steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise of unit variance whose power spectrum falls as 1 / f^color, [*shape, steps].

    Source: Timmer and Koenig, On generating power law noise, 1995.
    """
    frequency = np.fft.rfftfreq(steps)
    frequency[0] = 1.0 / steps  # The mean varies as the slowest wave does.
    scale = frequency ** (-color / 2.0)
    count = len(frequency)
    real, imaginary = rng.standard_normal((2, *shape, count)) * scale
    imaginary[..., 0] = 0.0
    real[..., 0] *= np.sqrt(2.0)
    if steps % 2 == 0:
        imaginary[..., -1] = 0.0
        real[..., -1] *= np.sqrt(2.0)
    weight = np.full(count, 2.0)
    weight[0] = 1.0
    if steps % 2 == 0:
        weight[-1] = 1.0
    variance = 2.0 * (weight * scale**2).sum() / steps**2
    noise: NDArray[np.float64] = np.fft.irfft(real + 1j * imaginary, n=steps, axis=-1) / np.sqrt(variance)
    return noise
