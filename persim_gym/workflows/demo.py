"""The main job end to end: population, dataset, simulator, planning, returns in the true environment."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS, Domain
from persim_gym.evaluation.acting import Policy, RandomPolicy
from persim_gym.evaluation.figures import covariate_label, latent_figure, trajectories_figure
from persim_gym.evaluation.prediction import PredictionError, format_error, prediction_error
from persim_gym.evaluation.published import published_error, published_logging, published_return
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import RowLog, run_jobs
from persim_gym.planning.mpc import MPC
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.storage import CARD, check_own_file, replacing
from persim_gym.workflows.plan import stream_of
from persim_gym.workflows.train import train

DEMO_METHODS = {"persim-mpc": "PerSim + MPC", "true-mpc": "true env + MPC", "random": "random"}
DEMO_POLICY = "random"  # Logging policy of the demo's dataset.
RESULT_COLUMNS = ("domain", "dataset", "agent", "method", "seed", "metric", "value")
EPISODES_FILE = "episodes.csv"
DEMO_JOB = ("domain", "simulator", "method", "agent", "seed", "episode")


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        errors: Prediction error of each agent.
        returns: Returns in the true environment of each (method, agent), [E].
    """

    errors: dict[int, PredictionError]
    returns: dict[tuple[str, int], np.ndarray]


def run_episode(domain: str, folder: str, method: str, agent: int, seed: int, episode: int) -> dict[str, float]:
    """Return of one episode in the true environment; runs in a worker process.

    Args:
        domain: Name of the domain.
        folder: Folder of the simulator.
        method: A key of `DEMO_METHODS`.
        agent: Agent of the population.
        seed: Seed of the run.
        episode: Number of the episode; with `seed` it fixes the start and the candidates.
    """
    spec = DOMAINS[domain]
    stream = stream_of(seed, agent, episode)
    policy: Policy
    if method == "random":
        policy = RandomPolicy(spec.action_space, stream)
    else:
        dynamics = load_simulator(folder).dynamics(agent) if method == "persim-mpc" else spec.dynamics(agent)
        assert isinstance(spec.action_space, spaces.Discrete)
        policy = MPC(dynamics, spec.task, spec.action_space, bonus=spec.peak_bonus, seed=stream)
    return {"return": float(episode_returns(policy, spec, agent, episodes=1, seed=stream)[0])}


def run_demo(
    domain: str,
    agents: Sequence[int],
    episodes: int,
    out: str | Path,
    seed: int = 0,
    console: Console | None = None,
    workers: int | None = None,
    force: bool = False,
) -> DemoResult:
    """Runs the main job, prints one table and writes files into `out`; what is there already is not done again.

    Args:
        domain: Name of a domain with discrete actions.
        agents: Agents to evaluate.
        episodes: Episodes an agent and method.
        out: Folder of the results.
        seed: Seed of training and evaluation.
        console: Where to print.
        workers: Processes; None for one a core.
        force: Whether to do all anew, and to replace what other commands left in the folder.

    Raises:
        ValueError: If the domain or an agent is unknown, or the domain has continuous actions.
    """
    console, out = console or Console(), Path(out)
    if domain not in DOMAINS or not isinstance(DOMAINS[domain].action_space, spaces.Discrete):
        usable = [name for name, d in DOMAINS.items() if isinstance(d.action_space, spaces.Discrete)]
        raise ValueError(f"domain {domain!r} is not one that the demo plans in; choose from {', '.join(usable)}")
    if episodes < 1 or not agents:
        raise ValueError("the demo needs at least one agent and one episode")
    spec = DOMAINS[domain]
    for agent in agents:
        spec.agent_covariates(agent)
    for name in ("trajectories.png", "latent_factors.png"):
        check_own_file(out / name, force)
    check_own_file(out / "results.csv", force, ",".join(RESULT_COLUMNS))
    torch.set_num_threads(1)

    console.rule(f"{spec.title}: one random trajectory each of {len(spec.population)} agents")
    transitions = load(f"persim/{domain}/{DEMO_POLICY}-v0")
    console.print(f"1. Dataset    persim/{domain}/{DEMO_POLICY}-v0: {len(transitions):,} transitions")
    simulator = _simulator(spec, out, seed, console, force)
    policy = load_behavior_policy(domain, TEST)
    errors = {agent: prediction_error(simulator.dynamics(agent), spec, agent, policy, seed=seed) for agent in agents}
    console.print(
        f"3. Prediction {len(next(iter(errors.values())).rmse)} episodes an agent, 50 steps without correction"
    )
    log = RowLog(out / EPISODES_FILE, DEMO_JOB, ("return",), force)
    returns = _method_returns(simulator, domain, agents, episodes, seed, log, workers)
    console.print(f"4. Planning   {episodes} episodes an agent and method: mean ± standard deviation\n")

    result = DemoResult(errors, returns)
    console.print(demo_error_table(spec, errors))
    console.print(demo_returns_table(spec, returns, agents))
    _write_csv(spec, result, simulator, seed, out / "results.csv")
    trajectories_figure(spec, errors, out / "trajectories.png")
    factors = simulator.model.agent_encoder(torch.arange(simulator.model.config.n_agents))[0]
    latent_figure(spec, factors.numpy(), out / "latent_factors.png")
    _say_where(simulator, out, console)
    return result


