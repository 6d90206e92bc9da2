"""The verb that makes the thesis's tables and figures again."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from persim_gym.cli.options import Address, Backend, Workers, refuse_given, resumable
from persim_gym.cli.output import console, plain_table, say

if TYPE_CHECKING:
    from persim_gym.reproduce.protocol import Cell

MAX_PRINTED = 2  # So many tables are printed whole; of more, the files are named.


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
    list_cells: Annotated[bool, typer.Option("--list", help="Say what would run, and run nothing.")] = False,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
) -> None:
    """Make the thesis's tables and figures again, ours beside the thesis's; resumable.

    A second call runs only what is missing. A cell that fails is tried once more and listed at the end.
    """
    from persim_gym.datasets.registry import THESIS_DOMAINS
    from persim_gym.jobs import JobsFailed
    from persim_gym.reproduce.pictures import PICTURES, picture_models
    from persim_gym.reproduce.protocol import METHODS, SCALES, TABLES, cells_of
    from persim_gym.reproduce.results import read_results
    from persim_gym.reproduce.run import RESULTS_FILE, missing_cells, open_results, run_cells
    from persim_gym.reproduce.show import chosen, write_picture, write_tables

    everything = not (table or figure)
    tables = chosen(table or (TABLES if everything else ()), TABLES, "table")
    pictures = chosen(figure or (PICTURES if everything else ()), PICTURES, "figure")
    (sizes,) = chosen([scale], SCALES, "scale")
    sizes = sizes if trials is None else replace(sizes, trials=trials)
    domains = list(dict.fromkeys(domain or THESIS_DOMAINS))
    methods = list(dict.fromkeys(method or METHODS))
    chosen(domains, dict.fromkeys(THESIS_DOMAINS), "domain of the thesis")
    chosen(methods, METHODS, "method")
    folder = Path("persim-out/reproduce") / scale if out is None else out
    cells = cells_of(tables, sizes, domains=domains, methods=methods)
    failed = None
    if results:
        refuse_given(context, "workers", "backend", "address", "trials", why="has no effect where --results are shown")
        rows = read_results(results)
    elif list_cells:
        there = (folder / RESULTS_FILE).exists()  # Only what runs begins the file.
        _say_cells(cells, missing_cells(cells, sizes, open_results(folder)) if there else cells)
        return
    else:
        pictured = [key for picture in pictures for key in picture_models(picture, sizes, domains)]
        try:
            run_cells(cells, sizes, folder, more_models=pictured, workers=workers, backend=backend, address=address)
        except JobsFailed as error:
            failed = error
        rows = read_results([folder / RESULTS_FILE])
    shown = write_tables(tables, rows, folder / "tables")
    for written, text in shown:
        if len(shown) <= MAX_PRINTED:
            say(f"Table {written.name}, thesis p. {written.page}: {written.title}\n\n{text}")
        say(f"{folder / 'tables' / written.name}.md  .tex  .csv")
    for picture in pictures:
        try:
            for path in write_picture(picture, rows, sizes, domains, folder):
                say(f"{path}")
        except (ValueError, ImportError) as error:
            if figure:
                raise
            say(f"figure {picture.name} is left out: {error}")
    if failed:
        raise failed


def _say_cells(cells: "Sequence[Cell]", missing: "Collection[Cell]") -> None:
    """Prints how many cells of each domain and method there are, and how many are left to run."""
    listed = plain_table({"domain": "left", "method": "left", "cells": "right", "left to run": "right"})
    left = set(missing)
    for domain, method in dict.fromkeys((cell.domain, cell.method) for cell in cells):
        own = [cell for cell in cells if (cell.domain, cell.method) == (domain, method)]
        listed.add_row(domain, method, str(len(own)), str(len(left & set(own))))
    console.print(listed)
