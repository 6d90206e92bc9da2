"""The verb that makes the thesis's tables and figures again."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import Address, Backend, Workers, resumable


@resumable
def verb(
    context: typer.Context,
    table: Annotated[
        list[str] | None, typer.Option(help="5.2a to 5.3, A.1, B.1 to B.12; may be repeated. (default: all)")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            help="1-1, 1-2, B-1, B-2, agents or errors; may be repeated. (default: none with --table, else all)"
        ),
    ] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: all of the chosen tables)")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Methods; see `persim methods`. (default: all)")] = None,
    scale: Annotated[
        str, typer.Option(help="quick, committed (what this repository's results are made at) or thesis.")
    ] = "quick",
    trials: Annotated[int | None, typer.Option(min=1, help="Repetitions. (default: the scale's)")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results, models, tables and figures. (default: by scale)")
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Show these rows, and run nothing; may be repeated. (default: run)")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the page of results there, from the rows alone.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run, and run nothing.")] = False,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Make the thesis's tables and figures again, ours beside the thesis's; resumable.

    A second call runs only what is missing. A cell that fails is tried once more and listed at the end.
    """
