"""What follows from a table: where PerSim is best, interquartile means, and how its methods were run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from persim_gym.evaluation.intervals import interquartile_interval
from persim_gym.reproduce.protocol import LOGS, METHODS, MODEL_BASED, MODEL_FREE
from persim_gym.reproduce.table_cell import ERROR_PLACES, TableCell, lines_of, score

FAR_DEVIATIONS = 2.0
FAR_RATIO = 1.5


@dataclass(frozen=True)
class Wins:
    """In how many cells PerSim is the best of all methods that have only data, ties included.

    Attributes:
        ours: Of our cells.
        of_ours: Our cells in which PerSim and another method were run.
        thesis: Of the thesis's cells.
        of_thesis: The thesis's cells in which no method's figure is faulty.
    """

    ours: int
    of_ours: int
    thesis: int
    of_thesis: int


def wins(table_cells: Sequence[TableCell], metric: str) -> Wins:
    """In how many cells of a metric PerSim is best; the planner in the true environment does not compete."""
    ours, thesis = [], []
    for cells in contests(table_cells, metric):
        known = {c.method: score(metric, c.contending) for c in cells if c.contending is not None}
        if "persim" in known and len(known) > 1:
            ours.append(known["persim"] == max(known.values()))
        if not any(c.published is None or (c.fault and c.fault.spoils_mean) for c in cells):
            said = {c.method: score(metric, c.published.value) for c in cells if c.published}
            thesis.append(said["persim"] == max(said.values()))
    return Wins(sum(ours), len(ours), sum(thesis), len(thesis))


def contests(table_cells: Sequence[TableCell], metric: str) -> Iterator[tuple[TableCell, ...]]:
    """Cells of the methods that compete on the same dataset, size and agent; none of a table without PerSim."""
    groups: dict[tuple[str, str, int, str], list[TableCell]] = {}
    for cell in table_cells:
        if cell.metric == metric and cell.method in (*MODEL_BASED, *MODEL_FREE):
            groups.setdefault((cell.domain, cell.dataset, cell.n_agents, cell.agent), []).append(cell)
    return (tuple(cells) for cells in groups.values())


def losses(table_cells: Sequence[TableCell], metric: str) -> list[tuple[TableCell, TableCell]]:
    """PerSim's cell and the best one, of ours, wherever another method is better than PerSim."""
    lost = []
    for cells in contests(table_cells, metric):
        known = {c.method: (score(metric, c.contending), c) for c in cells if c.contending is not None}
        best = max(known.values(), key=lambda pair: pair[0], default=None)
        if best is not None and "persim" in known and best[0] > known["persim"][0]:
            lost.append((known["persim"][1], best[1]))
    return lost


def is_judged(cell: TableCell) -> bool:
    """Whether `departure` can judge a cell: an RMSE, or a return whose spread the thesis gives; neither is faulty."""
    spread = None if cell.published is None else cell.published.std
    return cell.comparable and cell.fault is None and (cell.metric == "rmse" or spread is not None)


def departure(cell: TableCell) -> int:
    """Whether ours is farther from the thesis's than chance would have it: 1 to the better, -1 to the worse, else 0.

    Farther is, of returns, by more than `FAR_DEVIATIONS` of the thesis's standard deviations; of errors, of which it
    gives none, by a factor of more than `FAR_RATIO`, both rounded as the thesis rounds.

    Raises:
        ValueError: If the two cannot be compared, or by neither measure.
    """
    said = cell.published
    if said is None or cell.mean is None or not is_judged(cell):
        raise ValueError(f"the {cell.metric} of agent {cell.agent} cannot be compared; choose cells by `is_judged`")
    mean, theirs = round(cell.mean, cell.places), round(said.value, cell.places)
    if said.std is None:
        return int(mean * FAR_RATIO < theirs) - int(not mean <= theirs * FAR_RATIO)
    far = FAR_DEVIATIONS * said.std
    return int(mean > theirs + far) - int(not mean >= theirs - far)


