"""Pieces of HTML; whatever comes from data is escaped here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

CODE = re.compile(r"`([^`]*)`")


def text(words: object) -> str:
    """Words as HTML shows them; what stands between backticks becomes code."""
    return CODE.sub(r"<code>\1</code>", escape(str(words)))


def paragraphs(*said: str, kind: str = "") -> str:
    """A paragraph of each; `kind` is the class of all of them."""
    start = f'<p class="{kind}">' if kind else "<p>"
    return "".join(f"{start}{text(words)}</p>" for words in said if words)


def unknown(*said: str) -> str:
    """Paragraphs on what is not known."""
    return paragraphs(*said, kind="unknown")


def facts(rows: Mapping[str, object]) -> str:
    """Names and what they are; rows without a value are left out."""
    lines = (f"<tr><th scope=row>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in rows.items() if value)
    return f'<div class="wide"><table class="facts">{"".join(lines)}</table></div>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """A table of numbers.

    Args:
        header: Its columns.
        rows: Cells.
        words: So many of the first columns hold words.
    """

    def cells(row: Sequence[object], tag: str) -> str:
        kinds = (' class="words"' if i < words else "" for i in range(len(row)))
        return "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells(header, "th")}</tr></thead><tbody>{lines}</tbody></table></div>'


def section(title: str, body: str, anchor: str) -> str:
    """A part of the page."""
    return f'<section id="{escape(anchor)}"><h2>{text(title)}</h2>{body}</section>'


def fold(title: str, body: str) -> str:
    """What is shown when its title is clicked."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"
