"""Rolls candidates out in the simulator of an agent, under draws of what the simulator does not know.

A draw is a member of the ensemble and a latent factor from the posterior. Starts, draws and random numbers of noise are
the same for all candidates, so that their differences are known better than their returns.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from persim_gym.comparison.acting import Acting
from persim_gym.comparison.setting import TERMINAL, Sampling, Setting, disturbance_of
from persim_gym.persim_env.stepper import Binding, bind
from persim_gym.simulator.simulator import Simulator
from persim_gym.workflows.own.returns import given_name

_FACTORS, _STARTS, _NOISE = range(3)
"""Streams of random numbers of an agent."""


class Visited(NamedTuple):
    """Steps of episodes, in no order.

    Attributes:
        obs: Observations, float32 [V, D].
        action: What was done there, in the form that models see: [V] or [V, A].
    """

    obs: NDArray[np.float32]
    action: NDArray[Any]


class Episodes(NamedTuple):
    """What simulated episodes brought.

    Attributes:
        earned: What each is worth, by the objective, [B].
        steps: Length of each, int64 [B].
        lost: Whether it ended where a prediction was not believed, bool [B].
    """

    earned: NDArray[np.float64]
    steps: NDArray[np.int64]
    lost: NDArray[np.bool_]


class Rows(NamedTuple):
    """A simulator bound to rows, each of which is an agent under one draw.

    Attributes:
        bound: The simulator.
        member: Member that predicts each row, [B].
    """

    bound: Binding
    member: NDArray[np.int64]


def draw_rows(setting: Setting, agents: Sequence[int], sampling: Sampling, episodes: int) -> Rows:
    """Rows of agents, `draws` times `episodes` of each: the episodes of one draw after those of the other.

    Args:
        setting: The simulator.
        agents: Numbers of the agents.
        sampling: Number of draws, noise and the seed.
        episodes: Rows of each draw.
    """
    model, each = setting.model, sampling.draws * episodes
    names = [given_name(model, agent) for agent in agents for _ in range(each)]
    starts = "domain" if setting.domain is not None else "logged"
    bound = bind(setting.folder, names, "mean", 0.0, None, starts, apart=True)
    member = np.tile(np.repeat(np.arange(sampling.draws) % bound.dynamics.members, episodes), len(agents))
    bound = replace(bound, disturbance=disturbance_of(setting, setting.noise(sampling.noise)))
    if isinstance(model, Simulator) and model.beliefs is not None:
        for place, agent in enumerate(agents):
            rng = np.random.default_rng([sampling.seed, agent, _FACTORS])
            factors = model.beliefs.draws(agent, rng, sampling.draws).float()  # [M, K, R]
            for row in range(each):
                bound.rebind(place * each + row, factors[:, row // episodes])
    return Rows(bound, member)


def roll_out(acting: Acting, rows: Rows, agent: int, sampling: Sampling) -> tuple[Episodes, Visited]:
    """Episodes of a candidate in rows of one agent; the same starts and noise whoever acts.

    Args:
        acting: The candidate.
        rows: The agent's.
        agent: Its number.
        sampling: Longest episode, discount, objective and seed.

    Returns:
        The episodes, and the steps of the first one of each draw.
    """
    starts = first_observations(rows, agent, sampling)
    watched, seen = slice(None, None, sampling.episodes), list[tuple[NDArray[np.float32], NDArray[Any]]]()
    limit = np.full(len(starts), sampling.limit(rows.bound.simulator.episode_steps))
    noise = np.random.default_rng([sampling.seed, agent, _NOISE])

    def act(obs: NDArray[np.float32], step: int) -> NDArray[Any]:
        action = acting.act(obs) if step else acting.begin(obs)
        seen.append((obs[watched].copy(), action[watched].copy()))
        return action

    found = episodes(rows, starts, act, limit, sampling, noise)
    obs, action = (np.stack(part) for part in zip(*seen, strict=True))  # [H, K, ...]
    happened = np.arange(len(seen))[:, None] < found.steps[watched]
    return found, Visited(obs[happened], action[happened])


def first_observations(rows: Rows, agent: int, sampling: Sampling) -> NDArray[np.float32]:
    """First observations of an agent's rows, [B, D]."""
    rng = np.random.default_rng([sampling.seed, agent, _STARTS])
    return rows.bound.draw_starts(rng, np.arange(len(rows.member)))


def episodes(
    rows: Rows,
    starts: NDArray[np.float32],
    act: Callable[[NDArray[np.float32], int], NDArray[Any]],
    limit: NDArray[np.int64],
    sampling: Sampling,
    noise: np.random.Generator,
) -> Episodes:
    """One episode of each row. All rows draw noise until the last has ended, so that candidates get the same.

    Args:
        rows: The simulator.
        starts: First observations, [B, D].
        act: Maps observations [B, D] and the number of the step to actions.
        limit: Longest episode of each row, [B].
        sampling: Discount and objective.
        noise: Source of noise.
    """
    bound, width = rows.bound, starts.shape[1]
    obs = np.zeros((len(starts), bound.dynamics.columns), dtype=np.float32)
    obs[:, :width] = starts
    earned, steps = np.zeros(len(starts)), np.zeros(len(starts), dtype=np.int64)
    live, lost = limit > 0, np.zeros(len(starts), dtype=np.bool_)
    step = 0
    while live.any():
        outcome = bound.step(obs, act(obs[:, :width], step), rows.member, noise)
        worth = sampling.discount**step * outcome.reward
        if sampling.objective == TERMINAL:
            # Where a prediction is not believed there is no reward, and the last one that there was counts.
            earned = np.where(live & ~outcome.halted, worth, earned)
        else:
            earned[live] += worth[live]
        steps[live] += 1
        lost |= live & outcome.halted
        obs = np.where(live[:, None], outcome.obs, obs)
        step += 1
        live = live & ~(outcome.terminated | outcome.halted | bound.ended() | (limit <= step))
    return Episodes(earned, steps, lost)
