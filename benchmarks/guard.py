"""How well `TrustGuard` keeps its promise: false alarms, steps until a change is noticed, returns with and without it.

    OMP_NUM_THREADS=1 python benchmarks/guard.py

trains a sibling of each simulator (minutes), then writes `results/guard.csv` row by row; rows that are there are kept.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

import persim_gym  # noqa: F401  registers the environments
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy, RandomPolicy
from persim_gym.planning import MPC
from persim_gym.planning.by_name import planner_of
from persim_gym.simulator.diagnostics.surprise import SurpriseBand
from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows.guard import guard_band
from persim_gym.wrappers import TrustGuard

RESULTS = Path(__file__).parent.parent / "results" / "guard.csv"
COLUMNS = ("study", "simulator", "agents", "change", "policy", "asked", "metric", "runs", "value")
SIMULATORS = ("mountaincar/random-v0", "cartpole/random-v0")
ASKED = 1.0  # false alarms in 1,000 steps
QUIET_STEPS, QUIET_AGENTS = 250, 40  # of the runs in which nothing changes
QUIET_STUDIES = (  # name, seed, policies; the guard's constants were chosen on the agents of the first
    ("false alarms", 1, ("random", "test")),
    ("false alarms, other agents", 101, ("test",)),
)
JUMPS, BEFORE, AFTER = 40, 50, 150  # runs with a change, steps before it and at most after it
RETURN_RUNS = 20


class Jump(gym.Wrapper):
    """An environment whose agent becomes another one when `jump` is called: the state goes on."""

    def __init__(self, before: gym.Env, after: gym.Env) -> None:
        super().__init__(before)
        self.after = after

    def jump(self) -> None:
        state = self.env.unwrapped.state
        self.env, _ = self.after, self.after.reset(options={"state": state})


class Change(NamedTuple):
    """A change of an agent: its name, and (covariates before, generator) to covariates after."""

    name: str
    of: Callable[[dict[str, float], np.random.Generator], dict[str, float]]


def drawn(domain: Any, rng: np.random.Generator) -> dict[str, float]:
    """Covariates of an agent of the population that no data hold."""
    return {c.name: float(rng.uniform(c.low, c.high)) for c in domain.covariates}


def changes(domain: Any) -> list[Change]:
    def moved(name: str, low: float, high: float) -> Change:
        def of(before: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
            share = 0.1 if before[name] * 1.1 <= high else -0.1
            return before | {name: before[name] * (1 + share)}

        return Change(f"{name} by 10 %", of)

    single = [moved(c.name, c.low, c.high) for c in domain.covariates]
    return [Change("all covariates drawn anew", lambda before, rng: drawn(domain, rng)), *single]


def guarded(name: str, band: SurpriseBand, env: gym.Env, agent: int | None, fallback: Policy) -> TrustGuard:
    return TrustGuard(env, load_simulator(name), agent, fallback, band)


def alarms(name: str, band: SurpriseBand, kind: str, policy: str, seed: int) -> tuple[int, int]:
    """Alarms, and steps in which one was possible, of agents that do not change."""
    domain, count, steps = DOMAINS[name.split("/")[0]], 0, 0
    rng = np.random.default_rng(seed)
    for run in range(QUIET_AGENTS):
        agent = int(rng.integers(5, 500)) if kind == "logged" else None
        covariates = {"agent": agent} if agent is not None else drawn(domain, rng)
        acting: Policy = (
            RandomPolicy(domain.action_space, run) if policy == "random" else load_behavior_policy(domain.name, TEST)
        )
        env = guarded(name, band, gym.make(domain.env_id, **covariates), agent, acting)
        obs, info = env.reset(seed=50 * (seed - 1) + run)
        for _ in range(QUIET_STEPS):
            steps += not info["guard"]["why"]
            action, _ = acting.predict(obs, deterministic=True)
            obs, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                obs, info = env.reset()
        count += sum(h.why != "nothing is known of the agent" for h in env.handovers)
    return count, steps


def until_noticed(name: str, band: SurpriseBand, change: Change, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Of each run the steps until a change was noticed, and those until the policy acted again; infinite for never."""
    domain, found = DOMAINS[name.split("/")[0]], []
    policy = load_behavior_policy(domain.name, TEST)
    for run in range(JUMPS):
        agent = int(rng.integers(5, 500))
        before = domain.agent_covariates(agent)
        both = (gym.make(domain.env_id, **each) for each in (before, change.of(before, rng)))
        jump = Jump(*both)
        env = guarded(name, band, jump, agent, policy)
        obs, info = env.reset(seed=run)
        jumped, noticed, back = -1, np.inf, np.inf
        for step in range(BEFORE + AFTER):
            if jumped < 0 and step >= BEFORE and not info["guard"]["why"]:
                jump.jump()
                jumped = step
            action, _ = policy.predict(obs, deterministic=True)
            obs, _, terminated, truncated, info = env.step(action)
            why = info["guard"]["why"]
            if jumped >= 0 and why and np.isinf(noticed):
                noticed = step + 1 - jumped
            if np.isfinite(noticed) and not why and np.isinf(back):
                back = step + 1 - jumped
            if terminated or truncated:
                obs, info = env.reset()
        found.append((noticed, back))
    return found


