"""Tables and the figure of the study of new agents; none starts a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import save_figure
from persim_gym.evaluation.prediction import format_error
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.studies.personalize import TRANSITION_COUNTS

Rows = Sequence[Mapping[str, str]]
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2")


def draws_of(rows: Rows, column: str, method: str, count: str, agent: int) -> NDArray[np.float64]:
    """Every draw of one method, count and agent."""
    return np.array(
        [float(r[column]) for r in rows if (r["method"], r["count"], r["agent"]) == (method, count, str(agent))]
    )


def personalize_tables(results: Mapping[str, tuple[Rows, Rows]]) -> str:
    """Markdown tables of all domains: median error and mean return over draws, a row a number of transitions."""
    parts = []
    for domain, (errors, returns) in results.items():
        parts += [f"### {DOMAINS[domain].title}", "", *_error_table(errors)]
        if returns:
            parts += ["", *_return_table(returns)]
        parts.append("")
    return "\n".join(parts)


def _header(first: str) -> list[str]:
    agents = "".join(f" agent {agent} |" for agent in TEST_AGENTS)
    return [f"| {first} |{agents}", "|---|" + "---:|" * len(TEST_AGENTS)]


def _error_table(rows: Rows) -> list[str]:
    lines = _header("RMSE after … transitions")
    for count in TRANSITION_COUNTS:
        labels = {"personalized": _count_label(count), "gaussian": f"{count}, one wide Gaussian as prior"}
        for method, label in labels.items():
            found = [draws_of(rows, "rmse", method, count, agent) for agent in TEST_AGENTS]
            if all(len(x) for x in found):
                lines.append(f"| {label} |" + "".join(f" {_median_and_worst(x)} |" for x in found))
    found = [draws_of(rows, "rmse", "retrained", "trajectory", agent) for agent in TEST_AGENTS]
    if all(len(x) for x in found):
        lines.append("| trained with them |" + "".join(f" {format_error(np.median(x))} |" for x in found))
    times = [float(r["milliseconds"]) for r in rows if r["method"] == "personalized" and r["count"] == "20"]
    return [*lines, "", f"A factor from 20 transitions takes {np.median(times):.1f} ms (median)."]


def _return_table(rows: Rows) -> list[str]:
    lines = _header(f"return of MPC{_cut_off(rows)} after … transitions")
    cases = [("personalized", count, _count_label(count)) for count in TRANSITION_COUNTS]
    cases += [("online", "0", "0, learned while it acts"), ("retrained", "trajectory", "trained with them")]
    for method, count, label in cases:
        found = [draws_of(rows, "return", method, count, agent) for agent in TEST_AGENTS]
        if all(len(x) for x in found):
            lines.append(f"| {label} |" + "".join(f" {x.mean():.1f} |" for x in found))
    return lines


def _cut_off(rows: Rows) -> str:
    """Says after how many steps episodes were cut off, where they were."""
    steps = max(int(row["steps"]) for row in rows)
    return "" if steps >= DOMAINS[rows[0]["domain"]].episode_steps else f" in {steps} steps"


def _count_label(count: str) -> str:
    return {"0": "0 (population average)", "trajectory": "the whole trajectory"}.get(count, count)


def _median_and_worst(x: NDArray[np.float64]) -> str:
    return format_error(x[0]) if len(x) == 1 else f"{format_error(np.median(x))} ({format_error(x.max())})"


def personalize_figure(results: Mapping[str, tuple[Rows, Rows]], path: Path) -> None:
    """Draws errors, and returns where there are any, against the number of transitions, a column a domain.

    Args:
        results: Rows of errors and returns of each domain.
        path: PNG to write.
    """
    height = 2 if any(returns for _, returns in results.values()) else 1
    figure = Figure(figsize=(4.1 * len(results), 3.1 * height + 0.4), layout="constrained")
    axes = figure.subplots(height, len(results), squeeze=False)
    for column, (domain, (errors, returns)) in enumerate(results.items()):
        _curves(axes[0, column], errors, "rmse")
        axes[0, column].set_yscale("log")
        low, high = axes[0, column].get_ylim()
        if high < 30 * low:  # There is hardly a power of ten in it.
            for formatted in (axes[0, column].yaxis.set_major_formatter, axes[0, column].yaxis.set_minor_formatter):
                formatted("{x:g}")
        axes[0, column].set_title(DOMAINS[domain].title, fontsize=11)
        if returns:
            _curves(axes[1, column], returns, "return")
            axes[1, column].set_title(_cut_off(returns).strip(), fontsize=9)
        elif height == 2:
            axes[1, column].axis("off")
    axes[0, 0].set_ylabel("open-loop RMSE, 50 steps")
    if height == 2:
        axes[1, 0].set_ylabel("return of MPC in the\ntrue environment")
    axes[0, 0].legend(fontsize=7, ncols=2)
    figure.suptitle("An agent that training never saw, after so many of its transitions (dashed: trained with it)")
    save_figure(figure, path)


def _curves(ax: Axes, rows: Rows, column: str) -> None:
    x = np.arange(len(TRANSITION_COUNTS))
    middle = np.median if column == "rmse" else np.mean
    for agent, colour in zip(TEST_AGENTS, _COLOURS, strict=True):
        found = [draws_of(rows, column, "personalized", count, agent) for count in TRANSITION_COUNTS]
        ax.plot(x, [middle(v) for v in found], "o-", color=colour, markersize=4, label=f"agent {agent}")
        ax.fill_between(x, [v.min() for v in found], [v.max() for v in found], color=colour, alpha=0.12, linewidth=0)
        known = draws_of(rows, column, "retrained", "trajectory", agent)
        if len(known):
            ax.axhline(float(middle(known)), color=colour, linestyle="--", linewidth=0.9, alpha=0.8)
    ax.set_xticks(x, ["0", "1", "5", "20", "100", "all"])
    ax.set_xlabel("transitions of the new agent")
    ax.grid(alpha=0.25)
