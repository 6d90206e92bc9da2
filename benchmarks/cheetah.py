"""Open-loop errors of HalfCheetah's simulators by how rollouts are made and averaged, which needs no training.

Each attempt predicts the episodes that `persim study accuracy` does, under test policies and under the policies that
logged other datasets. A row of `--out` is one figure of one agent; what is there is not made again. A simulator of
another recipe (`persim train --set`) is measured in the same way, under a name of its own.

    OMP_NUM_THREADS=1 python benchmarks/cheetah.py halfcheetah/random-v0
    python benchmarks/cheetah.py FOLDER --name "512 wide" --attempts "members apart" "within the middle 99.9 %"
    python benchmarks/cheetah.py --tables
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, PolicyNetwork, load_behavior_policy, policy_names
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import Trajectories, _episode_scores, record_trajectories
from persim_gym.evaluation.published import TEST_AGENTS, published_error
from persim_gym.jobs import RowLog
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.studies.accuracy import MEASURES
from persim_gym.studies.test_policies import trained_test_policy
from persim_gym.transitions import Transitions

DOMAIN = "halfcheetah"
JOB, COLUMNS = ("attempt", "dataset", "agent", "test_policy_seed", "metric"), ("value", "settings")
WARMUP, STEPS = 10, 50
# Initial states under logging policies, on which attempts are chosen, are not those of the test.
TEST_STATES, LOGGING_STATES = 0, 1_000
ALONE, APART, MEAN, DRAWN = "alone", "apart", "mean", "drawn"
PLAIN = "members apart"
COPIES = 4
OUT = Path("results/halfcheetah_attempts.csv")


@dataclass(frozen=True)
class Rollout:
    """How an ensemble is rolled out along logged actions; the mean of all rollouts is the prediction.

    Attributes:
        members: Whether members roll out "apart", as the protocol does, all from the "mean" of them at every step, or
            each rollout by a member that is "drawn" anew at every step; "alone": apart, and each a prediction.
        copies: Rollouts K of each member, or of the mean.
        start: Standard deviation of what starts are set off by, in logged standard deviations.
        residuals: Multiple of a residual of the agent's logged transitions that each step is set off by.
        spread: Multiple of a draw from the members' own spread that each step of the mean is set off by.
        beyond: Share of the logged observations, at either end of each dimension, beyond whose quantile predictions are
            clipped; None for no clipping.
    """

    members: str = APART
    copies: int = 1
    start: float = 0.0
    residuals: float = 0.0
    spread: float = 0.0
    beyond: float | None = None


ATTEMPTS = {
    PLAIN: Rollout(),
    "one member": Rollout(ALONE),
    "all from the mean of members": Rollout(MEAN),
    "a member drawn at every step": Rollout(DRAWN, copies=COPIES),
    "spread, from the mean of members": Rollout(MEAN, copies=COPIES, spread=1.0),
    "starts set off by 2 %": Rollout(copies=COPIES, start=0.02),
    "residuals": Rollout(copies=COPIES, residuals=1.0),
    "twice the residuals": Rollout(copies=COPIES, residuals=2.0),
    "within the logged range": Rollout(beyond=0.0),
    "within the middle 99.98 %": Rollout(beyond=1e-4),
    "within the middle 99.9 %": Rollout(beyond=5e-4),
    "within the middle 98 %": Rollout(beyond=1e-2),
    "residuals, within the middle 99.9 %": Rollout(copies=COPIES, residuals=1.0, beyond=5e-4),
}


class Joined:
    """The members of several simulators, bound to one agent, as one ensemble."""

    def __init__(self, simulators: Sequence[Simulator], agent: int) -> None:
        """Binds all to the agent."""
        self._each = [simulator.dynamics(agent) for simulator in simulators]
        self.members = sum(dynamics.members for dynamics in self._each)

    def __call__(self, obs: NDArray[np.float32], action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Next observations, [M, C, D], of [M, C, D] and actions [C, A]."""
        ends = np.cumsum([dynamics.members for dynamics in self._each])
        parts = zip(self._each, np.split(obs, ends[:-1]), strict=True)
        return np.concatenate([np.asarray(dynamics(part, action)) for dynamics, part in parts])


