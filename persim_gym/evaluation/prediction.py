"""The thesis's measure of a simulator: open-loop prediction error in the true environment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.domain import Domain
from persim_gym.evaluation.returns import Policy
from persim_gym.task import Dynamics, planning_dynamics


@dataclass(frozen=True)
class PredictionError:
    """Open-loop prediction error of one agent.

    Attributes:
        rmse: Root mean squared error of each episode over dimensions and steps, in raw units, [E].
        r2: Variance-weighted coefficient of determination of each episode, [E].
        true: True observations, [E, T + 1, D]; NaN after termination.
        predicted: Mean over members of predicted observations, [E, T + 1, D].
    """

    rmse: NDArray[np.float64]
    r2: NDArray[np.float64]
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @property
    def mean_rmse(self) -> float:
        """Mean RMSE over episodes, as in thesis Tables B.1–B.3."""
        return float(self.rmse.mean())

    @property
    def median_r2(self) -> float:
        """Median R² over episodes, as in thesis Tables B.1–B.3."""
        return float(np.median(self.r2))


def prediction_error(
    dynamics: Dynamics,
    domain: Domain,
    agent: int,
    policy: Policy,
    *,
    episodes: int = 200,
    warmup: int = 10,
    horizon: int = 50,
    seed: int = 0,
) -> PredictionError:
    """Compares open-loop predictions with the true environment under an unseen policy's actions.

    The policy acts in the true environment; after `warmup` steps the dynamics predict `horizon` steps from the true
    observation and the same actions. Each member rolls out by itself and their mean is scored. Steps after termination
    are ignored, as are episodes that end before the first predicted step.

    Args:
        dynamics: Model bound to the agent.
        domain: The domain.
        agent: Agent of the population.
        policy: Chooses actions; the thesis uses one trained on the default agent.
        episodes: Number of episodes E.
        warmup: Steps on true observations.
        horizon: Predicted steps T.
        seed: Seeds the initial states.

    Raises:
        ValueError: If every episode ends during the warm-up.

    Source: thesis appendix B.1.
    """
    physics = domain.physics(**domain.agent_covariates(agent))
    state = domain.initial_state(np.random.default_rng(seed), episodes)
    alive = np.ones(episodes, dtype=np.bool_)
    memory = None
    observations: list[NDArray[np.float32]] = []
    scored: list[NDArray[np.bool_]] = []
    actions: list[NDArray[Any]] = []
    for t in range(warmup + horizon):
        obs = domain.observe(state).astype(np.float32)
        start = np.full(episodes, t == 0)
        action, memory = policy.predict(obs, state=memory, episode_start=start, deterministic=True)
        if t >= warmup:
            observations.append(obs)
            actions.append(action)
            scored.append(alive.copy())
        state = physics(state, action)
        alive &= ~np.asarray(domain.task.terminated(domain.observe(state)))
    observations.append(domain.observe(state).astype(np.float32))
    keep = scored[0]
    if not keep.any():
        raise ValueError(f"all {episodes} episodes of agent {agent} end within the {warmup} warm-up steps")
    members = planning_dynamics(dynamics).members
    current = np.broadcast_to(observations[0], (members, *observations[0].shape))
    predicted = [observations[0].astype(np.float64)]
    for action in actions:
        current = dynamics(current, action)
        predicted.append(current.mean(axis=0, dtype=np.float64)[:, : observations[0].shape[1]])
    true = np.stack(observations, axis=1).astype(np.float64)[keep]  # [E, T + 1, D]
    guess = np.stack(predicted, axis=1)[keep]
    mask = np.stack(scored, axis=1)[keep]  # [E, T]: whether the step happened
    rmse, r2 = _episode_scores(true[:, 1:], guess[:, 1:], mask)
    true[:, 1:][~mask] = np.nan
    return PredictionError(rmse, r2, true, guess)


def format_error(error: float) -> str:
    """An error as tables show it: four places, or one digit where these would all be zero."""
    return f"{error:.4f}" if round(error, 4) else f"{error:.0e}"


def _episode_scores(
    true: NDArray[np.float64], guess: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMSE and variance-weighted R² of each episode over the masked steps."""
    weight = mask[..., None] / mask.sum(axis=1)[:, None, None]  # [E, T, 1]
    true, guess = (
        np.where(mask[..., None], true, 0.0),
        np.where(mask[..., None], guess, 0.0),
    )  # Values may not be finite there.
    error = (weight * (true - guess) ** 2).sum(axis=1)  # [E, D]
    mean = (weight * true).sum(axis=1, keepdims=True)
    variance = (weight * (true - mean) ** 2).sum(axis=1)
    spread = np.maximum(variance.sum(axis=1), np.finfo(np.float64).tiny)
    return np.sqrt(error.mean(axis=1)), 1.0 - error.sum(axis=1) / spread
