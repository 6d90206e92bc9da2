"""`persim methods`."""

from dataclasses import asdict

from rich.table import Table

from persim_gym.cli.output import console


def verb() -> None:
    """List the methods of the thesis and ours: what each may see of an agent, and what runs it."""
    from persim_gym.baselines.methods import METHODS

    table = Table(header_style="bold")
    for column in ("method", "kind", "sees", "command", "source"):
        table.add_column(column)
    for method in METHODS:
        table.add_row(*asdict(method).values())
    console.print(table)