def logged_bounds(data: Transitions, beyond: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Quantiles of the logged observations that a share `beyond` lies below, or above, [D] each."""
    low, high = np.quantile(data.obs, (beyond, 1.0 - beyond), axis=0).astype(np.float32)
    return low, high


def logged_residuals(dynamics: Joined, own: Transitions) -> NDArray[np.float32]:
    """Logged next observations of an agent minus the members' mean, [K, D]."""
    each = dynamics(np.broadcast_to(own.obs, (dynamics.members, *own.obs.shape)), own.action)
    residuals: NDArray[np.float32] = own.next_obs - each.mean(axis=0)
    return residuals


def predict(
    dynamics: Joined, rollout: Rollout, true: Trajectories, own: Transitions, bounds: Any, unit: Any
) -> NDArray[np.float64]:
    """Mean predicted observations, [E, T + 1, D]; those of one member after the other where each is alone, [M E, ...].

    Args:
        dynamics: Model bound to the agent.
        rollout: How it is rolled out.
        true: Where episodes start, and their actions.
        own: Logged transitions of the agent.
        bounds: Lowest and highest predictions, [D] each, or None.
        unit: Logged standard deviations, [D].
    """
    rng, first, members = np.random.default_rng(0), true.obs[0], dynamics.members
    episodes, dim = first.shape
    groups = members if rollout.members in (APART, ALONE) else 1
    now = np.repeat(np.tile(first, (rollout.copies, 1))[None], groups, axis=0)  # [M or 1, K E, D]
    now = now + np.float32(rollout.start) * unit * rng.standard_normal(now.shape, dtype=np.float32)
    residuals = logged_residuals(dynamics, own) if rollout.residuals else np.zeros((1, dim), dtype=np.float32)
    predictions = members if rollout.members == ALONE else 1
    predicted = [np.tile(first, (predictions, 1)).astype(np.float64)]
    for action in true.action:
        each = dynamics(
            np.broadcast_to(now, (members, *now.shape[1:])), np.tile(action, (rollout.copies, 1))
        )  # [M, K E, D]
        now = _joined(each, rollout, rng)
        now = now + np.float32(rollout.residuals) * residuals[rng.integers(len(residuals), size=now.shape[:2])]
        now = now if bounds is None else np.clip(now, *bounds)
        mean = now.reshape(predictions, -1, episodes, dim).mean(axis=1, dtype=np.float64)
        predicted.append(mean.reshape(-1, dim))
    return np.stack(predicted, axis=1)


def _joined(each: NDArray[np.float32], rollout: Rollout, rng: np.random.Generator) -> NDArray[np.float32]:
    """Where rollouts go on from what all members predict of them, [M, C, D] to [M or 1, C, D]."""
    members, rows = each.shape[:2]
    if rollout.members in (APART, ALONE):
        return each
    if rollout.members == DRAWN:
        return each[rng.integers(members, size=rows), np.arange(rows)][None]
    mean = each.mean(axis=0)
    if not rollout.spread:
        return mean[None]
    draw = rng.standard_normal((members, rows, 1), dtype=np.float32) / np.float32(np.sqrt(members - 1))
    return (mean + np.float32(rollout.spread) * (draw * (each - mean)).sum(axis=0))[None]


def test_policies(names: Sequence[str], study: Path) -> Iterator[tuple[str, PolicyNetwork]]:
    """Policies by what rows call them: the seed of a test policy, or the name of a logging policy."""
    for name in names:
        if not name.isdecimal():
            yield name, load_behavior_policy(DOMAIN, name)
        elif int(name):
            yield name, trained_test_policy(DOMAIN, int(name), study)
        else:
            yield name, load_behavior_policy(DOMAIN, TEST)


def measure(
    simulators: Sequence[Simulator], data: Transitions, dataset: str, prefix: str, options: argparse.Namespace
) -> None:
    """Adds the figures of all attempts that the log lacks.

    Args:
        simulators: One, or several whose members are joined.
        data: What it was trained on.
        dataset: What rows call the data.
        prefix: What rows put before an attempt's name.
        options: The command's.
    """
    log, domain = RowLog(options.out, JOB, COLUMNS), DOMAINS[DOMAIN]
    bounds = {r.beyond: logged_bounds(data, r.beyond) for r in ATTEMPTS.values() if r.beyond is not None}
    jobs = [(*named, agent) for named in test_policies(options.policies, options.study) for agent in TEST_AGENTS]
    for name, policy, agent in tqdm(jobs, desc=prefix or dataset):
        keys = {a: (prefix + a, dataset, agent, name) for a in options.attempts}
        missing = [a for a, key in keys.items() if log.get(dict(zip(JOB, (*key, MEASURES[-1]), strict=True))) is None]
        if not missing:
            continue
        states = domain.initial_state(
            np.random.default_rng(TEST_STATES if name.isdecimal() else LOGGING_STATES), options.episodes
        )
        true = record_trajectories(policy, domain, agent, states, WARMUP, STEPS)
        observed = np.stack(true.obs[1:], axis=1).astype(np.float64)
        dynamics, own = Joined(simulators, agent), data.select(data.agent == agent)
        for attempt in missing:
            rollout = ATTEMPTS[attempt]
            guess = predict(
                dynamics, rollout, true, own, bounds.get(rollout.beyond), simulators[0].model.logged_std.numpy()
            )
            times = len(guess) // options.episodes
            seen, happened = (np.tile(x, (times, *[1] * (x.ndim - 1))) for x in (observed, true.happened))
            rmse, r2 = _episode_scores(seen, guess[:, 1:], happened)
            shown = " ".join(f"{k}={v}" for k, v in asdict(rollout).items())
            settings = f"{shown} members={dynamics.members} episodes={options.episodes}"
            for metric, value in zip(MEASURES, (rmse.mean(), np.median(r2)), strict=True):
                key = dict(zip(JOB, (*keys[attempt], metric), strict=True))
                log.add(key, {"value": f"{value:.6g}", "settings": settings})


def tables(path: Path) -> str:
    """Markdown: a table a dataset; RMSE under the test policy of seed 0, and mean changes of it under every policy."""
    found: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == MEASURES[0]:
                errors = found[row["dataset"], row["attempt"]]
                errors[row["test_policy_seed"], int(row["agent"])] = float(row["value"])
    parts: list[str] = []
    for dataset in dict.fromkeys(dataset for dataset, _ in found):
        plain = next(errors for key, errors in found.items() if key[0] == dataset and key[1].endswith(PLAIN))
        policies = list(dict.fromkeys(policy for policy, _ in plain))
        titles = [f"agent {agent}" for agent in TEST_AGENTS] + [f"change, {policy}" for policy in policies]
        parts += [f"### {dataset}", "", f"| rollouts | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
        for (of, attempt), errors in found.items():
            if of == dataset:
                changes = [_change(errors, plain, policy) for policy in policies]
                parts.append(f"| {attempt} | {' | '.join([*_errors(errors, dataset), *changes])} |")
        parts.append("")
    return "\n".join(parts)


def _errors(errors: Mapping[tuple[str, int], float], dataset: str) -> list[str]:
    """Errors of all agents under the test policy of seed 0; bold where the thesis's is reached."""
    shown = []
    for agent in TEST_AGENTS:
        error, known = errors.get(("0", agent)), published_error(DOMAIN, dataset, agent)
        text = "" if error is None else f"{error:.3f}"
        shown.append(f"**{text}**" if error and known and round(error, 3) <= known[0] else text)
    return shown


def _change(errors: Mapping[tuple[str, int], float], plain: Mapping[tuple[str, int], float], policy: str) -> str:
    """Geometric mean over agents of the ratio to the errors of the table's first members apart, less one."""
    pairs = [(errors.get((policy, agent)), plain[policy, agent]) for agent in TEST_AGENTS]
    logs = [np.log(error / before) for error, before in pairs if error is not None]
    return f"{np.expm1(np.mean(logs)):+.1%}" if len(logs) == len(TEST_AGENTS) else ""


def main() -> None:
    """Measures what is missing, or prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("simulators", nargs="*", help="names or folders; members of several are joined")
    parser.add_argument("--name", default="", help="of a recipe that is not the default, for the table")
    loggers = [name for name in policy_names(DOMAIN) if name != TEST]
    parser.add_argument(
        "--policies", nargs="+", default=["0", *loggers], help="seeds of test policies, logging policies"
    )
    parser.add_argument("--attempts", nargs="+", default=list(ATTEMPTS), choices=ATTEMPTS)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--study", type=Path, default=Path("persim-out/accuracy"), help="folder of the test policies")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--tables", action="store_true", help="print tables of what is in --out")
    options = parser.parse_args()
    if options.tables:
        print(tables(options.out))
    elif options.simulators:
        simulators = [load_simulator(name) for name in options.simulators]
        dataset = simulators[0].card.dataset
        data = load(dataset, progress=False)
        policy = dataset.rpartition("/")[2].removesuffix("-v0")
        measure(simulators, data, policy, f"{options.name}: " if options.name else "", options)
    else:
        parser.error("give a simulator, or --tables")


if __name__ == "__main__":
    main()
