"""What one predicted step brings: the step function behind the single, the batched and the SB3 environment."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from persim_gym.task import Task

MEAN = -1
"""Stands for the mean of all members where a member's index is wanted."""


class Members(Protocol):
    """Ensemble dynamics bound to the agents of B rows."""

    members: int

    def __call__(self, obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
        """Maps [B, D] and [B, ...] to [M, B, D]."""

    def disagreement(self, following: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps [M, B, D] to [B]."""


class Outcome(NamedTuple):
    """One step of B rows.

    Attributes:
        obs: Next observations, [B, D]; the old one where a prediction is not finite.
        reward: The task's reward less the penalty, [B]; 0 where a prediction is not finite.
        terminated: Whether the task ends, bool [B].
        halted: Whether disagreement or a prediction that is not finite ends the episode, bool [B].
        disagreement: Spread of the ensemble, [B]; infinite where a prediction is not finite.
    """

    obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    halted: NDArray[np.bool_]
    disagreement: NDArray[np.float64]


def step_rows(
    dynamics: Members,
    task: Task,
    obs: NDArray[np.float32],
    action: NDArray[Any],
    member: NDArray[np.int64],
    penalty: float,
    halt: float | None,
) -> Outcome:
    """Predicts one step of every row.

    Args:
        dynamics: Ensemble bound to the rows' agents.
        task: Known reward and termination.
        obs: Observations, [B, D].
        action: Actions inside their space, [B] or [B, A].
        member: Member that predicts each row, or `MEAN`, [B].
        penalty: Reward taken off a unit of disagreement.
        halt: Disagreement past which a row halts; None for never.
    """
    each = dynamics(obs, action)  # [M, B, D]
    finite = np.asarray(np.isfinite(each).all(axis=(0, 2)))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = each.mean(axis=0)
        spread = np.where(finite, dynamics.disagreement(each), np.inf)
    chosen = np.where((member == MEAN)[:, None], mean, each[member, np.arange(len(obs))])
    following = np.where(finite[:, None], chosen, obs)
    reward = np.asarray(task.reward(obs, action, following), dtype=np.float64)
    if penalty:
        reward = reward - penalty * np.where(finite, spread, 0.0)
    terminated = np.asarray(task.terminated(following)) & finite
    halted = ~finite if halt is None else ~finite | (spread > halt)
    return Outcome(
        following,
        np.where(finite, reward, 0.0),
        terminated,
        halted & ~terminated,
        spread,
    )
