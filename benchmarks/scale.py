"""Cost of training a sample against the number of agents: CPU time a member-sample and memory a transition.

    python benchmarks/scale.py

One epoch of `fit_ensemble` for N = 500 and N = 100,000 agents with the same number of transitions in all, from memory
and from disk (Linux). CPU seconds of one thread, so that a busy machine changes little; every case is a process of its
own, whose peak memory is counted above what imports and compiled code take. Times include scaling, shuffling, reading
and the updates that rows without a gradient get at the end of each part; the best of `--repeats` runs counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import torch

from persim_gym.envs import DOMAINS
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.engine import Engine, EnsembleTraining
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.recipe import TrainingRecipe, general_recipe
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transition_store import TransitionStore, write_transitions
from persim_gym.transitions import Transitions

AGENTS = (500, 100_000)
PLAIN = replace(general_recipe(), epochs=1, samples=0, noise=0.0, weight_decay=0.0)
CARTPOLE = replace(PLAIN, rank=5, state_layers=(128,), activation="silu", members=2, batch=64)
HALFCHEETAH = replace(PLAIN, rank=15, state_layers=(256,) * 4, activation="silu", members=1, batch=256)
CASES = {"cartpole": (CARTPOLE, 5_000_000), "halfcheetah": (HALFCHEETAH, 1_000_000)}
PIECE = 250_000  # transitions made at once


def pieces(domain: str, agents: int, transitions: int) -> Iterator[Transitions]:
    """Transitions from random observations; physics for CartPole, noise in HalfCheetah's sizes."""
    rng = np.random.default_rng(0)
    spec = DOMAINS[domain]
    spread = np.array([1.0, 1.0, 0.1, 1.0]) if domain == "cartpole" else np.ones(18)
    covariates = rng.uniform([c.low for c in spec.covariates], [c.high for c in spec.covariates], (agents, 2))
    for start in range(0, transitions, PIECE):
        agent = np.arange(start, min(start + PIECE, transitions)) * agents // transitions
        obs = rng.uniform(-spread, spread, (len(agent), len(spread)))
        if domain == "cartpole":
            action = rng.integers(2, size=len(agent))
            columns = dict(zip((c.name for c in spec.covariates), covariates[agent].T, strict=True))
            following = spec.physics(**columns)(obs, action)
        else:
            action = rng.uniform(-1, 1, (len(agent), 6)).astype(np.float32)
            following = obs + 0.1 * covariates[agent, :1] * rng.normal(size=obs.shape)
        yield Transitions(
            agent=agent,
            obs=obs.astype(np.float32),
            action=action,
            reward=np.ones(len(agent), dtype=np.float32),
            next_obs=following.astype(np.float32),
            terminated=np.zeros(len(agent), dtype=np.bool_),
            trajectory=agent,
            n_agents=agents,
        )


def case(domain: str, folder: Path, where: str) -> dict[str, float]:
    """Trains one epoch from a written file; runs in its own process."""
    torch.set_num_threads(1)
    recipe, transitions = CASES[domain]
    n_actions = 2 if domain == "cartpole" else 0
    file = TransitionStore(folder)
    warm = file.sample(1)
    fit_ensemble(warm, replace(recipe, batch=16), n_actions=n_actions, progress=False)  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmHWM")
    data = file.sample(10**9) if where == "memory" else file
    start = time.process_time()
    file.part_rows = 1_000_000
    fit_ensemble(data, recipe, n_actions=n_actions, progress=False)
    seconds = time.process_time() - start
    peak = memory("VmHWM") - before
    return {"us": 1e6 * seconds / (transitions * recipe.members), "bytes": peak / transitions}


