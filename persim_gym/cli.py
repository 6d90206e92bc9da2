"""The command line: one function a verb."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table

from persim_gym.envs import DOMAINS
from persim_gym.version import __version__

if TYPE_CHECKING:
    from persim_gym.datasets import Recipe

app = typer.Typer(
    name="persim",
    help="Personalized simulators of many different agents, learned from one logged trajectory each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
datasets_app = typer.Typer(help="Minari datasets: list, build and describe them.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")
console = Console()

DATASET_COLUMNS: dict[str, JustifyMethod] = {
    "dataset": "left",
    "built": "left",
    "transitions": "right",
    "mean return": "right",
    "hash": "left",
}


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{text!r} is not a list of agents; write numbers with commas between, e.g. 0,1,17") from error


@app.command()
def demo(
    domain: Annotated[str, typer.Option(help="Domain: mountaincar or cartpole.")] = "mountaincar",
    agents: Annotated[str, typer.Option(help="Agents to evaluate; 0-4 are the thesis's test agents.")] = "0,1,2,3,4",
    episodes: Annotated[int, typer.Option(help="Episodes an agent and method.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. (default: persim-out/DOMAIN)")] = None,
    seed: Annotated[int, typer.Option(help="Seed of training and evaluation.")] = 0,
) -> None:
    """Run the main job: dataset, simulator, planning in it, returns in the true environment."""
    from persim_gym.experiments.demo import run_demo

    run_demo(domain, _numbers(agents), episodes, out or Path("persim-out") / domain, seed, console)


@app.command()
def envs(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/environments.md: observations too.")] = False,
) -> None:
    """List the true environments and their covariates."""
    from persim_gym.experiments.environment_page import actions_of, environment_page, range_of

    if markdown:
        typer.echo(environment_page(), nl=False)
        return
    table = Table(header_style="bold")
    for column in ("environment", "what", "covariates", "observation", "actions", "steps"):
        table.add_column(column)
    for domain in DOMAINS.values():
        covariates = "\n".join(f"{c.name} {range_of(c)}" for c in domain.covariates)
        size, steps = str(len(domain.observation_names)), str(domain.episode_steps)
        table.add_row(domain.env_id, domain.summary, covariates, size, actions_of(domain), steps)
    console.print(table)


@datasets_app.command("list")
def datasets_list() -> None:
    """List the datasets that can be built, and what those that are built hold."""
    import minari

    from persim_gym.datasets import RECIPES

    local = minari.list_local_datasets(prefix="persim")
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column, justify in DATASET_COLUMNS.items():
        table.add_column(column, justify=justify, no_wrap=True)
    for dataset_id, recipe in RECIPES.items():
        metadata = local.get(dataset_id)
        if metadata is None:
            table.add_row(dataset_id, "needs loggers" if recipe.missing_loggers else "no")
            continue
        mean = f"{metadata['mean_return']:.1f}" if "mean_return" in metadata else "?"
        table.add_row(
            dataset_id, "yes", f"{metadata['total_steps']:,}", mean, str(metadata.get("content_hash", "?"))[:8]
        )
    console.print(table)


def _chosen(dataset_ids: list[str] | None, domain: str | None, everything: bool) -> "dict[str, Recipe]":
    """The recipes that a command's arguments name; all of a domain, or all, without ids."""
    from persim_gym.datasets.recipes import RECIPES, recipe_of

    if dataset_ids and (domain is not None or everything):
        raise ValueError("give dataset ids, or --domain, or --all")
    if domain is not None and domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}; known: {', '.join(DOMAINS)}")
    if dataset_ids:
        return {dataset_id: recipe_of(dataset_id) for dataset_id in dataset_ids}
    return {dataset_id: recipe for dataset_id, recipe in RECIPES.items() if domain in (None, recipe.domain.name)}


@datasets_app.command("build")
def datasets_build(
    dataset_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Minari ids, e.g. persim/mountaincar/random-v0. (default: all that can be built)"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Build all of this domain.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Build all that can be built.")] = False,
) -> None:
    """Build datasets into Minari's folder; those that exist are left alone. Ctrl-C leaves no half dataset."""
    from persim_gym.datasets.collect import build

    for dataset_id, recipe in _chosen(dataset_ids, domain, everything).items():
        if not dataset_ids and (missing := recipe.missing_loggers):
            text = f"left out, needs {', '.join(missing)}: persim datasets train-loggers --domain {recipe.domain.name}"
            console.print(f"{dataset_id}: {text}", soft_wrap=True, highlight=False)
        else:
            console.print(f"{dataset_id}: {build(recipe)}", soft_wrap=True, highlight=False)


