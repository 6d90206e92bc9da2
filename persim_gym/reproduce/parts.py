"""Parts of a page that are made from rows: a table, interquartile means, and what follows from all tables together."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from persim_gym.reproduce.comparisons import (
    FAR_DEVIATIONS,
    FAR_RATIO,
    Interquartile,
    Wins,
    departure,
    interquartile,
    is_judged,
    losses,
    spreads,
    wins,
)
from persim_gym.reproduce.protocol import BESIDE, CONTEXT_AWARE, METHODS, POPULATION, TABLES
from persim_gym.reproduce.published import FAULTS
from persim_gym.reproduce.results import Result
from persim_gym.reproduce.table_cell import RETURN_PLACES, TableCell, data_name, format_figure, lines_of
from persim_gym.reproduce.tables import METRIC_TITLES, NOT_RUN, as_markdown, own_tables, reproduced_table, template

_JUDGED = ("rmse", "return")  # Metrics that decide where PerSim wins and loses.


def table_part(results: Sequence[Result], name: str) -> str:
    """A table beside the thesis's."""
    return as_markdown(reproduced_table(TABLES[name], results))


def interquartile_part(results: Sequence[Result], name: str) -> str:
    """Interquartile means: a line each of the data, a column each of the methods; empty if nothing was run."""
    table, parts = TABLES[name], []
    means = interquartile(reproduced_table(table, results).cells)
    for metric in dict.fromkeys(mean.metric for mean in means):
        found = {(mean.dataset, mean.n_agents, mean.method): mean for mean in means if mean.metric == metric}
        methods = [method for method in table.methods if any(key[2] == method for key in found)]
        lines = [[METRIC_TITLES[metric], *(METHODS[method] for method in methods)]]
        for dataset, n_agents in dict.fromkeys(key[:2] for key in found):
            cells = [found.get((dataset, n_agents, method)) for method in methods]
            texts = [_interquartile_text(cell, len(table.agents)) if cell else "" for cell in cells]
            lines.append([_data(dataset, n_agents), *texts])
        parts.append(_markdown_table(lines))
    return "\n\n".join([*parts, template("notes-interquartile")]) if parts else ""


def _interquartile_text(mean: Interquartile, agents: int) -> str:
    low_high = [] if mean.interval is None else mean.interval
    middle, *ends = (format_figure(mean.metric, figure, RETURN_PLACES) for figure in (mean.mean, *low_high))
    interval = f" [{', '.join(ends)}]" if ends else ""
    return f"{middle}{interval}" + ("" if mean.agents == agents else f" ({mean.agents} of {agents})")


def found_part(results: Sequence[Result]) -> str:
    """Five lines that say what was found."""
    tables = own_tables(results)
    cells = [
        cell for table in tables for cell in table.cells if cell.published is not None and cell.method not in BESIDE
    ]
    counts = {metric: _found_of(metric, results) for metric in _JUDGED}
    better = [c for table in tables for c in table.compared if c.method == "persim-cem"]
    rivals = Counter(best.method for table in tables for _, best in losses(table.cells, "return"))
    return template("found").format(
        run=sum(bool(cell.rows) for cell in cells),
        cells=len(cells),
        compared=sum(cell.comparable for cell in cells),
        no_worse=sum(bool(cell.no_worse) for cell in cells),
        faulty=sum(cell.fault is not None and cell.fault.spoils_mean for cell in cells),
        rivals=", ".join(f"{METHODS[method]} in {count}" for method, count in rivals.most_common()) or "none",
        cem=len(better),
        cem_no_worse=sum(bool(cell.no_worse) for cell in better),
        **counts,
    )


def _found_of(metric: str, results: Sequence[Result]) -> dict[str, int | Wins]:
    """PerSim's cells of a metric: how many are compared and no worse than the thesis's, and where it is best."""
    tables = own_tables(results, metric)
    cells = [c for table in tables for c in table.compared if (c.metric, c.method) == (metric, "persim")]
    each = [wins(table.cells, metric) for table in tables]
    total = Wins(
        sum(count.ours for count in each),
        sum(count.of_ours for count in each),
        sum(count.thesis for count in each),
        sum(count.of_thesis for count in each),
    )
    return {"compared": len(cells), "no_worse": sum(bool(cell.no_worse) for cell in cells), "wins": total}