def returns(name: str, band: SurpriseBand, rng: np.random.Generator) -> dict[str, list[float]]:
    """Returns of whole episodes in whose middle all covariates are drawn anew, by way to act."""
    simulator, domain = load_simulator(name), DOMAINS[name.split("/")[0]]
    fallback = load_behavior_policy(domain.name, TEST)
    found: dict[str, list[float]] = {"planned, no guard": [], "planned, guarded": [], "fallback alone": []}
    for run in range(RETURN_RUNS):
        agent = int(rng.integers(5, 500))
        before, after = domain.agent_covariates(agent), drawn(domain, rng)
        for way, kept in found.items():
            jump = Jump(gym.make(domain.env_id, **before), gym.make(domain.env_id, **after))
            env = guarded(name, band, jump, agent, fallback)
            online = env.dynamics if way == "planned, guarded" else simulator.dynamics(agent)
            planner = planner_of(domain.action_space, domain.name)
            mpc = MPC(online, domain.task, domain.action_space, planner=planner, bonus=domain.peak_bonus, seed=run)
            acting: Policy = fallback if way == "fallback alone" else mpc
            world: gym.Env = env if way == "planned, guarded" else jump
            obs, _ = world.reset(seed=run)
            total, step, ended = 0.0, 0, False
            while not ended:
                if step == BEFORE:
                    jump.jump()
                if way == "planned, guarded":
                    mpc.dynamics = env.dynamics
                action, _ = acting.predict(obs, deterministic=True)
                obs, reward, terminated, truncated, _ = world.step(action)
                # The time limit of the second environment counts from the change.
                total, step, ended = total + float(reward), step + 1, terminated or truncated
                ended = ended or step >= domain.episode_steps
            kept.append(total)
    return found


def rows(name: str, band: SurpriseBand, done: set[tuple[str, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of one simulator that are not there yet, as they are measured."""
    for study, seed, policies in QUIET_STUDIES:
        for kind, policy in product(("logged", "new"), policies):
            key = (study, name, kind, "none", policy)
            if key not in done:
                count, steps = alarms(name, band, kind, policy, seed)
                values = {"per 1,000 steps": f"{1000 * count / steps:.2f}", "steps": steps}
                yield [(*key, f"{ASKED:g}", metric, QUIET_AGENTS, value) for metric, value in values.items()]
    for change in changes(DOMAINS[name.split("/")[0]]):
        key = ("noticed", name, "logged", change.name, "test")
        if key not in done:
            noticed, back = np.array(until_noticed(name, band, change, np.random.default_rng(2))).T
            found = {f"share in {AFTER} steps": np.isfinite(noticed).mean()}
            found |= {f"steps until noticed {q:.0%}": nth(noticed, q) for q in (0.5, 0.9)}
            found["steps until the policy acts again 50%"] = nth(back, 0.5)
            yield [(*key, f"{ASKED:g}", metric, JUMPS, f"{value:g}") for metric, value in found.items()]
    key = ("return", name, "logged", "all covariates drawn anew")
    if not any(k[:4] == key for k in done):
        for way, values in returns(name, band, np.random.default_rng(3)).items():
            found = {"mean": np.mean(values), "lowest": np.min(values)}
            yield [(*key, way, f"{ASKED:g}", metric, RETURN_RUNS, f"{value:.1f}") for metric, value in found.items()]


def nth(values: np.ndarray, share: float) -> float:
    """The smallest value that this share of them do not pass."""
    return float(np.sort(values)[int(np.ceil(share * len(values))) - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=SIMULATORS)
    parser.add_argument("--bands", type=Path, help="Folder of bands that were measured before, or are kept there.")
    options = parser.parse_args()
    done: set[tuple[str, ...]] = set()
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8") as file:
            done = {tuple(row[:5]) for row in csv.reader(file)}
    else:
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for name in options.only:
        for some in rows(name, band_of(name, options.bands), done):
            with RESULTS.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(some)
            for row in some:
                print(*row, sep=",", flush=True)


def band_of(name: str, folder: Path | None) -> SurpriseBand:
    file = folder and folder / f"{name.split('/')[0]}-{ASKED:g}.json"
    if file and file.exists():
        return SurpriseBand.from_json(json.loads(file.read_text(encoding="utf-8")))
    band = guard_band(name, false_alarms=ASKED)
    if file:
        file.write_text(json.dumps(band.to_json()), encoding="utf-8")
    return band


if __name__ == "__main__":
    main()
