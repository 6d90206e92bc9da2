"""Sellers of seats: how true a learned simulator is of them, and what policies that are found in it earn.

`python benchmarks/revenue.py` trains a simulator on random logs and a policy in it for each test agent, where they are
not there yet, and prints both tables; `--write` puts them into results/revenue.csv, and the booking curves into
docs/images/revenue.png. Returns are of the same customers under every policy (common random numbers), so that a
policy's share of the optimum is far more certain than either return. Planning takes minutes an episode, so it has fewer
episodes than the others (`--plans`), and its share is of the optimum in the same ones.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persim_gym import train
from persim_gym.envs import DOMAINS
from persim_gym.envs.revenue.market import PERIODS, SEATS
from persim_gym.envs.revenue.rules import emsr_b_policy, optimal_policy
from persim_gym.evaluation.acting import Policy, RandomPolicy, act
from persim_gym.evaluation.returns import episode_returns
from persim_gym.planning import MPC, CategoricalCEM
from persim_gym.policies.train import load_policy, train_policy
from persim_gym.simulator.simulator import Simulator

DOMAIN = DOMAINS["revenue"]
ROOT = Path(__file__).parents[1]
SCENARIOS = 200  # Scenarios of which the mean is the truth of an open-loop prediction.
SEQUENCES = 20  # Random sequences of actions.
SEED = 11
FIELDS = ("part", "agent", "policy", "metric", "value", "episodes", "command")
DRAWN = ((0, "the average seller"), (1, "few, late, price-sensitive"), (4, "many, late, price-sensitive"))
STYLE = {"optimum": "#1971c2", "EMSR-b": "#e8590c", "PPO in the simulator": "#2f9e44"}


class Errors(NamedTuple):
    """Errors of predicted seats and revenue, each beside that of predicting no change; root mean squares."""

    seats: float
    revenue: float
    seats_unchanged: float
    revenue_unchanged: float


def one_step(simulator: Simulator, agent: int, policy: Policy) -> Errors:
    """Errors of the next day, of the expectation, where a policy goes in the true environment."""
    physics = DOMAIN.physics(**DOMAIN.agent_covariates(agent))
    start = DOMAIN.initial_state(np.random.default_rng(SEED), SEQUENCES)
    steps = list(act(policy, DOMAIN, physics, start, PERIODS, drop_finished=True))
    obs, action = (np.concatenate([getattr(step, name) for step in steps]) for name in ("obs", "action"))
    return _errors(_predicted(simulator, agent, obs, action), DOMAIN.dynamics(agent)(obs, action), obs)


def open_loop(simulator: Simulator, agent: int, horizon: int = 50) -> Errors:
    """Errors after so many days under random actions, of the mean over scenarios of where they lead."""
    rng = np.random.default_rng(SEED)
    start = DOMAIN.initial_state(rng, SEQUENCES)
    actions = rng.integers(DOMAIN.action_space.n, size=(horizon, SEQUENCES))
    physics = DOMAIN.physics(**DOMAIN.agent_covariates(agent))
    states = np.repeat(start[None], SCENARIOS, axis=0)
    states[..., 3] = DOMAIN.initial_state(rng, SCENARIOS * SEQUENCES)[:, 3].reshape(SCENARIOS, SEQUENCES)
    first = predicted = DOMAIN.observe(start)
    for action in actions:
        states = physics(states, action)
        predicted = _predicted(simulator, agent, predicted, action)
    return _errors(predicted, DOMAIN.observe(states).mean(axis=0), first)


def _predicted(simulator: Simulator, agent: int, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float64]:
    """Mean over members of the next observations, [B, D]."""
    dynamics = simulator.dynamics(agent)
    members = np.broadcast_to(obs.astype(np.float32), (dynamics.members, *obs.shape))
    return np.asarray(dynamics(members, action)).mean(axis=0, dtype=np.float64)[:, : obs.shape[1]]


def _errors(predicted: NDArray[Any], true: NDArray[Any], unchanged: NDArray[Any]) -> Errors:
    columns = [np.sqrt(np.square(guess - true).mean(axis=0)) for guess in (predicted, unchanged)]
    return Errors(*(float(column[i]) for column in columns for i in (0, 2)))


def policies_of(simulator: Simulator, agent: int, out: Path) -> dict[str, Policy]:
    """What is compared, by name; the policy that is learned in the simulator is trained if it is not there."""
    covariates = DOMAIN.agent_covariates(agent)
    trained = train_policy(simulator, agent, "ppo", out=out, progress=False)
    print(f"agent {agent}: PPO took {trained.seconds:.0f} s, expects {trained.simulator_return:.2f}", flush=True)
    return {
        "optimum": optimal_policy(**covariates),
        "EMSR-b": emsr_b_policy(**covariates),
        "EMSR-b, marginal revenues": emsr_b_policy(marginal=True, **covariates),
        "optimum of the average seller": optimal_policy(),
        "PPO in the simulator": load_policy(out / f"agent-{agent}.json"),
        "random": RandomPolicy(DOMAIN.action_space),
    }


def planned(simulator: Simulator, agent: int, truth: bool) -> Policy:
    """Model predictive control in the simulator, or in the true expected change."""
    dynamics = DOMAIN.dynamics(agent) if truth else simulator.dynamics(agent)
    planner = CategoricalCEM(candidates=100, horizon=PERIODS, iterations=3, elites=10)
    return MPC(dynamics, DOMAIN.task, DOMAIN.action_space, planner=planner)


def error_rows(simulator: Simulator, agents: range) -> list[dict[str, Any]]:
    """Errors of each agent as rows of the table."""
    kinds: dict[str, Callable[[int], Errors]] = {
        "one step, random": lambda a: one_step(simulator, a, RandomPolicy(DOMAIN.action_space)),
        "one step, optimum": lambda a: one_step(simulator, a, optimal_policy(**DOMAIN.agent_covariates(a))),
        "50 days, random": lambda a: open_loop(simulator, a),
    }
    rows = []
    for kind, measure in kinds.items():
        found = {agent: measure(agent) for agent in agents}
        mean = Errors(*np.mean(list(found.values()), axis=0))
        print(
            f"{kind:20s} seats {mean.seats:.3f} of {mean.seats_unchanged:.3f}, revenue {mean.revenue:.3f} of "
            f"{mean.revenue_unchanged:.3f} without change",
            flush=True,
        )
        rows += [
            {"part": kind, "agent": agent, "metric": f"rmse {name.replace('_', ' ')}", "value": round(value, 4)}
            for agent, errors in found.items()
            for name, value in errors._asdict().items()
        ]
    return rows


def revenue_rows(agent: int, policies: dict[str, Policy], episodes: int) -> list[dict[str, Any]]:
    """Returns of each policy, and their share of the optimum's in the same scenarios."""
    best = episode_returns(policies["optimum"], DOMAIN, agent, episodes=episodes, seed=SEED)
    rows = []
    for name, policy in policies.items():
        returns = best
        if name != "optimum":
            returns = episode_returns(policy, DOMAIN, agent, episodes=episodes, seed=SEED)
        share, error = returns.mean() / best.mean(), (returns - best).std() / np.sqrt(episodes) / best.mean()
        print(f"agent {agent}  {name:32s} {returns.mean():6.2f}  {share:6.1%} ± {error:.1%}", flush=True)
        rows += [
            {"part": "revenue", "agent": agent, "policy": name, "metric": metric, "value": value, "episodes": episodes}
            for metric, value in (("return", round(float(returns.mean()), 3)), ("share", round(float(share), 4)))
        ]
    return rows


