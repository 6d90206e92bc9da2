"""`persim train`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from persim_gym.cli.options import Address, Backend, Force, Seed, Settings, Workers, refuse_given, resumable
from persim_gym.cli.output import say, say_simulator

if TYPE_CHECKING:
    from persim_gym.simulator.simulator import Simulator

TRIED_EPISODES = 20
"""Episodes an agent of the error that is told after a training."""


@resumable
def verb(
    context: typer.Context,
    simulator: Annotated[
        str, typer.Argument(help="Simulator to train: DOMAIN/POLICY-v0 after its dataset, or any Minari id.")
    ],
    data: Annotated[str | None, typer.Option(help="Minari id of the data. (default: after the name)")] = None,
    task: Annotated[
        str,
        typer.Option(help="Reward and termination: learned, or your own as module:name. (default: the domain's)"),
    ] = "",
    action_bounds: Annotated[
        str, typer.Option(help='Of continuous actions of your own data: logged, or "-2,2". (default: their space)')
    ] = "",
    history: Annotated[
        str,
        typer.Option(
            help="What observations hold of the past: a number of steps of all columns and actions, or "
            "glucose=8,insulin=decay:55min,120min: last values of a column, or running averages. (default: nothing)"
        ),
    ] = "",
    exogenous: Annotated[
        str,
        typer.Option(help="Columns that come from outside, seen but not predicted. (default: those of the dataset)"),
    ] = "",
    rank: Annotated[str, typer.Option(help="A number, or auto for cross-validation. (default: the recipe's)")] = "",
    recipe: Annotated[str, typer.Option(help="default, or thesis for the thesis's own.")] = "default",
    settings: Settings = None,
    variant: Annotated[str, typer.Option(help="factored, unfactorized or unpersonalized.")] = "factored",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the data; rounds in closed form in proportion. (default: the recipe's)"),
    ] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    memory: Annotated[
        float | None, typer.Option(help="GB that data may take; larger ones are read in parts. (default: half of all)")
    ] = None,
    license: Annotated[
        str, typer.Option(help="Licence of the weights, for the card. (default: MIT for our domains, else not stated)")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: by name under $PERSIM_HOME)")] = None,
    holdout: Annotated[
        bool,
        typer.Option(
            help="Of your own data: first train on a part and measure on the rest, beside an unpersonalized simulator. "
            "That is two trainings more."
        ),
    ] = True,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's curves of loss and errors (extra: tensorboard).")
    ] = None,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Train a simulator on its dataset; Ctrl-C is safe, the same command goes on.

    A finished training is not done again.
    """
    from persim_gym.workflows.train import train

    if rank not in ("", "auto") and not (rank.isdigit() and int(rank)):
        raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
    fields = {setting.partition("=")[0] for setting in settings or ()}
    if epochs is not None and fields & {"epochs", "samples", "refine"}:
        raise ValueError("give --epochs, or --set epochs, samples and refine; --epochs is all of them in proportion")
    if rank != "auto":
        refuse_given(context, "backend", "address", why="is for --rank auto, which trains many simulators")
    if rank and "rank" in fields:
        raise ValueError("give --rank or --set rank, not both")
    trained = train(
        data or simulator,
        name=simulator if data else None,
        task=task,
        action_bounds=action_bounds,
        history=history,
        exogenous=[name.strip() for name in exogenous.split(",") if name.strip()],
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
        holdout=holdout,
        tensorboard=tensorboard,
        workers=workers,
        backend=backend,
        address=address,
        force=force,
    )
    say_quality(trained)
    trusted = [] if trained.card.trust or variant != "factored" else ["persim calibrate {}  # how far to trust it"]
    agent = shlex.quote(trained.agent_name(0)).replace("{", "{{").replace("}", "}}")
    say_simulator(trained.folder, f"persim plan {{}} --agent {agent}", *trusted)


def say_quality(simulator: "Simulator") -> None:
    """Prints the error of a simulator on what it was not trained on, beside that of doing nothing, and its trust."""
    import numpy as np

    from persim_gym.evaluation.horizons import BY_HORIZON
    from persim_gym.evaluation.prediction import format_error
    from persim_gym.simulator.diagnostics.trust import Trust
    from persim_gym.simulator.model_card import four_digits
    from persim_gym.workflows.evaluate import horizon_report, true_errors

    card = simulator.card
    if card.domain:
        errors = true_errors(simulator, episodes=TRIED_EPISODES).values()
        idle = np.mean([np.sqrt(np.nanmean((e.true - e.true[:, :1]) ** 2, axis=(1, 2))).mean() for e in errors])
        ours = float(np.mean([e.mean_rmse for e in errors]))
        say(
            f"error over 50 steps: RMSE {format_error(ours)}; predicting no change has {format_error(float(idle))} "
            f"(agents 0-4 in the true environment, {TRIED_EPISODES} new episodes each)"
        )
    elif BY_HORIZON in card.error:
        say("error without correction on data that were held out, in standard deviations of the logged observations:")
        for line in str(horizon_report(simulator)).splitlines():
            say(f"  {line}")
        say("  (by column: persim evaluate)")
    elif held_out := card.error.get("held_out"):
        say(f"error of one step, on {held_out['transitions']:,} transitions that were not trained on:")
        for what, ours, idle in zip(card.error["columns"], held_out["rmse"], held_out["no_change_rmse"], strict=False):
            known = ours is not None and idle is not None  # A column may never have been logged.
            say(f"  {what}: RMSE {ours:.3g}; predicting no change has {idle:.3g}" if known else f"  {what}: not known")
    else:
        say("error of one step, on the training data themselves (too few, or too large, to hold some out):")
        for what, rmse in zip(card.error["columns"], card.error["one_step_rmse"], strict=True):
            say(f"  {what}: RMSE {four_digits(rmse)}")
    if card.trust:
        trust = Trust.from_json(card.trust)
        say(
            f"trust: within {trust.bound} standard deviations for {trust.horizon} of {trust.steps} steps, as calibrated"
        )
    else:
        say("trust: not measured yet")
