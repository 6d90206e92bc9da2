"""Whether planning in bytes earns as much as planning in float32: whole episodes, paired.

Episodes are drawn, but the rounding is not: one rounded simulator is compared, and the intervals say nothing of others,
such as the same simulator rounded for another processor.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from typing_extensions import Unpack

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.intervals import mean_interval
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.planning.mpc import MPC
from persim_gym.simulator.kernels.dense import byte_products
from persim_gym.simulator.registry import find_simulator, load_simulator
from persim_gym.workflows.plan import stream_of

QUANTIZATION_JOB = ("weights", "steps", "agent", "episode", "arithmetic")
QUANTIZATION_RESULT = ("return", "seconds")
FLOAT32 = "float32"  # An arithmetic; the others are names of `ByteProducts`.


def run_quantized_episode(
    folder: str | Path, steps: int, agent: int, episode: int, arithmetic: str
) -> dict[str, float]:
    """Return of one episode in the true environment, planned by the thesis's planner; runs in a worker process.

    Args:
        folder: The simulator's.
        steps: Longest episode.
        agent: Agent of the population.
        episode: Number of the episode; with the agent it fixes the start and the candidates.
        arithmetic: "float32", or whatever bytes the processor multiplies.
    """
    simulator = load_simulator(folder)
    domain, stream = DOMAINS[simulator.card.domain], stream_of(0, agent, episode)
    dynamics = simulator.dynamics(agent, quantize=arithmetic != FLOAT32)
    policy = MPC(dynamics, simulator.task, domain.action_space, bonus=domain.peak_bonus, seed=stream)
    began = perf_counter()
    (earned,) = episode_returns(policy, domain, agent, episodes=1, seed=stream, steps=steps)
    return {"return": float(earned), "seconds": round(perf_counter() - began, 2)}


def run_quantization_study(
    simulator: str, agents: Sequence[int], episodes: int, steps: int, out: Path, **place: Unpack[JobPlace]
) -> list[dict[str, str]]:
    """Plans every episode twice, in bytes and in float32; rows that the file has are kept.

    Args:
        simulator: Name or path of a simulator of a domain with continuous actions.
        agents: Agents of the population.
        episodes: Episodes an agent and arithmetic.
        steps: Longest episode.
        out: The CSV file, a row an episode and arithmetic.
        **place: See `JobPlace`.

    Returns:
        A row an episode and arithmetic.

    Raises:
        ValueError: If the processor does not multiply bytes, or an agent is unknown.
    """
    products = byte_products()
    if products is None:
        raise ValueError(
            "this processor multiplies no bytes, so all planning is in float32: there is nothing to compare"
        )
    loaded = load_simulator(simulator)
    for agent in agents:
        loaded.dynamics(agent)
    jobs = [
        {"weights": loaded.card.sha256[:12], "steps": steps, "agent": agent, "episode": episode, "arithmetic": name}
        for episode in range(episodes)
        for agent in agents
        for name in (FLOAT32, products.name)
    ]
    log = RowLog(out, QUANTIZATION_JOB, QUANTIZATION_RESULT)
    return run_jobs(
        run_quantized_episode,
        jobs,
        log,
        description="episodes",
        drop=("weights",),
        folder=find_simulator(simulator),
        reads=lambda job: ["."],
        **place,
    )


def quantization_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: mean returns in bytes and in float32 and their paired difference, of each agent and of all together."""
    returns = {(row["arithmetic"], row["agent"], row["episode"]): float(row["return"]) for row in rows}
    lines = [
        "| bytes of | agent | episodes | return in bytes | return in float32 | difference | 95 % interval |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted({arithmetic for arithmetic, *_ in returns} - {FLOAT32}, reverse=True):
        paired = [(a, e) for n, a, e in returns if n == name and (FLOAT32, a, e) in returns]
        for agent in (*sorted({a for a, _ in paired}), "all"):
            own = [pair for pair in paired if agent in (pair[0], "all")]
            rounded, exact = (np.array([returns[n, a, e] for a, e in own]) for n in (name, FLOAT32))
            mean, low, high = mean_interval(rounded - exact)
            cells = f"{rounded.mean():.1f} | {exact.mean():.1f} | {mean:+.1f} | {low:+.1f} to {high:+.1f}"
            lines.append(f"| {name} | {agent} | {len(own)} | {cells} |")
    return "\n".join(lines)
