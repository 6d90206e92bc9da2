"""The verb of new agents."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.shared import console, plain_table, say


def personalize(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")],
    data: Annotated[str, typer.Option(help="Minari dataset of new agents; a few transitions of each are enough.")],
    out: Annotated[Path | None, typer.Option(help="Folder. (default: <name>-personalized under $PERSIM_HOME)")] = None,
) -> None:
    """Add agents that training never saw to a simulator, in closed form: no training."""
    import numpy as np

    from persim_gym.datasets import load
    from persim_gym.simulator.card import load_simulator, simulators_root

    loaded = load_simulator(simulator)
    transitions = load(data)
    bigger, posterior = loaded.personalize(transitions)
    name = f"{loaded.card.name}-personalized"
    folder = out or simulators_root() / name
    replace(bigger, card=replace(bigger.card, name=name)).save(folder)
    table = plain_table(dict.fromkeys(("agent", "in the data", "transitions", "directions left open"), "right"))
    for i, number in enumerate(np.unique(transitions.agent)):
        left = f"{posterior.undetermined(i):.1f} of {bigger.model.shape.rank}"
        table.add_row(str(loaded.model.shape.n_agents + i), str(number), str(int(posterior.evidence.seen[i])), left)
    console.print(table)
    say(f"{folder}")
