"""What nearly perfect simulators would score: the true dynamics, started a little off or set off at every step.

Where the true dynamics are chaotic, no model that errs in its first step can come below these errors by much.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.task import Dynamics, PlanningDynamics

SENSITIVITY_FILE = "sensitivity.csv"
START, STEP = "start", "step"
OFFSETS = {START: (0.001, 0.01), STEP: (0.01, 0.03, 0.1, 0.2)}
"""By when the dynamics are set off: fractions of the observations' standard deviation once, of their change a step."""
OFFSET_UNITS = {START: "of its spread at the start", STEP: "of its change at every step"}
SENSITIVITY_JOB = ("domain", "when", "offset")
SENSITIVITY_COLUMNS = tuple(f"rmse_{agent}" for agent in TEST_AGENTS)


class SetOff(PlanningDynamics):
    """True dynamics of several members, each of which is set off by noise of its own."""

    def __init__(
        self,
        dynamics: Dynamics,
        members: int,
        seed: int = 0,
        *,
        start: NDArray[np.float64] | float = 0.0,
        step: NDArray[np.float64] | float = 0.0,
    ) -> None:
        """Binds the true dynamics.

        Args:
            dynamics: True dynamics of one agent.
            members: Members M.
            seed: Source of the noise.
            start: Standard deviation of what is added to each dimension of the first observations, [D].
            step: Standard deviation of what is added to each dimension of every prediction, [D].
        """
        self.members = members
        self._dynamics, self._start, self._step = dynamics, start, step
        self._rng = np.random.default_rng(seed)
        self._started = False

    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D], of observations [M, C, D] or [C, D]."""
        now = np.broadcast_to(obs, (self.members, *np.shape(obs)[-2:]))
        if not self._started:
            now, self._started = now + self._rng.standard_normal(now.shape) * self._start, True
        actions = np.broadcast_to(action, (self.members, *np.shape(action)))
        flat = self._dynamics(now.reshape(-1, now.shape[-1]), actions.reshape(-1, *actions.shape[2:]))
        return flat.reshape(now.shape) + self._rng.standard_normal(now.shape) * self._step


def offset_errors(domain: str, when: str, offset: float, episodes: int = 200, members: int = 5) -> dict[str, float]:
    """Mean RMSE of each test agent, as for learned simulators, of the true dynamics set off.

    Args:
        domain: Name of the domain.
        when: "start" or "step", a key of `OFFSETS`.
        offset: Standard deviation of the noise: at the start as a fraction of each dimension's standard deviation over
            the test episodes, at every step as a fraction of the root mean square of its change in a step.
        episodes: Episodes an agent.
        members: Rollouts whose mean is scored, as with an ensemble.
    """
    spec, test = DOMAINS[domain], load_behavior_policy(domain, TEST)
    row = {}
    for agent in TEST_AGENTS:
        dynamics = spec.dynamics(agent)
        true = prediction_error(SetOff(dynamics, 1), spec, agent, test, episodes=episodes).true
        unit = (
            np.nanstd(true, axis=(0, 1)) if when == START else np.sqrt(np.nanmean(np.diff(true, axis=1) ** 2, (0, 1)))
        )
        off = SetOff(dynamics, members, **{when: offset * unit})
        row[f"rmse_{agent}"] = prediction_error(off, spec, agent, test, episodes=episodes).mean_rmse
    return row


def run_sensitivity(
    domains: Sequence[str], out: Path, *, episodes: int = 200, **place: Unpack[JobPlace]
) -> list[dict[str, str]]:
    """Measures domains at every offset; what is in `out` already is not done again.

    Args:
        domains: Names of domains.
        out: Folder of the rows.
        episodes: Episodes an agent.
        **place: See `JobPlace`.
    """
    jobs = [
        {"domain": domain, "when": when, "offset": offset}
        for domain in domains
        for when, offsets in OFFSETS.items()
        for offset in offsets
    ]
    log = RowLog(out / SENSITIVITY_FILE, SENSITIVITY_JOB, SENSITIVITY_COLUMNS)
    constants = {"episodes": episodes}
    return run_jobs(offset_errors, jobs, log, description="set off", constants=constants, **place)


def sensitivity_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: one table a domain."""
    parts = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        labels = [covariate_label(DOMAINS[domain], agent) for agent in TEST_AGENTS]
        lines = [f"| {DOMAINS[domain].title}, set off by | {' | '.join(labels)} |", f"|---|{'---|' * len(labels)}"]
        for row in rows:
            if row["domain"] == domain:
                cells = " | ".join(f"{float(row[column]):.4f}" for column in SENSITIVITY_COLUMNS)
                lines.append(f"| {100 * float(row['offset']):g} % {OFFSET_UNITS[row['when']]} | {cells} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
