"""`persim train`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import say


def verb(
    name: Annotated[
        str, typer.Argument(help="Simulator to train: <domain>/<policy>-v0 after its dataset, or any Minari id.")
    ],
    data: Annotated[str | None, typer.Option(help="Minari id of the data. (default: after the name)")] = None,
    task: Annotated[
        str,
        typer.Option(help="Reward and termination: learned, or your own as module:name. (default: the domain's)"),
    ] = "",
    action_bounds: Annotated[
        str, typer.Option(help='Of continuous actions of your own data: logged, or "-2,2". (default: their space)')
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
    from persim_gym.workflows.train import train

    if rank not in ("", "auto") and not (rank.isdigit() and int(rank)):
        raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
    simulator = train(
        data or name,
        name=name if data else None,
        task=task,
        action_bounds=action_bounds,
        rank=int(rank) if rank.isdigit() else rank or None,
        recipe=recipe,
        settings=settings or (),
        variant=variant,
        epochs=epochs,
        seed=seed,
        device=device,
        memory=memory,
        license=license,
        out=out,
    )
    say(f"{simulator.folder}")
