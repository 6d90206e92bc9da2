"""`persim demo`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import console, numbers


def verb(
    domain: Annotated[str, typer.Option(help="Domain: mountaincar or cartpole.")] = "mountaincar",
    agents: Annotated[str, typer.Option(help="Agents to evaluate; 0-4 are the thesis's test agents.")] = "0-4",
    episodes: Annotated[int, typer.Option(help="Episodes an agent and method.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. (default: persim-out/DOMAIN)")] = None,
    seed: Annotated[int, typer.Option(help="Seed of training and evaluation.")] = 0,
) -> None:
    """Run the main job: dataset, simulator, planning in it, returns in the true environment."""
    from persim_gym.workflows.demo import run_demo

    run_demo(domain, numbers(agents), episodes, out or Path("persim-out") / domain, seed, console)
