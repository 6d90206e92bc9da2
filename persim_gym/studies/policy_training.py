"""Policies trained only inside the simulator beside the same trained in the true environment: runs and their table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.policies import PolicyTraining, run_training, with_defaults
from persim_gym.simulator.registry import load_simulator

PLACES = {"simulator": False, "truth": True}
CHOSEN_ALGORITHMS = {"cartpole": "ppo", "mountaincar": "ppo"}
"""Algorithm of each domain of the table."""
POLICY_JOB = ("simulator", "weights", "algo", "steps", "place", "agent", "seed")
POLICY_RESULT = ("return", "return_std", "simulator_return", "seconds")


def train_once(
    simulator: str, weights: str, algo: str, place: str, agent: int, seed: int, folder: Path
) -> dict[str, float]:
    """Trains one policy in one place and tests it in the true environment; runs in a worker process."""
    training = PolicyTraining(agent, algo, simulator, truth=PLACES[place], seed=seed)
    own = folder / _training_folder(simulator, weights, algo, place, seed)
    done = run_training(training, own, progress=False)
    # Domains of `CHOSEN_ALGORITHMS` have true environments.
    assert done.true_return is not None and done.true_std is not None
    return {
        "return": done.true_return,
        "return_std": done.true_std,
        "simulator_return": done.simulator_return,
        "seconds": done.seconds,
    }


def _training_folder(simulator: str, weights: str, algo: str, place: str, seed: int) -> str:
    """Where the trainings of all agents are, in the folder of the policies."""
    return f"{simulator.replace('/', '-')}-{weights}/{algo}-{place}-{seed}"


def run_policy_training(
    domains: Sequence[str], agents: Sequence[int], seeds: int, out: Path, **where: Unpack[JobPlace]
) -> list[dict[str, str]]:
    """Trains every agent in the simulator and in the true environment, same algorithm, budget and seeds.

    Args:
        domains: Keys of `CHOSEN_ALGORITHMS`.
        agents: Agents of the population.
        seeds: Number of seeds.
        out: Folder: `returns.csv`, and the trained policies in `policies/`.
        **where: See `JobPlace`.

    Raises:
        ValueError: If a domain is not in `CHOSEN_ALGORITHMS`.
    """
    if unknown := [d for d in domains if d not in CHOSEN_ALGORITHMS]:
        raise ValueError(f"no comparison for {', '.join(unknown)}; choose from {', '.join(CHOSEN_ALGORITHMS)}")
    jobs: list[dict[str, Any]] = []
    for seed in range(seeds):
        for domain in domains:
            simulator, algo = f"{domain}/random-v0", CHOSEN_ALGORITHMS[domain]
            steps = with_defaults(PolicyTraining(0, algo, simulator)).steps
            weights = load_simulator(simulator).card.sha256[:12]
            head = {"simulator": simulator, "algo": algo, "steps": steps, "seed": seed}
            for agent in agents:  # The truth is the same whatever the simulator's weights.
                jobs += [
                    {**head, "agent": agent, "place": place, "weights": "none" if true else weights}
                    for place, true in PLACES.items()
                ]
    log = RowLog(out / "returns.csv", POLICY_JOB, POLICY_RESULT)

    def files_of(job: Mapping[str, Any]) -> list[str]:
        home = _training_folder(*(job[name] for name in ("simulator", "weights", "algo", "place", "seed")))
        return [f"{home}/agent-{job['agent']}.json", f"{home}/agent-{job['agent']}"]

    return run_jobs(
        train_once,
        jobs,
        log,
        description="policies",
        drop=("steps",),
        folder=out / "policies",
        reads=files_of,
        **where,
    )


def training_table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: one line an agent; returns in the true environment, mean over seeds and spread between them.

    The last column is what training in the simulator reaches of what training in the truth reaches: the ratio of
    returns, or, where returns are negative, of the steps that they count.
    """
    lines = [
        "| domain | algorithm, steps | agent | covariates | in the simulator | in the truth | reached | seconds |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    names = ("simulator", "algo", "steps", "agent")
    keys = list(dict.fromkeys(tuple(r[name] for name in names) for r in rows))
    for key in sorted(keys, key=lambda k: (k[0], int(k[3]))):
        simulator, algo, steps, agent = key
        domain = DOMAINS[simulator.split("/")[0]]
        own = [r for r in rows if tuple(r[name] for name in names) == key]
        inside, outside = (np.array([float(r["return"]) for r in own if r["place"] == p]) for p in PLACES)
        seconds = "/".join(f"{np.mean([float(r['seconds']) for r in own if r['place'] == p]):.0f}" for p in PLACES)
        lines.append(
            f"| {domain.title} | {algo.upper()}, {int(steps):,} | {agent} | {covariate_label(domain, int(agent))} "
            f"| {inside.mean():.1f} ± {inside.std():.1f} | {outside.mean():.1f} ± {outside.std():.1f} "
            f"| {100 * reached(inside.mean(), outside.mean()):.1f} % | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def reached(inside: float, outside: float) -> float:
    """Share of a return that another reaches: their ratio, inverted where returns count steps and are negative."""
    return float(inside / outside if outside > 0 else outside / inside)
