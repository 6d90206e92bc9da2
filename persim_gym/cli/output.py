"""What the verbs share."""

import re
import textwrap
from pathlib import Path

from rich.console import Console, JustifyMethod
from rich.table import Table

console = Console()
errors = Console(stderr=True)
NUMBERS = r"\s*(\d+)(?:\s*-\s*(\d+))?\s*"
"""Form of a number or range of agents."""
_MANY = 10_000_000  # A list may name at most so many agents.


def numbers(text: str) -> list[int]:
    """Reads a list of agents: numbers and ranges with both ends, "0,1,17" or "0-4,17".

    Raises:
        ValueError: If it is not one.
    """
    listed: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(NUMBERS, part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match and last < first:
            raise ValueError(f"{part.strip()!r} runs backwards; write {last}-{first}")
        if last < first:
            raise ValueError(
                f"{text!r} is not a list of agents; write numbers or ranges with commas between, e.g. 0-4,17"
            )
        if last - first >= _MANY:
            raise ValueError(f"{part.strip()!r} names {last - first + 1:,} agents; name up to {_MANY:,}")
        listed += range(first, last + 1)
    return listed


def say(text: str) -> None:
    """Prints one line as it is: no markup, no highlighting, no folding of paths."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def paragraph(text: str) -> None:
    """Prints sentences, indented and folded to the width of the screen."""
    say(textwrap.fill(text, min(console.width, 100), initial_indent="  ", subsequent_indent="  "))


def say_simulator(folder: Path, *commands: str) -> None:
    """Prints where a simulator was written, which bundled one its name hides, and what to do next.

    Args:
        folder: Its folder.
        commands: What comes next, with {} for what the simulator is called.
    """
    from persim_gym.simulator.registry import hidden_by, reference_to

    say(f"{folder}")
    if name := hidden_by(folder):
        say(f"{name} means this simulator from now on, not the bundled one; `persim simulators rm {name}` undoes that")
    for command in commands:
        say(f"next: {command.format(reference_to(folder))}")


def complain(text: str) -> None:
    """Prints one line on what went wrong."""
    errors.print(f"persim: {text}", style="red", markup=False, highlight=False, soft_wrap=True)


def plain_table(columns: dict[str, JustifyMethod]) -> Table:
    """A borderless table for listings, one row a line."""
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column, justify in columns.items():
        table.add_column(column, justify=justify, no_wrap=True)
    return table