def memory(name: str) -> int:
    """A line of this process's status, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def measure(domain: str, folder: Path, where: str, repeats: int) -> dict[str, float]:
    """The best of some runs."""
    command = [sys.executable, __file__, "--case", domain, where, str(folder)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeats)]
    return {key: min(run[key] for run in runs) for key in runs[0]}


def describe(recipe: TrainingRecipe) -> str:
    return f"rank {recipe.rank}, {recipe.members} members, batch {recipe.batch}"


def steps_only(domain: str, agents: int, rows: int, steps: int) -> float:
    """Microseconds of CPU a member-sample of training steps alone, on noise in a domain's sizes."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    recipe = replace(CASES[domain][0], members=1)
    d, n_actions, a = (4, 2, 0) if domain == "cartpole" else (18, 0, 6)
    layers = () if n_actions else recipe.action_layers
    shape = ModelConfig(agents, d, n_actions, a, recipe.rank, 1, recipe.state_layers, layers, recipe.activation)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(rows, 2 * d + max(a, 1))).astype(np.float32)
    action = rng.integers(2, size=rows) if n_actions else noise[:, 2 * d :]
    data = np.arange(rows) * agents // rows, noise[:, :d], action, noise[:, d : 2 * d]
    model, member = FactoredEnsemble(shape), slice(0, 1)
    engine: Engine = (
        NumbaEngine(model, member, replace(recipe, pull=0.003)) if n_actions else TorchEngine(model, member, recipe)
    )
    agent, obs, act, target = map(torch.from_numpy, data)
    training = EnsembleTraining([engine], (agent, obs, act, target), side_by_side=False)
    order = rng.permutation(rows)[None]
    training.epoch(order, np.full(3, 1e-3), recipe.batch)  # compiles
    start = time.process_time()
    training.epoch(order, np.full(steps, 1e-3), recipe.batch)
    return 1e6 * (time.process_time() - start) / (steps * recipe.batch)


def print_steps() -> None:
    """Prints the table of training steps alone."""
    print("| sizes | agents | transitions | µs CPU a member-sample | ratio |\n|---|---:|---:|---:|---:|")
    for domain, rows, steps in (("cartpole", 3_000_000, 3_000_000 // 64), ("halfcheetah", 100_000, 100_000 // 256)):
        first = 0.0
        for agents in (500, 100_000, 1_000_000) if domain == "cartpole" else (500, 100_000):
            us = min(steps_only(domain, agents, rows, steps) for _ in range(2))
            first = first or us
            print(f"| {domain} | {agents:,} | {rows:,} | {us:.2f} | {us / first:.2f} |", flush=True)


def main(domains: list[str], populations: list[int], places: list[str], repeats: int) -> None:
    """Prints one table a domain."""
    for domain in domains:
        recipe, transitions = CASES[domain]
        print(f"\n{domain}: {transitions:,} transitions, {describe(recipe)}\n")
        print("| data | agents | µs CPU a member-sample | ratio | peak bytes a transition | ratio |")
        print("|---|---:|---:|---:|---:|---:|")
        with tempfile.TemporaryDirectory() as root:
            for agents in populations:
                write_transitions(
                    Path(root) / str(agents), pieces(domain, agents, transitions), n_agents=agents, source=""
                )
            for where in places:
                results = [measure(domain, Path(root) / str(agents), where, repeats) for agents in populations]
                for agents, result in zip(populations, results, strict=True):
                    ratios = {key: result[key] / results[0][key] for key in result}
                    print(
                        f"| {where} | {agents:,} | {result['us']:.2f} | {ratios['us']:.2f} | {result['bytes']:.0f} | "
                        f"{ratios['bytes']:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", choices=CASES, action="append", help="(default: all)")
    parser.add_argument("--agents", type=int, nargs="+", default=list(AGENTS), help="Population sizes.")
    parser.add_argument("--where", choices=("memory", "disk"), action="append", help="(default: both)")
    parser.add_argument("--steps", action="store_true", help="Training steps alone, up to 1,000,000 agents.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", nargs=3, metavar=("DOMAIN", "WHERE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        name, where, folder = arguments.case
        print(json.dumps(case(name, Path(folder), where)))
    elif arguments.steps:
        print_steps()
    else:
        places = arguments.where or ["memory", "disk"]
        main(arguments.domain or list(CASES), arguments.agents, places, arguments.repeats)
