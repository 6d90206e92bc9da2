"""`persim demo`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import Agent, Agents, Force, Seed, Workers, chosen_agents, resumable
from persim_gym.cli.output import console


@resumable
def verb(
    domain: Annotated[str, typer.Option(help="Domain: mountaincar or cartpole.")] = "mountaincar",
    agents: Agents = None,
    agent: Agent = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent and method.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. (default: persim-out/DOMAIN)")] = None,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Run the main job: dataset, simulator, planning in it, returns in the true environment.

    Ctrl-C is safe: the same command goes on where it stopped.
    """
    from persim_gym.workflows.demo import run_demo

    chosen, folder = chosen_agents(agents, agent), out or Path("persim-out") / domain
    run_demo(domain, chosen, episodes, folder, seed, console, workers, force)
