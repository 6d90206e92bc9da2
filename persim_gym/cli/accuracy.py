"""`persim study accuracy` and `sensitivity`: prediction errors beside the thesis's, and what they can be at best."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.shared import say


def accuracy(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: mountaincar and cartpole)")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Logging policies. (default: all four)")] = None,
    variation: Annotated[
        list[str] | None,
        typer.Option(help="default, thesis, a named change of the default recipe, or all. (default: default)"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings.")] = "0",
    out: Annotated[Path, typer.Option(help="Folder of accuracy.csv and the simulators.")] = Path("persim-out/accuracy"),
    page: Annotated[Path | None, typer.Option(help="Write docs/accuracy.md there, from all rows so far.")] = None,
    workers: Annotated[int | None, typer.Option(help="Trainings at a time. (default: one a core)")] = None,
) -> None:
    """Train simulators and print their prediction errors beside the thesis's Tables B.1-B.3; resumable."""
    from persim_gym.cli.shared import numbers
    from persim_gym.experiments.accuracy import POLICIES, read_rows, run_accuracy
    from persim_gym.experiments.accuracy_report import ablation_tables, accuracy_page, error_tables, same_data_tables
    from persim_gym.experiments.sensitivity import FILE

    run_accuracy(
        domain or ["mountaincar", "cartpole"],
        policy or POLICIES,
        out,
        variations=variation or ["default"],
        seeds=numbers(seeds),
        workers=workers,
    )
    rows = read_rows(out / "accuracy.csv")
    say(error_tables(rows))
    for more in (same_data_tables(rows), ablation_tables(rows)):
        if more.strip():
            say(more)
    if page is not None:
        started_off = read_rows(out / FILE) if (out / FILE).is_file() else []
        page.write_text(accuracy_page(rows, started_off), encoding="utf-8")


def sensitivity(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: the thesis's three)")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes an agent.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder of sensitivity.csv.")] = Path("persim-out/accuracy"),
    workers: Annotated[int | None, typer.Option(help="Processes. (default: one a core)")] = None,
) -> None:
    """Print what the true dynamics score when started a little off, or set off at every step; resumable."""
    from persim_gym.datasets.recipes import THESIS_DOMAINS
    from persim_gym.experiments.sensitivity import run_sensitivity, sensitivity_table

    say(sensitivity_table(run_sensitivity(domain or THESIS_DOMAINS, out, episodes=episodes, workers=workers)))
