"""Results of cells: one row a figure of one agent, in one CSV file; what tables and figures are made from."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from persim_gym.storage import reading

ALL_AGENTS = "all"


@dataclass(frozen=True)
class Result:
    """One measured figure, and how it was made.

    Attributes:
        domain: Name of the domain.
        dataset: Name of the logging policy; "-" for methods that need no data.
        n_agents: Agents in the data.
        agent: Number of the agent, 0-4 in the order of thesis Table 5.1; "all" for a figure of all of them.
        method: A key of `persim_gym.reproduce.protocol.METHODS`.
        seed: Of the training and of the episodes; the thesis calls it a trial.
        metric: "rmse" (raw units), "r2" or "return"; of logs, "logged-return" and "logged-length".
        value: Mean over the episodes; of "r2", the median.
        episodes: Number of the episodes.
        settings: How it was trained and planned, where that differs from the thesis; see `Effort.settings`.
        seconds: Wall-clock time of the cell, its training not counted.
        versions: Of persim_gym and of the libraries that decide the value.
        hardware: Processor, and the number of its cores.
    """

    domain: str
    dataset: str
    n_agents: int
    agent: str
    method: str
    seed: int
    metric: str
    value: float
    episodes: int
    settings: str
    seconds: float
    versions: str
    hardware: str


KEY_COLUMNS = ("domain", "dataset", "n_agents", "agent", "method", "seed", "metric", "episodes", "settings")
"""What identifies a result: figures of other sizes stand beside each other."""
COLUMNS = tuple(field.name for field in fields(Result))


def read_results(paths: Iterable[Path]) -> list[Result]:
    """The rows of several files, in their order.

    Raises:
        ValueError: If a file is missing, or a row of it cannot be read.
    """
    return [row for path in paths for row in _read(path)]


def _read(path: Path) -> list[Result]:
    """The rows of one file."""
    with reading(path, "give a file of `persim reproduce`, or remove it and run that again"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        if rows and set(rows[0]) != set(COLUMNS):
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        return [Result(**{f.name: _PARSE[f.name](row[f.name]) for f in fields(Result)}) for row in rows]


_PARSE: dict[str, Callable[[str], Any]] = {
    field.name: {"int": int, "float": float}.get(getattr(field.type, "__name__", ""), str) for field in fields(Result)
}
