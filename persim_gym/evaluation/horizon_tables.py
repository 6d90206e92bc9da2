"""Errors by horizon as tables."""

from rich.console import Group
from rich.table import Table

from persim_gym.evaluation.horizons import HorizonErrors, HorizonReport
from persim_gym.suggest import MAX_LISTED

ALL_COLUMNS = "all columns (standard deviations)"


def horizon_tables(report: HorizonReport) -> Group:
    """A table for each part that was held out: a row for each column and horizon; the smallest error is bold."""
    parts = [_table(report, what, errors) for what, errors in report.parts.items()]
    return Group(*parts, *report.said, *report.verdicts)


def _table(report: HorizonReport, what: str, errors: HorizonErrors) -> Table:
    title = f"error without correction, {what} ({errors.agents:,} agents)"
    table = Table(title=title, header_style="bold")
    table.add_column("column")
    for column in ("steps", *errors.overall):
        table.add_column(column, justify="right")
    blocks = {ALL_COLUMNS: errors.overall}
    for d, name in enumerate(report.columns[:MAX_LISTED]):
        blocks[name] = {kind: tuple(row[d] for row in rows) for kind, rows in errors.rmse.items()}
    for name, means in blocks.items():
        for i, step in enumerate(errors.steps):
            row = [values[i] for values in means.values()]
            known = [value for value in row if value is not None]
            best = min(known) if known else None
            cells = ["not finite" if v is None else f"[bold]{v:.4g}[/bold]" if v == best else f"{v:.4g}" for v in row]
            table.add_row(name if i == 0 else "", str(step), *cells, end_section=step == errors.steps[-1])
    if more := len(report.columns) - MAX_LISTED:
        table.caption = f"and {more} more columns, on the simulator's card" if more > 0 else None
    return table
