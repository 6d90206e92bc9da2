"""The thesis's two measures: open-loop prediction error, and return in the true environment."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.envs import Domain
from persim_gym.envs.spaces import random_actions
from persim_gym.task import Dynamics


class Policy(Protocol):
    """Anything with Stable-Baselines3's `predict`: its algorithms, `MPCPolicy`, `PolicyNetwork`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions of a batch of observations, [B, D], and the state for the next call."""


class RandomPolicy:
    """Uniformly random actions; the floor that every policy is measured against."""

    def __init__(self, action_space: spaces.Discrete | spaces.Box, seed: int = 0) -> None:
        """Draws from one stream seeded by `seed`."""
        self.action_space = action_space
        self._rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Random actions, one a row of [B, D], or one for [D]."""
        actions = random_actions(self.action_space, self._rng, len(np.atleast_2d(observation)))
        return (actions if np.ndim(observation) > 1 else actions[0]), None


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
    members = int(getattr(dynamics, "members", 1))
    current = np.broadcast_to(observations[0], (members, *observations[0].shape))
    predicted = [observations[0].astype(np.float64)]
    for action in actions:
        current = dynamics(current, action)
        predicted.append(current.mean(axis=0, dtype=np.float64)[:, : observations[0].shape[1]])
    true = np.stack(observations, axis=1).astype(np.float64)[keep]  # [E, T + 1, D]
    guess = np.stack(predicted, axis=1)[keep]
    mask = np.stack(scored, axis=1)[keep]  # [E, T]: whether the step happened
    rmse, r2 = _scores(true[:, 1:], guess[:, 1:], mask)
    true[:, 1:][~mask] = np.nan
    return PredictionError(rmse, r2, true, guess)


def shown(error: float) -> str:
    """An error as tables show it: four places, or one digit where these would all be zero."""
    return f"{error:.4f}" if round(error, 4) else f"{error:.0e}"


def _scores(
    true: NDArray[np.float64], guess: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMSE and variance-weighted R² of each episode over the masked steps."""
    weight = mask[..., None] / mask.sum(axis=1)[:, None, None]  # [E, T, 1]
    true, guess = np.where(mask[..., None], true, 0.0), np.where(mask[..., None], guess, 0.0)  # may not be finite there
    error = (weight * (true - guess) ** 2).sum(axis=1)  # [E, D]
    mean = (weight * true).sum(axis=1, keepdims=True)
    variance = (weight * (true - mean) ** 2).sum(axis=1)
    spread = np.maximum(variance.sum(axis=1), np.finfo(np.float64).tiny)
    return np.sqrt(error.mean(axis=1)), 1.0 - error.sum(axis=1) / spread


def episode_returns(
    policy: Policy,
    domain: Domain,
    agent: int | None = None,
    *,
    episodes: int = 20,
    seed: int = 0,
    steps: int | None = None,
    progress: bool = False,
    **covariates: float,
) -> NDArray[np.float64]:
    """Returns of whole episodes in the true environment, all episodes in step.

    Args:
        policy: Chooses actions.
        domain: The domain.
        agent: Agent of the population; None for covariates by name, as in the environment.
        episodes: Number of episodes E; the thesis uses 20 for model-based methods, 100 for others.
        seed: Seeds the initial states.
        steps: Longest episode; None for the domain's own limit.
        progress: Whether to show a progress bar.
        **covariates: Covariates by name instead of an agent.

    Returns:
        Undiscounted returns, [E].

    Source: thesis section 5.2.2.
    """
    physics = domain.physics(**domain.resolve_covariates(agent, covariates))
    state = domain.initial_state(np.random.default_rng(seed), episodes)
    obs = domain.observe(state).astype(np.float32)
    returns = np.zeros(episodes)
    running = np.arange(episodes)  # rows still in their episode; only they ask the policy
    memory: Any = None
    started = np.ones(episodes, dtype=np.bool_)
    limit = domain.episode_steps if steps is None else min(steps, domain.episode_steps)
    bar = tqdm(total=limit, desc=f"agent {agent}", unit="step", leave=False, disable=not progress)
    for _ in range(limit):
        action, memory = policy.predict(obs, state=memory, episode_start=started, deterministic=True)
        following = physics(state, action)
        before, after = domain.observe(state), domain.observe(following)
        returns[running] += domain.task.reward(before, action, after)
        alive = ~np.asarray(domain.task.terminated(after))
        running, state = running[alive], following[alive]
        obs, started = domain.observe(state).astype(np.float32), np.zeros(len(running), dtype=np.bool_)
        memory = select_rows(memory, alive)
        bar.update()
        if not len(running):
            break
    bar.close()
    return returns


def select_rows(memory: Any, keep: NDArray[np.bool_]) -> Any:
    """The rows of a policy's state that go on: tuples hold one entry a row, arrays one row a row."""
    if memory is None:
        return None
    if isinstance(memory, tuple):
        return tuple(row for row, kept in zip(memory, keep, strict=True) if kept)
    return memory[keep]
