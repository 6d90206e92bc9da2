"""What `persim doctor` prints of a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from persim_gym.cli.output import console, paragraph, say

if TYPE_CHECKING:
    from persim_gym.datasets.tables.roles import Dialect


def say_diagnosis(tables: list[Path], given: dict[str, tuple[str, ...]], dialect: "Dialect") -> None:
    """Prints what the columns of a table may be, the command that imports it, and what will hurt."""
    from persim_gym.datasets.tables.doctor import diagnose

    found = diagnose(tables, given, dialect)
    say(f"{', '.join(map(str, tables))}: {found.rows:,} rows")
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("column", "holds", "missing", "role", "why"):
        table.add_column(column, overflow="fold")
    for guess in found.columns:
        missing = f"{guess.missing:.1%}" if guess.missing else "-"
        table.add_row(escape(guess.column), guess.kind, missing, guess.role or "left out", escape(guess.why))
    console.print(table)
    for title, lines in {"An import would say": found.notes, "What will hurt": found.warnings}.items():
        if lines:
            say(f"\n{title}")
        for line in lines:
            paragraph(line)
    say(f"\nnext, if that is right:\n{found.command}")
