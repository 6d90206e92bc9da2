"""Offline RL on a simulator's data: does BCQ learn from simulated trajectories what it learns from true ones?

Source: thesis section 6.2, which proposes it and leaves it open.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from typing_extensions import Unpack

from persim_gym.baselines.registry import train_baseline
from persim_gym.datasets import load
from persim_gym.datasets.collect import EpsilonGreedy, closest_loggers
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy, RandomPolicy
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.persim_env.stepper import bind
from persim_gym.planning import MPC
from persim_gym.policies import PolicyTraining, run_training
from persim_gym.simulator.registry import load_simulator
from persim_gym.transitions import Transitions

SOURCES = {
    "logged": "logged, random actions",
    "truth-behavior": "true, behavior policy",
    "simulated-behavior": "simulated, behavior policy",
    "simulated-random": "simulated, random actions",
    "simulated-mpc": "simulated, MPC of agents 0-4",
    "logged+behavior": "logged, and simulated under the behavior policy",
    "logged+mpc": "logged, and simulated under MPC of agents 0-4",
    "inside": "DQN or SAC inside the simulator, an agent each",
    "inside-penalty": "likewise, reward less the disagreement (as MOPO)",
    "inside-halt": "likewise, episodes end past a disagreement of 1 (as MOReL)",
}
"""What BCQ is trained on, or what is trained in its place, and how a table calls it."""
INSIDE: dict[str, dict[str, float]] = {"inside": {}, "inside-penalty": {"penalty": 1.0}, "inside-halt": {"halt": 1.0}}
"""Sources in which a policy is trained inside the simulator, and the keywords of `PersimEnv` there."""
OFFLINE_JOB = ("domain", "weights", "source", "episodes", "iterations", "seed")
OFFLINE_RESULT = ("transitions", "return", *(f"return_{agent}" for agent in TEST_AGENTS))
OFFLINE_TESTS = 100
"""Episodes that a policy is tested on, an agent."""


def simulated_episodes(
    simulator: str, agents: Sequence[int], policy: Policy, rng: np.random.Generator, first: int = 0
) -> Transitions:
    """One episode of each agent inside a simulator, by the mean of its members.

    A transition that is not believed ends its episode and is left out.

    Args:
        simulator: Name or path of a simulator of a domain.
        agents: Its agents, a row each, B in all.
        policy: Acts for all rows at once.
        rng: Draws the first observations.
        first: Number of the first episode.
    """
    bound, rows = bind(simulator, agents, "mean", 0.0, None, "domain"), np.arange(len(agents))
    obs, active, alive = bound.draw_starts(rng, rows), bound.active(), np.ones(len(rows), dtype=np.bool_)
    log: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("obs", "action", "reward", "next_obs", "terminated", "kept")
    }
    for _ in range(bound.simulator.episode_steps):
        action, _ = policy.predict(obs, deterministic=True)
        outcome = bound.step(obs, action, active, rng)
        alive = alive & ~outcome.halted
        values = (obs, action, outcome.reward, outcome.obs, outcome.terminated, alive)
        for name, value in zip(log, values, strict=True):
            log[name].append(np.array(value))
        alive, obs = alive & ~outcome.terminated, outcome.obs
        if not alive.any():
            break
    kept = np.stack(log.pop("kept"), 1)  # [B, T]
    n_agents = load_simulator(simulator).model.config.n_agents
    columns = {name: np.stack(values, 1)[kept] for name, values in log.items()}
    row = np.repeat(rows, kept.sum(1))
    return Transitions(
        agent=np.asarray(agents)[row],
        trajectory=first + row,
        n_agents=n_agents,
        source=f"simulated by {bound.simulator.card.name}",
        **columns,
    )


def joined(parts: Sequence[Transitions]) -> Transitions:
    """Transitions of several sources as one."""
    names = ("agent", "obs", "action", "reward", "next_obs", "terminated")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    offsets = np.cumsum([0, *(part.trajectory.max() + 1 for part in parts)])
    trajectory = np.concatenate([part.trajectory + offset for part, offset in zip(parts, offsets, strict=False)])
    source = " + ".join(dict.fromkeys(part.source for part in parts))
    return Transitions(trajectory=trajectory, n_agents=max(p.n_agents for p in parts), source=source, **columns)


def offline_data(simulator: str, source: str, episodes: int, seed: int) -> Transitions:
    """What BCQ is trained on.

    Args:
        simulator: Name or path of a simulator of a domain, trained on random actions.
        source: A key of `SOURCES`.
        episodes: Simulated episodes an agent; those of MPC are of the test agents alone.
        seed: Source of all randomness.

    Raises:
        ValueError: If there is no such source.
    """
    if source not in SOURCES or source in INSIDE:
        raise ValueError(f"source {source!r} is not one of {', '.join(s for s in SOURCES if s not in INSIDE)}")
    loaded, rng = load_simulator(simulator), np.random.default_rng([seed, list(SOURCES).index(source)])
    domain = DOMAINS[loaded.card.domain]
    everyone, logged = range(len(domain.population)), loaded.card.dataset
    if source == "logged":
        return load(logged, progress=False)
    if source == "truth-behavior":
        return load(f"persim/{domain.name}/pure-v0", progress=False)
    if source == "simulated-random":
        policy = RandomPolicy(domain.action_space, rng)
        return joined([simulated_episodes(simulator, everyone, policy, rng) for _ in range(episodes)])
    if source in ("simulated-behavior", "logged+behavior"):
        greedy = EpsilonGreedy(closest_loggers(domain), domain.action_space, 0.0, rng)
        parts = [simulated_episodes(simulator, everyone, greedy, rng) for _ in range(episodes)]
    else:
        parts = [
            simulated_episodes(simulator, [agent] * episodes, _planner(simulator, agent, seed), rng)
            for agent in TEST_AGENTS
        ]
    return joined([load(logged, progress=False), *parts] if source.startswith("logged") else parts)


def _planner(simulator: str, agent: int, seed: int) -> MPC:
    """The thesis's planner in the simulator that it is scored in."""
    loaded = load_simulator(simulator)
    bonus = DOMAINS[loaded.card.domain].peak_bonus
    return MPC(loaded.dynamics(agent), loaded.task, loaded.action_space, bonus=bonus, seed=seed)


