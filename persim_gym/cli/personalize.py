"""`persim personalize`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from persim_gym.cli.options import Force, SimulatorName, TrustTask, apply_trust
from persim_gym.cli.output import console, plain_table, say, say_simulator
from persim_gym.cli.tables.imports import columns_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persim_gym.simulator.inference.static_prior import StaticColumn

MAX_ROWS = 20
"""New agents that are listed."""


def verb(
    simulator: SimulatorName,
    data: Annotated[
        str, typer.Option(help="Minari dataset of new agents; a few transitions of each are enough. (default: none)")
    ] = "",
    static: Annotated[
        str,
        typer.Option(help="Static covariates of the new agents, as age=54,site=north. (default: those in the dataset)"),
    ] = "",
    name: Annotated[str, typer.Option(help="Name of a new agent without data. (default: its number)")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: NAME-personalized under $PERSIM_HOME)")] = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Add agents that training never saw to a simulator, in closed form: no training.

    They are known by a few transitions (--data), by static covariates that the simulator was trained with (--static),
    or by both.
    """
    import numpy as np

    from persim_gym.datasets import labels_of, load_minari
    from persim_gym.datasets.load import open_dataset
    from persim_gym.datasets.tables.static import static_of
    from persim_gym.simulator.registry import load_simulator, simulator_folder

    apply_trust(simulator, trust_task)
    loaded = load_simulator(simulator)
    folder = simulator_folder(f"{loaded.card.name}-personalized", out)
    if not (data or static):
        raise ValueError("nothing is known of the new agents; give --data, --static or both")
    if data and name:
        raise ValueError("--name is for an agent without data; those of a dataset have its names")
    covariates: dict[str, Any] = {**static_values(static)}
    transitions = None
    names: tuple[str, ...] = (name,) if name else ()
    if data:
        dataset = open_dataset(data)
        spec = loaded.spec if loaded.spec.layout.past else None
        transitions, names = load_minari(dataset, spec), labels_of(dataset).agents
        if not covariates and loaded.static is not None:
            covariates = of_agents(static_of(dataset), np.unique(transitions.agent).tolist(), loaded.static.columns)
    bigger = loaded.personalize(transitions, names, static=covariates or None)
    bigger.save(folder, force)
    beliefs, rank = bigger.known_beliefs(), bigger.model.config.rank
    table = plain_table(dict.fromkeys(("agent", "in the data", "transitions", "directions left open"), "right"))
    numbers = np.unique(transitions.agent).tolist() if transitions is not None else [None]
    for agent, number in zip(bigger.new_agents, numbers, strict=True):
        left = f"{beliefs.undetermined(agent):.1f} of {rank}"
        before = "-" if number is None else names[number] if names else str(number)
        table.add_row(bigger.agent_name(agent), before, str(int(beliefs.statistics.seen[agent])), left)
        if table.row_count == MAX_ROWS:
            break
    console.print(table)
    if (more := len(bigger.new_agents) - MAX_ROWS) > 0:
        say(f"and {more:,} more; `persim evaluate SIMULATOR --agent N` tells what is known of each")
    say_simulator(folder, f"persim evaluate {{}} --agent {shlex.quote(bigger.agent_name(bigger.new_agents[0]))}")


def static_values(text: str) -> dict[str, str]:
    """Values by column, of "age=54,site=north".

    Raises:
        ValueError: If one is no COLUMN=VALUE.
    """
    values = {}
    for part in columns_of(text):
        column, equals, value = (word.strip() for word in part.partition("="))
        if not (column and equals and value):
            raise ValueError(f"--static {part!r} is not COLUMN=VALUE; write it as age=54,site=north")
        values[column] = value
    return values


def of_agents(static: "Mapping[str, Any]", agents: list[int], columns: "Sequence[StaticColumn]") -> dict[str, Any]:
    """Values of those of a dataset's static columns that a simulator knows, for each of some agents."""
    known = {column.name for column in columns}
    return {name: [values[agent] for agent in agents] for name, values in static.items() if name in known}
