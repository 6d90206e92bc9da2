"""A cell of a table: ours over trials beside the thesis's."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from persim_gym.evaluation.prediction import format_error
from persim_gym.evaluation.published import PublishedCell
from persim_gym.reproduce.protocol import LOGS, NO_DATA, PREDICTION, SHORTENED
from persim_gym.reproduce.published import Fault
from persim_gym.reproduce.results import Result

ERROR_PLACES = 3  # Decimal places of the thesis's errors; it drops zeros at the end of some.
RETURN_PLACES = 1  # Of returns that stand beside none of the thesis's.


@dataclass(frozen=True)
class TableCell:
    """One figure of a table: ours over trials, and the thesis's.

    Attributes:
        domain: Name of the domain.
        dataset: Name of the logging policy, or `NO_DATA`.
        n_agents: Agents in the data.
        method: A key of `METHODS`.
        agent: Number of the agent, or "all".
        metric: As `Result.metric`.
        rows: Our results, one a trial; none if it was not run.
        published: The thesis's cell, or None if it has none.
        fault: What is wrong with the thesis's cell, or None.
    """

    domain: str
    dataset: str
    n_agents: int
    method: str
    agent: str
    metric: str
    rows: tuple[Result, ...]
    published: PublishedCell | None
    fault: Fault | None

    @property
    def line(self) -> tuple[str, str, int, str]:
        """What the cells of a line of the table have in common."""
        return self.domain, self.dataset, self.n_agents, self.method

    @property
    def values(self) -> list[float]:
        """Ours of each trial."""
        return [row.value for row in self.rows]

    @property
    def mean(self) -> float | None:
        """Ours, or None if it was not run."""
        return float(np.mean(self.values)) if self.rows else None

    @property
    def settings(self) -> tuple[str, ...]:
        """How its trials were trained and planned, each once."""
        return tuple(dict.fromkeys(row.settings for row in self.rows if row.settings))

    @property
    def shortened(self) -> bool:
        """Whether episodes of ours were ended before the domain's limit, so that its return is of another quantity."""
        return any(SHORTENED in settings for settings in self.settings)

    @property
    def contending(self) -> float | None:
        """Ours as other figures are compared with it; None if it was not run, or shortened."""
        return None if self.shortened else self.mean

    @property
    def std(self) -> float | None:
        """Sample standard deviation of ours over trials, or None of fewer than two.

        The thesis's seem to be sample ones, too: 199.75 ± 0.35, 199.25 ± 1.06 and 198.75 ± 1.77 of Table B.12 fit two
        trials of 20 episodes, each of at most 200, and nothing near them does with the other divisor.
        """
        return float(np.std(self.values, ddof=1)) if len(self.rows) > 1 else None

    @property
    def places(self) -> int:
        """Decimal places that it is compared with: those of the thesis."""
        if self.metric in PREDICTION:
            return ERROR_PLACES
        return RETURN_PLACES if self.published is None else self.published.places

    @property
    def comparable(self) -> bool:
        """Whether ours was run as long as the thesis's, which is a figure that one can aim at; logs have none."""
        aimed_at = self.published is not None and not (self.fault and self.fault.spoils_mean)
        return self.contending is not None and aimed_at and self.metric not in LOGS

    @property
    def difference(self) -> float | None:
        """Ours less the thesis's, or None where one of them is missing or ours is shortened."""
        return None if self.contending is None or self.published is None else self.contending - self.published.value

    @property
    def no_worse(self) -> bool | None:
        """Whether ours, rounded as the thesis's, is no worse than it; None if they are not comparable."""
        if self.mean is None or self.published is None or not self.comparable:
            return None
        ours, thesis = (round(value, self.places) for value in (self.mean, self.published.value))
        return score(self.metric, ours) >= score(self.metric, thesis)


def score(metric: str, value: float) -> float:
    """A value such that higher is better; what is no number is worst."""
    if np.isnan(value):
        return -np.inf
    return -value if metric == "rmse" else value


def data_name(dataset: str) -> str:
    """What tables call a dataset; "none" for methods that need none."""
    return "none" if dataset == NO_DATA else dataset


def format_figure(metric: str, value: float, places: int) -> str:
    """A figure of ours as tables show it: RMSE with four places, R² with three, others with the given ones."""
    if metric == "rmse":
        return format_error(value)
    return f"{value:.{ERROR_PLACES if metric == 'r2' else places}f}"


def lines_of(cells: Iterable[TableCell], metric: str) -> list[tuple[TableCell, ...]]:
    """Cells of one metric: a line each of a domain, dataset, size and method, of one cell an agent."""
    chosen = [cell for cell in cells if cell.metric == metric]
    return [tuple(line) for _, line in groupby(chosen, key=lambda cell: cell.line)]
