"""The thesis's protocol and published numbers, with their pages."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TEST_AGENTS = (0, 1, 2, 3, 4)  # Table 5.1, p. 34
PREDICTION_EPISODES = 200  # p. 51
PREDICTION_WARMUP = 10  # the published code; the thesis is silent

ERROR_TABLE = {"mountaincar": "B.1", "cartpole": "B.2", "halfcheetah": "B.3"}
RETURN_TABLE = {"mountaincar": "B.4", "cartpole": "B.5", "halfcheetah": "B.6"}
_LOGS, _ALL_AGENTS, _POPULATION = "A.1", "all", 500


@dataclass(frozen=True)
class PublishedCell:
    """What a cell of the thesis's tables says.

    Attributes:
        value: Its value.
        std: Standard deviation over trials, or None where the thesis gives none.
        text: Both as they are printed.
    """

    value: float
    std: float | None
    text: str

    @property
    def places(self) -> int:
        """Decimal places that the value is printed with."""
        return len(self.text.partition(" ")[0].partition(".")[2])


@cache
def _tables() -> dict[tuple[str, str, str, int, str, str, str], PublishedCell]:
    path = Path(__file__).parent / "thesis_tables.csv"
    cells = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            data = row["table"], row["env"], row["dataset"], int(row["n_agents"])
            std = float(row["std"]) if row["std"] else None
            text = f"{row['value']} ± {row['std']}" if row["std"] else row["value"]
            cells[(*data, row["method"], row["agent"], row["metric"])] = PublishedCell(float(row["value"]), std, text)
    return cells


def published_cell(
    table: str, domain: str, policy: str, n_agents: int, method: str, agent: int | None, metric: str
) -> PublishedCell | None:
    """A cell of the thesis's tables, or None where there is none.

    Args:
        table: The table that prints it; of Table 5.3 only what differs from Table B.10.
        domain: Name of the domain.
        policy: Name of the logging policy; empty for "True env + MPC".
        n_agents: Agents in the data.
        method: As the table names it.
        agent: 0–4; None for the mean of all agents in the data.
        metric: "rmse_50step_mean", "r2_50step_median", "average_reward", "observed_reward" or "trajectory_length".
    """
    name = _ALL_AGENTS if agent is None else str(agent + 1)
    return _tables().get((table, domain, policy, n_agents, method, name, metric))


def published_error(domain: str, policy: str, agent: int, method: str = "PerSim") -> tuple[float, float] | None:
    """Mean RMSE and median R² of Tables B.1–B.3, or None where the thesis has none.

    Args:
        domain: Name of the domain.
        policy: Name of the logging policy.
        agent: 0–4.
        method: As the table names it.
    """
    cell = ERROR_TABLE.get(domain, ""), domain, policy, _POPULATION, method, agent
    rmse, r2 = published_cell(*cell, "rmse_50step_mean"), published_cell(*cell, "r2_50step_median")
    return None if rmse is None or r2 is None else (rmse.value, r2.value)


def published_return(domain: str, policy: str, agent: int, method: str = "PerSim") -> float | None:
    """Average reward of Tables B.4–B.6, or None where the thesis has none; arguments as `published_error`.

    "True env + MPC" has no logging policy: pass an empty one.
    """
    table = RETURN_TABLE.get(domain, "")
    cell = published_cell(table, domain, policy, _POPULATION, method, agent, "average_reward")
    return None if cell is None else cell.value


def published_logging(domain: str, policy: str) -> tuple[float, float] | None:
    """Average observed reward and trajectory length of Table A.1, or None where the thesis has none."""
    cell = _LOGS, domain, policy, _POPULATION, "logging policy", None
    reward, length = published_cell(*cell, "observed_reward"), published_cell(*cell, "trajectory_length")
    return None if reward is None or length is None else (reward.value, length.value)


def published_logging_agents(domain: str, policy: str) -> tuple[float, ...] | None:
    """Observed rewards of Table A.1's five test agents, ours 0–4, or None where the thesis has none."""
    cells = [
        published_cell(_LOGS, domain, policy, _POPULATION, "logging policy", agent, "observed_reward")
        for agent in TEST_AGENTS
    ]
    known = tuple(cell.value for cell in cells if cell is not None)
    return known if len(known) == len(TEST_AGENTS) else None
