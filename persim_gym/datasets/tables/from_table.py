"""`persim import` and `persim_gym.datasets.from_table`: from a table to a Minari dataset."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minari import MinariDataset
from typing_extensions import Unpack

from persim_gym.datasets.minari_files import open_minari
from persim_gym.datasets.tables.columns import table_columns
from persim_gym.datasets.tables.episodes import table_episodes
from persim_gym.datasets.tables.read import read_table
from persim_gym.datasets.tables.roles import Dialect, Roles, TableOptions, duration
from persim_gym.datasets.tables.rows import ordered_rows
from persim_gym.datasets.tables.write import check_name, write_dataset
from persim_gym.suggest import suggestion

Columns = str | Sequence[str]
"""One column, or several."""


def from_table(
    table: Any,
    *,
    name: str,
    agent: str,
    obs: Columns,
    action: Columns,
    time: str = "",
    reward: str = "",
    **options: Unpack[TableOptions],
) -> MinariDataset:
    """Makes a Minari dataset of a table that has a row for each agent and time.

    A row holds what was observed, what was done then, and the reward of that; the next row of the agent, what was
    observed next. Columns of text are categories: one-hot in observations, choices in actions, and so are at most ten
    different whole numbers in an action column (see `continuous`). Values that are missing are NaN: a transition that
    lacks a value of its observation or action is left out of training, one that lacks one of what followed counts for
    the others. Both are counted, on the dataset's card and in its metadata.

    Args:
        table: Path of a CSV or Parquet file, several of them, or a frame of pandas, Polars or Arrow.
        name: Minari id of the dataset, as "my/fleet-v0".
        agent: Column that names the agent of a row; agents keep these names.
        obs: Observed columns.
        action: Columns of what was done, of numbers or of choices; choices alone are combined to one, numbers and
            choices together stay side by side (see `persim_gym.actions`).
        time: Column of the time; without, rows of an agent follow one another as they stand.
        reward: Column of the reward; without, it is 0, which `persim train --task` replaces by one of your own.
        **options: See `TableOptions`.

    Returns:
        The dataset; `persim_gym.train(name)` trains a simulator on it.

    Raises:
        ValueError: If there is no such column, a column cannot be read, there is a dataset of the name, or no
            transition is left. Nothing is written then.
    """
    if unknown := sorted(set(options) - set(TableOptions.__annotations__)):
        raise ValueError(f"there is no option {unknown[0]}; {suggestion(unknown[0], TableOptions.__annotations__)}")
    roles = replace(_roles_of(options, agent, obs, action), time=time, reward=reward)
    units = options.get("units", {})
    roles.check_others(units)
    check_name(name, options.get("force", False))
    gap, every = options.get("gap"), options.get("every")
    if not time and (gap is not None or every is not None):
        raise ValueError("--gap and --every are lengths of time; give --time too")
    dialect = dialect_of(options)
    raw = read_table(table, roles.columns, dialect, texts=[agent])
    columns = table_columns(raw, roles, dialect.time_format)
    del raw  # Large tables would lie in memory twice.
    spans = (duration(option, given, columns.dates) for option, given in (("gap", gap), ("every", every)))
    rows = ordered_rows(columns, roles, *spans)
    episodes = table_episodes(columns, rows, roles, units)
    write_dataset(name, columns, episodes, roles, sources_of(table), options.get("progress", True))
    return open_minari(name)


def _roles_of(options: TableOptions, agent: str, obs: Columns, action: Columns) -> Roles:
    """Which column is what, but for time and reward."""
    return Roles(
        agent=agent,
        time="",
        obs=_several(obs),
        action=_several(action),
        terminated=options.get("terminated", ""),
        exogenous=_several(options.get("exogenous", ())),
        static=_several(options.get("static", ())),
        categorical=_several(options.get("categorical", ())),
        continuous=_several(options.get("continuous", ())),
        integer=_several(options.get("integer", ())),
    )


def dialect_of(options: TableOptions) -> Dialect:
    """How the text of CSV files is written, of the options."""
    return Dialect(
        delimiter=options.get("delimiter", ""),
        decimal=options.get("decimal", "."),
        encoding=options.get("encoding", "utf-8"),
        missing=_several(options.get("missing", ())),
        time_format=options.get("time_format", ""),
    )


def sources_of(table: Any) -> list[str]:
    """What a table is called: the names of its files."""
    if isinstance(table, str | Path):
        return [Path(table).name]
    return [Path(part).name for part in table] if isinstance(table, Sequence) else ["a frame"]


def _several(given: Columns) -> tuple[str, ...]:
    """One column or several as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)