def train_on(
    simulator: str, domain: str, source: str, episodes: int, iterations: int, seed: int, folder: Path
) -> dict[str, float]:
    """Trains on one source and tests in the true environment; runs in a worker process."""
    own, truth = folder / _policy_folder(domain, source, episodes, iterations, seed), DOMAINS[domain]
    if source in INSIDE:
        algo = "dqn" if isinstance(truth.action_space, spaces.Discrete) else "sac"
        each = [PolicyTraining(agent, algo, simulator, seed=seed, environment=INSIDE[source]) for agent in TEST_AGENTS]
        trained = [run_training(training, own, progress=False) for training in each]
        # Domains have true environments.
        returns = [policy.true_return or 0.0 for policy in trained]
        count = trained[0].training.steps
    else:
        data = offline_data(simulator, source, episodes, seed)
        policy = train_baseline(
            "bcq-p", data, iterations=iterations, seed=seed, out=own, force=True, progress=False,
            spec=load_simulator(simulator).spec,
        )  # fmt: skip
        tests = (episode_returns(policy, truth, a, episodes=OFFLINE_TESTS, seed=seed + 1) for a in TEST_AGENTS)
        returns, count = [float(test.mean()) for test in tests], len(data)
    named = {f"return_{agent}": round(value, 2) for agent, value in zip(TEST_AGENTS, returns, strict=True)}
    return {"transitions": count, "return": round(float(np.mean(returns)), 2), **named}


def _policy_folder(domain: str, source: str, episodes: int, iterations: int, seed: int) -> str:
    """Where the policies of a job are, in the folder of all of them."""
    return f"{domain}-{source}-{episodes}-{iterations}-{seed}"


def run_offline_rl(
    domains: Sequence[str],
    sources: Sequence[str],
    out: Path,
    *,
    episodes: int = 1,
    iterations: int = 30_000,
    seeds: int = 3,
    **place: Unpack[JobPlace],
) -> list[dict[str, str]]:
    """Trains BCQ on each source with each seed; rows that the file has are kept.

    Args:
        domains: Domains whose simulators of random actions are asked for data.
        sources: Keys of `SOURCES`.
        out: Folder: `offline-rl.csv`, and the policies.
        episodes: Simulated episodes an agent.
        iterations: Updates of BCQ.
        seeds: Number of seeds.
        **place: See `JobPlace`.

    Returns:
        A row a domain, source and seed.

    Raises:
        ValueError: If a source is unknown, or there is no such simulator.
    """
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ValueError(f"source {unknown[0]!r} is not one of {', '.join(SOURCES)}")
    log, rows = RowLog(out / "offline-rl.csv", OFFLINE_JOB, OFFLINE_RESULT), []
    for domain in domains:
        simulator = f"{domain}/random-v0"
        weights = load_simulator(simulator).card.sha256[:12]
        head = {"domain": domain, "weights": weights, "episodes": episodes, "iterations": iterations}
        jobs = [{**head, "source": source, "seed": seed} for seed in range(seeds) for source in sources]
        rows += run_jobs(
            train_on,
            jobs,
            log,
            description=domain,
            constants={"simulator": simulator},
            drop=("weights",),
            folder=out / "policies",
            reads=lambda job: [_policy_folder(*(job[name] for name in ("domain", "source", *OFFLINE_JOB[3:])))],
            **place,
        )
    return rows


def offline_rl_table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: returns in the true environment by what BCQ was trained on: mean over seeds, and their spread."""
    agents = " | ".join(f"agent {agent}" for agent in TEST_AGENTS)
    lines = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        labels = "; ".join(covariate_label(DOMAINS[domain], agent) for agent in TEST_AGENTS)
        lines += [f"{DOMAINS[domain].title}, agents 0-4: {labels}", ""]
        lines += [f"| trained on | transitions | {agents} | all |", f"|---{'|---:' * (2 + len(TEST_AGENTS))}|"]
        for source, label in SOURCES.items():
            own = [row for row in rows if (row["domain"], row["source"]) == (domain, source)]
            if not own:
                continue
            cells = []
            for name in (*(f"return_{agent}" for agent in TEST_AGENTS), "return"):
                values = np.array([float(row[name]) for row in own])
                spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
                cells.append(f"{values.mean():.1f}{spread}")
            count = round(np.mean([float(row["transitions"]) for row in own]))
            lines.append(f"| {label} | {count:,} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)
