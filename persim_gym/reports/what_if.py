"""What a simulator says an agent would do under other actions, from an observation that was logged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import model_actions
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.traces import bands_along
from persim_gym.simulator.simulator import Simulator
from persim_gym.transitions import Transitions
from persim_gym.workflows.own_returns import constant_actions

LONGEST_WHAT_IF = 50
"""Longest rollout."""
AS_LOGGED, RANDOM, CONSTANT = "logged actions", "random actions", "constant action"


@dataclass(frozen=True)
class Start:
    """Where rollouts of an agent begin.

    Attributes:
        obs: First observation, [D].
        following: Observations that were logged next, or stand for what comes from outside, [T, D].
        actions: What was done then, [T] or [T, A]; None where nothing of the agent is logged.
    """

    obs: NDArray[np.float32]
    following: NDArray[np.float32]
    actions: NDArray[Any] | None


@dataclass(frozen=True)
class Rollout:
    """What a simulator predicts along some actions, [T, L] each.

    Attributes:
        name: What the actions are.
        middle: Predicted observations.
        low: Lower end of their band.
        high: Upper end.
        earned: Sum of predicted rewards until the end.
        steps: Predicted length.
        ended: Whether the episode ends there, not only the rollout.
    """

    name: str
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    earned: float
    steps: int
    ended: bool


def start_of(simulator: Simulator, data: Transitions | None, agent: int) -> Start | None:
    """The beginning of an agent's longest logged run, else a first observation that the simulator keeps.

    Returns:
        None where neither is known of any agent.
    """
    rows = np.empty(0, dtype=np.int64) if data is None else longest_run(data, agent)
    if data is not None and len(rows):
        rows = rows[:LONGEST_WHAT_IF]
        return Start(data.obs[rows[0]], _held(data.next_obs[rows], data.obs[rows[0]]), data.action[rows])
    if not len(simulator.start_obs):
        return None
    own = np.flatnonzero(simulator.start_agents == agent)
    place = int(own[0]) if len(own) else 0
    obs = simulator.start_obs[place]
    following = np.repeat(obs[None], min(LONGEST_WHAT_IF, simulator.episode_steps), axis=0)
    if simulator.series is not None:
        outside = simulator.spec.layout.outside
        values = simulator.series.of(place)[1 : len(following) + 1]
        following = following[: max(len(values), 1)]
        following[: len(values), outside] = values
    return Start(obs, following, None)


def longest_run(data: Transitions, agent: int) -> NDArray[np.int64]:
    """Rows of an agent's longest run without a gap; none where it did nothing."""
    rows = np.flatnonzero(data.agent == agent)
    if not len(rows):
        return rows
    pieces, place = np.unique(data.pieces[rows], return_inverse=True)
    longest: NDArray[np.int64] = rows[place == np.bincount(place, minlength=len(pieces)).argmax()]
    return longest


def _held(following: NDArray[np.float32], first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Observations in which a value that is missing is the last one that was known."""
    series = np.concatenate([first[None], following])
    known = np.where(np.isnan(series), 0, np.arange(len(series))[:, None])
    held: NDArray[np.float32] = np.take_along_axis(series, np.maximum.accumulate(known, axis=0), axis=0)[1:]
    return held


def what_if_rollouts(simulator: Simulator, start: Start, agent: int, seed: int) -> list[Rollout]:
    """What follows on the logged actions, on random ones, and on the constant action that earns most.

    Args:
        simulator: The simulator.
        start: Where they begin.
        agent: Number of the agent.
        seed: Of the random actions.
    """
    steps, space = len(start.following), simulator.action_space
    rng = np.random.default_rng([seed, agent])
    drawn, _ = RandomPolicy(space, rng).predict(np.zeros((steps, 1)))
    sequences: dict[str, NDArray[Any]] = {} if start.actions is None else {AS_LOGGED: start.actions}
    sequences[RANDOM] = model_actions(space, drawn)
    constant = {}
    for name, action in constant_actions(simulator):
        if np.isfinite(action).all():
            constant[f"{CONSTANT}: {name}"] = model_actions(space, np.repeat(np.asarray(action)[None], steps, axis=0))
    expected = {name: _expected(simulator, start, agent, actions) for name, actions in (sequences | constant).items()}
    if constant:
        best = max(constant, key=lambda name: np.nan_to_num(expected[name][0], nan=-np.inf))
        sequences[best] = constant[best]
    return [
        Rollout(name, *_until(expected[name][1], simulator, agent, start, actions), *expected[name])
        for name, actions in sequences.items()
    ]


def _until(
    steps: int, simulator: Simulator, agent: int, start: Start, actions: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Prediction and band until the end."""
    return bands_along(simulator, agent, start.obs, actions[:steps], start.following[:steps])


@np.errstate(over="ignore", invalid="ignore")
def _expected(simulator: Simulator, start: Start, agent: int, actions: NDArray[Any]) -> tuple[float, int, bool]:
    """Sum of rewards of the members' mean prediction until it ends, its length, and whether it ends."""
    dynamics, task, held = simulator.dynamics(agent), simulator.task, simulator.spec.layout.outside
    members, earned = simulator.model.config.members, 0.0
    now = np.repeat(start.obs[None, None], members, axis=0)  # [M, 1, D]
    for t in range(len(actions)):
        following = np.array(dynamics(now, actions[t : t + 1]))  # [M, 1, D + E]
        following[..., held] = start.following[t, held]
        mean, before = following.mean(axis=0), now.mean(axis=0)
        earned += float(np.asarray(task.reward(before, actions[t : t + 1], mean))[0])
        if bool(np.asarray(task.terminated(mean))[0]):
            return earned, t + 1, True
        now = following[..., : start.obs.shape[0]]
    return earned, len(actions), False
