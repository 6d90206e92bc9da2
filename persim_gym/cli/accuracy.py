"""`persim study accuracy`, `test-policies` and `sensitivity`: errors beside the thesis's, and their limits."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import say


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
    from persim_gym.cli.output import numbers
    from persim_gym.storage import write_text
    from persim_gym.studies.accuracy import LOGGING_POLICIES, read_rows, run_accuracy
    from persim_gym.studies.accuracy_report import ablation_tables, accuracy_page, error_tables, same_data_tables
    from persim_gym.studies.sensitivity import SENSITIVITY_FILE as SET_OFF
    from persim_gym.studies.test_policies import TEST_POLICIES_FILE as OTHERS

    run_accuracy(
        domain or ["mountaincar", "cartpole"],
        policy or LOGGING_POLICIES,
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
        others, set_off = (read_rows(out / file) if (out / file).is_file() else [] for file in (OTHERS, SET_OFF))
        write_text(page, accuracy_page(rows, others, set_off))


def test_policies(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: halfcheetah)")] = None,
    test_seeds: Annotated[str, typer.Option(help="Seeds of the test policies; 0 is the bundled one's.")] = "1,2",
    out: Annotated[Path, typer.Option(help="Folder of `persim study accuracy`.")] = Path("persim-out/accuracy"),
    workers: Annotated[int | None, typer.Option(help="Processes. (default: one a core)")] = None,
) -> None:
    """Train other test policies and print the simulators' errors under them; a HalfCheetah's takes 20 minutes."""
    from persim_gym.cli.output import numbers
    from persim_gym.studies.accuracy_report import other_policies_tables
    from persim_gym.studies.test_policies import run_test_policies

    rows = run_test_policies(domain or ["halfcheetah"], out, test_seeds=numbers(test_seeds), workers=workers)
    say(other_policies_tables(rows))


def sensitivity(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: the thesis's three)")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes an agent.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder of sensitivity.csv.")] = Path("persim-out/accuracy"),
    workers: Annotated[int | None, typer.Option(help="Processes. (default: one a core)")] = None,
) -> None:
    """Print what the true dynamics score when started a little off, or set off at every step; resumable."""
    from persim_gym.datasets.registry import THESIS_DOMAINS
    from persim_gym.studies.sensitivity import run_sensitivity, sensitivity_table

    say(sensitivity_table(run_sensitivity(domain or THESIS_DOMAINS, out, episodes=episodes, workers=workers)))
