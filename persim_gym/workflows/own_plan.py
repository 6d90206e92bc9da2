"""Episodes of model predictive control inside a simulator of data of no domain: there is no true environment."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.table import Table
from typing_extensions import Unpack

from persim_gym.jobs import JobPlace, RowLog
from persim_gym.models import load_learned
from persim_gym.workflows.own_returns import Returns, own_data, own_returns_table, references, simulated_returns
from persim_gym.workflows.plan import PLAN_JOB, PLAN_RESULT, PlanSettings, plan_rows, policy_of, stream_of

OWN_RESULT = (*PLAN_RESULT, "length")


def run_own_episode(
    settings: PlanSettings, folder: str | Path, agent: int, seed: int, episode: int
) -> dict[str, float]:
    """Return, wall-clock seconds and length of one simulated episode; runs in a worker process."""
    stream = stream_of(seed, agent, episode)
    policy = policy_of(settings, folder, agent, stream)
    began = perf_counter()
    found = simulated_returns(policy, str(folder), agent, [stream], settings.steps, foresight=settings.foresight)
    seconds = round(perf_counter() - began, 2)
    return {"return": float(found.earned[0]), "seconds": seconds, "length": int(found.steps[0])}


def own_plan_returns(
    settings: PlanSettings,
    folder: str,
    agents: Sequence[int],
    episodes: int,
    out: str | Path,
    seed: int = 0,
    progress: bool = True,
    force: bool = False,
    **place: Unpack[JobPlace],
) -> dict[int, Returns]:
    """Simulated returns of each agent; one CSV row an episode. Arguments and errors as `plan_returns`."""
    log = RowLog(Path(out), PLAN_JOB, OWN_RESULT, force)
    rows = plan_rows(run_own_episode, log, settings, folder, agents, episodes, seed, progress, **place)
    return {
        agent: Returns(np.array([float(r["return"]) for r in each]), np.array([int(float(r["length"])) for r in each]))
        for agent, each in rows.items()
    }


def own_plan_table(
    title: str, settings: PlanSettings, folder: str, returns: dict[int, Returns], seed: int = 0
) -> Table:
    """Returns of planning, of other ways to act from the same first observations, and those that were logged.

    Args:
        title: Of the table.
        settings: What was planned in.
        folder: The simulator's.
        returns: Of planning, by agent.
        seed: Seed of starts.
    """
    known, data = load_learned(folder), own_data(folder)
    rows = list[tuple[int, str, Returns]]()
    for agent, planned in returns.items():
        seeds = [stream_of(seed, agent, episode) for episode in range(len(planned.earned))]
        others = references(folder, data, agent, seeds, settings.steps)
        rows += [(agent, "planning", planned), *((agent, what, found) for what, found in others.items())]
    return own_returns_table(title, {agent: known.agent_name(agent) for agent in returns}, rows)
