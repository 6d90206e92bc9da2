"""Whether `persim compare` is right: its ranking of candidates, and its intervals, beside true returns.

Candidates of an agent are of widely different quality: bundled policies of other agents, the same with random actions
between, policies trained for an agent for a short and a longer time, in the truth and in the simulator, constant and
random actions, and planning in the simulator.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from typing_extensions import Unpack

from persim_gym.comparison.candidates import LOGGED, Given, find_candidates
from persim_gym.comparison.compare import compare
from persim_gym.comparison.intervals import NORMAL_90
from persim_gym.comparison.results import UNFAMILIAR
from persim_gym.comparison.setting import AUTO, Setting
from persim_gym.datasets.behavior.policies import load_behavior_policy, policy_names, with_random_actions
from persim_gym.datasets.registry import NAMESPACE
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.returns import episode_returns
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.policies import PolicyTraining, load_policy, run_training
from persim_gym.simulator.registry import load_simulator

COMPARE_JOB = ("domain", "dataset", "weights", "noise", "steps", "agent", "candidate", "seed")
COMPARE_RESULT = ("mean", "low", "high", "best", "unlike", "fitted_q", "truth", "truth_error")
COMPARED_AGENTS = tuple(range(16, 26))
"""None of those that anything was chosen on: settings of fitted Q evaluation were, on agent 5 of MountainCar."""
TRUE_EPISODES = 1000
TRUE_SLOW_EPISODES = 40
"""Of planning and of cloned behaviour, which take longer."""


class ComparedDomain(NamedTuple):
    """What is compared in a domain.

    Attributes:
        steps: Longest episode; 0 for the domain's limit.
        trainings: Environment steps of the trained policies; empty for none.
        planner: Of planning, as `persim compare` takes it.
        constants: Constant actions.
    """

    steps: int
    trainings: tuple[int, ...]
    planner: str
    constants: tuple[str, ...]


COMPARED: dict[str, ComparedDomain] = {
    "mountaincar": ComparedDomain(0, (20_000, 60_000), "mpc:shooting:candidates=15:horizon=30", ("0", "2")),
    "cartpole": ComparedDomain(0, (4_000, 20_000), "mpc:shooting:candidates=20:horizon=12", ("0",)),
    "revenue": ComparedDomain(0, (), "mpc:shooting:candidates=20:horizon=15", ("1", "2", "3", "4")),
    "halfcheetah": ComparedDomain(
        20, (), "mpc:cem:candidates=30:horizon=8:iterations=2:elites=6", ("0,0,0,0,0,0", "1,1,1,1,1,1")
    ),
}
TRAINED_AGENT = 15
"""Whom policies are trained for; none of those that they are compared for."""


class Unsteady:
    """A policy that does something random every now and then."""

    def __init__(self, policy: Policy, space: Any, epsilon: float, seed: int) -> None:
        """Takes the policy, its space of actions, the probability, and a seed."""
        self._policy, self._space, self._epsilon = policy, space, epsilon
        self._rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions of observations, [B, D], and the state for the next call."""
        action, state = self._policy.predict(observation, state, episode_start, deterministic)
        return with_random_actions(action, self._space, self._epsilon, self._rng), state


def study_candidates(domain: str, folder: Path) -> dict[str, Given]:
    """Candidates of a domain; trained policies are in the folder."""
    asked, space = COMPARED[domain], DOMAINS[domain].action_space
    found: dict[str, Given] = {"random": "random", "mpc": asked.planner}
    found |= {f"constant {action}": f"constant:{action}" for action in asked.constants}
    bundled = {name: load_behavior_policy(domain, name) for name in policy_names(domain)}
    found |= bundled
    found |= {
        f"{name}, {share:.0%} random": Unsteady(bundled[name], space, share, seed)
        for seed, (name, share) in enumerate((("test", 0.25), ("test", 0.5), ("logger-0", 0.75)))
    }
    for steps in asked.trainings:
        for place in ("truth", "simulator"):
            path = folder / f"{domain}-{place}-{steps}" / f"agent-{TRAINED_AGENT}.json"
            found[f"{steps} steps in the {place}"] = load_policy(path)
    return found


