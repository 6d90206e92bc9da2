"""`persim envs`, `persim methods` and `persim doctor`: environments, methods, the installation and tables."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from persim_gym.cli.options import Force
from persim_gym.cli.output import console, paragraph, say
from persim_gym.cli.tables.doctor import say_diagnosis
from persim_gym.cli.tables.imports import Decimal, Delimiter, Encoding, Missing, TimeFormat, columns_of
from persim_gym.envs import DOMAINS
from persim_gym.version import __version__


def envs(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/environments.md: observations too.")] = False,
    images: Annotated[
        Path | None, typer.Option(help="Draw a picture of each environment instead, on one sheet: a .png file.")
    ] = None,
    force: Force = False,
) -> None:
    """List the true environments and their covariates."""
    from persim_gym.envs.markdown import actions_of, environment_page, range_of

    if images is not None:
        from persim_gym.evaluation.environment_sheet import environment_sheet

        failed = environment_sheet(DOMAINS.values(), images, force=force)
        say(f"{images}  {len(DOMAINS) - len(failed)} of {len(DOMAINS)} environments")
        for name, why in failed.items():
            say(f"  {name} cannot be drawn here: {why}")
        return
    if markdown:
        typer.echo(environment_page(), nl=False)
        return
    for domain in DOMAINS.values():
        size = len(domain.observation_names)
        actions = actions_of(domain).replace("continuous ", "")  # Their range says so; a line has 80 characters.
        say(f"{domain.env_id}: {size} observations, {actions}, {domain.episode_steps} steps")
        paragraph(f"{domain.summary[0].upper()}{domain.summary[1:]}.")
        for covariate in domain.covariates:
            paragraph(f"{covariate.name} {range_of(covariate)}")


def methods() -> None:
    """List the methods of the thesis and ours: what each may see of an agent, and what runs it."""
    from persim_gym.baselines.methods import METHODS

    for method in METHODS:
        say(f"{method.name} ({method.kind}; sees {method.sees}; {method.source})")
        say(f"  {method.command}")


def doctor(
    tables: Annotated[
        list[Path] | None, typer.Argument(help="CSV or Parquet files of one table. (default: look at the installation)")
    ] = None,
    agent: Annotated[str, typer.Option(help="Column that names a row's agent. (default: a guess, as all others)")] = "",
    time: Annotated[str, typer.Option(help="Column of the time.")] = "",
    obs: Annotated[str, typer.Option(help="Observed columns, with commas between.")] = "",
    action: Annotated[str, typer.Option(help="Action columns, with commas between.")] = "",
    reward: Annotated[str, typer.Option(help="Column of the reward.")] = "",
    delimiter: Delimiter = "",
    decimal: Decimal = ".",
    encoding: Encoding = "utf-8",
    missing: Missing = None,
    time_format: TimeFormat = "",
) -> None:
    """Of a table, guess what its columns are and warn of what will hurt; else say what is installed, and where.

    The installation: versions, where files are kept, and which simulators there are.
    """
    from persim_gym.datasets.tables.roles import Dialect

    if tables:
        dialect = Dialect(delimiter, decimal, encoding, tuple(missing or ()), time_format)
        given = {"agent": agent, "time": time, "obs": obs, "action": action, "reward": reward}
        say_diagnosis(tables, {role: tuple(columns_of(text)) for role, text in given.items()}, dialect)
    else:
        say_installation()


def say_installation() -> None:
    """Prints what is installed, where files are kept and which simulators there are."""
    from minari.storage import get_dataset_path

    from persim_gym.extras import EXTRAS, version_of
    from persim_gym.jobs import available_cores
    from persim_gym.paths import persim_home
    from persim_gym.simulator.kernels.dense import byte_products
    from persim_gym.simulator.registry import list_simulators
    from persim_gym.simulator.training.torch_engine import multiplies_bfloat16

    products = byte_products()
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("persim_gym", __version__)
    table.add_row("Python", sys.version.split()[0])
    for package in ("gymnasium", "minari", "numba", "numpy", "torch"):
        table.add_row(package, version_of(package) or "missing")
    for extra, package in EXTRAS.items():
        table.add_row(f"extra {extra}", version_of(package) or escape(f"none: pip install 'persim-gym[{extra}]'"))
    table.add_row("cores", str(available_cores()))
    table.add_row(
        "planning of deep models", f"float32; bytes with --quantize ({products.name})" if products else "float32 only"
    )
    table.add_row("training of deep models", "in bfloat16" if multiplies_bfloat16() else "in float32")
    table.add_row("datasets", str(get_dataset_path()))
    table.add_row("$PERSIM_HOME", str(persim_home()))
    for name, folder in list_simulators().items():
        table.add_row(f"simulator {name}", str(folder))
    console.print(table)