def wins_part(results: Sequence[Result]) -> str:
    """In how many cells PerSim is best: a line each of a table and metric."""
    lines = [["table", "", "metric", "ours", "the thesis's"]]
    for reproduced in own_tables(results):
        table = reproduced.table
        for metric in table.metrics if "persim" in table.methods else ():
            best = wins(reproduced.cells, metric)
            ours = f"{best.ours} of {best.of_ours}" if best.of_ours else NOT_RUN
            thesis = f"{best.thesis} of {best.of_thesis}"
            lines.append([table.name, table.title, METRIC_TITLES[metric], ours, thesis])
    return f"{_markdown_table(lines)}\n\n{template('notes-wins')}"


def losses_part(results: Sequence[Result]) -> str:
    """Where another method is better than PerSim, by RMSE or by return."""
    lines, contested = [], 0
    for reproduced in own_tables(results):
        for metric in _JUDGED:
            contested += wins(reproduced.cells, metric).of_ours
            for own, best in losses(reproduced.cells, metric):
                text = f"{METHODS[best.method]} {_figure(best)} (PerSim {_figure(own)})"
                lines.append((reproduced.table.name, own, text))
    if not lines:
        return template("notes-no-losses") if contested else ""
    return f"{template('notes-losses')}\n{_by_data(lines)}"


def gap_part(results: Sequence[Result]) -> str:
    """PerSim's return less that of the same planner in the true environment: a mean over agents for each dataset."""
    lines = [["table", "data", "agents", "ours", "the thesis's"]]
    for reproduced in own_tables(results, "return"):
        truth = {cell.agent: cell for cell in reproduced.cells if cell.method == "true-mpc" and cell.fault is None}
        for own in lines_of(reproduced.cells, "return"):
            ours, thesis = {}, {}
            for cell in own if own[0].method == "persim" else ():
                true = truth.get(cell.agent)
                if (
                    true
                    and cell.contending is not None
                    and true.contending is not None
                    and cell.published
                    and true.published
                ):
                    ours[cell.agent] = cell.contending - true.contending
                    thesis[cell.agent] = cell.published.value - true.published.value
            if ours:
                gaps = [f"{np.mean(list(gap.values())):.1f}" for gap in (ours, thesis)]
                lines.append([reproduced.table.name, own[0].dataset, ", ".join(ours), *gaps])
    return f"{_markdown_table(lines)}\n\n{template('notes-gap')}" if len(lines) > 1 else ""


def agreement_part(results: Sequence[Result]) -> str:
    """How far ours are from the thesis's: a line each of a table, PerSim's cells and those of all other methods."""
    head = ["table", "", "metric", *(f"{who}: {how}" for who in ("PerSim", "others") for how in _DEPARTURES.values())]
    lines = [head]
    for reproduced in own_tables(results):
        for metric in _JUDGED:
            cells = [cell for cell in reproduced.cells if cell.metric == metric and is_judged(cell)]
            counts = Counter((cell.method == "persim", departure(cell)) for cell in cells)
            if cells:
                numbers = [str(counts[persim, how]) for persim in (True, False) for how in _DEPARTURES]
                lines.append([reproduced.table.name, reproduced.table.title, METRIC_TITLES[metric], *numbers])
    note = template("notes-agreement").format(deviations=FAR_DEVIATIONS, ratio=FAR_RATIO)
    return f"{_markdown_table(lines)}\n\n{note}" if len(lines) > 1 else ""


_DEPARTURES = {0: "near", 1: "better", -1: "worse"}


def worse_part(results: Sequence[Result]) -> str:
    """PerSim's cells that are far worse than the thesis's."""
    lines, judged = [], 0
    for reproduced in own_tables(results):
        for cell in reproduced.cells:
            if cell.method == "persim" and is_judged(cell) and cell.published is not None:
                judged += 1
                if departure(cell) < 0:
                    lines.append((reproduced.table.name, cell, f"{_figure(cell)} (thesis {cell.published.text})"))
    if not lines:
        return template("notes-no-worse") if judged else ""
    return f"{template('notes-worse')}\n{_by_data(lines)}"


