"""Verbs of simulators: train and evaluate them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from persim_gym.cli.output import console, numbers, say
from persim_gym.cli.personal import print_agent
from persim_gym.envs import DOMAINS


def train(
    name: Annotated[
        str, typer.Argument(help="Simulator to train: <domain>/<policy>-v0 after its dataset, or any Minari id.")
    ],
    data: Annotated[str | None, typer.Option(help="Minari id of the data. (default: after the name)")] = None,
    task: Annotated[
        str,
        typer.Option(help="Reward and termination: learned, or your own as module:name. (default: the domain's)"),
    ] = "",
    rank: Annotated[str, typer.Option(help="A number, or auto for cross-validation. (default: the recipe's)")] = "",
    recipe: Annotated[str, typer.Option(help="default, or thesis for the thesis's own.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Changes a field of the recipe: --set learning_rate=0.001")
    ] = None,
    variant: Annotated[str, typer.Option(help="factored, unfactorized or unpersonalized.")] = "factored",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data. (default: the recipe's)")] = None,
    seed: Annotated[int, typer.Option(help="Source of all randomness.")] = 0,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    memory: Annotated[
        float | None, typer.Option(help="GB that data may take; larger ones are read in parts. (default: half of all)")
    ] = None,
    license: Annotated[
        str, typer.Option(help="Licence of the weights, for the card. (default: MIT for our domains, else not stated)")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: by name under $PERSIM_HOME)")] = None,
) -> None:
    """Train a simulator on its dataset; Ctrl-C is safe, the same command goes on."""
    from persim_gym.workflows.train import train_by_name

    folder = train_by_name(
        name,
        data=data,
        task=task,
        rank=rank,
        recipe_name=recipe,
        settings=settings or (),
        variant=variant,
        epochs=epochs,
        seed=seed,
        device=device,
        memory=memory,
        license=license,
        folder=out,
    )
    say(f"{folder}")


def logged_error_table(name: str, error: dict[str, Any]) -> Table:
    """The error profile of a card."""
    from persim_gym.simulator.model_card import four_digits

    table = Table(title=f"{name}: error on its {error.get('data', 'data')}", header_style="bold")
    for column in ("what", "RMSE", "R²"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, rmse, r2 in zip(
        error.get("columns", []), error.get("one_step_rmse", []), error.get("one_step_r2", []), strict=True
    ):
        table.add_row(f"{what}, one step", four_digits(rmse), four_digits(r2))
    for step, rmse in zip(error.get("steps", []), error.get("open_loop", []), strict=True):
        table.add_row(f"{step} open-loop steps (standard deviations)", four_digits(rmse), "")
    return table


def evaluate(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")] = "mountaincar/random-v0",
    agents: Annotated[str, typer.Option(help='Numbers and ranges, "0-4,17".')] = "0-4",
    agent: Annotated[int | None, typer.Option(help="One agent: what the simulator knows of it, without truth.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes an agent.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the initial states.")] = 0,
) -> None:
    """Measure open-loop prediction error against the true environment, as the thesis does; or say what is known.

    A simulator of no domain of ours has no true environment: its card's error on logged data is shown instead.
    """
    if agent is not None:
        print_agent(simulator, agent)
        return
    from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
    from persim_gym.evaluation.figures import covariate_label
    from persim_gym.evaluation.prediction import format_error, prediction_error
    from persim_gym.simulator.registry import load_simulator

    loaded = load_simulator(simulator)
    if not loaded.card.domain:
        console.print(logged_error_table(loaded.card.name, loaded.card.error))
        return
    domain = DOMAINS[loaded.card.domain]
    policy = load_behavior_policy(domain.name, TEST)
    table = Table(title=f"{loaded.card.name}: {episodes} episodes, 50 open-loop steps", header_style="bold")
    for column in ("agent", "covariates", "mean RMSE", "median R²"):
        table.add_column(column)
    for agent in numbers(agents):
        error = prediction_error(loaded.dynamics(agent), domain, agent, policy, episodes=episodes, seed=seed)
        table.add_row(
            str(agent), covariate_label(domain, agent), format_error(error.mean_rmse), f"{error.median_r2:.3f}"
        )
    console.print(table)
