"""What the verbs share."""

from rich.console import Console, JustifyMethod
from rich.table import Table

console = Console()


def numbers(text: str) -> list[int]:
    """Reads a list of agents, "0,1,17".

    Raises:
        ValueError: If it is not one.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{text!r} is not a list of agents; write numbers with commas between, e.g. 0,1,17") from error


def say(text: str) -> None:
    """Prints one line as it is: no markup, no highlighting, no folding of paths."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def plain_table(columns: dict[str, JustifyMethod]) -> Table:
    """A borderless table for listings, one row a line."""
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column, justify in columns.items():
        table.add_column(column, justify=justify, no_wrap=True)
    return table
