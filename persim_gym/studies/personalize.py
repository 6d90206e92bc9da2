"""How well agents that training never saw are simulated and steered, by the number of their transitions."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import Unpack

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import PREDICTION_EPISODES, TEST_AGENTS
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import JobPlace, RowLog, check_place, run_jobs
from persim_gym.planning.mpc import MPC
from persim_gym.planning.online_mpc import OnlineMPC
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.storage import CARD
from persim_gym.task import Dynamics
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import recipe_for

TRANSITION_COUNTS = ("0", "1", "5", "20", "100", "trajectory")
PERSONALIZE_METHODS = {
    "personalized": "closed form, mixture prior",
    "gaussian": "closed form, one Gaussian prior",
    "retrained": "in the training data",
    "online": "learned while it acts",
}
STUDY_POLICY = "random"  # policy of the dataset
PERSONALIZE_JOB = ("domain", "version", "method", "agent", "count", "draw")
ERROR_COLUMNS, RETURN_COLUMNS = ("rmse", "r2", "milliseconds"), ("return",)
MPC_STEPS = {"halfcheetah": 50}  # of an episode where not the domain's own: one of 1,000 takes ten minutes of a core


def study_simulator(domain: str, held_out: bool, out: Path) -> Simulator:
    """Trains a simulator with or without the test agents, or loads it where an earlier run left it."""
    data = load(f"persim/{domain}/{STUDY_POLICY}-v0", progress=False)
    if held_out:
        data = data.select(~np.isin(data.agent, TEST_AGENTS))
    recipe = recipe_for(f"{domain}/{STUDY_POLICY}-v0")
    folder = out / domain / ("held-out" if held_out else "all")
    if (folder / CARD).is_file():
        simulator = load_simulator(str(folder))
        trained = TrainingRecipe.from_json(simulator.card.recipe).for_data(len(data))
        if (simulator.card.dataset_hash, trained) == (data.content_hash(), recipe.for_data(len(data))):
            return simulator
    label = f"{domain}/{STUDY_POLICY}-{'held-out' if held_out else 'all'}"
    return train(data, name=label, domain=domain, out=folder)


def drawn_transitions(domain: str, agent: int, count: str, draw: int) -> Transitions | None:
    """Transitions of a test agent drawn at random from its logged trajectory, as those of a new agent 0."""
    if count == "0":
        return None
    whole = _trajectory(domain, agent)
    if count == "trajectory":
        return whole
    keep = np.zeros(len(whole), dtype=np.bool_)
    keep[np.random.default_rng([agent, draw]).permutation(len(whole))[: int(count)]] = True
    return whole.select(keep)


@lru_cache(maxsize=16)
def _trajectory(domain: str, agent: int) -> Transitions:
    data = load(f"persim/{domain}/{STUDY_POLICY}-v0", progress=False)
    chosen = data.select(data.agent == agent)
    return replace(chosen, agent=np.zeros_like(chosen.agent), n_agents=1)


def dynamics_for(simulator: Simulator, method: str, transitions: Transitions | None, agent: int) -> AgentDynamics:
    """The simulator bound to a test agent, as a method knows it.

    Args:
        simulator: Without the test agents; with them for "retrained".
        method: A key of `PERSONALIZE_METHODS`.
        transitions: What is known of the agent; None for nothing.
        agent: The test agent, for "retrained".
    """
    if method == "retrained":
        known: AgentDynamics = simulator.dynamics(agent)
        return known
    prior = simulator.known_beliefs().prior
    factor = prior.mean
    if transitions is not None and method == "gaussian":
        evidence = gather_statistics(simulator.model, prior.noise, transitions)
        right = (prior.precision @ prior.mean[..., None])[..., 0] + evidence.vector[:, 0]
        factor = torch.linalg.solve(prior.precision + evidence.information[:, 0], right)
    elif transitions is not None:
        factor = FactorPosterior(prior, gather_statistics(simulator.model, prior.noise, transitions)).mean[:, 0]
    return AgentDynamics(simulator.model, factor.float())


def error_job(folder: Path, domain: str, method: str, agent: int, count: str, draw: int) -> dict[str, float]:
    """Prediction error of one test agent, and the time that its factor took; runs in a worker process."""
    simulator, transitions = _ready(folder, domain, method, agent, count, draw)
    dynamics_for(simulator, method, transitions, agent)  # One prediction fills the caches.
    started = time.perf_counter()
    dynamics = dynamics_for(simulator, method, transitions, agent)
    took = 1000 * (time.perf_counter() - started)
    test = load_behavior_policy(domain, TEST)
    error = prediction_error(dynamics, DOMAINS[domain], agent, test, episodes=PREDICTION_EPISODES)
    return {"rmse": error.mean_rmse, "r2": error.median_r2, "milliseconds": took}


def return_job(
    folder: Path, domain: str, method: str, agent: int, count: str, draw: int, steps: int
) -> dict[str, float]:
    """Return of one episode of MPC in the true environment; runs in a worker process."""
    simulator, transitions = _ready(folder, domain, method, agent, count, draw)
    spec = DOMAINS[domain]
    stream = int(np.random.SeedSequence([agent, draw]).generate_state(1)[0])
    dynamics: Dynamics = (
        simulator.online() if method == "online" else dynamics_for(simulator, method, transitions, agent)
    )
    planner = MPC(dynamics, spec.task, spec.action_space, bonus=spec.peak_bonus, seed=stream)
    policy: Policy = OnlineMPC(planner, dynamics) if method == "online" else planner  # type: ignore[arg-type]
    return {"return": float(episode_returns(policy, spec, agent, episodes=1, seed=stream, steps=steps)[0])}


def _ready(
    folder: Path, domain: str, method: str, agent: int, count: str, draw: int
) -> tuple[Simulator, Transitions | None]:
    known = method in ("personalized", "gaussian")
    return load_simulator(folder / _simulator_of(domain, method)), drawn_transitions(
        domain, agent, count, draw
    ) if known else None


def _simulator_of(domain: str, method: str) -> str:
    """Where the simulator that a method takes is, in the folder of the study."""
    return f"{domain}/{'all' if method == 'retrained' else 'held-out'}"


def study_jobs(domain: str, version: str, draws: int, kind: str, steps: int = 0) -> Iterable[dict[str, Any]]:
    """The study's jobs; a count that leaves nothing to chance is measured once, but for returns.

    Args:
        domain: The domain.
        version: Of the simulator.
        draws: Random draws of transitions (and episodes, for returns) an agent and count.
        kind: "error" or "return".
        steps: Of an episode, for returns.
    """
    shared: dict[str, Any] = {"domain": domain, "version": version}
    shared |= {"steps": steps} if kind == "return" else {}
    for draw in range(draws):
        for agent in reversed(TEST_AGENTS):
            for count in TRANSITION_COUNTS:
                chance = kind == "return" or count not in ("0", "trajectory")
                methods = ("personalized",)
                if kind == "error" and count in ("1", "5", "20"):
                    methods += ("gaussian",)  # type: ignore[assignment]
                for method in methods:
                    if draw == 0 or chance:
                        yield _job(shared, method, agent, count, draw)
            if kind == "return" or draw == 0:
                yield _job(shared, "retrained", agent, "trajectory", draw)
            if kind == "return":
                yield _job(shared, "online", agent, "0", draw)


def _job(shared: dict[str, Any], method: str, agent: int, count: str, draw: int) -> dict[str, Any]:
    return {**shared, "method": method, "agent": agent, "count": count, "draw": draw}


def run_personalize_study(
    domain: str,
    out: Path,
    draws: int = 5,
    episodes: int = 5,
    steps: int | None = None,
    **place: Unpack[JobPlace],
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Measures one domain; what is in `out` already is not done again.

    Args:
        domain: A domain with test agents and a test policy.
        out: Folder of simulators and results.
        draws: Random draws of transitions an agent and count, for errors.
        episodes: Episodes of MPC, each after a draw of its own; 0 for none.
        steps: Longest episode of MPC; None for `MPC_STEPS`, or the domain's own limit.
        **place: See `JobPlace`.

    Returns:
        Rows of errors and of returns.
    """
    check_place(place.get("backend", "local"), place.get("address"))  # Before the first training.
    measured: list[list[dict[str, str]]] = [[], []]
    steps = steps or MPC_STEPS.get(domain, DOMAINS[domain].episode_steps)
    kinds = [("error", error_job, draws, (PERSONALIZE_JOB, ERROR_COLUMNS))]
    if episodes:
        kinds.append(("return", return_job, episodes, ((*PERSONALIZE_JOB, "steps"), RETURN_COLUMNS)))  # type: ignore[arg-type]
    for held_out in (True, False):  # Jobs that need only the first of two trainings come first.
        simulator = study_simulator(domain, held_out, out)
        for rows, (kind, function, number, columns) in zip(measured, kinds, strict=False):
            chosen = [
                job
                for job in study_jobs(domain, simulator.card.sha256[:8], number, kind, steps)
                if (job["method"] == "retrained") != held_out
            ]
            rows += run_jobs(
                function,
                chosen,
                RowLog(out / f"{kind}s.csv", *columns),
                description=f"{domain}: {kind}s, {'unseen' if held_out else 'trained'} agents",
                drop=("version",),
                folder=out,
                reads=lambda job: [_simulator_of(job["domain"], job["method"])],
                **place,
            )
    return measured[0], measured[1]
