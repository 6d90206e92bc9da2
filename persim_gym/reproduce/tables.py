"""The thesis's tables from rows alone: each cell beside the thesis's, as Markdown, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.reproduce.comparisons import groups_of
from persim_gym.reproduce.protocol import METHODS, NO_DATA, SCALES, TABLES, Table, cells_of
from persim_gym.reproduce.published import Fault, fault_of, faults_of, thesis_cell
from persim_gym.reproduce.results import ALL_AGENTS, Result
from persim_gym.reproduce.table_cell import TableCell, data_name, format_figure, lines_of

METRIC_TITLES = {
    "rmse": "RMSE",
    "r2": "R²",
    "return": "Return",
    "logged-return": "Logged return",
    "logged-length": "Logged length",
}
NOT_RUN = "–"
_MARKS, _SHORTENED_MARK = "†‡§", "¶"
_CSV_COLUMNS = (
    "table", "domain", "dataset", "n_agents", "method", "agent", "metric", "mean", "std", "trials", "episodes",
    "thesis_mean", "thesis_std", "difference", "no_worse", "fault", "settings",
)  # fmt: skip
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$",
    "×": r"$\times$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$", "¶": r"$^\P$", "–": "--", "²": "$^2$",
    "ε": r"$\epsilon$",
}  # fmt: skip


@dataclass(frozen=True)
class ReproducedTable:
    """A table of the thesis with our results.

    Attributes:
        table: The thesis's.
        cells: Line by line; methods that need no data come last.
    """

    table: Table
    cells: tuple[TableCell, ...]

    @property
    def run(self) -> tuple[TableCell, ...]:
        """Cells that have results."""
        return tuple(cell for cell in self.cells if cell.rows)

    @property
    def compared(self) -> tuple[TableCell, ...]:
        """Cells whose means are compared with the thesis's."""
        return tuple(cell for cell in self.cells if cell.comparable)


def reproduced_table(table: Table, results: Sequence[Result]) -> ReproducedTable:
    """A table of the thesis with our results.

    Args:
        table: The thesis's.
        results: Rows of any cells. Of several of the same cell and trial that of most episodes counts, then that of
            fewest settings that are not the thesis's, then that of larger ones.
    """
    found: dict[tuple[str, str, int, str, str, str], dict[int, Result]] = {}
    for row in results:
        if row.domain in table.domains and row.metric in table.metrics:
            key = (row.domain, row.dataset, row.n_agents, row.method, row.agent, row.metric)
            trials = found.setdefault(key, {})
            if row.seed not in trials or precedence(row) > precedence(trials[row.seed]):
                trials[row.seed] = row
    once = cells_of([table], replace(SCALES["thesis"], trials=1))
    cells = []
    for cell in sorted(once, key=lambda cell: (table.domains.index(cell.domain), cell.dataset == NO_DATA)):
        for metric in cell.metrics:
            place = (cell.domain, cell.dataset, cell.n_agents, cell.method, cell.agent, metric)
            trials = found.get(place, {})
            rows = tuple(trials[seed] for seed in sorted(trials))
            fault = fault_of(table, cell.method, cell.n_agents, cell.agent)
            cells.append(TableCell(*place, rows, thesis_cell(table, *place), fault))
    return ReproducedTable(table, tuple(cells))


def precedence(row: Result) -> tuple[int, int, list[int]]:
    """What ranks rows of the same cell and trial, the highest first."""
    return row.episodes, -row.settings.count("="), [int(number) for number in re.findall(r"\d+", row.settings)]


def own_tables(results: Sequence[Result], metric: str | None = None) -> list[ReproducedTable]:
    """Tables whose numbers no other table holds, in the thesis's order; of one metric, if it is given."""
    tables = [table for table in TABLES.values() if not table.source and (metric is None or metric in table.metrics)]
    return [reproduced_table(table, results) for table in tables]


