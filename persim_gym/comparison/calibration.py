"""How far returns that a simulator predicts may be off: logged agents' own actions, replayed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import model_actions
from persim_gym.comparison.intervals import Widening, widening_of
from persim_gym.comparison.rollouts import draw_rows, episodes
from persim_gym.comparison.setting import Sampling, Setting
from persim_gym.observation_layout import LoggedSeries
from persim_gym.spec import LEARNED_TASK
from persim_gym.transitions import Transitions

CALIBRATION_AGENTS = 100
"""Logged agents whose actions are replayed, where there are as many."""
_AT_ONCE = 20  # Agents that are replayed side by side.


@lru_cache(maxsize=16)
def calibrated(setting: Setting, sampling: Sampling) -> tuple[Widening, int]:
    """How wide intervals have to be, and how many agents say so; measured once for a simulator and sampling.

    The first trajectory of each agent is replayed open loop from where it began, under every draw. A log that the task
    ended goes on with its own actions from the beginning, so that episodes which end too late show too.

    Args:
        setting: The simulator.
        sampling: Draws, longest episode, discount and seed.

    Raises:
        ValueError: If the data are not here.
    """
    data, model = setting.data, setting.model
    agents = np.unique(data.agent[data.agent < model.n_agents])
    chosen = agents[np.unique(np.linspace(0, len(agents) - 1, min(len(agents), CALIBRATION_AGENTS)).astype(np.int64))]
    parts = [
        _replayed(setting, sampling, chosen[first : first + _AT_ONCE]) for first in range(0, len(chosen), _AT_ONCE)
    ]
    predicted, logged = (np.concatenate(each) for each in zip(*parts, strict=True))
    return widening_of(predicted, logged), len(chosen)


def rewards_of(setting: Setting, data: Transitions) -> NDArray[np.float64]:
    """Rewards of transitions, [K], by the simulator's own task where that is not learned."""
    if setting.model.spec.task == LEARNED_TASK:
        return np.asarray(data.reward, dtype=np.float64)
    return np.asarray(setting.model.task.reward(data.obs, data.action, data.next_obs), dtype=np.float64)


def first_logs(setting: Setting, agents: NDArray[np.int64]) -> list[Transitions]:
    """The first trajectory of each agent."""
    found = []
    for agent in agents:
        own = setting.own(int(agent))
        found.append(own.select(own.trajectory == own.trajectory[0]))
    return found


def _replayed(
    setting: Setting, sampling: Sampling, agents: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted returns of some agents' first logs under each draw, [N, K], and the logged ones, [N]."""
    spec, draws, logs = setting.model.spec, sampling.draws, first_logs(setting, agents)
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
    found = episodes(rows, starts, act, np.repeat(np.array(limit), draws), sampling.discount, noise)
    logged = [
        float((sampling.discount ** np.arange(min(len(log), longest)) * rewards_of(setting, log)[:longest]).sum())
        for log in logs
    ]
    return found.earned.reshape(len(logs), draws), np.array(logged)