def draw(curves: dict[int, dict[str, Policy]], path: Path) -> None:
    """Booking curves: mean seats left by day, and where four of five episodes lie."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for ax, (agent, title) in zip(figure.subplots(1, len(DRAWN), sharey=True), DRAWN, strict=True):
        physics = DOMAIN.physics(**DOMAIN.agent_covariates(agent))
        start = DOMAIN.initial_state(np.random.default_rng(SEED), 400)
        start[:, 0], start[:, 2] = SEATS, 0.0
        for name, color in STYLE.items():
            steps = list(act(curves[agent][name], DOMAIN, physics, start, PERIODS))
            seats = np.stack([steps[0].obs[:, 0], *(step.next_obs[:, 0] for step in steps)])
            days = np.arange(PERIODS, -1, -1)
            ax.plot(days, seats.mean(axis=1), color=color, label=name)
            ax.fill_between(days, *np.quantile(seats, (0.1, 0.9), axis=1), color=color, alpha=0.12, linewidth=0)
        ax.set(title=f"agent {agent}: {title}", xlabel="days to go", xlim=(PERIODS, 0), ylim=(0, SEATS))
    figure.axes[0].set_ylabel("seats left")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="revenue/random-v0")
    parser.add_argument("--agents", type=int, default=5, help="first agents of the population (default: 5)")
    parser.add_argument("--episodes", type=int, default=1000, help="of each policy (default: 1000)")
    parser.add_argument("--plans", type=int, default=0, help="episodes of planning; 0 for none (default)")
    parser.add_argument("--out", type=Path, default=Path("persim-out/revenue"), help="folder of trained policies")
    parser.add_argument("--write", action="store_true", help="write results/revenue.csv and the figure")
    given = parser.parse_args()
    simulator = train(given.dataset, progress=False)
    rows, curves = error_rows(simulator, range(given.agents)), {}
    for agent in range(given.agents):
        curves[agent] = policies_of(simulator, agent, given.out)
        rows += revenue_rows(agent, curves[agent], given.episodes)
        if given.plans:
            plans = {
                "optimum": curves[agent]["optimum"],
                "MPC in the simulator": planned(simulator, agent, truth=False),
                "MPC in the expected change": planned(simulator, agent, truth=True),
            }
            rows += [row for row in revenue_rows(agent, plans, given.plans) if row["policy"] != "optimum"]
    if given.write:
        command = f"python benchmarks/revenue.py --dataset {given.dataset} --plans {given.plans} --write"
        with (ROOT / "results" / "revenue.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "command": command} for row in rows)
        draw(curves, ROOT / "docs" / "images" / "revenue.png")


if __name__ == "__main__":
    main()