def as_markdown(reproduced: ReproducedTable) -> str:
    """A table beside the thesis's: a part for each metric, a line each of a dataset, size and method, and notes."""
    table, parts = reproduced.table, []
    if table.domain:
        labels = [f"{agent}: {covariate_label(DOMAINS[table.domain], agent)}" for agent in table.agents]
        parts.append(f"Agents: {'; '.join(labels)}.")
    for metric in table.metrics:
        labels, body = _grid(reproduced, metric)
        agents = _agents(reproduced)
        lines = [[*labels, *agents], ["---"] * len(labels) + ["---:"] * len(agents)]
        for names, cells in body:
            lines.append([*names, *(_markdown_cell(cell, _mark(reproduced, cell)) for cell in cells)])
        if len(table.metrics) > 1:
            parts.append(f"**{METRIC_TITLES[metric]}**")
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, *notes(reproduced)]) + "\n"


def as_latex(reproduced: ReproducedTable) -> str:
    """The same in ASCII, as a table environment, which needs the packages booktabs and graphicx."""
    table = reproduced.table
    lines = [r"% \usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{Thesis Table {table.name}. {_tex(table.title)}.}}"]
    for metric in table.metrics:
        labels, body = _grid(reproduced, metric)
        agents = _agents(reproduced)
        if len(table.metrics) > 1:
            lines.append(rf"{_tex(METRIC_TITLES[metric])}\par\smallskip")
        lines += [
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(labels)}{'r' * len(agents)}}}",
            r"\toprule",
            _latex_line(map(_tex, [*labels, *agents])),
            r"\midrule",
        ]
        for names, cells in body:
            texts = [_latex_cell(cell, _mark(reproduced, cell)) for cell in cells]
            lines.append(_latex_line([*map(_tex, names), *texts]))
        lines += [r"\bottomrule", r"\end{tabular}}\par\medskip"]
    lines += [rf"{{\footnotesize {_tex(note)}\par}}" for note in notes(reproduced)]
    return "\n".join([*lines, r"\end{table}", ""])


def as_csv(reproduced: ReproducedTable) -> str:
    """The same with a row a cell, empty where there is nothing."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for cell in reproduced.cells:
        said, no_worse = cell.published, "" if cell.no_worse is None else str(cell.no_worse).lower()
        numbers = [cell.mean, cell.std, said and said.value, said and said.std, cell.difference]
        mean, std, thesis_mean, thesis_std, difference = ("" if x is None else f"{x:.10g}" for x in numbers)
        where = [*cell.line, cell.agent, cell.metric]
        counts = [len(cell.rows), _span([row.episodes for row in cell.rows])]
        fault = cell.fault.sentence if cell.fault else ""
        writer.writerow([reproduced.table.name, *where, mean, std, *counts, thesis_mean, thesis_std, difference]
                        + [no_worse, fault, " / ".join(cell.settings)])  # fmt: skip
    return file.getvalue()


def notes(reproduced: ReproducedTable) -> list[str]:
    """What stands under a table: how to read it and how it was run, in one line, and a line for each fault."""
    table = reproduced.table
    counts = {
        metric: {
            "compared": sum(cell.metric == metric for cell in reproduced.compared),
            "no_worse": sum(cell.metric == metric and bool(cell.no_worse) for cell in reproduced.cells),
        }
        for metric in table.metrics
    }
    missing, cells = len(reproduced.cells) - len(reproduced.run), len(reproduced.cells)
    line = template(f"notes-{table.metrics[0]}").strip()
    known = {"scale": scale(reproduced), "thesis": SCALES["thesis"], "missing": missing, "cells": cells}
    known["bcq"] = SCALES["thesis"].efforts["bcq-p"]
    marks = _marks(table)
    below = [f"{marks[fault]} {fault.sentence}" if fault in marks else fault.sentence for fault in faults_of(table)]
    if any(cell.shortened for cell in reproduced.cells):
        below.append(f"{_SHORTENED_MARK} {template('notes-shortened').strip()}")
    return [line.format(**known, **counts), *below]


def scale(reproduced: ReproducedTable) -> str:
    """How the methods of a table were run: trials, episodes, and in what they differ from the thesis's protocol."""
    texts = []
    for group in groups_of(reproduced.cells):
        names = ", ".join(METHODS[method] for method in group.methods)
        trials, episodes = _span(group.trials), _span(group.episodes)
        settings = f" ({' / '.join(group.settings)})" if group.settings else ""
        texts.append(f"{names} {trials} {'trial' if trials == '1' else 'trials'} × {episodes} episodes{settings}")
    return "; ".join(texts) or "nothing"


