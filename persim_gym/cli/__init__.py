"""The command line: one function a verb."""

import sys

import typer
from rich.console import Console

from persim_gym.cli import data, look, personal, planning, policies, simulators, study

app = typer.Typer(
    name="persim",
    help="Personalized simulators of many different agents, learned from one logged trajectory each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(look.demo)
app.command()(look.envs)
app.add_typer(data.app, name="datasets")
app.add_typer(study.app, name="study")
app.command()(simulators.train)
app.command()(personal.personalize)
app.command()(personal.calibrate)
app.command()(simulators.evaluate)
app.command()(planning.plan)
app.command()(policies.train_policy)
app.command()(policies.video)
app.command()(look.doctor)


def main() -> None:
    """Entry point: a caller's mistake is one line, not a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, KeyError, OSError) as error:
        Console(stderr=True).print(f"persim: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # how typer ends on Ctrl-C
            Console(stderr=True).print("persim: interrupted; the same command goes on where it stopped", style="red")
        raise