def train_candidates(domain: str, simulator: str, folder: Path) -> None:
    """Trains what `study_candidates` loads; what is there is kept."""
    for steps in COMPARED[domain].trainings:
        for place in ("truth", "simulator"):
            true = place == "truth"
            training = PolicyTraining(TRAINED_AGENT, "ppo", simulator, truth=true, steps=steps, seed=int(true))
            run_training(training, folder / f"{domain}-{place}-{steps}", progress=False)


def compare_once(
    domain: str, simulator: str, noise: str, steps: int, agent: int, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Rows of all candidates of one agent; runs in a worker process."""
    given = study_candidates(domain, folder)
    found = compare(simulator, given, [agent], steps=steps, seed=seed, noise=noise)
    setting, true = Setting.of(simulator), DOMAINS[domain]
    candidates = {each.name: each for each in find_candidates({**given, LOGGED: LOGGED}, setting)}
    rows = []
    for row in found.rows:
        count = TRUE_SLOW_EPISODES if row.candidate in ("mpc", LOGGED) else TRUE_EPISODES
        policy = candidates[row.candidate].make(agent, seed)
        earned = episode_returns(policy, true, agent, episodes=count, seed=seed + 1, steps=steps or None)
        rows.append(
            {
                "candidate": row.candidate,
                **{name: getattr(row, name) for name in ("mean", "low", "high", "best", "unlike", "fitted_q")},
                "truth": float(earned.mean()),
                "truth_error": float(earned.std(ddof=1) / np.sqrt(count)),
            }
        )
    return rows


def run_compare_study(
    simulators: Mapping[str, str],
    agents: Sequence[int],
    out: Path,
    seed: int = 0,
    noise: str = AUTO,
    **place: Unpack[JobPlace],
) -> list[dict[str, str]]:
    """Compares candidates in simulators, and in the truth; one CSV row an agent and candidate.

    Args:
        simulators: Name or path of the simulator of each domain.
        agents: Agents of the population.
        out: Folder: `compare.csv`, and trained policies in `policies/`.
        seed: Of the comparisons.
        noise: As `persim_gym.comparison.setting.Sampling` has it.
        **place: See `JobPlace`.

    Raises:
        ValueError: If a domain is not in `COMPARED`.
    """
    if unknown := [domain for domain in simulators if domain not in COMPARED]:
        raise ValueError(f"no comparison for {', '.join(unknown)}; choose from {', '.join(COMPARED)}")
    log = RowLog(out / "compare.csv", COMPARE_JOB, COMPARE_RESULT)
    done = list[dict[str, str]]()
    for domain, simulator in simulators.items():
        train_candidates(domain, simulator, out / "policies")
        card = load_simulator(simulator).card
        names = [*study_candidates(domain, out / "policies"), LOGGED]
        kind = Setting.of(simulator).noise(noise)
        head = {
            "domain": domain,
            "dataset": card.dataset.removeprefix(f"{NAMESPACE}/"),
            "weights": card.sha256[:12],
            "noise": kind,
            "steps": COMPARED[domain].steps,
            "seed": seed,
        }

        def rows_of(job: Mapping[str, Any], names: Sequence[str] = names) -> list[dict[str, Any]]:
            return [{**job, "candidate": name} for name in names]

        done += run_jobs(
            compare_once,
            [{**head, "agent": agent} for agent in agents],
            log,
            description=domain,
            constants={"simulator": simulator},
            drop=("dataset", "weights"),
            rows=rows_of,
            folder=out / "policies",
            reads=lambda job: ["."],
            **place,
        )
    return done


class Scores(NamedTuple):
    """How right estimates of one agent's candidates are.

    Attributes:
        rank: Spearman's correlation of estimates and true returns.
        regret: What the chosen candidate earns less than the best one, in the range of true returns.
        regret_of_three: What the best of the first three earns less.
        error: Mean absolute error of the estimates, in that range.
    """

    rank: float
    regret: float
    regret_of_three: float
    error: float


def scores(estimates: NDArray[np.float64], truth: NDArray[np.float64]) -> Scores:
    """Scores of estimates against true returns, [C] each."""
    width, order = max(float(np.ptp(truth)), 1e-12), np.argsort(-estimates, kind="stable")
    return Scores(
        float(spearmanr(estimates, truth).statistic),
        float(truth.max() - truth[order[0]]) / width,
        float(truth.max() - truth[order[:3]].max()) / width,
        float(np.abs(estimates - truth).mean()) / width,
    )


def coverage(rows: Sequence[Mapping[str, str]]) -> float:
    """Share of 90 % intervals that hold the true return.

    True returns are means of episodes too: their sampling error is added to an interval's in quadrature.
    """
    held = []
    for row in rows:
        mean, low, high, truth, error = (float(row[key]) for key in ("mean", "low", "high", "truth", "truth_error"))
        half = np.hypot(mean - low if truth < mean else high - mean, NORMAL_90 * error)
        held.append(abs(truth - mean) <= half + 1e-6 * abs(mean))
    return float(np.mean(held))


def compare_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: a line a dataset, noise and way to estimate; medians and means over agents."""
    lines = [
        "| logs | estimate | agents | candidates | rank correlation, median (worst) | regret, mean (worst) "
        "| regret of the first three | error | 90 % intervals that hold (where true episodes differ) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        noises = list(dict.fromkeys(row["noise"] for row in own))
        for noise in noises:
            some = [row for row in own if row["noise"] == noise]
            lines.append(_line(some, "mean", "simulator" if noise == "none" else f"simulator, {noise} noise"))
        lines.append(_line([row for row in own if row["noise"] == noises[0]], "fitted_q", "fitted Q"))
    return "\n".join(lines) + "\n"


def unlike_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: how right estimates are of candidates that keep to what was logged, and of those that leave it.

    Candidates of whom that was not measured are left out.
    """
    lines = [
        "| logs | steps unlike the logs | candidates | error | 90 % intervals that hold |",
        "|---|---|---:|---:|---:|",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows if row["unlike"]):
        own = [row for row in rows if row["dataset"] == dataset]
        truth = {agent: [float(r["truth"]) for r in own if r["agent"] == agent] for agent in {r["agent"] for r in own}}
        for far, said in ((False, "up to"), (True, "more than")):
            some = [row for row in own if row["unlike"] and (float(row["unlike"]) > UNFAMILIAR) == far]
            if some:
                errors = [abs(float(r["mean"]) - float(r["truth"])) / np.ptp(truth[r["agent"]]) for r in some]
                lines.append(
                    f"| {dataset.removesuffix('-v0')} | {said} {UNFAMILIAR:.0%} | {len(some)} | {np.mean(errors):.1%} "
                    f"| {coverage(some):.0%} |"
                )
    return "\n".join(lines) + "\n"


def _line(rows: Sequence[Mapping[str, str]], column: str, name: str) -> str:
    """A line of the table: how right a column of estimates is, of one dataset."""
    agents = list(dict.fromkeys(row["agent"] for row in rows))
    each = []
    for agent in agents:
        some = [row for row in rows if row["agent"] == agent]
        estimates, truth = (np.array([float(row[key]) for row in some]) for key in (column, "truth"))
        each.append(scores(estimates, truth))
    rank, regret, three, error = (np.array(part) for part in zip(*each, strict=True))
    differing = [row for row in rows if float(row["truth_error"]) > 0]
    held = f"{coverage(rows):.0%} ({coverage(differing):.0%})" if column == "mean" and differing else "-"
    return (
        f"| {rows[0]['dataset'].removesuffix('-v0')} | {name} | {len(agents)} | {len(rows) // len(agents)} "
        f"| {np.median(rank):.2f} ({rank.min():.2f}) | {regret.mean():.1%} ({regret.max():.1%}) "
        f"| {three.mean():.1%} | {error.mean():.1%} | {held} |"
    )