@datasets_app.command("card")
def datasets_card(
    dataset_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Minari ids; built when they are missing. (default: all that are built)"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="All of this domain that are built.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the cards. (default: beside each dataset)")] = None,
) -> None:
    """Write a card a dataset: Markdown and a histogram of returns, from the data, beside the thesis's figures."""
    from minari.storage import get_dataset_path

    from persim_gym.experiments.dataset_cards import write_card

    chosen = _chosen(dataset_ids, domain, everything=False)
    wanted = [dataset_id for dataset_id in chosen if dataset_ids or get_dataset_path(dataset_id).exists()]
    if not wanted:
        raise ValueError("none of the datasets is built; run `persim datasets build`, or name those that you want")
    for dataset_id in wanted:
        console.print(f"{dataset_id}: {write_card(dataset_id, out)}", soft_wrap=True, highlight=False)


@datasets_app.command("train-loggers")
def datasets_train_loggers(
    domain: Annotated[str, typer.Option(help="Domain whose logging and test policies to train.")],
    name: Annotated[list[str] | None, typer.Option(help="Policies: logger-0, ..., test. (default: all)")] = None,
) -> None:
    """Train the logging and test policies again; an interrupted training goes on."""
    from persim_gym.datasets.train_loggers import train_loggers

    train_loggers([domain], name)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Simulator to train, <domain>/<policy>-v0, after its dataset.")],
    recipe: Annotated[str, typer.Option(help="default, or thesis for the thesis's own.")] = "default",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data. (default: the recipe's)")] = None,
    seed: Annotated[int, typer.Option(help="Source of all randomness.")] = 0,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: by name under $PERSIM_HOME)")] = None,
) -> None:
    """Train a simulator on its dataset; Ctrl-C is safe, the same command goes on."""
    from persim_gym.datasets import load
    from persim_gym.datasets.recipes import NAMESPACE
    from persim_gym.train import train_simulator

    domain = name.split("/")[0]
    folder = train_simulator(
        load(f"{NAMESPACE}/{name}"),
        name=name,
        domain=domain,
        recipe_name=recipe,
        epochs=epochs,
        seed=seed,
        device=device,
        folder=out,
    )
    console.print(f"{folder}", soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")] = "mountaincar/random-v0",
    agents: Annotated[str, typer.Option(help="Agents.")] = "0,1,2,3,4",
    episodes: Annotated[int, typer.Option(help="Episodes an agent.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the initial states.")] = 0,
) -> None:
    """Measure open-loop prediction error against the true environment, as the thesis does."""
    from persim_gym.datasets.behaviour import TEST, load_policy
    from persim_gym.evaluate import prediction_error
    from persim_gym.experiments.figures import covariate_label
    from persim_gym.simulator.card import load_simulator

    loaded = load_simulator(simulator)
    domain = DOMAINS[loaded.card.domain]
    policy = load_policy(domain.name, TEST)
    table = Table(title=f"{loaded.card.name}: {episodes} episodes, 50 open-loop steps", header_style="bold")
    for column in ("agent", "covariates", "mean RMSE", "median R²"):
        table.add_column(column)
    for agent in _numbers(agents):
        error = prediction_error(loaded.dynamics(agent), domain, agent, policy, episodes=episodes, seed=seed)
        table.add_row(str(agent), covariate_label(domain, agent), f"{error.mean_rmse:.4f}", f"{error.median_r2:.3f}")
    console.print(table)


@app.command()
def doctor() -> None:
    """Say what is installed, where files are kept and which simulators there are."""
    from importlib.metadata import PackageNotFoundError, version

    from minari.storage import get_dataset_path

    from persim_gym.experiments.runs import available_cores
    from persim_gym.home import persim_home
    from persim_gym.simulator.card import list_simulators

    table = Table(show_header=False)
    table.add_row("persim_gym", __version__)
    table.add_row("Python", sys.version.split()[0])
    for package in ("gymnasium", "minari", "mujoco", "numba", "numpy", "stable-baselines3", "torch"):
        try:
            table.add_row(package, version(package))
        except PackageNotFoundError:
            table.add_row(package, "missing")
    table.add_row("cores", str(available_cores()))
    table.add_row("datasets", str(get_dataset_path()))
    table.add_row("$PERSIM_HOME", str(persim_home()))
    for name, folder in list_simulators().items():
        table.add_row(f"simulator {name}", str(folder))
    console.print(table)


def main() -> None:
    """Entry point: a caller's mistake is one line, not a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, KeyError) as error:
        Console(stderr=True).print(f"persim: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # how typer ends on Ctrl-C
            Console(stderr=True).print("persim: interrupted; the same command goes on where it stopped", style="red")
        raise


if __name__ == "__main__":
    main()
