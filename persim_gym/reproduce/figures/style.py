"""What all figures have in common: one color a method, one marker a domain, and the numbers beside a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persim_gym.evaluation.figures import save_figure
from persim_gym.storage import write_text

COLORS = {
    "persim": "#D55E00",
    "persim-cem": "#F0E442",
    "unfactorized": "#E69F00",
    "unpersonalized": "#CC79A7",
    "cadm": "#0072B2",
    "pe-ts-cadm": "#56B4E9",
    "bcq-p": "#009E73",
    "bcq-a": "#661100",
    "true-mpc": "#000000",
    "logging": "#444444",
}
"""By method; color-blind readers can tell them apart too (Okabe and Ito 2008, but for `bcq-a` and `logging`)."""
MARKERS = {"mountaincar": "^", "cartpole": "s", "halfcheetah": "o"}
"""By name of the domain."""
WIDTH = 9.0
"""Of a whole figure, in inches: at 130 dots an inch it is still legible on a page of 900 pixels."""
SMALL, MEDIUM, LARGE = 8.0, 9.0, 11.0
"""Sizes of letters, in points."""


def prepare(ax: Axes) -> None:
    """Gives a panel the look of all."""
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)


def write_figure(figure: Figure, numbers: Sequence[Mapping[str, object]], path: Path) -> Path:
    """Writes a picture, and the numbers in it as a CSV file of the same name beside it.

    Args:
        figure: The picture.
        numbers: As `write_numbers`.
        path: PNG to write.

    Returns:
        The CSV file.

    Raises:
        ValueError: If there are no numbers, or a file cannot be written.
    """
    if not numbers:
        raise ValueError(f"{path.name} would be a picture of no numbers; run cells that it shows first")
    save_figure(figure, path)
    return write_numbers(numbers, path.with_suffix(".csv"))


def write_numbers(numbers: Sequence[Mapping[str, object]], path: Path) -> Path:
    """Writes a CSV file.

    Args:
        numbers: Rows, at least one, all of the same columns; floats are written with six digits.
        path: The file; returned.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(numbers[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({name: _shown(value) for name, value in row.items()} for row in numbers)
    write_text(path, text.getvalue())
    return path


def _shown(value: object) -> object:
    """A value as the CSV file has it."""
    return f"{value:.6g}" if isinstance(value, float) else value
