"""Training throughput: member-samples a second of `fit` beside a plain loop, one member after the other.

The plain loop is what one would write first: a DataLoader that collates single transitions, agents and actions as
one-hot vectors, one network and one optimiser a member. Both run on the same data in the same process, on all cores
that the process may use. A member-sample is one transition seen by one member.

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
from torch.utils.data import DataLoader, TensorDataset

from persim_gym.datasets import load
from persim_gym.envs import DOMAINS
from persim_gym.simulator.fit import fit
from persim_gym.simulator.recipe import THESIS, TrainingRecipe, recipe_for
from persim_gym.transitions import Transitions

GOALS = {"mountaincar": 100.0, "cartpole": 100.0, "halfcheetah": 5.0}
PLAIN_SAMPLES = 20_000  # transitions that the plain loop is timed on
EPOCHS = {"mountaincar": 6, "cartpole": 100, "halfcheetah": 1}
LARGE = 100_000  # transitions of HalfCheetah that `fit` is timed on


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


def plain_loop(transitions: Transitions, n_actions: int, recipe: TrainingRecipe, batch: int) -> float:
    """Member-samples a second of one member's epoch over a slice of the data."""
    rows = np.random.default_rng(0).permutation(len(transitions))[:PLAIN_SAMPLES]
    action = torch.from_numpy(transitions.action[rows])
    data = TensorDataset(
        torch.from_numpy(transitions.agent[rows]),
        torch.from_numpy(transitions.obs[rows]),
        action,
        torch.from_numpy(transitions.next_obs[rows] - transitions.obs[rows]),
    )
    loader = DataLoader(data, batch_size=batch, shuffle=True, drop_last=True)
    action_dim = n_actions or action.shape[1]
    model = PlainMember(transitions.n_agents, transitions.obs.shape[1], action_dim, n_actions > 0, recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    for agent, obs, act, delta in loader:
        agent_code = nn.functional.one_hot(agent, transitions.n_agents).float()
        action_code = nn.functional.one_hot(act, n_actions).float() if n_actions else act
        loss = nn.functional.mse_loss(model(agent_code, obs, action_code), delta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(loader) * batch / (time.perf_counter() - started)


def ours(transitions: Transitions, n_actions: int, recipe: TrainingRecipe) -> float:
    """Member-samples a second of `fit`; compiling, which happens once an installation, is not counted."""
    few = transitions.select(np.arange(len(transitions)) < 2 * recipe.batch)
    fit(few, replace(recipe, epochs=1), n_actions=n_actions, progress=False)
    started = time.perf_counter()
    fit(transitions, recipe, n_actions=n_actions, progress=False)
    seen = len(transitions) // recipe.batch * recipe.batch * recipe.epochs * recipe.members
    return seen / (time.perf_counter() - started)


def measure(domain: str, runs: int) -> dict[str, float | str]:
    spec = DOMAINS[domain]
    n_actions = int(spec.action_space.n) if isinstance(spec.action_space, spaces.Discrete) else 0
    transitions = load(f"persim/{domain}/random-v0")
    recipe = replace(recipe_for(domain), epochs=EPOCHS[domain])
    if domain == "halfcheetah":
        transitions = transitions.select(np.arange(len(transitions)) < LARGE)
    fast, plain, same = [], [], []
    for _ in range(runs):
        fast.append(ours(transitions, n_actions, recipe))
        plain.append(plain_loop(transitions, n_actions, recipe, THESIS[domain].batch))
        same.append(plain_loop(transitions, n_actions, recipe, recipe.batch))
    row: dict[str, float | str] = {
        "domain": domain,
        "fit": statistics.median(fast),
        "plain": statistics.median(plain),
        "plain_same_batch": statistics.median(same),
    }
    row["ratio"] = statistics.median(f / max(p, s) for f, p, s in zip(fast, plain, same, strict=True))
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
    print(f"{'domain':12} {'fit':>12} {'plain loop':>12} {'(our batch)':>12} {'ratio':>7} {'goal':>6}")
    rows = []
    for domain in args.domains:
        row = measure(domain, args.runs)
        rows.append(row)
        print(
            f"{domain:12} {row['fit']:12,.0f} {row['plain']:12,.0f} {row['plain_same_batch']:12,.0f} "
            f"{row['ratio']:6.1f}x {GOALS[domain]:5.0f}x",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
