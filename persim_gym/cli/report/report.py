"""`persim report`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Agent,
    Force,
    Seed,
    SimulatorName,
    TrustTask,
    apply_trust,
    chosen_agents,
    known_agents,
)
from persim_gym.cli.output import say


def verb(
    simulator: SimulatorName = DEFAULT_SIMULATOR,
    agents: Annotated[
        str | None,
        typer.Option(help='Agents with a section of their own: "0-4,17", or names. (default: the first five)'),
    ] = None,
    agent: Agent = None,
    compare: Annotated[
        Path | None, typer.Option(help="CSV file of `persim compare`, whose rows go to the agents. (default: none)")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent in the true environment, if any.")] = 50,
    out: Annotated[Path, typer.Option(help="HTML file; one that persim wrote is replaced.")] = Path(
        "persim-out/report.html"
    ),
    seed: Seed = 0,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Write what is known of a simulator and its agents as one page of HTML, which needs no network.

    It shows what the simulator is made of, its error by horizon, how far it can be trusted, a map of all agents, and of
    each agent that you name its log and what it would do under other actions. What is not known is said.
    """
    from persim_gym.reports.write import report

    apply_trust(simulator, trust_task)
    given = agents is not None or agent is not None
    chosen = chosen_agents(agents, agent, known=known_agents(simulator)) if given else None
    page = report(simulator, chosen, out=out, compare=compare, episodes=episodes, seed=seed, force=force)
    say(f"{page}  open it in a browser")
