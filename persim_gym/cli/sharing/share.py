"""`persim share`: simulators on the Hugging Face Hub."""

from typing import Annotated

import typer

from persim_gym.cli.options import Force, SimulatorName
from persim_gym.cli.output import say, say_simulator

app = typer.Typer(help="Simulators on the Hugging Face Hub: send one, fetch one (extra: hub).", no_args_is_help=True)

Repository = Annotated[str, typer.Argument(help="USER/NAME on the hub.", metavar="USER/NAME")]


@app.command("push")
def push_verb(
    simulator: SimulatorName,
    repository: Repository,
    private: Annotated[bool, typer.Option("--private", help="A new repository is for you alone.")] = False,
    message: Annotated[str, typer.Option(help="What this version is called. (default: the simulator's name)")] = "",
) -> None:
    """Send a simulator: weights, card, what was measured, names of agents, and logged first observations."""
    from persim_gym.sharing import push

    say(push(simulator, repository, private=private, message=message))
    say(f"fetched by: persim share pull {repository}")


@app.command("pull")
def pull_verb(
    repository: Repository,
    name: Annotated[str | None, typer.Option(help="What to call it here. (default: as there)")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or version. (default: the newest)")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Import the task that its card names, from now on; else nothing is.")
    ] = False,
    force: Force = False,
) -> None:
    """Fetch a simulator, and check it. Nothing of it is run or imported."""
    from persim_gym.sharing import pull, untrusted_task

    folder = pull(repository, name=name, revision=revision, trust=trust, force=force)
    say_simulator(folder, "persim simulators show {}")
    if warning := untrusted_task(folder):
        say(f"note: {warning}")
