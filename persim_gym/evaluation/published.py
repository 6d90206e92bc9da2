"""The thesis's protocol and published numbers, with their pages."""

import csv
from functools import cache
from pathlib import Path

TEST_AGENTS = (0, 1, 2, 3, 4)  # Table 5.1, p. 34
PREDICTION_EPISODES = 200  # p. 51
PREDICTION_WARMUP = 10  # the published code; the thesis is silent

ERROR_TABLE = {"mountaincar": "B.1", "cartpole": "B.2", "halfcheetah": "B.3"}
RETURN_TABLE = {"mountaincar": "B.4", "cartpole": "B.5", "halfcheetah": "B.6"}


@cache
def _tables() -> dict[tuple[str, str, str, str, str, str], float]:
    path = Path(__file__).parent / "thesis_tables.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["table"], row["env"], row["dataset"], row["method"], row["agent"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["n_agents"] == "500"
        }


def published_error(domain: str, policy: str, agent: int, method: str = "PerSim") -> tuple[float, float] | None:
    """Mean RMSE and median R² of Tables B.1–B.3, or None where the thesis has none.

    Args:
        domain: Name of the domain.
        policy: Name of the logging policy.
        agent: 0–4.
        method: As the table names it.
    """
    table = ERROR_TABLE.get(domain, "")
    rmse = _tables().get((table, domain, policy, method, str(agent + 1), "rmse_50step_mean"))
    r2 = _tables().get((table, domain, policy, method, str(agent + 1), "r2_50step_median"))
    return None if rmse is None or r2 is None else (rmse, r2)


def published_return(domain: str, policy: str, agent: int, method: str = "PerSim") -> float | None:
    """Average reward of Tables B.4–B.6, or None where the thesis has none; arguments as `published_error`.

    "True env + MPC" has no logging policy: pass an empty one.
    """
    key = (RETURN_TABLE.get(domain, ""), domain, policy, method, str(agent + 1), "average_reward")
    return _tables().get(key)


def published_logging(domain: str, policy: str) -> tuple[float, float] | None:
    """Average observed reward and trajectory length of Table A.1, or None where the thesis has none."""
    reward = _tables().get(("A.1", domain, policy, "logging policy", "all", "observed_reward"))
    length = _tables().get(("A.1", domain, policy, "logging policy", "all", "trajectory_length"))
    return None if reward is None or length is None else (reward, length)


def published_logging_agents(domain: str, policy: str) -> tuple[float, ...] | None:
    """Observed rewards of Table A.1's five test agents, ours 0–4, or None where the thesis has none."""
    keys = [("A.1", domain, policy, "logging policy", str(agent + 1), "observed_reward") for agent in TEST_AGENTS]
    return tuple(_tables()[key] for key in keys) if all(key in _tables() for key in keys) else None
