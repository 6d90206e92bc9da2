"""What a comparison found: rows, a table, a CSV file and a picture."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from persim_gym.comparison.setting import RETURN, TERMINAL
from persim_gym.evaluation.figures import save_figure
from persim_gym.storage import replaceable, replacing

WORDS = {RETURN: "return", TERMINAL: "last reward"}
"""What an episode is worth, by the objective, in tables and pictures."""


UNFAMILIAR = 0.2
"""Share of steps unlike logged ones from which on a note names a candidate."""


@dataclass(frozen=True)
class ComparedPolicy:
    """One candidate for one agent.

    Attributes:
        agent: What the agent is called.
        candidate: What the candidate is called.
        mean: Mean return in the agent's simulator.
        low: Lower end of its 90 % interval, which holds what the simulator does not know.
        high: Upper end.
        best: Probability that no other candidate earns more.
        beats: Probability that it earns more than the baseline; None for the baseline itself, or without one.
        fitted_q: Mean return by fitted Q evaluation; None where there are no data, or it was not asked for.
        steps: Mean length of an episode.
        lost: Share of episodes that ended where predictions were not believed.
        unlike: Share of its steps that are unlike every logged one; None where there are no data.
        objective: What an episode is worth, one of `persim_gym.comparison.setting.OBJECTIVES`.
    """

    agent: str
    candidate: str
    mean: float
    low: float
    high: float
    best: float
    beats: float | None
    fitted_q: float | None
    steps: float
    lost: float
    unlike: float | None
    objective: str


def unfamiliar_note(rows: Sequence[ComparedPolicy]) -> list[str]:
    """A line about candidates that go where nothing was logged, each with the agent of whom that holds most."""
    worst = dict[str, ComparedPolicy]()
    for row in sorted(rows, key=lambda row: -(row.unlike or 0.0)):
        if (row.unlike or 0.0) > UNFAMILIAR:
            worst.setdefault(row.candidate, row)
    if not worst:
        return []
    said = ", ".join(f"{row.candidate} in {row.unlike:.0%} of its steps (agent {row.agent})" for row in worst.values())
    return [f"unlike everything that was logged, so that the simulator extrapolates: {said}"]


def check_table(path: Path, force: bool = False) -> None:
    """Refuses to replace a file that is no table of compared policies.

    Args:
        path: The file that is to be written.
        force: Whether any regular file may be replaced.

    Raises:
        ValueError: If something else is there; or as `persim_gym.storage.replaceable`.
    """
    columns = [field.name for field in fields(ComparedPolicy)]
    if replaceable(path, sign="").exists() and not force:
        with path.expanduser().open(encoding="utf-8", errors="replace") as file:
            if next(csv.reader(file), columns) != columns:
                raise ValueError(f"{path} is another table; give another file, or --force to replace it")


@dataclass(frozen=True)
class Comparison:
    """Candidates for some agents.

    Attributes:
        rows: Each candidate for each agent, the best mean of an agent first.
        baseline: Name of the candidate that others are held against; empty without one.
        notes: What the numbers rest on, and what is not known.
    """

    rows: tuple[ComparedPolicy, ...]
    baseline: str
    notes: tuple[str, ...]

    @property
    def agents(self) -> list[str]:
        """Agents in the order in which they were given."""
        return list(dict.fromkeys(row.agent for row in self.rows))

    @property
    def _word(self) -> str:
        return WORDS[self.rows[0].objective]

    def of(self, agent: str) -> list[ComparedPolicy]:
        """Rows of an agent, the best first."""
        return [row for row in self.rows if row.agent == agent]

    def table(self) -> Table:
        """A table for the terminal, one section an agent."""
        word = self._word
        table = Table(
            title=f"simulated {word}s",
            caption="\n".join(self.notes),
            header_style="bold",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        against = f"beats {self.baseline}" if self.baseline else "beats"
        for name in ("agent", "candidate"):
            table.add_column(name, overflow="fold", min_width=9 * (name == "candidate"))
        for name in (f"mean {word}", "90 % interval", "best", against, "fitted Q", "steps"):
            # Numbers are never folded or cut off: in a narrow window that is for the names.
            title = name if name == "90 % interval" else "\n".join(name.split(maxsplit=1))
            table.add_column(title, justify="right", no_wrap=True)
        for agent in self.agents:
            table.add_section()
            for place, row in enumerate(self.of(agent)):
                table.add_row(agent if place == 0 else "", row.candidate, *_cells(row))
        return table

    def write_csv(self, path: str | Path, force: bool = False) -> Path:
        """Writes the rows; a file of the same columns is replaced.

        Raises:
            ValueError: If something else is there, and `force` is off.
        """
        path, columns = Path(path).expanduser(), [field.name for field in fields(ComparedPolicy)]
        check_table(path, force)
        with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: "" if v is None else v for k, v in asdict(row).items()} for row in self.rows)
        return path

    def plot(self, path: str | Path) -> Path:
        """Draws the interval of each candidate, a panel an agent; writes a PNG, or what the file's ending says."""
        path, agents = Path(path).expanduser(), self.agents
        columns = min(len(agents), 3)
        lines = -(-len(agents) // columns)
        height = 0.32 * max(len(self.of(agent)) for agent in agents) + 1.0
        figure = Figure(figsize=(5.2 * columns, height * lines + 0.4), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel in panels[len(agents) :]:
            panel.axis("off")
        for panel, agent in zip(panels, agents, strict=False):
            _draw(panel, self.of(agent), agent, self.baseline)
            panel.set_xlabel(f"{self._word} of an episode", fontsize=9)
        known = any(row.fitted_q is not None for row in self.rows)
        figure.suptitle(f"simulated {self._word} and 90 % interval{'; × by fitted Q evaluation' * known}", fontsize=11)
        save_figure(figure, path)
        return path


def _cells(row: ComparedPolicy) -> tuple[str, ...]:
    """The numbers of a row, as the table has them."""
    return (
        f"{row.mean:.4g}",
        f"{row.low:.4g} to {row.high:.4g}",
        f"{row.best:.0%}",
        "-" if row.beats is None else f"{row.beats:.0%}",
        "-" if row.fitted_q is None else f"{row.fitted_q:.4g}",
        f"{row.steps:.4g}",
    )


def _draw(panel: Axes, rows: Sequence[ComparedPolicy], agent: str, baseline: str) -> None:
    """Intervals of an agent's candidates, the best on top, and fitted Q beside them."""
    places = list(range(len(rows)))
    for place, row in zip(places, rows, strict=True):
        color = "#e8590c" if place == 0 else "0.45" if row.candidate == baseline else "#1971c2"
        panel.plot([row.low, row.high], [place, place], color=color, linewidth=3, solid_capstyle="butt")
        panel.plot([row.mean], [place], "o", color=color, markersize=6)
    known = [(row.fitted_q, place) for place, row in zip(places, rows, strict=True) if row.fitted_q is not None]
    if known:
        panel.plot(*zip(*known, strict=True), "x", color="0.2", markersize=5)
    panel.set_yticks(places, [f"{row.candidate}  {row.best:.0%}" for row in rows], fontsize=8)
    panel.invert_yaxis()
    panel.grid(alpha=0.25, axis="x")
    panel.set_title(f"agent {agent}; beside each name, how likely it is the best", fontsize=9)