def spread_part(results: Sequence[Result], name: str) -> str:
    """The spread of the episodes that a table of errors was measured on, by its own figures, ours / the thesis's."""
    table = TABLES[name]
    cells = reproduced_table(table, results).cells
    ours, thesis = spreads(cells, ours=True), spreads(cells, ours=False)
    lines = [["RMSE / √(1 - R²)", *(f"agent {agent}" for agent in table.agents)]]
    for method in table.methods:
        keys = [(method, str(agent)) for agent in table.agents]
        texts = [[f"{known[key]:.2f}" if key in known else NOT_RUN for known in (ours, thesis)] for key in keys]
        lines.append([METHODS[method], *(" / ".join(text) for text in texts)])
    return f"{_markdown_table(lines)}\n\n{template('notes-spread')}"


def context_part(results: Sequence[Result]) -> str:
    """Errors of the context-aware models beside the thesis's and beside PerSim's: a line each of a table and model."""
    lines = [["table", "", "model", f"at most {FAR_RATIO} times the thesis's", "PerSim's is lower"]]
    for reproduced in own_tables(results, "rmse"):
        cells = {(cell.line, cell.agent): cell for cell in reproduced.cells if cell.metric == "rmse"}
        for method in (name for name in CONTEXT_AWARE if name in reproduced.table.methods):
            own = [cell for (line, _), cell in cells.items() if line[-1] == method and cell.mean is not None]
            judged = [cell for cell in own if is_judged(cell)]
            beside = [(cell, cells[(*cell.line[:-1], "persim"), cell.agent].mean) for cell in own]
            lower = [cell.mean is not None and persim < cell.mean for cell, persim in beside if persim is not None]
            near = f"{sum(departure(cell) >= 0 for cell in judged)} of {len(judged)}"
            below = f"{sum(lower)} of {len(lower)}" if lower else NOT_RUN
            if own:
                lines.append([reproduced.table.name, reproduced.table.title, METHODS[method], near, below])
    return _markdown_table(lines) if len(lines) > 1 else ""


def faults_part(results: Sequence[Result]) -> str:
    """What is wrong in the thesis's tables, whatever was run."""
    return "\n".join(f"- Table {fault.table}{_where(fault.methods, fault.sizes)}: {fault.sentence}" for fault in FAULTS)


def _where(methods: Sequence[str], sizes: Sequence[int]) -> str:
    return "".join(f", {name}" for name in [*(METHODS[method] for method in methods), *(f"{n} agents" for n in sizes)])


def _figure(cell: TableCell) -> str:
    return "" if cell.mean is None else format_figure(cell.metric, cell.mean, cell.places)


def _by_data(texts_of_cells: Iterable[tuple[str, TableCell, str]]) -> str:
    """Texts of cells, those of a table, metric and dataset in one line."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for table, cell, text in texts_of_cells:
        key = table, METRIC_TITLES[cell.metric], _data(cell.dataset, cell.n_agents)
        together.setdefault(key, []).append(f"agent {cell.agent}: {text}")
    return _markdown_table(
        [["table", "metric", "data", "agents"], *([*key, "; ".join(t)] for key, t in together.items())]
    )


def _data(dataset: str, n_agents: int) -> str:
    return data_name(dataset) + ("" if n_agents == POPULATION else f", {n_agents} agents")


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *body])


NAMED_PARTS: dict[str, Callable[[Sequence[Result], str], str]] = {
    "table": table_part,
    "interquartile": interquartile_part,
    "spread": spread_part,
}
"""Parts of one table, by the word of their marker."""
PARTS: dict[str, Callable[[Sequence[Result]], str]] = {
    "found": found_part,
    "wins": wins_part,
    "gap": gap_part,
    "losses": losses_part,
    "agreement": agreement_part,
    "worse": worse_part,
    "context": context_part,
    "faults": faults_part,
}
"""Parts of all tables together, likewise."""
