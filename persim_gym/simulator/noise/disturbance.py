"""What follows a prediction in a rollout: noise, bounds and walls once more, and whole numbers where counts are."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import Wall, stop, walls_of

NOISES = ("none", "residual", "gaussian")


class Noise(Protocol):
    """Draws of how far what follows lies from its expectation.

    Attributes:
        numbers: Uniform random numbers that one draw takes.
    """

    @property
    def numbers(self) -> int:
        """Uniform random numbers that one draw takes."""

    def draw(self, obs: NDArray[Any], action: NDArray[Any], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Residuals [B, L] at obs [B, D] and actions [B] or [B, A], of random numbers [B, numbers]."""


@dataclass(frozen=True)
class Disturbance:
    """Makes an outcome of an expected next observation.

    Learned reward and end get no noise of their own. Both are expectations given observation and action; noise in the
    reward changes the expected return of no policy, and would only make more rollouts necessary.

    Attributes:
        noise: What is added; None for nothing.
        integers: Components that are whole numbers. Under noise they are rounded up as often as their fraction says,
            which keeps the mean; else to the nearest.
        low: Bounds that learned columns of observations, the first ones, are clipped to, [L].
        high: Likewise.
        walls: What stops observations at once.
        width: Size D of an observation, all of which noise may depend on.
    """

    noise: Noise | None
    integers: tuple[int, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    walls: tuple[Wall, ...]
    width: int

    @classmethod
    def of_model(
        cls, model: FactoredEnsemble, noise: Noise | None, integers: tuple[int, ...] = ()
    ) -> "Disturbance | None":
        """That of a model's predictions; None where nothing happens to them."""
        if noise is None and not integers:
            return None
        learned = model.config.learned_dim
        low, high = (bound[:learned].cpu().numpy() for bound in (model.obs_low, model.obs_high))
        own = tuple(component for component in integers if component < learned)
        return cls(noise, own, low, high, tuple(walls_of(model.walls)), model.config.obs_dim)

    def random(self, rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
        """The random numbers of one outcome of each row, between 0 and 1, [rows, S]."""
        if self.noise is None:
            return np.empty((rows, 0))
        tiny = np.finfo(np.float64).tiny
        drawn: NDArray[np.float64] = np.maximum(rng.random((rows, self.noise.numbers + len(self.integers))), tiny)
        return drawn

    def __call__(
        self, obs: NDArray[Any], action: NDArray[Any], following: NDArray[Any], random: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Outcomes, as `following`.

        Args:
            obs: Observations before the step, [B, D] or more columns, which are ignored.
            action: int64 [B] or float32 [B, A].
            following: Expected next observations, [B, D]; columns past L, which are not learned, stay as they are.
            random: Of `random`, [B, S].
        """
        size = len(self.low)
        outcome = following.copy()
        now, integers = outcome[:, :size], list(self.integers)
        if self.noise is not None:
            drawn = self.noise.draw(obs[:, : self.width], action, random[:, : self.noise.numbers])
            now += np.where(np.isfinite(drawn), drawn, 0.0).astype(now.dtype)
            now[:, integers] = np.floor(now[:, integers] + random[:, self.noise.numbers :])
        else:
            now[:, integers] = np.rint(now[:, integers])
        np.clip(now, self.low, self.high, out=now)
        stop(self.walls, now)
        return outcome
