"""Draws the picture of docs/start/concepts.md, on light and on dark paper: `python docs/concepts.py`."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path(__file__).resolve().parent / "images"
PAPERS = {
    "light": {"paper": "#ffffff", "ink": "#1b1b1f", "faint": "#5f6370", "line": "#8a8f9c"},
    "dark": {"paper": "#1e2129", "ink": "#eceff4", "faint": "#a8afbd", "line": "#7d8494"},
}
COLORS = ("#e8590c", "#1c7ed6", "#2f9e44")
"""Of three agents."""
BOXES = {  # Name, sentence, and place (x, y).
    "agent": ("one individual: its hidden\nparameters never show", 0.5, 2.65),
    "log": ("what each agent did,\none trajectory is enough", 3.85, 2.65),
    "factor": ("a few learned numbers\nthat tell agents apart", 7.2, 2.65),
    "simulator": ("one model of all agents,\nbound to one by its factor", 7.2, 0.4),
    "plan": ("actions, or a policy,\nfound in the simulator", 3.85, 0.4),
    "truth": ("the true agent:\nthere the plan is tested", 0.5, 0.4),
}
WIDTH, HEIGHT = 2.5, 1.15


def draw(paper: dict[str, str]) -> Figure:
    """The way from agents to a plan, and back to the truth."""
    figure = Figure(figsize=(10, 5.0), facecolor=paper["paper"])
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0.2, 10.0)
    ax.set_ylim(0.2, 5.1)
    ax.axis("off")
    for name, (sentence, x, y) in BOXES.items():
        _box(ax, name, sentence, x, y, paper)
    _agents(ax, paper)
    arrow = {"arrowstyle": "-|>", "mutation_scale": 16, "color": paper["line"], "linewidth": 1.6}
    for (x0, y0), (x1, y1), word, (dx, dy) in (
        ((3.0, 3.22), (3.85, 3.22), "acts", (0, 0.14)),
        ((6.35, 3.22), (7.2, 3.22), "trains", (0, 0.14)),
        ((6.35, 2.75), (7.2, 1.45), "trains", (-0.28, -0.1)),
        ((8.45, 2.65), (8.45, 1.55), "picks the agent", (0.72, 0)),
        ((7.2, 0.97), (6.35, 0.97), "searched", (0, -0.16)),
        ((3.85, 0.97), (3.0, 0.97), "acts in", (0, 0.14)),
        ((1.75, 1.55), (1.75, 2.65), "the same individual", (0.88, 0)),
    ):
        ax.add_patch(FancyArrowPatch((x0, y0), (x1, y1), **arrow))
        place = ((x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy)
        ax.text(*place, word, ha="center", va="center", fontsize=10, color=paper["faint"])
    return figure


def _box(ax: Axes, name: str, sentence: str, x: float, y: float, paper: dict[str, str]) -> None:
    style: dict[str, Any] = {"boxstyle": "round,pad=0.0,rounding_size=0.12", "linewidth": 1.6}
    ax.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, facecolor="none", edgecolor=paper["ink"], **style))
    middle = x + WIDTH / 2
    ax.text(middle, y + 0.86, name, ha="center", va="center", fontsize=15, weight="bold", color=paper["ink"])
    ax.text(middle, y + 0.36, sentence, ha="center", va="center", fontsize=9.5, color=paper["faint"], linespacing=1.35)


def _agents(ax: Axes, paper: dict[str, str]) -> None:
    """Three agents, their logs, and where their factors lie."""
    factors = ((7.75, 4.35), (8.35, 4.05), (9.0, 4.5))
    for i, (number, color, factor) in enumerate(zip((3, 17, 40), COLORS, factors, strict=True)):
        ax.plot(1.05 + 0.7 * i, 4.22, "o", markersize=18, color=color)
        ax.text(1.05 + 0.7 * i, 4.21, f"{number}", ha="center", va="center", fontsize=9, color="white")
        steps = np.linspace(0.0, 1.0, 60)
        height = 4.22 + 0.22 * np.sin((9 + 4 * i) * steps + i) * (1 - 0.25 * i)
        ax.plot(4.05 + 2.1 * steps, height, color=color, linewidth=1.8)
        ax.plot(*factor, "o", markersize=9, color=color)
    for x, words in ((1.75, "a population"), (5.1, "a dataset"), (8.45, "like agents, like factors")):
        ax.text(x, 4.82, words, ha="center", fontsize=10, color=paper["faint"])


def main() -> None:
    """Writes both pictures."""
    for name, paper in PAPERS.items():
        draw(paper).savefig(IMAGES / f"concepts-{name}.png", dpi=130)


if __name__ == "__main__":
    main()
