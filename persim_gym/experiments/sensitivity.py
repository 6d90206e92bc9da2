"""What a perfect simulator would score: the true dynamics, started a little off.

Where the true dynamics are chaotic, no model that errs in its first step can come below these errors by much.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.behaviour import TEST, load_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluate import prediction_error
from persim_gym.experiments.figures import covariate_label
from persim_gym.experiments.protocol import TEST_AGENTS
from persim_gym.experiments.runs import RowLog, run_jobs
from persim_gym.task import Dynamics

FILE = "sensitivity.csv"
OFFSETS = (0.001, 0.01)
JOB = ("domain", "offset")
COLUMNS = tuple(f"rmse_{agent}" for agent in TEST_AGENTS)


class StartedOff:
    """True dynamics of several members, each of which starts a random distance from where it is told to.

    Attributes:
        members: Members M.
    """

    def __init__(self, dynamics: Dynamics, scale: NDArray[np.float64], members: int, seed: int) -> None:
        """Binds the true dynamics.

        Args:
            dynamics: True dynamics of one agent.
            scale: Standard deviation of the distance in each dimension, [D].
            members: Members M.
            seed: Source of the distances.
        """
        self.members = members
        self._dynamics, self._scale, self._rng = dynamics, scale, np.random.default_rng(seed)
        self._started = False

    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D]; the first call moves its observations, [M, C, D] or [C, D], first."""
        now = np.broadcast_to(obs, (self.members, *np.shape(obs)[-2:]))
        if not self._started:
            now, self._started = now + self._rng.standard_normal(now.shape) * self._scale, True
        actions = np.broadcast_to(action, (self.members, *np.shape(action)))
        flat = self._dynamics(now.reshape(-1, now.shape[-1]), actions.reshape(-1, *actions.shape[2:]))
        return flat.reshape(now.shape)


def sensitivity(domain: str, offset: float, episodes: int = 200, members: int = 5) -> dict[str, float]:
    """Mean RMSE of each test agent, as for learned simulators, of the true dynamics started off.

    Args:
        domain: Name of the domain.
        offset: Standard deviation of the distance at the start, as a fraction of each dimension's standard deviation
            over the test episodes.
        episodes: Episodes an agent.
        members: Perturbed rollouts whose mean is scored, as with an ensemble.
    """
    spec, test = DOMAINS[domain], load_policy(domain, TEST)
    row = {}
    for agent in TEST_AGENTS:
        true = spec.dynamics(agent)
        exact = prediction_error(StartedOff(true, np.zeros(1), 1, 0), spec, agent, test, episodes=episodes)
        scale = offset * np.nanstd(exact.true, axis=(0, 1))
        started = StartedOff(true, scale, members, seed=0)
        row[f"rmse_{agent}"] = prediction_error(started, spec, agent, test, episodes=episodes).mean_rmse
    return row


def run_sensitivity(
    domains: Sequence[str], out: Path, *, episodes: int = 200, workers: int | None = None
) -> list[dict[str, str]]:
    """Measures domains at every offset; what is in `out` already is not done again.

    Args:
        domains: Names of domains.
        out: Folder of the rows.
        episodes: Episodes an agent.
        workers: Processes; None for one a core.
    """
    jobs = [{"domain": domain, "offset": offset} for domain in domains for offset in OFFSETS]
    log = RowLog(out / FILE, JOB, COLUMNS)
    constants = {"episodes": episodes}
    return run_jobs(sensitivity, jobs, log, description="started off", constants=constants, workers=workers)


def sensitivity_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: one table a domain."""
    parts = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        labels = [covariate_label(DOMAINS[domain], agent) for agent in TEST_AGENTS]
        lines = [f"| {DOMAINS[domain].title}, started off by | {' | '.join(labels)} |", f"|---|{'---|' * len(labels)}"]
        for row in rows:
            if row["domain"] == domain:
                cells = " | ".join(f"{float(row[column]):.4f}" for column in COLUMNS)
                lines.append(f"| {100 * float(row['offset']):g} % | {cells} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