@dataclass(frozen=True)
class Interquartile:
    """Interquartile mean of a method over all agents and trials, in the metric's own unit.

    Attributes:
        dataset: Name of the logging policy, or `NO_DATA`.
        n_agents: Agents in the data.
        method: A key of `METHODS`.
        metric: As `Result.metric`.
        mean: The mean of the middle half.
        interval: Ends of its 95 % interval by a bootstrap of trials within agents; None where no agent has two trials.
        agents: Agents that were run.
        trials: Values that it is made of.
    """

    dataset: str
    n_agents: int
    method: str
    metric: str
    mean: float
    interval: tuple[float, float] | None
    agents: int
    trials: int


def interquartile(table_cells: Sequence[TableCell]) -> list[Interquartile]:
    """Interquartile means of each line of a table that was run, by a fixed seed; none of logs.

    Values are raw, not normalized: the agents of a domain have one unit, but those that differ more weigh more.
    """
    means = []
    for metric in dict.fromkeys(cell.metric for cell in table_cells if cell.metric not in LOGS):
        for line in lines_of(table_cells, metric):
            strata = [cell.values for cell in line if cell.contending is not None]
            if strata:
                mean, low, high = interquartile_interval(strata)
                interval = (low, high) if any(len(values) > 1 for values in strata) else None
                counts = len(strata), sum(map(len, strata))
                means.append(Interquartile(*line[0].line[1:], metric, mean, interval, *counts))
    return means


def spreads(table_cells: Sequence[TableCell], ours: bool) -> dict[tuple[str, str], float]:
    """RMSE / √(1 - R²) by method and agent, about the spread of an episode's observations; geometric mean over data.

    Two methods that are scored alike on the same episodes have about the same, however accurate they are. Faulty cells
    are left out, and those whose R² rounds to 1.

    Args:
        table_cells: Cells of both metrics.
        ours: Whether of our figures; else of the thesis's.
    """
    said: dict[tuple[str, tuple[str, str, int, str], str], float] = {}
    for cell in table_cells:
        theirs = None if cell.published is None or cell.fault is not None else cell.published.value
        figure = cell.mean if ours else theirs
        if figure is not None:
            said[cell.metric, cell.line, cell.agent] = figure
    logs: dict[tuple[str, str], list[float]] = {}
    for (metric, line, agent), r2 in said.items():
        rmse = said.get(("rmse", line, agent), 0.0)
        if metric == "r2" and round(r2, ERROR_PLACES) < 1 and rmse > 0:
            logs.setdefault((line[-1], agent), []).append(np.log(rmse / np.sqrt(1 - r2)))
    return {key: float(np.exp(np.mean(values))) for key, values in logs.items()}


@dataclass(frozen=True)
class Group:
    """Methods that were run alike.

    Attributes:
        methods: Keys of `METHODS`.
        trials: Fewest and most trials of a cell.
        episodes: Fewest and most episodes of a trial.
        settings: In which they differ from the thesis's protocol, each once; empty if in none.
    """

    methods: tuple[str, ...]
    trials: tuple[int, int]
    episodes: tuple[int, int]
    settings: tuple[str, ...]


def groups_of(table_cells: Sequence[TableCell]) -> list[Group]:
    """The methods of a table that were run, by how they were."""
    alike: dict[tuple[tuple[int, int], tuple[int, int], tuple[str, ...]], list[str]] = {}
    for method in METHODS:
        cells = [cell for cell in table_cells if cell.method == method and cell.rows]
        rows = [row for cell in cells for row in cell.rows]
        if rows:
            settings = tuple(dict.fromkeys(each for cell in cells for each in cell.settings))
            trials = _range(len(cell.rows) for cell in cells)
            alike.setdefault((trials, _range(row.episodes for row in rows), settings), []).append(method)
    return [Group(tuple(methods), *how) for how, methods in alike.items()]


def _range(numbers: Iterable[int]) -> tuple[int, int]:
    every = sorted(set(numbers))
    return every[0], every[-1]
