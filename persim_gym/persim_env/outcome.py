"""What one predicted step brings: the step function behind the single, the batched and the SB3 environment."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from persim_gym.task import Task

NO_HALT = float(np.finfo(np.float64).max)
"""Disagreement that only a prediction that is not believed exceeds."""


class Rows(Protocol):
    """An ensemble bound to the agents of B rows, as `persim_gym.simulator.rows.RowsDynamics`."""

    members: int

    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], member: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Maps [B, D], [B, ...] and [B] to next observations [B, D] and disagreement [B]."""


class Outcome(NamedTuple):
    """One step of B rows.

    Attributes:
        obs: Next observations, [B, D]; the old one where a prediction is not believed.
        reward: The task's reward less the penalty, [B]; 0 where a prediction is not believed.
        terminated: Whether the task ends, bool [B].
        halted: Whether disagreement or a prediction that is not believed ends the episode, bool [B].
        disagreement: Spread of the ensemble, [B]; infinite where a prediction is not believed.
    """

    obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    halted: NDArray[np.bool_]
    disagreement: NDArray[np.float64]


def step_rows(
    dynamics: Rows,
    task: Task,
    obs: NDArray[np.float32],
    action: NDArray[Any],
    member: NDArray[np.int64],
    penalty: float,
    halt: float,
) -> Outcome:
    """Predicts one step of every row.

    A prediction is not believed where a member's is not finite, or moves an observation by thousands of its logged
    standard deviations: the model has then left its data far behind, and the row halts where it stands.

    Args:
        dynamics: Ensemble bound to the rows' agents.
        task: Known reward and termination.
        obs: Observations, [B, D].
        action: Actions inside their space, [B] or [B, A].
        member: Member that predicts each row, or -1 for the mean, [B].
        penalty: Reward taken off a unit of disagreement.
        halt: Disagreement past which a row halts; `NO_HALT` for never.
    """
    following, spread = dynamics.step(obs, action, member)
    reward = np.asarray(task.reward(obs, action, following), dtype=np.float64)
    terminated = np.asarray(task.terminated(following))
    if penalty:
        reward = reward - penalty * spread
    halted = spread > halt
    if halted.any():
        believed = spread <= NO_HALT
        reward = np.where(believed, reward, 0.0)
        terminated = terminated & believed
        halted = halted & ~terminated
    return Outcome(following, reward, terminated, halted, spread)
