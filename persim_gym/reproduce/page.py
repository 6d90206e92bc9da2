"""The page of results, and any other page with markers that parts made from rows stand between."""

import re
from collections.abc import Mapping, Sequence

from persim_gym.reproduce.parts import NAMED_PARTS, PARTS
from persim_gym.reproduce.protocol import TABLES
from persim_gym.reproduce.results import Result
from persim_gym.reproduce.tables import reproduced_table, template
from persim_gym.suggest import suggestion

END = "<!-- end -->"
_OPENING = r"^<!-- ([a-z]+)(?:: (\S+))? -->"
MARKER = re.compile(rf"{_OPENING}\n((?:(?!<!-- ).)*?)^{END}", re.DOTALL | re.MULTILINE)
"""A marker and its end, each at the start of a line: its word, its name or None, and what stands between."""


def filled(text: str, results: Sequence[Result]) -> str:
    """A Markdown page with the parts between its markers made anew; what stands around them stays.

    A marker is `<!-- table: B.4 -->` or another word of `NAMED_PARTS` with the name of a table, or `<!-- found -->` or
    another word of `PARTS`; what is made ends at the next `<!-- end -->`.

    Args:
        text: The page.
        results: Rows of any cells.

    Raises:
        ValueError: If a marker is unknown, names no table or has no end, or an end has no marker.
    """
    _check_ends(text)

    def put(match: re.Match[str]) -> str:
        part = _part(match, results)
        opening = match[0].partition("\n")[0]
        return f"{opening}\n\n{part.strip()}\n\n{END}" if part.strip() else f"{opening}\n{END}"

    return MARKER.sub(put, text)


def _check_ends(text: str) -> None:
    known = (*NAMED_PARTS, *PARTS)
    opened = [match[1] for match in re.finditer(_OPENING, text, re.MULTILINE)]
    closed = [match[1] for match in MARKER.finditer(text)]
    ends = len(re.findall(rf"^{END}", text, re.MULTILINE))
    if [word for word in opened if word in known] != [word for word in closed if word in known] or ends != len(closed):
        raise ValueError(f"{len(closed)} markers of {ends} ends are closed; put {END} right after what each one holds")


def _part(match: re.Match[str], results: Sequence[Result]) -> str:
    word, name = match[1], match[2]
    if name is None and word in PARTS:
        return PARTS[word](results)
    if word not in NAMED_PARTS:
        known = PARTS if name is None else NAMED_PARTS
        raise ValueError(f"there is no part {word!r}{' of a table' if name else ''}; {suggestion(word, known)}")
    if name not in TABLES:
        raise ValueError(f"the thesis has no table {name or ''!r}; {suggestion(name or '', TABLES)}")
    return NAMED_PARTS[word](results, name)


def results_page(results: Sequence[Result], discussion: str = "", figures: Mapping[str, str] | None = None) -> str:
    """The page of results: what was found, each table that was run with its command, figures, and a discussion.

    The sentences stand in `templates/`; between its markers, `filled` makes the page anew.

    Args:
        results: Rows of any cells.
        discussion: Markdown, with markers of its own; by default `templates/discussion.md`.
        figures: Captions by the names of the pictures, which are in `docs/images/reproduce/`.
    """
    run = [name for name, table in TABLES.items() if reproduced_table(table, results).run]
    missing = ", ".join(name for name in TABLES if name not in run)
    sections = "".join(_section(name) for name in run)
    pictures = "".join(
        f"![{caption}](images/reproduce/{name})\n\n*{caption}*\n\n" for name, caption in (figures or {}).items()
    )
    page = template("results").format(
        not_run=template("not-run").format(names=missing) if missing else "",
        figures=pictures,
        sections=sections,
        discussion=discussion or template("discussion"),
    )
    return filled(page.strip() + "\n", results)


def _section(name: str) -> str:
    table = TABLES[name]
    section = template("section").format(name=name, title=table.title)
    return section + (template("section-interquartile").format(name=name) if table.domain else "")
