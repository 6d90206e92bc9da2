"""Training throughput: member-samples a second of `fit_ensemble` beside a plain loop, one member after the other.

The plain loop is the way of the published code: a Dataset of single transitions with agents and discrete actions as
one-hot vectors, a DataLoader, one network and one optimiser a member; on one thread or all, whichever is faster. The
column "one-hot later" is the same with indices in the Dataset and one-hot vectors made a batch. All run on the same
data in the same process, on all cores that the process may use. A member-sample is one transition seen by one member.

    python benchmarks/training.py
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from persim_gym.datasets import load
from persim_gym.envs import DOMAINS
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transitions import Transitions
from persim_gym.workflows.training_setup import recipe_for

GOALS = {"mountaincar": 100.0, "cartpole": 100.0, "halfcheetah": 5.0}
PLAIN_SAMPLES = 20_000  # transitions that the plain loop is timed on
EPOCHS = {"mountaincar": 6, "cartpole": 100, "halfcheetah": 1}
LARGE = 100_000  # transitions of HalfCheetah that `fit_ensemble` is timed on


def mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainMember(nn.Module):
    """One member: three encoders, agents (and discrete actions) as one-hot inputs of a linear layer."""

    def __init__(self, n_agents: int, obs_dim: int, action_dim: int, discrete: bool, recipe: TrainingRecipe) -> None:
        """Draws the weights."""
        super().__init__()
        self.rank, self.obs_dim = recipe.rank, obs_dim
        self.agents = nn.Linear(n_agents, recipe.rank)
        self.states = mlp([obs_dim, *recipe.state_layers, obs_dim * recipe.rank])
        self.actions = mlp([action_dim, *(() if discrete else recipe.action_layers), recipe.rank])

    def forward(self, agent: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Change of the observation, [B, D]."""
        v = self.states(obs).unflatten(1, (self.obs_dim, self.rank))
        return torch.einsum("br,bdr,br->bd", self.agents(agent), v, self.actions(action))


class OneHot(Dataset[tuple[Tensor, ...]]):
    """Transitions one by one, agents and discrete actions as one-hot vectors."""

    def __init__(self, indexed: TensorDataset, n_agents: int, n_actions: int) -> None:
        """Wraps (agent, obs, action, change)."""
        self.indexed, self.n_agents, self.n_actions = indexed, n_agents, n_actions

    def __len__(self) -> int:
        """Transitions."""
        return len(self.indexed)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """One transition."""
        agent, obs, action, delta = self.indexed[index]
        agent = nn.functional.one_hot(agent, self.n_agents).float()
        if self.n_actions:
            action = nn.functional.one_hot(action, self.n_actions).float()
        return agent, obs, action, delta


def plain_loop(transitions: Transitions, n_actions: int, recipe: TrainingRecipe, batch: int, later: bool) -> float:
    """Member-samples a second of one member's epoch over a slice of the data; `later` makes one-hot vectors a batch."""
    rows = np.random.default_rng(0).permutation(len(transitions))[:PLAIN_SAMPLES]
    action = torch.from_numpy(transitions.action[rows])
    data = TensorDataset(
        torch.from_numpy(transitions.agent[rows]),
        torch.from_numpy(transitions.obs[rows]),
        action,
        torch.from_numpy(transitions.next_obs[rows] - transitions.obs[rows]),
    )
    rows_of = data if later else OneHot(data, transitions.n_agents, n_actions)
    loader = DataLoader(rows_of, batch_size=batch, shuffle=True, drop_last=True)
    action_dim = n_actions or action.shape[1]
    model = PlainMember(transitions.n_agents, transitions.obs.shape[1], action_dim, n_actions > 0, recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    for agent, obs, act, delta in loader:
        if later:
            agent = nn.functional.one_hot(agent, transitions.n_agents).float()
            act = nn.functional.one_hot(act, n_actions).float() if n_actions else act
        loss = nn.functional.mse_loss(model(agent, obs, act), delta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(loader) * batch / (time.perf_counter() - started)


def ours(transitions: Transitions, n_actions: int, recipe: TrainingRecipe) -> float:
    """Member-samples a second of `fit_ensemble`; compiling, which happens once an installation, is not counted."""
    few = transitions.select(np.arange(len(transitions)) < 2 * recipe.batch)
    fit_ensemble(few, replace(recipe, epochs=1), n_actions=n_actions, progress=False)
    started = time.perf_counter()
    fit_ensemble(transitions, recipe, n_actions=n_actions, progress=False)
    seen = len(transitions) // recipe.batch * recipe.batch * recipe.epochs * recipe.members
    return seen / (time.perf_counter() - started)


def measure(domain: str, runs: int) -> dict[str, float | str]:
    spec = DOMAINS[domain]
    n_actions = int(spec.action_space.n) if isinstance(spec.action_space, spaces.Discrete) else 0
    transitions = load(f"persim/{domain}/random-v0")
    recipe = replace(recipe_for(domain), epochs=EPOCHS[domain], samples=0)
    if domain == "halfcheetah":
        transitions = transitions.select(np.arange(len(transitions)) < LARGE)
    speeds: dict[str, list[float]] = {"fit": [], "plain": [], "later": []}
    cores = torch.get_num_threads()
    for _ in range(runs):
        speeds["fit"].append(ours(transitions, n_actions, recipe))
        for kind in ("plain", "later"):
            each = []
            for threads in {1, cores}:  # small networks are often faster on one
                torch.set_num_threads(threads)
                batch = recipe_for(domain, "thesis").batch
                each.append(plain_loop(transitions, n_actions, recipe, batch, kind == "later"))
            torch.set_num_threads(cores)
            speeds[kind].append(max(each))
    row: dict[str, float | str] = {"domain": domain}
    row |= {kind: statistics.median(values) for kind, values in speeds.items()}
    for kind in ("plain", "later"):
        row[f"{kind}_ratio"] = statistics.median(f / p for f, p in zip(speeds["fit"], speeds[kind], strict=True))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--runs", type=int, default=3, help="timed runs a figure; medians are shown (default: 3)")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    numba.set_num_threads(cores)
    print(f"{cores} cores, torch {torch.__version__}; member-samples a second, median of {args.runs} runs")
    print(f"{'domain':12} {'fit':>12} {'plain loop':>12} {'ratio':>7} {'goal':>6} {'one-hot later':>14} {'ratio':>7}")
    rows = []
    for domain in args.domains:
        row = measure(domain, args.runs)
        rows.append(row)
        print(
            f"{domain:12} {row['fit']:12,.0f} {row['plain']:12,.0f} {row['plain_ratio']:6.1f}x {GOALS[domain]:5.0f}x "
            f"{row['later']:14,.0f} {row['later_ratio']:6.1f}x",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
