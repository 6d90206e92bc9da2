"""Episodes of model predictive control in the true environment, and their table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
from rich.table import Table
from typing_extensions import Unpack

from persim_gym.datasets.of_simulator import logged_data
from persim_gym.envs import DOMAINS
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluation.acting import Policy, WithPast
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.intervals import mean_interval
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.models import load_learned
from persim_gym.planning import MPC, Planner
from persim_gym.planning.by_name import planner_label
from persim_gym.simulator.registry import find_simulator
from persim_gym.workflows.film import check_film, write_film
from persim_gym.workflows.own.returns import given_name

TRUE_DYNAMICS = "true"
"""Stands for the true environment's own dynamics where a simulator is named."""
NO_DOMAIN = "none"
"""Stands for a domain where data are of none."""
PLAN_JOB = (
    *("domain", "dynamics", "planner", "bonus", "pessimism", "trust", "steps", "quantize"),
    *("agent", "seed", "episode"),
)
PLAN_RESULT = ("return", "seconds")


@dataclass(frozen=True)
class PlanSettings:
    """What is planned in, and how; every field identifies a run.

    Attributes:
        domain: Name of the domain; `NO_DOMAIN` for data of none, whose episodes are simulated.
        dynamics: Hash of the simulator's weights, or `TRUE_DYNAMICS`.
        planner: Draws and ranks candidates.
        bonus: Whether the domain's planning objective is added.
        pessimism: See `Objective`.
        trust: See `Objective`; 0 for none.
        steps: Longest episode; 0 for the domain's own limit.
        quantize: See `Simulator.dynamics`; unused for the true dynamics.
        noise: Likewise.
        foresight: Whether plans know what comes from outside in a simulated episode; else they hold its present values.
    """

    domain: str
    dynamics: str
    planner: Planner
    bonus: bool = True
    pessimism: float = 0.0
    trust: int = 0
    steps: int = 0
    quantize: bool = False
    noise: str = "none"
    foresight: bool = False

    @property
    def columns(self) -> dict[str, Any]:
        """The settings as a table of runs shows them; what is newer than tables stands with the dynamics."""
        noise = "" if self.noise == "none" else f", {self.noise} noise"
        dynamics = f"{self.dynamics}{noise}{', foresight' * self.foresight}"
        shown = {name: value for name, value in vars(self).items() if name in PLAN_JOB}
        return {**shown, "planner": planner_label(self.planner), "dynamics": dynamics}


def known_dynamics(simulator: str, truth: bool) -> tuple[str, str, str]:
    """What is planned in, and whose true environment is acted in.

    Args:
        simulator: Name or path of a simulator; with `truth`, the name of a domain, or of one of its simulators.
        truth: Whether to plan in the true dynamics.

    Returns:
        Name of the domain, or `NO_DOMAIN`; `PlanSettings.dynamics`, and the simulator's
        folder, empty for the true dynamics.

    Raises:
        ValueError: If there is no such domain.
        UnknownSimulatorError: If there is no such simulator.
    """
    if truth:
        domain = simulator.split("/")[0]
        return domain_of(domain).name, TRUE_DYNAMICS, ""
    card = load_learned(simulator).card
    if card.domain and card.domain not in DOMAINS:
        raise ValueError(f"simulator {simulator} is of the unknown domain {card.domain!r}; known: {', '.join(DOMAINS)}")
    return card.domain or NO_DOMAIN, card.sha256[:12], str(find_simulator(simulator).resolve())


def policy_of(settings: PlanSettings, folder: str | Path, agent: int, stream: int) -> Policy:
    """Model predictive control of one agent, for the reward that its simulator has: the domain's, learned, or imported.

    Args:
        settings: What is planned in, and how.
        folder: The simulator's; unused for the true dynamics.
        agent: Agent of the population.
        stream: Seeds the candidates.
    """
    domain = DOMAINS.get(settings.domain)
    learned = None if settings.dynamics == TRUE_DYNAMICS else load_learned(folder)
    logged = logged_data(learned) if learned and settings.noise == "residual" else None
    known: Any = learned or domain
    policy = MPC(
        learned.dynamics(given_name(learned, agent), settings.quantize, noise=settings.noise, logged=logged)
        if learned
        else known.dynamics(agent),
        known.task,
        known.action_space,
        planner=settings.planner,
        bonus=domain.peak_bonus if domain is not None and settings.bonus else None,
        pessimism=settings.pessimism,
        trust=settings.trust or None,
        seed=stream,
    )
    if learned is None or domain is None or not learned.spec.layout.past:  # The simulator itself shows the past.
        return policy
    return WithPast(policy, learned.spec.layout, learned.spec.n_actions)


def stream_of(seed: int, agent: int, episode: int) -> int:
    """Seed of an episode's start and candidates."""
    return int(np.random.SeedSequence([seed, agent, episode]).generate_state(1)[0])


