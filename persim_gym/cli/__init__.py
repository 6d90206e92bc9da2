"""The command line: one file a verb."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from persim_gym.cli import (
    baseline,
    calibrate,
    datasets,
    demo,
    evaluate,
    info,
    methods,
    personalize,
    plan,
    study,
    train,
    train_policy,
    video,
)
from persim_gym.version import __version__

app = typer.Typer(
    name="persim",
    help="Personalized simulators of many different agents, learned from one logged trajectory each.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.verb)
app.command()(info.envs)
app.add_typer(datasets.app, name="datasets")
app.add_typer(study.app, name="study")
app.command("train")(train.verb)
app.command("personalize")(personalize.verb)
app.command("calibrate")(calibrate.verb)
app.command("evaluate")(evaluate.verb)
app.command("plan")(plan.verb)
app.command("train-policy")(train_policy.verb)
app.command("baseline")(baseline.verb)
app.command("methods")(methods.verb)
app.command("video")(video.verb)
app.command()(info.doctor)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Personalized simulators of many different agents, learned from one logged trajectory each."""
    if version:
        typer.echo(f"persim_gym {__version__}")
        raise typer.Exit()


def main() -> None:
    """Entry point: a caller's mistake is one line, not a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, KeyError, OSError) as error:
        Console(stderr=True).print(f"persim: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # Typer ends with this code on Ctrl-C.
            Console(stderr=True).print("persim: interrupted; the same command goes on where it stopped", style="red")
        raise
