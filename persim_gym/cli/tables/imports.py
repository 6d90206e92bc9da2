"""`persim import`."""

import csv
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from persim_gym.cli.options import Force
from persim_gym.cli.output import say

Tables = Annotated[list[Path], typer.Argument(help="CSV or Parquet files; several are read as one table.")]
Delimiter = Annotated[
    str, typer.Option(help="Between columns of CSV files; tab for tabs. (default: comma, tab in .tsv files)")
]
Decimal = Annotated[str, typer.Option(help="Between whole and decimal part in CSV files.")]
Encoding = Annotated[str, typer.Option(help="Of CSV files: utf-8, utf-16, latin-1, cp1252, …")]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="Text that stands for a missing value, beside the empty one, NA, NaN, null; may be repeated."),
]
TimeFormat = Annotated[
    str, typer.Option(help="How times are written, as '%d/%m/%Y %H:%M'. (default: 2024-12-31 23:59)")
]


def verb(
    tables: Tables,
    name: Annotated[str, typer.Option(help="Minari id of the dataset, as my/fleet-v0.")],
    agent: Annotated[str, typer.Option(help="Column that names a row's agent; agents keep these names.")],
    obs: Annotated[str, typer.Option(help="Observed columns, with commas between; text becomes one-hot.")],
    action: Annotated[
        str, typer.Option(help="Columns of what was done then: numbers, choices, or both; choices alone are combined.")
    ],
    time: Annotated[str, typer.Option(help="Column of the time. (default: rows of an agent stand in order)")] = "",
    reward: Annotated[str, typer.Option(help="Column of what the action brought. (default: 0)")] = "",
    terminated: Annotated[
        str, typer.Option(help="Column that is true, or not 0, in the last row of an episode. (default: none ends)")
    ] = "",
    exogenous: Annotated[
        str,
        typer.Option(help="Observed inputs, as weather or load: kept with the dataset, observations only if in --obs."),
    ] = "",
    static: Annotated[
        str, typer.Option(help="Columns that an agent keeps, as age or site: kept with the dataset.")
    ] = "",
    gap: Annotated[
        str, typer.Option(help="Longest step of a run: 5min, or a number if time is one. (default: 3 usual steps)")
    ] = "",
    every: Annotated[
        str,
        typer.Option(help="One row an interval, as 1min: first values, sum of rewards. (default: rows as they are)"),
    ] = "",
    unit: Annotated[list[str] | None, typer.Option(help="Unit of a column, as temp=°C; may be repeated.")] = None,
    categorical: Annotated[str, typer.Option(help="Columns of numbers that are categories.")] = "",
    continuous: Annotated[
        str, typer.Option(help="Action columns that are amounts, though they have at most 10 whole numbers.")
    ] = "",
    integer: Annotated[
        str, typer.Option(help="Observed columns that are whole numbers, as seats or doses: so are predictions.")
    ] = "",
    delimiter: Delimiter = "",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    missing: Missing = None,
    time_format: TimeFormat = "",
    force: Force = False,
) -> None:
    """Make a Minari dataset of a table: a row for each agent and time. `persim doctor TABLE` guesses the columns.

    A row holds what was observed, what was done then, and the reward of that. A transition that lacks a value of its
    observation or action is left out, one that lacks one of what followed counts for the others; both are counted.
    Exogenous columns are inputs that nobody chose: they are kept with the dataset,
    step by step, and are among the observations only where --obs lists them too.
    """
    from persim_gym.datasets.minari_files import dataset_folder
    from persim_gym.datasets.tables.from_table import from_table
    from persim_gym.datasets.tables.write import TABLE

    dataset = from_table(
        tables,
        name=name,
        agent=agent,
        obs=columns_of(obs),
        action=columns_of(action),
        time=time,
        reward=reward,
        exogenous=columns_of(exogenous),
        static=columns_of(static),
        terminated=terminated,
        gap=gap or None,
        every=every or None,
        units=units_of(unit or []),
        categorical=columns_of(categorical),
        continuous=columns_of(continuous),
        integer=columns_of(integer),
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
        missing=missing or (),
        time_format=time_format,
        force=force,
    )
    say_table(name, dataset.storage.metadata[TABLE])
    say(f"{dataset_folder(name)}  the dataset, and card.md, which says what is in it")
    say(f"next: persim train {shlex.quote(name)}")


def say_table(name: str, table: dict[str, Any]) -> None:
    """Prints what a dataset was made of, and what was left out."""
    from persim_gym.datasets.tables.write import kind_of_actions

    action = ", ".join(table["roles"]["action"])
    size = f"{table['transitions']:,} transitions of {table['agents']:,} agents in {table['episodes']:,} episodes"
    say(f"{name}: {size}; {action}: {kind_of_actions(table)}")
    for line in table["said"]:
        say(f"  {line}")
    if not table["roles"]["reward"]:
        say("  no reward: it is 0; `persim train --task module:name` takes one of your own")


def columns_of(text: str) -> list[str]:
    """Names of columns with commas between; one with a comma in it stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]


def units_of(given: list[str]) -> dict[str, str]:
    """Units by column, of "column=unit".

    Raises:
        ValueError: If one is not.
    """
    for text in given:
        if not all(text.partition("=")):
            raise ValueError(f"--unit {text!r} is not COLUMN=UNIT; write it as temp=°C")
    return {column: unit for column, _, unit in (text.partition("=") for text in given)}
