"""The command line: one file a verb."""

import sys
from typing import Annotated, Any

import typer

from persim_gym.cli import (
    baseline,
    calibrate,
    datasets,
    demo,
    evaluate,
    info,
    personalize,
    plan,
    reproduce,
    simulators,
    study,
    train,
    video,
)
from persim_gym.cli.compare import compare
from persim_gym.cli.options import INTERRUPTED
from persim_gym.cli.output import complain
from persim_gym.cli.policies import export, train_policy
from persim_gym.cli.report import report
from persim_gym.cli.sharing import share
from persim_gym.cli.tables import imports
from persim_gym.version import __version__

# Typer names only this kind of what is wrong with a command line.
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="persim",
    help="Personalized simulators of many different agents, learned from one logged trajectory each.",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.verb)
app.command()(info.envs)
app.add_typer(datasets.app, name="datasets")
app.add_typer(simulators.app, name="simulators")
app.add_typer(share.app, name="share")
app.add_typer(study.app, name="study")
app.command("import")(imports.verb)
app.command("train")(train.verb)
app.command("personalize")(personalize.verb)
app.command("calibrate")(calibrate.verb)
app.command("evaluate")(evaluate.verb)
app.command("plan")(plan.verb)
app.command("train-policy")(train_policy.verb)
app.command("baseline")(baseline.verb)
app.command("export")(export.verb)
app.command("compare")(compare.verb)
app.command()(info.methods)
app.command("reproduce")(reproduce.verb)
app.command("report")(report.verb)
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
        status = app(standalone_mode=False)
    except UsageError as error:
        if message := error.format_message().rstrip("."):  # A group of verbs without one has shown its help.
            complain(f"{message}; see `{error.ctx.command_path if error.ctx else 'persim'} --help`")
        sys.exit(2)
    except typer.Abort:  # A question got no answer.
        complain("nobody answered, so that nothing was done; --force does not ask")
        sys.exit(1)
    except (ValueError, KeyError, OSError) as error:
        complain(str(error))
        sys.exit(2)
    if status == INTERRUPTED:  # Typer gives this status on Ctrl-C.
        complain("interrupted")
    sys.exit(status)
