"""`persim doctor TABLE`: what the columns of a table are for, and what will hurt."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persim_gym.datasets.tables.checks import warnings_of
from persim_gym.datasets.tables.columns import table_columns
from persim_gym.datasets.tables.episodes import table_episodes
from persim_gym.datasets.tables.from_table import sources_of
from persim_gym.datasets.tables.guess import ROLES, Guess, guess_roles
from persim_gym.datasets.tables.read import check_columns, read_table
from persim_gym.datasets.tables.roles import Dialect, Roles
from persim_gym.datasets.tables.rows import ordered_rows

_MUCH_MISSING = 0.05  # A column that lacks more than this share of its cells is warned of.
_NEEDED = ("agent", "obs", "action")


@dataclass(frozen=True)
class Diagnosis:
    """What is found of a table.

    Attributes:
        rows: Number of its rows.
        columns: What each column may be.
        command: The command that imports it, with COLUMN where no column was found.
        notes: What an import would leave out or put right, one line each.
        warnings: What will hurt, one line each.
    """

    rows: int
    columns: list[Guess]
    command: str
    notes: list[str]
    warnings: list[str]


def diagnose(tables: Any, given: Mapping[str, tuple[str, ...]], dialect: Dialect) -> Diagnosis:
    """Looks at a table.

    Args:
        tables: As `from_table` takes it.
        given: Columns by role, of roles that need no guess; see `ROLES`.
        dialect: How the text of CSV files is written.

    Raises:
        ValueError: If the table cannot be read, or there is no such column.
    """
    given = {role: columns for role, columns in given.items() if columns}
    table = read_table(tables, None, dialect)
    sources = sources_of(tables)
    for columns in given.values():
        check_columns(sources[0], table.column_names, columns)
    guesses = guess_roles(table, given)
    found = {role: tuple(given.get(role) or (g.column for g in guesses if g.role == role)) for role in ROLES}
    warnings = [
        f"{guess.missing:.0%} of {guess.column} is missing"
        for guess in guesses
        if guess.role and guess.missing > _MUCH_MISSING
    ]
    if lacking := [role for role in _NEEDED if not found[role]]:
        warnings += [
            f"no column looks like {_SAID[role]}; put its name where the command says COLUMN" for role in lacking
        ]
    notes, more = ([], []) if lacking else _trial(table, found, dialect)
    return Diagnosis(table.num_rows, guesses, _command(tables, found, dialect), notes, warnings + more)


_SAID = {"agent": "the name of an agent", "obs": "an observation", "action": "an action"}


def _trial(table: Any, found: Mapping[str, tuple[str, ...]], dialect: Dialect) -> tuple[list[str], list[str]]:
    """What an import would say, and what will hurt afterwards."""
    one = {role: next(iter(columns), "") for role, columns in found.items()}
    try:
        roles = Roles(
            agent=one["agent"],
            time=one["time"],
            obs=found["obs"],
            action=found["action"],
            reward=one["reward"],
            terminated=one["terminated"],
            exogenous=found["exogenous"],
            static=found["static"],
        )
        columns = table_columns(table, roles, dialect.time_format)
        rows = ordered_rows(columns, roles)
        episodes = table_episodes(columns, rows, roles)
    except ValueError as error:
        return [], [f"the import would fail: {error}"]
    return episodes.said, warnings_of(columns, rows, episodes, roles)


def _command(tables: Any, found: Mapping[str, tuple[str, ...]], dialect: Dialect) -> str:
    """The command that imports a table."""
    paths = [str(path) for path in ([tables] if isinstance(tables, str | Path) else tables)]
    words = ["persim", "import", *paths]
    for role in ROLES:
        if found[role] or role in _NEEDED:
            named = (f'"{column}"' if "," in column else column for column in found[role])
            words += [f"--{role}", ",".join(named) or "COLUMN"]
    usual = Dialect()
    for option in ("delimiter", "decimal", "encoding", "time_format"):
        if (value := getattr(dialect, option)) != getattr(usual, option):
            words += [f"--{option.replace('_', '-')}", value]
    for text in dialect.missing:
        words += ["--missing", text]
    stem = re.sub(r"[^a-z0-9]+", "-", Path(paths[0]).name.split(".")[0].lower()).strip("-") or "table"
    return " ".join(map(shlex.quote, [*words, "--name", f"my/{stem}-v0"]))
