"""Verbs of `persim simulators`."""

from typing import Annotated

import typer

from persim_gym.cli.options import SimulatorName
from persim_gym.cli.output import console, plain_table, say

app = typer.Typer(help="Simulators: list them, show what one is, remove one of yours.", no_args_is_help=True)


@app.command("list")
def simulators_list() -> None:
    """List all simulators: which one a name means, and which bundled one it hides."""
    from persim_gym.models import load_learned
    from persim_gym.paths import simulators_root
    from persim_gym.simulator.registry import bundled_folder, hidden_by, list_simulators

    table = plain_table({"simulator": "left", "whose": "left", "agents": "right", "trained on": "left"})
    for name, folder in list_simulators().items():
        own = "yours, hides bundled" if hidden_by(folder) else "yours"
        whose = "bundled" if folder == bundled_folder(name) else own
        try:
            simulator = load_learned(folder)
        except ValueError as error:
            table.add_row(name, whose, "?", f"damaged: {error}")
            continue
        table.add_row(name, whose, f"{simulator.n_agents:,}", simulator.card.dataset)
    console.print(table)
    say(f"yours are in {simulators_root()}")


@app.command("show")
def simulators_show(simulator: SimulatorName) -> None:
    """Show the card of a simulator: data, model, errors, trust, and where it is."""
    from rich.markdown import Markdown

    from persim_gym.front_matter import without_front_matter
    from persim_gym.models import load_learned
    from persim_gym.simulator.registry import bundled_folder, hidden_by
    from persim_gym.storage import README, reading

    loaded = load_learned(simulator)
    with reading(loaded.folder / README, "save the simulator again, which writes it"):
        text = without_front_matter((loaded.folder / README).read_text(encoding="utf-8"))
    console.print(Markdown(text)) if console.is_terminal else typer.echo(text)
    say(f"{loaded.folder}{' (bundled)' * (loaded.folder == bundled_folder(simulator))}")
    if hides := hidden_by(loaded.folder):
        say(f"hides the bundled {hides}; `persim simulators rm {hides}` removes this one")


@app.command("rm")
def simulators_rm(
    names: Annotated[list[str], typer.Argument(help="Names of simulators of yours.")],
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
) -> None:
    """Remove simulators of yours; a bundled one of that name is what the name means again."""
    import shutil

    from persim_gym.simulator.registry import bundled_folder, own_simulator

    for name in names:
        folder = own_simulator(name)
        if force or typer.confirm(f"remove {folder}?"):
            shutil.rmtree(folder)
            back = f"; {name} is the bundled one again" if bundled_folder(name) else ""
            say(f"removed {folder}{back}")
