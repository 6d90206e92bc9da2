"""How far returns that a simulator predicts may be off: logged agents' own actions, replayed."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import model_actions
from persim_gym.comparison.intervals import Widening, widening_of
from persim_gym.comparison.kept import keep, kept, measured_under
from persim_gym.comparison.rollouts import draw_rows, episodes
from persim_gym.comparison.setting import TERMINAL, Sampling, Setting
from persim_gym.observation_layout import LoggedSeries
from persim_gym.transitions import Transitions

CALIBRATION_AGENTS = 100
"""Logged agents whose actions are replayed, where there are as many."""
_AT_ONCE = 20  # Agents that are replayed side by side.


@lru_cache(maxsize=16)
def calibrated(setting: Setting, sampling: Sampling) -> Widening:
    """How wide intervals have to be: measured once for a simulator and sampling, and kept beside the simulator.

    The first trajectory of each agent is replayed open loop from where it began, under every draw. A log that the task
    ended goes on with its own actions from the beginning, so that episodes which end too late show too.

    Args:
        setting: The simulator.
        sampling: Draws, longest episode, discount, seed, noise and objective.

    Raises:
        ValueError: If the data are not here.
    """
    data, model = setting.data, setting.model
    agents = np.unique(data.agent[data.agent < model.n_agents])
    chosen = agents[np.unique(np.linspace(0, len(agents) - 1, min(len(agents), CALIBRATION_AGENTS)).astype(np.int64))]
    logs = first_logs(setting, chosen)
    mark = measured_under(setting, sampling, logs)
    if (known := kept(setting, mark)) is not None:
        return known
    parts = [
        _replayed(setting, sampling, chosen[first : first + _AT_ONCE], logs[first : first + _AT_ONCE])
        for first in range(0, len(chosen), _AT_ONCE)
    ]
    found = widening_of(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    keep(setting, mark, found)
    return found


def first_logs(setting: Setting, agents: NDArray[np.int64]) -> list[Transitions]:
    """The first trajectory of each agent."""
    found = []
    for agent in agents:
        own = setting.own(int(agent))
        found.append(own.select(own.trajectory == own.trajectory[0]))
    return found


def _replayed(
    setting: Setting, sampling: Sampling, agents: NDArray[np.int64], logs: Sequence[Transitions]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted returns of some agents' first logs under each draw, [N, K], and the logged ones, [N]."""
    spec, draws = setting.model.spec, sampling.draws
    longest = sampling.limit(spec.episode_steps)
    rows = draw_rows(setting, agents.tolist(), sampling, 1)
    starts = np.repeat(np.stack([log.obs[0] for log in logs]), draws, axis=0)
    rows.bound.dynamics.begin(np.arange(len(starts)))
    if rows.bound.series is not None:
        for place, log in enumerate(logs):
            series = LoggedSeries.from_transitions(log, spec.layout.outside).of(0)
            for row in range(place * draws, (place + 1) * draws):
                rows.bound.series.give(row, series, starts[row])
    limit = [longest if log.terminated[-1] else min(longest, len(log)) for log in logs]
    actions = [np.asarray(model_actions(spec.action_space, log.action)) for log in logs]

    def act(obs: NDArray[np.float32], step: int) -> NDArray[np.float32] | NDArray[np.int64]:
        return np.repeat(np.stack([own[step % len(own)] for own in actions]), draws, axis=0)

    noise = np.random.default_rng([sampling.seed, int(agents[0]), 3])
    found = episodes(rows, starts, act, np.repeat(np.array(limit), draws), sampling, noise)
    return found.earned.reshape(len(logs), draws), np.array([_worth(setting, sampling, log) for log in logs])


def _worth(setting: Setting, sampling: Sampling, log: Transitions) -> float:
    """What a logged trajectory is worth, cut off where the longest episode ends."""
    reward = setting.rewards(log)[: sampling.limit(setting.model.episode_steps)]
    worth = sampling.discount ** np.arange(len(reward)) * reward
    return float(worth[-1] if sampling.objective == TERMINAL else worth.sum())