def template(name: str) -> str:
    """The text of a file in `templates/`."""
    return (Path(__file__).parent / "templates" / f"{name}.md").read_text(encoding="utf-8")


def _names(table: Table, cell: TableCell) -> dict[str, str]:
    """What tells the lines of a table apart: the head of a column each, and what stands there."""
    every = {
        "domain": (DOMAINS[cell.domain].title, table.domains),
        "data": (data_name(cell.dataset), table.datasets),
        "agents in the data": (str(cell.n_agents), table.sizes),
        "method": (METHODS[cell.method], table.methods),
    }
    return {head: name for head, (name, several) in every.items() if len(several) > 1}


def _grid(reproduced: ReproducedTable, metric: str) -> tuple[list[str], list[tuple[list[str], tuple[TableCell, ...]]]]:
    """Heads of the columns that name a line, and each line: its names, empty where they repeat, and its cells."""
    lines: list[tuple[list[str], tuple[TableCell, ...]]] = []
    above: list[str] = []
    for cells in lines_of(reproduced.cells, metric):
        names = list(_names(reproduced.table, cells[0]).values())
        same = next((i for i, pair in enumerate(zip(names, above, strict=False)) if pair[0] != pair[1]), 0)
        lines.append(([""] * same + names[same:], cells))
        above = names
    return list(_names(reproduced.table, reproduced.cells[0])), lines


def _agents(reproduced: ReproducedTable) -> list[str]:
    """Heads of the columns that hold figures."""
    agents = dict.fromkeys(cell.agent for cell in reproduced.cells)
    return ["all agents" if agent == ALL_AGENTS else f"agent {agent}" for agent in agents]


def _marks(table: Table) -> dict[Fault, str]:
    """The sign of each fault that is one of cells."""
    faults = [fault for fault in faults_of(table) if fault.methods]
    return dict(zip(faults, _MARKS[: len(faults)], strict=True))


def _mark(reproduced: ReproducedTable, cell: TableCell) -> str:
    return _marks(reproduced.table)[cell.fault] if cell.fault else ""


def _ours(cell: TableCell) -> str:
    if cell.mean is None:
        return NOT_RUN
    figures = [cell.mean] if cell.std is None else [cell.mean, cell.std]
    text = " ± ".join(format_figure(cell.metric, figure, cell.places) for figure in figures)
    return text + (_SHORTENED_MARK if cell.shortened else "")


def _markdown_cell(cell: TableCell, mark: str) -> str:
    ours = f"**{_ours(cell)}**" if cell.no_worse else _ours(cell)
    return ours if cell.published is None else f"{ours} / {cell.published.text}{mark}"


def _latex_cell(cell: TableCell, mark: str) -> str:
    ours = _tex(_ours(cell)).replace("-", "$-$") if cell.rows else _tex(NOT_RUN)
    ours = rf"\textbf{{{ours}}}" if cell.no_worse else ours
    return ours if cell.published is None else f"{ours} / {_tex(cell.published.text).replace('-', '$-$')}{_tex(mark)}"


def _latex_line(texts: Iterable[str]) -> str:
    return rf"{' & '.join(texts)} \\"


def _tex(text: str) -> str:
    """Text for LaTeX: what it would take for commands is escaped, and what is not ASCII has a command or is "?"."""
    return "".join(_TEX.get(letter, letter if letter.isascii() else "?") for letter in text)


def _span(numbers: Sequence[int]) -> str:
    """One number, or the smallest and the largest; empty of none."""
    low, high = (min(numbers), max(numbers)) if numbers else ("", "")
    return f"{low}" if low == high else f"{low}–{high}"
