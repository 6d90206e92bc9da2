"""What keeping agents' evidence in float32 does to their posteriors.

    python benchmarks/packed_evidence.py SIMULATOR …

The evidence of a simulator's own data is gathered anew in float64, and kept in two ways: sums rounded to float32, and
packed as files hold them (`PackedStatistics`). Shifts of posterior means are in posterior standard deviations,
variances relative to the exact ones, both along the worst direction of an agent's member; RMSE is that of open-loop
episodes under the test policy, mean over agents 0-4, whose factors are posterior means.
"""

import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.inference.sufficient_statistics import PackedStatistics, SufficientStatistics
from persim_gym.simulator.registry import load_simulator

COMPARED = 100  # agents whose posteriors are compared
TESTED, EPISODES = 5, 20  # agents and episodes of the prediction error


def rounded(evidence: SufficientStatistics) -> SufficientStatistics:
    """Sums in float32, as double."""
    singles = {name: getattr(evidence, name).float().double() for name in ("information", "vector")}
    return replace(evidence, **singles)


def nbytes(evidence: SufficientStatistics | PackedStatistics) -> int:
    return sum(x.nbytes for x in vars(evidence).values())


def differences(exact: FactorPosterior, kept: FactorPosterior, agents: range) -> tuple[Tensor, Tensor]:
    """Shift of the mean and change of the variance by agent, along the worst direction of any member."""
    shifts, changes = [], []
    for agent in agents:
        lower = torch.linalg.cholesky(exact.covariance(agent))
        apart = (kept.mean - exact.mean)[:, agent, :, None]
        shifts.append(torch.linalg.solve_triangular(lower, apart, upper=False).norm(dim=1).max())
        half = torch.linalg.solve_triangular(lower, kept.covariance(agent), upper=False)
        ratio = torch.linalg.eigvalsh(torch.linalg.solve_triangular(lower, half.mT, upper=False))
        changes.append((ratio - 1).abs().max())
    return torch.stack(shifts), torch.stack(changes)


def compare(name: str) -> None:
    """Prints one row a way of keeping the evidence."""
    simulator = load_simulator(name)
    domain, policy = DOMAINS[simulator.card.domain], load_behavior_policy(simulator.card.domain, TEST)
    exact = factor_posterior(simulator.model, load(simulator.card.dataset, progress=False))
    assert isinstance(exact.statistics, SufficientStatistics)
    started = time.perf_counter()
    packed = PackedStatistics.pack(exact.statistics)
    took = time.perf_counter() - started
    agents = range(0, exact.n_agents, max(1, exact.n_agents // COMPARED))
    ways = {
        "float64": exact,
        "float32": replace(exact, statistics=rounded(exact.statistics)),
        "packed": replace(exact, statistics=packed),
    }
    for label, kept in ways.items():
        size = nbytes(exact.statistics) // (2 if label == "float32" else 1) if label != "packed" else nbytes(packed)
        shift, change = differences(exact, kept, agents)
        model = polished(simulator.model, kept)
        rmse = np.mean(
            [
                prediction_error(bind_agent(model, a), domain, a, policy, episodes=EPISODES).mean_rmse
                for a in range(TESTED)
            ]
        )
        print(
            f"| {simulator.card.name}, rank {simulator.model.config.rank} | {label} | {size / 1e6:.2f} | "
            f"{shift.max():.1e} ({shift.median():.1e}) | {change.max():.1e} ({change.median():.1e}) | {rmse:.5f} |",
            flush=True,
        )
    print(f"(packing {exact.n_agents} agents: {took:.2f} s)", file=sys.stderr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| simulator | evidence | MB | shift of means: worst (median) | variances: worst (median) | RMSE |")
    print("|---|---|---:|---:|---:|---:|")
    for simulator in sys.argv[1:] or ["mountaincar/random-v0", "cartpole/random-v0"]:
        compare(simulator)