def run_plan_episode(
    settings: PlanSettings, folder: str | Path, agent: int, seed: int, episode: int
) -> dict[str, float]:
    """Return and wall-clock seconds of one episode in the true environment; runs in a worker process."""
    stream = stream_of(seed, agent, episode)
    policy = policy_of(settings, folder, agent, stream)
    began = perf_counter()
    (earned,) = episode_returns(
        policy, DOMAINS[settings.domain], agent, episodes=1, seed=stream, steps=settings.steps or None
    )
    return {"return": float(earned), "seconds": round(perf_counter() - began, 2)}


def plan_returns(
    settings: PlanSettings,
    folder: str,
    agents: Sequence[int],
    episodes: int,
    out: str | Path,
    seed: int = 0,
    progress: bool = True,
    force: bool = False,
    **place: Unpack[JobPlace],
) -> dict[int, np.ndarray]:
    """Returns in the true environment of each agent, [E]; one CSV row an episode, rows that are there are kept.

    Args:
        settings: What is planned in, and how.
        folder: The simulator's; empty for the true dynamics.
        agents: Agents of the population; one that is named twice counts once.
        episodes: Episodes an agent.
        out: The CSV file.
        seed: Seed of starts and candidates.
        progress: Whether to show a progress bar.
        force: Whether the file is begun anew, whatever is there.
        **place: See `JobPlace`.

    Raises:
        ValueError: If an agent is unknown, the file is another table, or there is nothing to do.
    """
    for agent in agents:
        DOMAINS[settings.domain].agent_covariates(agent)
    log = RowLog(Path(out), PLAN_JOB, PLAN_RESULT, force)
    rows = plan_rows(run_plan_episode, log, settings, folder, agents, episodes, seed, progress, **place)
    return {agent: np.array([float(row["return"]) for row in each]) for agent, each in rows.items()}


def plan_rows(
    run: Callable[..., Mapping[str, Any]],
    log: RowLog,
    settings: PlanSettings,
    folder: str,
    agents: Sequence[int],
    episodes: int,
    seed: int,
    progress: bool,
    **place: Unpack[JobPlace],
) -> dict[int, list[Mapping[str, str]]]:
    """Rows of the episodes of each agent, run where they are not in the table yet; as `plan_returns`, of any `run`."""
    agents = list(dict.fromkeys(agents))
    if episodes < 1 or not agents:
        raise ValueError("planning needs at least one agent and one episode")
    for agent in agents:  # A mistake shows here, not in a worker.
        policy_of(settings, folder, agent, 0)
    jobs = [
        {**settings.columns, "agent": agent, "seed": seed, "episode": episode}
        for episode in range(episodes)
        for agent in agents
    ]
    rows = run_jobs(
        run,
        jobs,
        log,
        description="episodes",
        constants={"settings": settings} if folder else {"settings": settings, "folder": ""},
        drop=tuple(settings.columns),
        progress=progress,
        folder=Path(folder) if folder else None,
        reads=lambda job: ["."],
        **place,
    )
    found: dict[int, list[Mapping[str, str]]] = {agent: [] for agent in agents}
    for row in rows:
        found[int(row["agent"])].append(row)
    return found


def returns_table(title: str, domain: str, returns: dict[int, np.ndarray]) -> Table:
    """One row an agent: mean return and its 95 % bootstrap interval, which takes two episodes."""
    table = Table(title=title, header_style="bold")
    for column in ("agent", "covariates", "episodes", "mean return", "95 % interval"):
        table.add_column(column, justify="left" if column == "covariates" else "right")
    for agent, values in returns.items():
        mean, low, high = mean_interval(values)
        table.add_row(
            str(agent),
            covariate_label(DOMAINS[domain], agent),
            str(len(values)),
            f"{mean:.1f}",
            f"{low:.1f} to {high:.1f}" if len(values) > 1 else "-",
        )
    return table


def write_video(
    settings: PlanSettings, folder: str, agent: int, path: str | Path, seed: int = 0, force: bool = False
) -> float:
    """Plays episode 0 of an agent once more and writes what it looks like.

    Args:
        settings: What is planned in, and how.
        folder: The simulator's.
        agent: Agent of the population.
        path: The file, .gif or .mp4.
        seed: Seed of the run.
        force: Whether a file that is no film of ours is replaced.

    Returns:
        The episode's return.

    Raises:
        ValueError: If such a file cannot be written, or there is no domain that says what it looks like.
    """
    path = Path(path)
    check_film(path, force)
    domain, stream = DOMAINS[settings.domain], stream_of(seed, agent, 0)
    policy = policy_of(settings, folder, agent, stream)
    env = gym.make(f"persim_gym:{domain.env_id}", agent=agent, render_mode="rgb_array")
    start = domain.initial_state(np.random.default_rng(stream), 1)[0]
    obs, _ = env.reset(options={"state": start})
    frames: list[Any] = [env.render()]
    total, done = 0.0, False
    while not done:
        action, _ = policy.predict(obs)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, done = total + float(reward), terminated or truncated or len(frames) == settings.steps
        frames.append(env.render())
    env.close()
    write_film(path, frames, domain.render_fps)
    return total
