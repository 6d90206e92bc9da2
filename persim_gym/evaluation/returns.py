"""The thesis's two measures: open-loop prediction error, and return in the true environment."""

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.envs import Domain
from persim_gym.envs.spaces import random_actions


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
