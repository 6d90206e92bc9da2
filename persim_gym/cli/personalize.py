"""`persim personalize`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import Force, SimulatorName, TrustTask, apply_trust
from persim_gym.cli.output import console, plain_table, say, say_simulator

MAX_ROWS = 20
"""New agents that are listed."""


def verb(
    simulator: SimulatorName,
    data: Annotated[str, typer.Option(help="Minari dataset of new agents; a few transitions of each are enough.")],
    out: Annotated[Path | None, typer.Option(help="Folder. (default: NAME-personalized under $PERSIM_HOME)")] = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Add agents that training never saw to a simulator, in closed form: no training."""
    import numpy as np

    from persim_gym.datasets import labels_of, load_minari
    from persim_gym.datasets.load import open_dataset
    from persim_gym.simulator.registry import load_simulator, simulator_folder

    apply_trust(simulator, trust_task)
    loaded = load_simulator(simulator)
    folder = simulator_folder(f"{loaded.card.name}-personalized", out)
    dataset = open_dataset(data)
    spec = loaded.spec if loaded.spec.layout.past else None
    transitions, names = load_minari(dataset, spec), labels_of(dataset).agents
    bigger = loaded.personalize(transitions, names)
    bigger.save(folder, force)
    beliefs, rank = bigger.known_beliefs(), bigger.model.config.rank
    table = plain_table(dict.fromkeys(("agent", "in the data", "transitions", "directions left open"), "right"))
    for agent, number in zip(bigger.new_agents, np.unique(transitions.agent).tolist(), strict=True):
        left = f"{beliefs.undetermined(agent):.1f} of {rank}"
        before = names[number] if names else str(number)
        table.add_row(bigger.agent_name(agent), before, str(int(beliefs.statistics.seen[agent])), left)
        if table.row_count == MAX_ROWS:
            break
    console.print(table)
    if (more := len(bigger.new_agents) - MAX_ROWS) > 0:
        say(f"and {more:,} more; `persim evaluate SIMULATOR --agent N` tells what is known of each")
    say_simulator(folder, f"persim evaluate {{}} --agent {shlex.quote(bigger.agent_name(bigger.new_agents[0]))}")