def _simulator(spec: Domain, out: Path, seed: int, console: Console, force: bool) -> Simulator:
    """Trains the simulator, or loads it where an earlier run left one for the same data and seed."""
    transitions = load(f"persim/{spec.name}/{DEMO_POLICY}-v0", progress=False)
    folder = out / "simulator"
    if (folder / CARD).is_file() and not force:
        simulator = load_simulator(str(folder))
        if (simulator.card.dataset_hash, simulator.card.seed) == (transitions.content_hash(), seed):
            console.print(f"2. Simulator  {folder}, trained before in {simulator.card.training_seconds:.0f} s")
            return simulator
    # Where an earlier demo has planned, the simulator is its own.
    simulator = train(transitions, seed=seed, out=folder, force=force or (out / EPISODES_FILE).is_file())
    shape = simulator.model.config
    console.print(
        f"2. Simulator  rank {shape.rank}, {shape.members} members, trained in {simulator.card.training_seconds:.0f} s"
    )
    return simulator


def _method_returns(
    simulator: Simulator,
    domain: str,
    agents: Sequence[int],
    episodes: int,
    seed: int,
    log: RowLog,
    workers: int | None,
) -> dict[tuple[str, int], np.ndarray]:
    version = simulator.card.sha256[:12]
    jobs = [
        {"domain": domain, "simulator": version, "method": method, "agent": agent, "seed": seed, "episode": episode}
        for episode in range(episodes)
        for method in DEMO_METHODS
        for agent in sorted(agents, reverse=True)  # The last agents tend to have the longest episodes.
    ]
    folder = str(simulator.folder.resolve())
    rows = run_jobs(
        run_episode,
        jobs,
        log,
        description="episodes",
        constants={"folder": folder},
        drop=("simulator",),
        workers=workers,
    )
    collected: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        collected.setdefault((row["method"], int(row["agent"])), []).append(float(row["return"]))
    return {key: np.array(values) for key, values in collected.items()}


def demo_error_table(spec: Domain, errors: Mapping[int, PredictionError]) -> Table:
    """One row an agent: prediction errors, ours, and the thesis's behind the slash."""
    table = _table("Prediction over 50 steps, ours / thesis", ("agent", "covariates", "mean RMSE", "median R²"))
    for agent, error in errors.items():
        known = published_error(spec.name, DEMO_POLICY, agent) if agent < len(spec.test_agents) else None
        table.add_row(
            str(agent),
            covariate_label(spec, agent),
            _with_published(format_error(error.mean_rmse), None if known is None else f"{known[0]:.3f}"),
            _with_published(f"{error.median_r2:.3f}", None if known is None else f"{known[1]:.3f}"),
        )
    return table


def demo_returns_table(spec: Domain, returns: Mapping[tuple[str, int], np.ndarray], agents: Iterable[int]) -> Table:
    """One row an agent: mean and standard deviation of returns, ours, and the thesis's mean behind the slash."""
    table = _table("Return in the true environment, ours / thesis", ("agent", *DEMO_METHODS.values()))
    for agent in agents:
        theirs = {
            "persim-mpc": published_return(spec.name, DEMO_POLICY, agent),
            "true-mpc": published_return(spec.name, "", agent, "True env + MPC"),
            "random": None,
        }
        cells = [
            _with_published(f"{values.mean():.1f} ± {values.std():.1f}", None if t is None else f"{t:.1f}")
            for values, t in ((returns[method, agent], theirs[method]) for method in DEMO_METHODS)
        ]
        table.add_row(str(agent), *cells)
    logged = published_logging(spec.name, DEMO_POLICY)
    table.caption = f"Thesis, random policy, mean of all agents: {logged[0]:.1f}" if logged else None
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column == "covariates" else "right")
    return table


def _with_published(ours: str, theirs: str | None) -> str:
    return ours if theirs is None else f"{ours} / {theirs}"


def _write_csv(spec: Domain, result: DemoResult, simulator: Simulator, seed: int, path: Path) -> None:
    """One tidy row a (domain, dataset, agent, method, seed, metric)."""
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RESULT_COLUMNS)
        for agent, error in result.errors.items():
            head = [spec.name, simulator.card.dataset, agent]
            writer.writerow([*head, "persim", seed, "rmse_50step_mean", error.mean_rmse])
            writer.writerow([*head, "persim", seed, "r2_50step_median", error.median_r2])
        for (method, agent), values in sorted(result.returns.items()):
            head = [spec.name, simulator.card.dataset, agent, method, seed]
            writer.writerow([*head, "return_mean", values.mean()])
            writer.writerow([*head, "return_std", values.std()])
            writer.writerow([*head, "episodes", len(values)])


def _say_where(simulator: Simulator, out: Path, console: Console) -> None:
    for name, what in (
        ("results.csv", "every figure of the table"),
        (EPISODES_FILE, "the return of every episode"),
        ("trajectories.png", "predicted against true observations"),
        ("latent_factors.png", "what the simulator learned about the agents"),
    ):
        console.print(f"{out / name}  {what}", soft_wrap=True, highlight=False)
    console.print(
        f'{simulator.folder}  the simulator: gym.make("PersimEnv-v0", agent=17, simulator="{simulator.folder}")',
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
