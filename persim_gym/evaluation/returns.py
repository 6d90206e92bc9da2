"""The thesis's second measure, of a policy: its return in the true environment."""

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.envs import Domain
from persim_gym.evaluation.acting import Policy, act


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
    state = domain.initial_state(np.random.default_rng(seed), episodes)
    limit = domain.episode_steps if steps is None else min(steps, domain.episode_steps)
    physics = domain.physics(**domain.resolve_covariates(agent, covariates))
    acting = act(policy, domain, physics, state, limit, drop_finished=True)
    returns = np.zeros(episodes)
    for step in tqdm(acting, total=limit, desc=f"agent {agent}", unit="step", leave=False, disable=not progress):
        returns[step.rows] += domain.task.reward(step.obs, step.action, step.next_obs)
    return returns
