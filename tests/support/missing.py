"""Data in which values are missing: what is made of data that lack nothing, and what they are marked by."""

from dataclasses import replace

import numpy as np

from persim_gym.task import Task
from persim_gym.task import never as without_end
from persim_gym.transitions import Transitions

TASK = Task(lambda obs, action, next_obs: -abs(next_obs[..., 0]), without_end)
UNKNOWN = Task(lambda obs, action, next_obs: next_obs[..., 0] * np.nan, without_end)


def lacking(data: Transitions, column: int = 0, share: float = 0.1, agent: int | None = None) -> Transitions:
    """Data without a share of the next values of a column, drawn at random, or of those of one agent."""
    next_obs = data.next_obs.copy()
    out = np.random.default_rng(column).random(len(data)) < share
    next_obs[out if agent is None else out & (data.agent == agent), column] = np.nan
    return replace(data, next_obs=next_obs, missing=True)


def never(data: Transitions, agent: int, column: int) -> Transitions:
    """Data in which a column of an agent is never seen after an action."""
    return lacking(data, column, share=1.0, agent=agent)
