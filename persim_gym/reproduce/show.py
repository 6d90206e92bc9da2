"""Writes what results show: tables in three formats, and figures with the models that they need."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from persim_gym.reproduce.models import trained_model
from persim_gym.reproduce.parts import interquartile_part
from persim_gym.reproduce.pictures import Picture, picture_models
from persim_gym.reproduce.protocol import Scale, Table
from persim_gym.reproduce.results import Result
from persim_gym.reproduce.run import MODELS
from persim_gym.reproduce.tables import as_csv, as_latex, as_markdown, reproduced_table
from persim_gym.storage import write_text
from persim_gym.suggest import suggestion

T = TypeVar("T")


def chosen(names: Iterable[str], known: Mapping[str, T], kind: str) -> list[T]:
    """Tables, figures or scales by name, each once.

    Args:
        names: What was asked for.
        known: All that there are.
        kind: What they are called in a message.

    Raises:
        ValueError: If there is no such thing.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}; {suggestion(name, known)}")
    return [known[name] for name in names]


def write_tables(tables: Sequence[Table], results: Sequence[Result], folder: Path) -> list[tuple[Table, str]]:
    """Writes tables as Markdown, LaTeX and CSV.

    Args:
        tables: Tables; one without a result is left out.
        results: Rows of any cells.
        folder: Where they go, such as `B.4.md`, `B.4.tex` and `B.4.csv`.

    Returns:
        Each table that was written, and its Markdown.
    """
    written = []
    for table in tables:
        reproduced = reproduced_table(table, results)
        if reproduced.run:
            means = interquartile_part(results, table.name)
            text = f"{as_markdown(reproduced).strip()}\n\n{means}".strip() + "\n"
            for suffix, content in ((".md", text), (".tex", as_latex(reproduced)), (".csv", as_csv(reproduced))):
                write_text(folder / f"{table.name}{suffix}", content)
            written.append((table, text))
    return written


def write_picture(
    picture: Picture, results: Sequence[Result], scale: Scale, domains: Sequence[str], out: Path
) -> list[Path]:
    """Draws a figure.

    Args:
        picture: The figure.
        results: Rows of any cells.
        scale: Says which trained models are meant.
        domains: Domains that are shown.
        out: Folder of the trained models, where one that is not there is trained, and of the figures.

    Returns:
        The pictures, one or one a domain; beside each lies a CSV file of its numbers.

    Raises:
        ImportError: If a library is not installed that the figure needs.
        ValueError: If there are no rows to draw.
    """
    trained = {key: trained_model(key, out / MODELS) for key in picture_models(picture, scale, domains)}
    return picture.draw(results, trained, out / "figures" / f"{picture.name}.png")
