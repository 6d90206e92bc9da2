"""Policies that `persim compare` has compared, as its CSV file has them."""

import csv
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from persim_gym.labels import Labels
from persim_gym.reports.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, axis, figure, short
from persim_gym.reports.markup import table
from persim_gym.storage import reading

_NEEDED = ("agent", "candidate", "mean")
_SHOWN = {  # What columns are called on the page, and here the names that they may have.
    "lowest (90 %)": ("low",),
    "highest (90 %)": ("high",),
    "is the best": ("best", "p_best"),
    "beats the baseline": ("beats", "p_beats_logged"),
    "unlike the logs": ("unlike",),
    "fitted Q": ("fitted_q", "fqe"),
}
_SHARES = ("is the best", "beats the baseline", "unlike the logs")
_ROW = 34
_LONGEST = 48
"""Characters of a candidate's name that the picture has room for; the table has all of them."""


@dataclass(frozen=True)
class Compared:
    """A candidate for one agent.

    Attributes:
        agent: What the agent is called in the file.
        candidate: What the candidate is called.
        mean: Mean return, or the mean of what else the objective counts.
        objective: What an episode is worth, as `persim compare` has it.
        others: Further columns by what the page calls them; None where a cell is empty.
    """

    agent: str
    candidate: str
    mean: float
    objective: str
    others: dict[str, float | None]


def read_compared(path: Path) -> list[Compared]:
    """Rows of a file that `persim compare --out` wrote.

    Raises:
        ValueError: If there is no such file, or it is another table.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; `persim compare --out {path}` writes one")
    with reading(str(path), "write it again with `persim compare --out`"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if missing := [name for name in _NEEDED if any(row.get(name) in (None, "") for row in rows) or not rows]:
            raise ValueError(f"it lacks {', '.join(missing)}, which `persim compare` writes")
        found = []
        for row in rows:
            names = {shown: next((n for n in known if n in row), None) for shown, known in _SHOWN.items()}
            others = {shown: float(row[name]) if row[name] else None for shown, name in names.items() if name}
            found.append(
                Compared(row["agent"], row["candidate"], float(row["mean"]), row.get("objective") or "return", others)
            )
        return found


def of_agent(rows: list[Compared], agent: int, labels: Labels) -> list[Compared]:
    """An agent's candidates, the best mean first."""
    name = labels.agent_name(agent)
    return sorted((row for row in rows if row.agent == name), key=lambda row: -row.mean)


def compared_part(rows: list[Compared]) -> str:
    """A picture and a table of an agent's candidates."""
    known = [name for name in _SHOWN if any(row.others.get(name) is not None for row in rows)]

    def cell(name: str, value: float | None) -> str:
        return "–" if value is None else f"{value:.0%}" if name in _SHARES else f"{value:.4g}"

    body = [(row.candidate, f"{row.mean:.4g}", *(cell(name, row.others.get(name)) for name in known)) for row in rows]
    return _intervals(rows) + table(("candidate", f"mean {_worth(rows)}", *known), body)


def _worth(rows: list[Compared]) -> str:
    """What an episode is worth, in words."""
    return "last reward" if rows[0].objective == "terminal" else "return"


def _named(candidate: str) -> str:
    """A name as the picture has it: of a long one, how it begins and ends."""
    half = _LONGEST // 2
    return candidate if len(candidate) <= _LONGEST else f"{candidate[: half - 1]}…{candidate[-half:]}"


def _intervals(rows: list[Compared]) -> str:
    """The mean and the interval of each candidate, the best on top."""
    ends = [[row.others.get(name) for name in ("lowest (90 %)", "highest (90 %)")] for row in rows]
    known = np.array([v for row, pair in zip(rows, ends, strict=True) for v in (row.mean, *pair) if v is not None])
    x = axis([known], LEFT / 4, WIDTH - RIGHT)
    bottom, drawn = TOP + _ROW * len(rows), []
    for value in x.ticks():
        place = float(x.at(np.array(value)))
        drawn.append(f'<path class="grid" d="M{place:.1f} {TOP}V{bottom}"/>')
        drawn.append(f'<text class="x" x="{place:.1f}" y="{bottom + 13}">{short(value)}</text>')
    for i, (row, pair) in enumerate(zip(rows, ends, strict=True)):
        y = TOP + _ROW * i + 24
        drawn.append(f'<text class="label" x="{LEFT / 4:g}" y="{y - 10}">{escape(_named(row.candidate))}</text>')
        if pair[0] is not None and pair[1] is not None:
            low, high = (float(x.at(np.array(value))) for value in pair)
            drawn.append(f'<path class="bar c{1 if i == 0 else 2}" d="M{low:.1f} {y}H{high:.1f}"/>')
        place = float(x.at(np.array(row.mean)))
        drawn.append(f'<circle class="dot c{1 if i == 0 else 2}" cx="{place:.1f}" cy="{y}" r="4"/>')
    drawn.append(
        f'<text class="name" x="{WIDTH / 2:g}" y="{bottom + 30}">{_worth(rows)} of an episode, simulated</text>'
    )
    picture = figure(f"Mean {_worth(rows)} and its 90 % interval", "".join(drawn), WIDTH, max(bottom + 36, HEIGHT // 2))
    return f'<div class="panels">{picture}</div>'
